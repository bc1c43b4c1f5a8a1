//! Reads files over SFTP: jobs in, pieces out, in the same order. Small files are read many at
//! once; a long one is streamed when its turn comes, with many READs under way.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;

use super::client::SftpError;
use super::meta::meta_of;
use super::session::Tree;
use crate::media::throttle::Throttle;
use crate::wire::message::{FileHead, Job, Piece, WHOLE_BYTES_MAX};
use crate::wire::path::RelPath;
use crate::wire::sftp::{Attrs, Request, open_flags};
use crate::wire::tree::{Digest, Failure, FailureKind};

/// Files being opened or read at once.
const FILES_AHEAD_MAX: usize = 32;
/// What every server gives in one reply.
const READ_BYTES: u32 = 32 * 1024;
/// READs of a long file under way.
const READS_AHEAD_MAX: usize = 24;

/// Serves jobs until no more come or nobody takes the pieces.
pub(super) async fn run(tree: Tree, mut jobs: mpsc::Receiver<Job>, pieces: mpsc::Sender<Piece>) {
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
                    Prepared::Piece(piece) => pieces.send(piece).await.map_err(drop),
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

/// A file that is open and waits for its turn.
struct Long {
    ticket: u64,
    handle: Bytes,
    attrs: Attrs,
}

async fn prepare(tree: &Tree, job: Job) -> Prepared {
    let ticket = job.ticket;
    match prepare_file(tree, job).await {
        Ok(prepared) => prepared,
        Err(failure) => Prepared::Piece(Piece::Failed { ticket, failure }),
    }
}

async fn prepare_file(tree: &Tree, job: Job) -> Result<Prepared, Failure> {
    let ticket = job.ticket;
    let (handle, attrs) = open_file(tree, &job.path).await?;
    if attrs.size.unwrap_or_default() > WHOLE_BYTES_MAX as u64 {
        return Ok(Prepared::Long(Long { ticket, handle, attrs }));
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
    let digest = Digest(*blake3::hash(&content).as_bytes());
    Ok(Prepared::Piece(Piece::Whole { ticket, meta: meta_of(&attrs), digest, content }))
}

async fn open_file(tree: &Tree, path: &RelPath) -> Result<(Bytes, Attrs), Failure> {
    // The protocol cannot refuse to follow a symlink here; one that has taken the place of a file
    // since the scan is found out by looking.
    let full = tree.full(path);
    let lstat = tree.client.attrs(Request::Lstat { path: full.clone() });
    let open = tree.client.handle(Request::Open {
        path: full,
        flags: open_flags::READ,
        attrs: Attrs::default(),
    });
    let (lstat, handle) = tokio::join!(lstat, open);
    let handle = handle.map_err(|error| error.failure("open it"))?;
    let attrs = match lstat {
        Ok(attrs) if attrs.mode.unwrap_or_default() & 0o170_000 == 0o100_000 => {
            tree.client.attrs(Request::Fstat { handle: handle.clone() }).await
        }
        Ok(_) => {
            // Nothing was read; whether the close works does not matter.
            let _ = tree.client.close(handle).await;
            return Err(Failure::new(FailureKind::Changed, "it is no longer a regular file"));
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
    async fn send(self, tree: &Tree, pieces: &mpsc::Sender<Piece>) -> Result<(), ()> {
        let Long { ticket, handle, attrs } = self;
        let size = attrs.size.unwrap_or_default();
        let head = FileHead { meta: meta_of(&attrs), size, delta: false };
        let mut hasher = blake3::Hasher::new();
        let read = async {
            pieces.send(Piece::Begin { ticket, head }).await.map_err(|_| Stop::Gone)?;
            let mut reading = Reading::new(tree, &handle, &attrs);
            while let Some(data) = reading.next().await.map_err(Stop::Failed)? {
                hasher.update(&data);
                pieces.send(Piece::Chunk(data)).await.map_err(|_| Stop::Gone)?;
            }
            Ok(())
        };
        let read = read.await;
        // Nothing is lost with a read handle that does not close.
        let _ = tree.client.close(handle).await;
        let last = match read {
            Ok(()) => Piece::End { ticket, digest: Digest(*hasher.finalize().as_bytes()) },
            Err(Stop::Failed(failure)) => Piece::Failed { ticket, failure },
            Err(Stop::Gone) => return Err(()),
        };
        pieces.send(last).await.map_err(drop)
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
        let mtime = |attrs: &Attrs| attrs.times.map(|(_, mtime)| mtime);
        let same = after.size == self.before.size && mtime(&after) == mtime(self.before);
        if same { Ok(None) } else { Err(changed()) }
    }
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
