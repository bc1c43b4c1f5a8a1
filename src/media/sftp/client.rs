//! Requests and replies on one SFTP channel. Any number of callers ask at once; what is under way
//! is bounded in bytes and in number. Requests go out in the order in which they were first
//! polled, and the server handles them in that order.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use crate::host::{Host, Stream};
use crate::media::error::MediaError;
use crate::media::session::Link;
use crate::wire::WireError;
use crate::wire::sftp::{
    Attrs, NameEntry, Request, Response, StatusCode, VERSION, init, read_version, split_packet,
};
use crate::wire::tree::{Failure, FailureKind};

/// A stock server that is sent more than about 1 MiB ahead slows down to a crawl.
const OUTSTANDING_BYTES_MAX: usize = 1 << 20;
const OUTSTANDING_REQUESTS_MAX: usize = 512;
/// Requests are written together up to one SSH packet.
const WRITE_BYTES: usize = 32 * 1024;
/// How long the server may leave all requests unanswered.
const SILENCE_SECS_MAX: u64 = 120;

/// One channel. Dropping all clones ends it.
#[derive(Clone)]
pub(crate) struct Client {
    link: Arc<Link>,
    requests: mpsc::Sender<Queued>,
    window: Arc<Semaphore>,
    extensions: Arc<Vec<Bytes>>,
}

struct Queued {
    request: Request,
    waiting: Waiting,
}

/// Who waits for a reply, and the room in the window that it takes.
struct Waiting {
    answer: oneshot::Sender<Response>,
    _room: OwnedSemaphorePermit,
}

type Table = Arc<Mutex<HashMap<u32, Waiting>>>;

/// Why a request did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SftpError {
    #[error("{}", status_text(*code, message))]
    Status { code: StatusCode, message: Bytes },
    #[error("the connection was lost")]
    Lost,
    #[error("the server answers something else than was asked")]
    Unexpected,
}

fn status_text(code: StatusCode, message: &[u8]) -> String {
    if message.is_empty() {
        format!("{code:?}")
    } else {
        String::from_utf8_lossy(message).into_owned()
    }
}

impl SftpError {
    pub fn is_missing(&self) -> bool {
        matches!(self, SftpError::Status { code: StatusCode::NoSuchFile, .. })
    }

    pub fn failure(self, action: &str) -> Failure {
        let kind = match &self {
            SftpError::Status { code: StatusCode::NoSuchFile, .. } => FailureKind::Vanished,
            SftpError::Status { code: StatusCode::PermissionDenied, .. } => FailureKind::Denied,
            SftpError::Lost => FailureKind::Lost,
            SftpError::Status { .. } | SftpError::Unexpected => FailureKind::Other,
        };
        Failure::new(kind, format!("cannot {action}: {self}"))
    }
}

impl Client {
    /// Opens the sftp subsystem of `host` and greets the server.
    pub async fn open(link: &Arc<Link>, host: &dyn Host) -> Result<Self, MediaError> {
        let name = link.host.clone();
        let mut stream = host
            .subsystem("sftp")
            .await
            .map_err(|source| MediaError::Host { host: name.clone(), source: Box::new(source) })?;
        let wire = |source| MediaError::Wire { host: name.clone(), source };
        let greeting = greet(&mut stream);
        let silence = Duration::from_secs(SILENCE_SECS_MAX);
        let extensions = match tokio::time::timeout(silence, greeting).await {
            Ok(greeting) => greeting.map_err(wire)?,
            Err(_) => return Err(MediaError::Silent { host: name, secs: SILENCE_SECS_MAX }),
        };
        let (reader, writer) = tokio::io::split(stream);
        let (requests, receiver) = mpsc::channel(OUTSTANDING_REQUESTS_MAX);
        let (table, closing) = (Table::default(), Arc::new(AtomicBool::new(false)));
        let write = write(link.clone(), writer, receiver, table.clone(), closing.clone());
        let writing = AbortOnDropHandle::new(tokio::spawn(write));
        tokio::spawn(read(link.clone(), reader, table, closing, writing));
        Ok(Client {
            link: link.clone(),
            requests,
            window: Arc::new(Semaphore::new(OUTSTANDING_BYTES_MAX)),
            extensions: Arc::new(extensions),
        })
    }

    pub fn link(&self) -> &Arc<Link> {
        &self.link
    }

    pub fn offers(&self, extension: &str) -> bool {
        self.extensions.iter().any(|offered| offered == extension.as_bytes())
    }

    /// Sends a request when there is room for it and waits for its reply.
    pub async fn ask(&self, request: Request) -> Result<Response, SftpError> {
        // Small requests count as if they were larger, which bounds their number too.
        let weight = request.weight().max(OUTSTANDING_BYTES_MAX / OUTSTANDING_REQUESTS_MAX);
        let weight = weight.min(OUTSTANDING_BYTES_MAX) as u32;
        let room =
            self.window.clone().acquire_many_owned(weight).await.map_err(|_| SftpError::Lost)?;
        let (answer, response) = oneshot::channel();
        let waiting = Waiting { answer, _room: room };
        self.requests.send(Queued { request, waiting }).await.map_err(|_| SftpError::Lost)?;
        response.await.map_err(|_| SftpError::Lost)
    }

    pub async fn done(&self, request: Request) -> Result<(), SftpError> {
        match self.ask(request).await? {
            Response::Status { code: StatusCode::Ok, .. } => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    pub async fn handle(&self, request: Request) -> Result<Bytes, SftpError> {
        match self.ask(request).await? {
            Response::Handle(handle) => Ok(handle),
            other => Err(unexpected(other)),
        }
    }

    pub async fn attrs(&self, request: Request) -> Result<Attrs, SftpError> {
        match self.ask(request).await? {
            Response::Attrs(attrs) => Ok(attrs),
            other => Err(unexpected(other)),
        }
    }

    /// Names, or `None` at the end of a directory.
    pub async fn names(&self, request: Request) -> Result<Option<Vec<NameEntry>>, SftpError> {
        match self.ask(request).await? {
            Response::Names(names) => Ok(Some(names)),
            Response::Status { code: StatusCode::Eof, .. } => Ok(None),
            other => Err(unexpected(other)),
        }
    }

    /// The one name that REALPATH and READLINK give.
    pub async fn name(&self, request: Request) -> Result<Bytes, SftpError> {
        let mut names = self.names(request).await?.unwrap_or_default();
        if names.len() == 1 { Ok(names.remove(0).name) } else { Err(SftpError::Unexpected) }
    }

    /// Content, or `None` at the end of a file.
    pub async fn data(&self, request: Request) -> Result<Option<Bytes>, SftpError> {
        match self.ask(request).await? {
            Response::Data(data) => Ok(Some(data)),
            Response::Status { code: StatusCode::Eof, .. } => Ok(None),
            other => Err(unexpected(other)),
        }
    }

    pub async fn close(&self, handle: Bytes) -> Result<(), SftpError> {
        self.done(Request::Close { handle }).await
    }
}

fn unexpected(response: Response) -> SftpError {
    match response {
        Response::Status { code: StatusCode::Ok, .. }
        | Response::Handle(_)
        | Response::Data(_)
        | Response::Names(_)
        | Response::Attrs(_)
        | Response::Extended(_) => SftpError::Unexpected,
        Response::Status { code, message } => SftpError::Status { code, message },
    }
}

/// Sends our version; gives the names of the server's extensions.
async fn greet(stream: &mut Stream) -> Result<Vec<Bytes>, WireError> {
    stream.write_all(&init()).await?;
    stream.flush().await?;
    let mut input = BytesMut::new();
    let packet = loop {
        if let Some(packet) = split_packet(&mut input)? {
            break packet;
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Err(WireError::Truncated);
        }
    };
    match read_version(packet)? {
        (VERSION, extensions) if input.is_empty() => Ok(extensions),
        (VERSION, _) => Err(WireError::OutOfTurn("a reply")),
        _ => Err(WireError::Packet("the server does not speak version 3")),
    }
}

async fn write(
    link: Arc<Link>,
    mut output: WriteHalf<Stream>,
    mut requests: mpsc::Receiver<Queued>,
    table: Table,
    closing: Arc<AtomicBool>,
) {
    let mut buffer = BytesMut::new();
    let mut id = 0_u32;
    while let Some(queued) = requests.recv().await {
        let mut next = Some(queued);
        while let Some(Queued { request, waiting }) = next {
            id = id.wrapping_add(1);
            // Known before it is sent: the reply may be faster than we are.
            lock(&table).insert(id, waiting);
            request.write(id, &mut buffer);
            next = if buffer.len() < WRITE_BYTES { requests.try_recv().ok() } else { None };
        }
        link.count_sent(buffer.len());
        let written = async {
            output.write_all(&buffer).await?;
            output.flush().await
        };
        if written.await.is_err() {
            // The reading half sees the same break and tells.
            return;
        }
        buffer.clear();
    }
    closing.store(true, Ordering::Release);
    // The server ends with its input; if it is gone already, so much the better.
    let _ = output.shutdown().await;
}

async fn read(
    link: Arc<Link>,
    mut input: ReadHalf<Stream>,
    table: Table,
    closing: Arc<AtomicBool>,
    writing: AbortOnDropHandle<()>,
) {
    let mut buffer = BytesMut::with_capacity(64 * 1024);
    let error = loop {
        match take_packets(&mut buffer, &table) {
            Ok(()) => {}
            Err(source) => break MediaError::Wire { host: link.host.clone(), source },
        }
        buffer.reserve(64 * 1024);
        let silence = Duration::from_secs(SILENCE_SECS_MAX);
        match tokio::time::timeout(silence, input.read_buf(&mut buffer)).await {
            Ok(Ok(count)) if count > 0 => link.count_received(count),
            Ok(_) => break MediaError::Lost { host: link.host.clone() },
            Err(_) if lock(&table).is_empty() => {}
            Err(_) => {
                break MediaError::Silent { host: link.host.clone(), secs: SILENCE_SECS_MAX };
            }
        }
    };
    if !closing.load(Ordering::Acquire) || !lock(&table).is_empty() {
        link.fail(error);
    }
    // Whoever still waits, or began to just now, learns that nothing more comes.
    drop(writing);
    lock(&table).clear();
}

fn take_packets(buffer: &mut BytesMut, table: &Table) -> Result<(), WireError> {
    while let Some(packet) = split_packet(buffer)? {
        let (id, response) = Response::read(packet)?;
        let waiting = lock(table).remove(&id);
        let waiting = waiting.ok_or(WireError::OutOfTurn("a reply to no request"))?;
        // Whoever asked may have given up.
        let _ = waiting.answer.send(response);
    }
    Ok(())
}

fn lock(table: &Table) -> std::sync::MutexGuard<'_, HashMap<u32, Waiting>> {
    table.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
