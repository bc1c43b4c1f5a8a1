//! Reads files over SFTP: jobs in, pieces out, in the same order. Small files are read many at
//! once, each in one burst where handles can be foretold; a long one is streamed when its turn
//! comes, with many READs under way, and nothing else is opened meanwhile.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;

use super::meta::{TYPE_FILE, kind, meta_of};
use super::reply::{self, SftpError};
use super::session::Tree;
use crate::media::session::Bunch;
use crate::media::throttle::Throttle;
use crate::wire::message::{FileHead, Job, Piece, WHOLE_BYTES_MAX};
use crate::wire::path::RelPath;
use crate::wire::sftp::{Attrs, Request, Response, open_flags};
use crate::wire::tree::{Digest, Failure, FailureKind};

/// Files being opened or read at once.
const FILES_AHEAD_MAX: usize = 32;
/// What every server gives in one reply.
const READ_BYTES: u32 = 32 * 1024;
/// READs of a long file under way.
const READS_AHEAD_MAX: usize = 24;

/// Serves jobs until no more come or nobody takes the pieces.
pub(super) async fn run(tree: Tree, mut jobs: mpsc::Receiver<Job>, pieces: mpsc::Sender<Bunch>) {
    let mut opening: FuturesOrdered<BoxFuture<'_, Prepared>> = FuturesOrdered::new();
    let mut open = true;
    loop {
        tokio::select! {
            job = jobs.recv(), if open && opening.len() < FILES_AHEAD_MAX => match job {
                Some(job) => opening.push_back(prepare(&tree, job).boxed()),
                None => open = false,
            },
            Some(prepared) = opening.next(), if !opening.is_empty() => {
                let sent = match prepared {
                    Prepared::Piece(piece) => pieces.send(vec![piece]).await.map_err(drop),
                    Prepared::Long(long) => long.send(&tree, &pieces).await,
                };
                if sent.is_err() {
                    return;
                }
            }
            else => return,
        }
    }
}

/// The hash of the file at `path`, which is read for it.
pub(super) async fn digest_of(
    tree: &Tree,
    path: &RelPath,
    pace: &Throttle,
) -> Result<Digest, Failure> {
    let (handle, attrs) = open_file(tree, path).await?;
    let read = async {
        let mut hasher = blake3::Hasher::new();
        let mut reading = Reading::new(tree, &handle, &attrs);
        while let Some(data) = reading.next().await? {
            hasher.update(&data);
            pace.pass(data.len()).await;
        }
        Ok(Digest(*hasher.finalize().as_bytes()))
    };
    let read = read.await;
    close(tree, handle, read).await
}

enum Prepared {
    Piece(Piece),
    Long(Long),
}

/// A long file that waits for its turn.
struct Long {
    ticket: u64,
    path: RelPath,
    attrs: Attrs,
    /// If it is open already.
    handle: Option<Bytes>,
}

async fn prepare(tree: &Tree, job: Job) -> Prepared {
    let ticket = job.ticket;
    let prepared = match tree.client.foretells() {
        true => prepare_in_burst(tree, job).await,
        false => prepare_file(tree, job).await,
    };
    prepared.unwrap_or_else(|failure| Prepared::Piece(Piece::Failed { ticket, failure }))
}

async fn prepare_file(tree: &Tree, job: Job) -> Result<Prepared, Failure> {
    let Job { ticket, path, .. } = job;
    let (handle, attrs) = open_file(tree, &path).await?;
    if is_long(&attrs) {
        return Ok(Prepared::Long(Long { ticket, path, attrs, handle: Some(handle) }));
    }
    let read = async {
        let mut content = BytesMut::new();
        let mut reading = Reading::new(tree, &handle, &attrs);
        while let Some(data) = reading.next().await? {
            content.extend_from_slice(&data);
        }
        Ok(content.freeze())
    };
    let read = read.await;
    let content = close(tree, handle, read).await?;
    Ok(Prepared::whole(ticket, &attrs, content))
}

impl Prepared {
    fn whole(ticket: u64, attrs: &Attrs, content: Bytes) -> Self {
        let digest = Digest(*blake3::hash(&content).as_bytes());
        Prepared::Piece(Piece::Whole { ticket, meta: meta_of(attrs), digest, content })
    }
}

fn is_long(attrs: &Attrs) -> bool {
    attrs.size.unwrap_or_default() > WHOLE_BYTES_MAX as u64
}

/// Asks for a file as large as it was when it was scanned; if it is not any more, once more for one
/// as large as it is now.
async fn prepare_in_burst(tree: &Tree, job: Job) -> Result<Prepared, Failure> {
    let Job { ticket, path, size: scanned, .. } = job;
    let mut size = scanned;
    loop {
        let (attrs, content) = match read_in_burst(tree, &path, size).await? {
            Some(read) => read,
            None => {
                let job = Job { ticket, path, size, signature: None, part: None };
                return prepare_file(tree, job).await;
            }
        };
        if is_long(&attrs) {
            return Ok(Prepared::Long(Long { ticket, path, attrs, handle: None }));
        }
        match content {
            Some(content) => return Ok(Prepared::whole(ticket, &attrs, content)),
            None if size == scanned => size = attrs.size.unwrap_or_default(),
            None => return Err(changed()),
        }
    }
}

/// What a file is like, and its content if it is as large as expected and not long. `None` if
/// handles cannot be foretold any more.
async fn read_in_burst(
    tree: &Tree,
    path: &RelPath,
    size: u64,
) -> Result<Option<(Attrs, Option<Bytes>)>, Failure> {
    let client = &tree.client;
    let full = tree.full(path);
    client.room().await;
    let mut foretold = Bytes::new();
    let wanted = if size > WHOLE_BYTES_MAX as u64 { 0 } else { size };
    let replies = client.burst(|burst| {
        burst.post(&Request::Lstat { path: full.clone() });
        foretold = burst.open(&for_reading(full));
        burst.post(&Request::Fstat { handle: foretold.clone() });
        for offset in (0..wanted).step_by(READ_BYTES as usize) {
            let length = READ_BYTES.min((wanted - offset) as u32);
            burst.post(&Request::Read { handle: foretold.clone(), offset, length });
        }
        burst.post(&Request::Fstat { handle: foretold.clone() });
        burst.close(&foretold);
    });
    let mut replies = replies.all().await.into_iter();
    let mut next = || replies.next().unwrap_or(Err(SftpError::Unexpected));
    let looked = |reply: Result<Response, SftpError>| {
        reply.and_then(reply::attrs).map_err(|error| error.failure("look at it"))
    };
    let (lstat, opened) = (next(), next());
    let foretold = client.is_foretold(Some(opened), &foretold).await;
    if !foretold.map_err(|error| error.failure("open it"))? {
        return Ok(None);
    }
    if kind(&looked(lstat)?) != TYPE_FILE {
        return Err(no_file());
    }
    let before = looked(next())?;
    if wanted != size || before.size != Some(size) {
        return Ok(Some((before, None)));
    }
    let mut content = BytesMut::with_capacity(size as usize);
    while (content.len() as u64) < size {
        let data = next().and_then(reply::data).map_err(|error| error.failure("read it"))?;
        let data = data.filter(|data| !data.is_empty()).ok_or_else(changed)?;
        let due = (size - content.len() as u64).min(u64::from(READ_BYTES));
        if data.len() as u64 != due {
            return Err(changed());
        }
        content.extend_from_slice(&data);
    }
    same(&before, &looked(next())?)?;
    Ok(Some((before, Some(content.freeze()))))
}

fn for_reading(path: Bytes) -> Request {
    Request::Open { path, flags: open_flags::READ, attrs: Attrs::default() }
}

fn no_file() -> Failure {
    Failure::new(FailureKind::Changed, "it is no longer a regular file")
}

async fn open_file(tree: &Tree, path: &RelPath) -> Result<(Bytes, Attrs), Failure> {
    // The protocol cannot refuse to follow a symlink here; one that has taken the place of a file
    // since the scan is found out by looking.
    let full = tree.full(path);
    let lstat = tree.client.attrs(Request::Lstat { path: full.clone() });
    let open = tree.client.handle(for_reading(full));
    let (lstat, handle) = tokio::join!(lstat, open);
    let handle = handle.map_err(|error| error.failure("open it"))?;
    let attrs = match lstat {
        Ok(attrs) if kind(&attrs) == TYPE_FILE => {
            tree.client.attrs(Request::Fstat { handle: handle.clone() }).await
        }
        Ok(_) => {
            // Nothing was read; whether the close works does not matter.
            let _ = tree.client.close(handle).await;
            return Err(no_file());
        }
        Err(error) => Err(error),
    };
    match attrs {
        Ok(attrs) => Ok((handle, attrs)),
        Err(error) => {
            let _ = tree.client.close(handle).await;
            Err(error.failure("look at it"))
        }
    }
}

impl Long {
    async fn send(self, tree: &Tree, pieces: &mpsc::Sender<Bunch>) -> Result<(), ()> {
        let ticket = self.ticket;
        let last = match self.stream(tree, pieces).await {
            Ok(digest) => Piece::End { ticket, digest },
            Err(Stop::Failed(failure)) => Piece::Failed { ticket, failure },
            Err(Stop::Gone) => return Err(()),
        };
        pieces.send(vec![last]).await.map_err(drop)
    }

    async fn stream(self, tree: &Tree, pieces: &mpsc::Sender<Bunch>) -> Result<Digest, Stop> {
        let Long { ticket, path, attrs, handle } = self;
        // Nothing else is opened on this channel until the file is closed.
        let foretold = handle.is_none() && tree.client.foretells();
        let (handle, opened) = match handle {
            Some(handle) => (handle, None),
            None if foretold => {
                let mut handle = Bytes::new();
                let open = for_reading(tree.full(&path));
                let opened = tree.client.burst(|burst| handle = burst.open(&open));
                (handle, Some(opened))
            }
            None => (open_file(tree, &path).await.map_err(Stop::Failed)?.0, None),
        };
        let size = attrs.size.unwrap_or_default();
        let head = FileHead { meta: meta_of(&attrs), size, delta: false };
        let mut hasher = blake3::Hasher::new();
        let read = async {
            let mut reading = Reading::new(tree, &handle, &attrs);
            let mut data = reading.next().await;
            if let Some(opened) = opened {
                // What was read is of another file if the handle is another one.
                let as_foretold = tree.client.is_foretold(Some(opened.one().await), &handle).await;
                let as_foretold = as_foretold.map_err(|error| error.failure("open it"));
                if !as_foretold.map_err(Stop::Failed)? {
                    return Err(Stop::Failed(changed()));
                }
            }
            pieces.send(vec![Piece::Begin { ticket, head }]).await.map_err(|_| Stop::Gone)?;
            while let Some(chunk) = data.map_err(Stop::Failed)? {
                hasher.update(&chunk);
                pieces.send(vec![Piece::Chunk(chunk)]).await.map_err(|_| Stop::Gone)?;
                data = reading.next().await;
            }
            Ok(())
        };
        let read = read.await;
        // Nothing is lost with a read handle that does not close.
        if foretold {
            drop(tree.client.burst(|burst| burst.close(&handle)));
        } else {
            let _ = tree.client.close(handle).await;
        }
        read.map(|()| Digest(*hasher.finalize().as_bytes()))
    }
}

enum Stop {
    Failed(Failure),
    /// Nobody takes the pieces any more.
    Gone,
}

/// A file being read as it was when it was opened.
struct Reading<'a> {
    tree: &'a Tree,
    handle: &'a Bytes,
    before: &'a Attrs,
    reads: FuturesOrdered<BoxFuture<'a, Result<Option<Bytes>, SftpError>>>,
    lengths: VecDeque<u32>,
    offset: u64,
}

impl<'a> Reading<'a> {
    fn new(tree: &'a Tree, handle: &'a Bytes, before: &'a Attrs) -> Self {
        let (reads, lengths) = (FuturesOrdered::new(), VecDeque::new());
        Reading { tree, handle, before, reads, lengths, offset: 0 }
    }

    /// The next bytes of the file, in order; `None` at its end, if it is still the same file.
    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        let size = self.before.size.unwrap_or_default();
        while self.reads.len() < READS_AHEAD_MAX && self.offset < size {
            let (tree, handle, offset) = (self.tree, self.handle.clone(), self.offset);
            let length = READ_BYTES.min(u32::try_from(size - offset).unwrap_or(READ_BYTES));
            let read = Request::Read { handle, offset, length };
            self.reads.push_back(tree.client.data(read).boxed());
            self.lengths.push_back(length);
            self.offset += u64::from(length);
        }
        let Some(data) = self.reads.next().await else { return self.end().await };
        let wanted = self.lengths.pop_front().unwrap_or_default();
        let data = data.map_err(|error| error.failure("read it"))?.ok_or_else(changed)?;
        // OpenSSH gives less only at the end of the file.
        if data.len() == wanted as usize { Ok(Some(data)) } else { Err(changed()) }
    }

    async fn end(&mut self) -> Result<Option<Bytes>, Failure> {
        let fstat = Request::Fstat { handle: self.handle.clone() };
        let after = self.tree.client.attrs(fstat).await;
        let after = after.map_err(|error| error.failure("look at it"))?;
        same(self.before, &after).map(|()| None)
    }
}

/// Whether it is the file as it was.
fn same(before: &Attrs, after: &Attrs) -> Result<(), Failure> {
    let mtime = |attrs: &Attrs| attrs.times.map(|(_, mtime)| mtime);
    if after.size == before.size && mtime(after) == mtime(before) { Ok(()) } else { Err(changed()) }
}

fn changed() -> Failure {
    Failure::new(FailureKind::Changed, "it changed while it was read")
}

/// Closes what was read; a failure to read counts more.
async fn close<T>(tree: &Tree, handle: Bytes, read: Result<T, Failure>) -> Result<T, Failure> {
    let closed = tree.client.close(handle).await;
    let value = read?;
    closed.map_err(|error| error.failure("close it"))?;
    Ok(value)
}
