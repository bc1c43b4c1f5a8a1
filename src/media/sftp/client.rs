//! Requests and replies on one SFTP channel. Any number of callers ask at once; what is under way
//! is bounded in bytes and in number. Requests go out in the order in which they were posted, those
//! of a [`Client::burst`] without anything in between; [`super::drive`] carries the bytes.

use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use super::drive;
use super::handles::Handles;
use super::reply::{SftpError, attrs, data, done, handle, name, names, unexpected};
use super::table::Table;
use crate::host::{Host, Stream};
use crate::media::error::MediaError;
use crate::media::session::Link;
use crate::wire::WireError;
use crate::wire::sftp::{
    Attrs, NameEntry, Request, Response, VERSION, init, read_version, split_packet,
};

/// What a server may be sent ahead of its answers.
#[derive(Clone, Copy)]
struct Outstanding {
    bytes: usize,
    requests: usize,
}

/// A stock server that is sent more bytes ahead begins to slow down, and with some times more to a
/// crawl.
const OUTSTANDING: Outstanding = Outstanding { bytes: 1 << 20, requests: 2000 };
/// Over a short way less is enough; over a long one much of it is not there yet, and an SSH channel
/// takes no more than this.
const OUTSTANDING_NEAR: Outstanding = Outstanding { bytes: 512 << 10, requests: 1000 };
const OUTSTANDING_FAR: Outstanding = Outstanding { bytes: 2 << 20, requests: 4000 };
const NEAR: Duration = Duration::from_millis(10);
const FAR: Duration = Duration::from_millis(60);
/// Whoever waits for room is woken when so much of it is used, in percent: not for every reply.
const REFILLED_AT_PERCENT: usize = 75;
/// How long the server may leave all requests unanswered.
pub(super) const SILENCE_SECS_MAX: u64 = 120;

/// One channel. Dropping all clones, and all replies that are waited for, ends it.
#[derive(Clone)]
pub(crate) struct Client(Arc<Ended>);

/// Tells the driver when nobody asks for anything any more.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.state().closing = true;
        self.0.posted.notify_one();
    }
}

pub(super) struct Shared {
    pub link: Arc<Link>,
    extensions: Vec<Bytes>,
    state: Mutex<State>,
    /// Something is to be sent, or nothing more ever.
    pub posted: Notify,
}

pub(super) struct State {
    pub table: Table,
    /// What is to be sent.
    pub out: BytesMut,
    /// The handles that the server is going to give, if it is known to be one that can be foretold.
    handles: Option<Handles>,
    max: Outstanding,
    room: Vec<Waker>,
    pub closing: bool,
    lost: bool,
}

impl Shared {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl State {
    fn has_room(&self, percent: usize) -> bool {
        self.table.waiting_bytes() * 100 < self.max.bytes * percent
            && self.table.waiting_requests() * 100 < self.max.requests * percent
    }

    /// Whoever waits for room, once there is some.
    pub fn refill(&mut self) -> Vec<Waker> {
        if self.room.is_empty() || !self.has_room(REFILLED_AT_PERCENT) {
            return Vec::new();
        }
        std::mem::take(&mut self.room)
    }

    /// Nothing more comes; gives whoever waits for anything.
    pub fn lose(&mut self) -> Vec<Waker> {
        self.lost = true;
        let mut wakers = std::mem::take(&mut self.room);
        wakers.extend(self.table.wakers());
        wakers
    }
}

impl Client {
    /// Opens the sftp subsystem of `host` and greets the server. `round_trip` is what is known of the
    /// way to it.
    pub async fn open(
        link: &Arc<Link>,
        host: &dyn Host,
        round_trip: Option<Duration>,
    ) -> Result<Self, MediaError> {
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
        let state = State {
            table: Table::new(),
            out: BytesMut::new(),
            handles: None,
            max: match round_trip {
                Some(round_trip) if round_trip >= FAR => OUTSTANDING_FAR,
                Some(round_trip) if round_trip < NEAR => OUTSTANDING_NEAR,
                Some(_) | None => OUTSTANDING,
            },
            room: Vec::new(),
            closing: false,
            lost: false,
        };
        let (state, posted) = (Mutex::new(state), Notify::new());
        let shared = Arc::new(Shared { link: link.clone(), extensions, state, posted });
        tokio::spawn(drive::run(shared.clone(), stream));
        Ok(Client(Arc::new(Ended(shared))))
    }

    fn shared(&self) -> &Shared {
        &self.0.0
    }

    pub fn link(&self) -> &Arc<Link> {
        &self.shared().link
    }

    pub fn offers(&self, extension: &str) -> bool {
        self.shared().extensions.iter().any(|offered| offered == extension.as_bytes())
    }

    /// Whether handles are foretold on this channel.
    pub fn foretells(&self) -> bool {
        self.shared().state().handles.is_some()
    }

    /// From here on handles are foretold, because they were proved to be; or no more, because one
    /// was another one.
    pub fn foretell(&self, handles: Option<Handles>) {
        self.shared().state().handles = handles;
    }

    /// Whether the server has answered everything in the order in which it was asked.
    pub fn is_in_order(&self) -> bool {
        self.shared().state().table.is_in_order()
    }

    /// Whether the reply to an OPEN is the handle that was foretold. If it is another one, it is
    /// given back, and nothing is foretold any more.
    pub async fn is_foretold(
        &self,
        reply: Option<Result<Response, SftpError>>,
        foretold: &Bytes,
    ) -> Result<bool, SftpError> {
        let real = match reply.unwrap_or(Err(SftpError::Unexpected))? {
            Response::Handle(real) => real,
            other => return Err(unexpected(other)),
        };
        if real == *foretold && self.is_in_order() {
            return Ok(true);
        }
        self.foretell(None);
        if real != *foretold {
            // A handle that stays open is lost, and nothing else.
            let _ = self.close(real).await;
        }
        Ok(false)
    }

    /// Waits until more may be asked.
    pub async fn room(&self) {
        std::future::poll_fn(|context| {
            let mut state = self.shared().state();
            if state.lost || state.has_room(100) {
                return Poll::Ready(());
            }
            if !state.room.iter().any(|waker| waker.will_wake(context.waker())) {
                state.room.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// Whether more may be asked now.
    pub fn has_room(&self) -> bool {
        self.shared().state().has_room(100)
    }

    /// Posts several requests with nothing in between. Nothing waits for room here.
    pub fn burst(&self, post: impl FnOnce(&mut Burst<'_>)) -> Replies {
        let mut state = self.shared().state();
        let mut burst = Burst { state: &mut state, first: None, count: 0 };
        post(&mut burst);
        let Burst { first, count, .. } = burst;
        drop(state);
        self.shared().posted.notify_one();
        Replies { client: self.clone(), first: first.unwrap_or_default(), count }
    }

    /// Posts one request.
    pub fn post(&self, request: &Request) -> Replies {
        self.burst(|burst| burst.post(request))
    }

    /// Sends a request when there is room for it and waits for its reply.
    pub async fn ask(&self, request: Request) -> Result<Response, SftpError> {
        self.room().await;
        self.post(&request).one().await
    }

    /// For requests whose answer is a status.
    pub async fn done(&self, request: Request) -> Result<(), SftpError> {
        done(self.ask(request).await?)
    }

    pub async fn handle(&self, request: Request) -> Result<Bytes, SftpError> {
        handle(self.ask(request).await?)
    }

    pub async fn attrs(&self, request: Request) -> Result<Attrs, SftpError> {
        attrs(self.ask(request).await?)
    }

    /// Names, or `None` at the end of a directory.
    pub async fn names(&self, request: Request) -> Result<Option<Vec<NameEntry>>, SftpError> {
        names(self.ask(request).await?)
    }

    /// The one name that REALPATH and READLINK give.
    pub async fn name(&self, request: Request) -> Result<Bytes, SftpError> {
        name(self.ask(request).await?)
    }

    /// Content, or `None` at the end of a file.
    pub async fn data(&self, request: Request) -> Result<Option<Bytes>, SftpError> {
        data(self.ask(request).await?)
    }

    /// Opens something to keep it open, and waits for its handle. It must be closed with
    /// [`Burst::close`], not while anything is open that was opened later.
    pub async fn hold(&self, request: &Request) -> Result<Bytes, SftpError> {
        self.room().await;
        let mut foretold = Bytes::new();
        let opened = self.burst(|burst| foretold = burst.open(request));
        match opened.one().await.and_then(handle) {
            Ok(real) => {
                if real != foretold {
                    self.foretell(None);
                }
                Ok(real)
            }
            Err(error) => {
                if let Some(handles) = &mut self.shared().state().handles {
                    // It is still to be given out.
                    handles.close(&foretold);
                }
                Err(error)
            }
        }
    }

    pub async fn close(&self, handle: Bytes) -> Result<(), SftpError> {
        self.done(Request::Close { handle }).await
    }
}

/// Requests that are being posted.
pub(super) struct Burst<'a> {
    state: &'a mut State,
    first: Option<u32>,
    count: u32,
}

impl Burst<'_> {
    pub fn post(&mut self, request: &Request) {
        let State { table, out, .. } = &mut *self.state;
        // Known before it is sent: the reply may be faster than we are.
        let id = table.add(request.weight());
        request.write(id, out);
        self.first.get_or_insert(id);
        self.count += 1;
    }

    /// Posts an OPEN or OPENDIR; gives the handle that it is going to give. It must be closed with
    /// [`Burst::close`] before the next one is opened, or that one before it. Where nothing is
    /// foretold, the handle is one that no server knows.
    pub fn open(&mut self, request: &Request) -> Bytes {
        self.post(request);
        match &mut self.state.handles {
            Some(handles) => handles.open(),
            None => Bytes::from_static(&[0xff; 4]),
        }
    }

    pub fn close(&mut self, handle: &Bytes) {
        self.post(&Request::Close { handle: handle.clone() });
        if let Some(handles) = &mut self.state.handles {
            handles.close(handle);
        }
    }
}

/// The replies to requests that were posted together. Dropping it forgets them.
pub(super) struct Replies {
    client: Client,
    first: u32,
    count: u32,
}

impl Replies {
    /// Waits until all are there. May be dropped and called again.
    pub fn ready(&self) -> impl Future<Output = ()> + Send + '_ {
        std::future::poll_fn(|context| self.poll(context))
    }

    pub fn is_ready(&self) -> bool {
        let state = self.client.shared().state();
        state.lost || state.table.is_answered(self.first, self.count)
    }

    fn poll(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.client.shared().state();
        match state.table.poll(self.first, self.count, context) {
            Poll::Pending if !state.lost => Poll::Pending,
            Poll::Pending | Poll::Ready(()) => Poll::Ready(()),
        }
    }

    /// What came, in the order of the requests. A reply that did not come is an error.
    pub fn take(mut self) -> Vec<Result<Response, SftpError>> {
        let count = std::mem::take(&mut self.count);
        let mut state = self.client.shared().state();
        let ids = (0..count).map(|step| self.first.wrapping_add(step));
        let replies = ids.map(|id| {
            let reply = state.table.take(id).ok_or(SftpError::Lost);
            if reply.is_err() {
                state.table.forget(id);
            }
            reply
        });
        replies.collect()
    }

    pub async fn all(self) -> Vec<Result<Response, SftpError>> {
        self.ready().await;
        self.take()
    }

    /// The only reply.
    pub async fn one(self) -> Result<Response, SftpError> {
        self.all().await.pop().unwrap_or(Err(SftpError::Unexpected))
    }

    /// Whether all of them are a status that says that it is done.
    pub async fn done(self) -> Result<(), SftpError> {
        self.ready().await;
        self.take_done()
    }

    /// The same, of replies that are there.
    pub fn take_done(self) -> Result<(), SftpError> {
        self.take().into_iter().try_for_each(|reply| done(reply?))
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        if self.count > 0 {
            let mut state = self.client.shared().state();
            (0..self.count).for_each(|step| state.table.forget(self.first.wrapping_add(step)));
        }
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
