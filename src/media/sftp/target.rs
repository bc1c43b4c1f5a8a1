//! Stores files over SFTP: pieces in, acknowledgements out, many files at once. A file is written
//! under a temporary name; only when every WRITE, the mode and time, the size and the CLOSE are
//! acknowledged is it renamed. The protocol has no hash: what is compared is the hash of what was
//! handed to the server, and the size that it reports.

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;

use super::change::Changer;
use super::client::{Client, SftpError};
use super::holes;
use super::session::Tree;
use crate::media::temp::TempNames;
use crate::wire::message::{Ack, FileHead, Manner, Store, Told, WHOLE_BYTES_MAX};
use crate::wire::path::RelPath;
use crate::wire::sftp::{Attrs, Request, Response, StatusCode, free_bytes, open_flags};
use crate::wire::tree::{Digest, Failure, FailureKind, Meta, Mtime, OWNER_UNCHANGED};

/// Files under way at once.
const FILES_AHEAD_MAX: usize = 64;
/// Every server takes so much in one WRITE.
const WRITE_BYTES: usize = 32 * 1024;
/// A file system with less room than a small file and its directory is full.
const FREE_BYTES_MIN: u64 = WHOLE_BYTES_MAX as u64;

/// Stores files until no more come; then waits for those under way. If nobody takes the
/// acknowledgements any more, what is still being written is removed.
pub(super) async fn run(
    tree: Tree,
    mut names: TempNames,
    mut pieces: mpsc::Receiver<Store>,
    acks: mpsc::Sender<Told>,
) {
    let acks = &acks;
    let changer = Changer::new(tree.clone(), names.sibling());
    let mut files = Files { under_way: FuturesUnordered::new(), long: None, acks };
    loop {
        let piece = tokio::select! {
            Some(ack) = files.under_way.next(), if !files.under_way.is_empty() => {
                files.tell(ack).await;
                continue;
            }
            piece = pieces.recv(), if files.under_way.len() < FILES_AHEAD_MAX => piece,
        };
        let Some(piece) = piece.filter(|_| !acks.is_closed()) else { break };
        match piece {
            Store::Apply(ops) => {
                let results = files.meanwhile(changer.apply_all(&ops.0)).await;
                let _ = acks.send(Told::Applied(results)).await;
            }
            Store::Whole { ticket, path, meta, digest, content } => {
                let size = content.len() as u64;
                let file = File { tree: &tree, acks, path, temp: names.next(), meta, size };
                files.under_way.push(Box::pin(async move {
                    let result = file.store_whole(content, digest).await;
                    Some(Ack { ticket, result })
                }));
            }
            Store::Begin { ticket, path, head } => {
                let FileHead { meta, size, .. } = head;
                let file = File { tree: &tree, acks, path, temp: names.next(), meta, size };
                let (sender, parts) = mpsc::channel(2);
                files.long = Some(sender);
                files.under_way.push(Box::pin(async move {
                    let result = file.store_parts(parts).await.transpose()?;
                    Some(Ack { ticket, result })
                }));
            }
            Store::Chunk(bytes) => files.feed(Part::Chunk(bytes)).await,
            Store::End { digest } => {
                files.feed(Part::End(digest)).await;
                files.long = None;
            }
            Store::Abort => files.long = None,
            Store::Flush => {}
            // Nobody sends them: this side does not offer parts.
            Store::Part { .. } | Store::Join { .. } | Store::Drop(_) => {}
        }
    }
    files.long = None;
    while let Some(ack) = files.under_way.next().await {
        files.tell(ack).await;
    }
}

/// A part of a long file.
enum Part {
    Chunk(Bytes),
    End(Digest),
}

/// The files under way.
struct Files<'a> {
    under_way: FuturesUnordered<BoxFuture<'a, Option<Ack>>>,
    /// Where the chunks of the long file go that comes at the moment.
    long: Option<mpsc::Sender<Part>>,
    acks: &'a mpsc::Sender<Told>,
}

impl Files<'_> {
    /// Hands a part to the long file while all files move on.
    async fn feed(&mut self, part: Part) {
        let Some(long) = self.long.clone() else { return };
        // A file that has failed takes no more; its acknowledgement tells why.
        let _ = self.meanwhile(long.send(part)).await;
    }

    /// Waits for something else while all files move on.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                Some(ack) = self.under_way.next(), if !self.under_way.is_empty() => {
                    self.tell(ack).await;
                }
            }
        }
    }

    async fn tell(&mut self, ack: Option<Ack>) {
        if let Some(ack) = ack {
            // Without a listener the main loop ends; what is under way must clean up.
            let _ = self.acks.send(Told::Ack(ack)).await;
        }
    }
}

struct File<'a> {
    tree: &'a Tree,
    /// Who waits for the file.
    acks: &'a mpsc::Sender<Told>,
    path: RelPath,
    temp: Vec<u8>,
    meta: Meta,
    size: u64,
}

impl File<'_> {
    fn client(&self) -> &Client {
        &self.tree.client
    }

    async fn store_whole(&self, content: Bytes, digest: Digest) -> Result<(), Failure> {
        if blake3::hash(&content).as_bytes() != &digest.0 {
            return Err(corrupt());
        }
        let handle = self.open().await?;
        let written = tokio::select! {
            written = self.write_all(&handle, 0, content) => written,
            () = self.acks.closed() => Err(Failure::new(FailureKind::Lost, "nobody wants it")),
        };
        self.finish(handle, written).await
    }

    /// `None` if the file was given up by whoever sent it.
    async fn store_parts(&self, mut parts: mpsc::Receiver<Part>) -> Result<Option<()>, Failure> {
        let handle = match self.open().await {
            Ok(handle) => handle,
            Err(failure) => {
                // It is acknowledged when it is complete, as any other.
                while let Some(part) = parts.recv().await {
                    if matches!(part, Part::End(_)) {
                        return Err(failure);
                    }
                }
                return Ok(None);
            }
        };
        let mut hasher = blake3::Hasher::new();
        let mut writes = FuturesUnordered::new();
        let mut offset = 0;
        let mut result = Ok(());
        let mut expected = None;
        loop {
            tokio::select! {
                part = parts.recv(), if expected.is_none() => match part {
                    Some(Part::Chunk(bytes)) if result.is_ok() => {
                        hasher.update(&bytes);
                        let length = bytes.len() as u64;
                        writes.push(self.write_all(&handle, offset, bytes));
                        offset += length;
                    }
                    Some(Part::Chunk(_)) => {}
                    Some(Part::End(digest)) => expected = Some(Some(digest)),
                    None => expected = Some(None),
                },
                Some(written) = writes.next(), if !writes.is_empty() => result = result.and(written),
                else => break,
            }
            // Chunks wait in the channel while enough of them are on their way.
            while writes.len() > 4 {
                if let Some(written) = writes.next().await {
                    result = result.and(written);
                }
            }
        }
        drop(writes);
        match expected.flatten() {
            Some(digest) => {
                if result.is_ok() && hasher.finalize().as_bytes() != &digest.0 {
                    result = Err(corrupt());
                }
                self.finish(handle, result).await.map(Some)
            }
            None => {
                self.discard(Some(handle)).await;
                Ok(None)
            }
        }
    }

    async fn open(&self) -> Result<Bytes, Failure> {
        let mut flags = open_flags::WRITE | open_flags::CREATE | open_flags::EXCLUSIVE;
        if self.tree.manner.in_place && self.is_there().await? {
            flags = open_flags::WRITE;
        }
        let attrs = Attrs { mode: Some(0o600), ..Attrs::default() };
        let open = Request::Open { path: self.temp_path(), flags, attrs };
        match self.client().handle(open).await {
            Ok(handle) => Ok(handle),
            Err(error) => Err(self.explain(error, "make a file beside it").await),
        }
    }

    /// Whether there is a file to write into. What is no file makes room for one.
    async fn is_there(&self) -> Result<bool, Failure> {
        let path = self.tree.full(&self.path);
        match self.client().attrs(Request::Lstat { path: path.clone() }).await {
            Ok(attrs) if attrs.mode.unwrap_or_default() & 0o170_000 == 0o100_000 => Ok(true),
            Ok(_) => {
                let removed = self.client().done(Request::Remove { path }).await;
                removed.map(|()| false).map_err(|error| error.failure("make room for it"))
            }
            Err(error) if error.is_missing() => Ok(false),
            Err(error) => Err(error.failure("look at it")),
        }
    }

    fn temp_path(&self) -> Bytes {
        if self.tree.manner.in_place {
            return self.tree.full(&self.path);
        }
        self.tree.beside(&self.path, &self.temp)
    }

    async fn write_all(&self, handle: &Bytes, at: u64, content: Bytes) -> Result<(), Failure> {
        let Manner { sparse, in_place } = self.tree.manner;
        // What was there would show through a hole.
        let parts = match sparse && !in_place {
            true => holes::written(&content),
            false => vec![(0, content)],
        };
        let mut writes = FuturesUnordered::new();
        for (skipped, mut content) in parts {
            let mut offset = at + skipped as u64;
            while !content.is_empty() {
                let data = content.split_to(content.len().min(WRITE_BYTES));
                let length = data.len() as u64;
                writes.push(self.client().done(Request::Write {
                    handle: handle.clone(),
                    offset,
                    data,
                }));
                offset += length;
            }
        }
        let mut result = Ok(());
        while let Some(written) = writes.next().await {
            result = result.and(written);
        }
        match result {
            Ok(()) => Ok(()),
            Err(error) => Err(self.explain(error, "write it").await),
        }
    }

    /// Gives the file its mode and time, checks its size, closes and publishes it.
    async fn finish(&self, handle: Bytes, written: Result<(), Failure>) -> Result<(), Failure> {
        if let Err(failure) = written {
            self.discard(Some(handle)).await;
            return Err(failure);
        }
        if let Err(failure) = self.complete(&handle).await {
            self.discard(Some(handle)).await;
            return Err(failure);
        }
        if let Err(error) = self.client().close(handle).await {
            let failure = self.explain(error, "close it").await;
            self.discard(None).await;
            return Err(failure);
        }
        if self.tree.manner.in_place {
            return Ok(());
        }
        let rename =
            Request::PosixRename { from: self.temp_path(), to: self.tree.full(&self.path) };
        match self.client().done(rename).await {
            Ok(()) => Ok(()),
            Err(error) => {
                let failure = self.explain(error, "put it in place").await;
                self.discard(None).await;
                Err(failure)
            }
        }
    }

    async fn complete(&self, handle: &Bytes) -> Result<(), Failure> {
        let set = |attrs| self.client().done(Request::FsetStat { handle: handle.clone(), attrs });
        if let Some(owner) = owner(self.meta) {
            // First: changing the owner clears setuid.
            let attrs = Attrs { owner: Some(owner), ..Attrs::default() };
            set(attrs).await.map_err(|error| error.failure("change its owner"))?;
        }
        // A file that ends with zeros may be shorter than it should be, an old one longer.
        let Manner { sparse, in_place } = self.tree.manner;
        let size = (sparse || in_place).then_some(self.size);
        let (set, attrs) = tokio::join!(
            set(Attrs { size, ..mode_and_time(self.meta) }),
            self.client().attrs(Request::Fstat { handle: handle.clone() })
        );
        set.map_err(|error| error.failure("set its mode and time"))?;
        let attrs = attrs.map_err(|error| error.failure("look at it"))?;
        if attrs.size == Some(self.size) { Ok(()) } else { Err(corrupt()) }
    }

    async fn discard(&self, handle: Option<Bytes>) {
        if self.tree.manner.in_place {
            return self.spoil(handle).await;
        }
        if let Some(handle) = handle {
            // It is thrown away in any case.
            let _ = self.client().close(handle).await;
        }
        // One that stays is swept by the next pass.
        let _ = self.client().done(Request::Remove { path: self.temp_path() }).await;
    }

    /// Marks what was begun in place and not ended, so that the next pass sees that it differs.
    async fn spoil(&self, handle: Option<Bytes>) {
        if let Some(handle) = handle {
            let attrs = Attrs { times: Some((0, 0)), ..Attrs::default() };
            // Without it the file has the time of its last change.
            let _ = self.client().done(Request::FsetStat { handle: handle.clone(), attrs }).await;
            let _ = self.client().close(handle).await;
        }
    }

    /// The protocol says only "failure" when the disk is full; so look.
    async fn explain(&self, error: SftpError, action: &str) -> Failure {
        let vague = matches!(error, SftpError::Status { code: StatusCode::Failure, .. });
        let failure = error.failure(action);
        if !vague || !self.client().offers("statvfs@openssh.com") {
            return failure;
        }
        let path = self.tree.full(&RelPath::root());
        let room = match self.client().ask(Request::StatVfs { path }).await {
            Ok(Response::Extended(body)) => free_bytes(body).ok(),
            Ok(
                Response::Status { .. }
                | Response::Handle(_)
                | Response::Data(_)
                | Response::Names(_)
                | Response::Attrs(_),
            )
            | Err(_) => None,
        };
        if room.is_some_and(|room| room < self.size.max(FREE_BYTES_MIN)) {
            Failure::new(FailureKind::Full, format!("{}: no space left", failure.text))
        } else {
            failure
        }
    }
}

fn corrupt() -> Failure {
    Failure::new(FailureKind::Corrupt, "what arrived is not what was read")
}

/// The owner to set, if one is to be set.
pub(super) fn owner(meta: Meta) -> Option<(u32, u32)> {
    (meta.uid != OWNER_UNCHANGED && meta.gid != OWNER_UNCHANGED).then_some((meta.uid, meta.gid))
}

/// Mode and time; the protocol wants an access time with it.
pub(super) fn mode_and_time(meta: Meta) -> Attrs {
    Attrs { mode: Some(meta.mode), ..time(meta.mtime) }
}

pub(super) fn time(mtime: Mtime) -> Attrs {
    let secs = mtime.secs.clamp(0, i64::from(u32::MAX)) as u32;
    Attrs { times: Some((secs, secs)), ..Attrs::default() }
}
