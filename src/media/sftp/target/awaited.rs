//! Stores files each of whose handles is waited for, many files at once.

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;

use super::parts::Parts;
use super::{WRITE_BYTES, corrupt, create, explain, is_wanted};
use crate::media::sftp::change::Changer;
use crate::media::sftp::client::Client;
use crate::media::sftp::meta::{TYPE_FILE, kind, of_file};
use crate::media::sftp::reply::SftpError;
use crate::media::sftp::session::Tree;
use crate::media::sftp::{holes, known};
use crate::media::temp::TempNames;
use crate::wire::message::{Ack, FileHead, Manner, Store, Told};
use crate::wire::path::RelPath;
use crate::wire::sftp::{Attrs, Request, open_flags};
use crate::wire::tree::{Digest, Failure, FailureKind, Meta};

/// Files under way at once.
const FILES_AHEAD_MAX: usize = 64;

/// Stores what is in `first`, then what comes.
pub(super) async fn run(
    tree: Tree,
    mut names: TempNames,
    first: Vec<Store>,
    mut pieces: mpsc::Receiver<Store>,
    acks: mpsc::Sender<Told>,
) {
    let acks = &acks;
    let changer = Changer::new(tree.clone(), names.sibling());
    let mut files = Files { under_way: FuturesUnordered::new(), long: None, acks };
    let mut parts = Parts::new(tree.clone());
    let mut first = first.into_iter();
    loop {
        let next = async {
            match first.next() {
                Some(piece) => Some(piece),
                None => pieces.recv().await,
            }
        };
        let piece = tokio::select! {
            biased;
            Some(ack) = files.under_way.next(), if !files.under_way.is_empty() => {
                files.tell(ack).await;
                continue;
            }
            piece = next, if files.under_way.len() < FILES_AHEAD_MAX => piece,
        };
        let Some(piece) = piece.filter(|piece| is_wanted(piece, acks)) else { break };
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
            Store::Begin { ticket, head: FileHead { delta: true, .. }, .. } => {
                let (sender, parts) = mpsc::channel(2);
                files.long = Some(sender);
                files.under_way.push(Box::pin(async move {
                    let failure = Failure::new(FailureKind::Other, "no delta can be applied here");
                    let result = refuse_parts(parts, failure).await.transpose()?;
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
            Store::Part { ticket, file, index } => {
                files.meanwhile(parts.begin(ticket, &file, index)).await;
            }
            Store::Chunk(bytes) if parts.is_writing() => {
                files.meanwhile(parts.chunk(bytes)).await;
            }
            Store::End { digest } if parts.is_writing() => {
                files.under_way.push(parts.end(digest));
            }
            Store::Join { ticket, file, meta } => {
                let ending = files.meanwhile(parts.join(ticket, &file, meta)).await;
                files.under_way.push(ending);
            }
            Store::Drop(file) => files.under_way.push(parts.give_up(&file)),
            Store::Chunk(bytes) => files.feed(Part::Chunk(bytes)).await,
            Store::End { digest } => {
                files.feed(Part::End(digest)).await;
                files.long = None;
            }
            Store::Abort => {
                parts.abort();
                files.long = None;
            }
            Store::Flush => {}
            // Nobody sends them: this side does not offer what they are for.
            Store::Settle(_) => {}
        }
    }
    files.long = None;
    if acks.is_closed() {
        files.meanwhile(parts.clear_up(&mut pieces)).await;
    }
    parts.close();
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

/// A file that is not stored is acknowledged when it is complete, as any other.
async fn refuse_parts(
    mut parts: mpsc::Receiver<Part>,
    failure: Failure,
) -> Result<Option<()>, Failure> {
    while let Some(part) = parts.recv().await {
        if matches!(part, Part::End(_)) {
            return Err(failure);
        }
    }
    Ok(None)
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
            Err(failure) => return refuse_parts(parts, failure).await,
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
        self.forget().await;
        let path = self.temp_path();
        let open = match self.tree.manner.in_place && self.is_there().await? {
            true => Request::Open { path, flags: open_flags::WRITE, attrs: Attrs::default() },
            false => create(path),
        };
        match self.client().handle(open).await {
            Ok(handle) => Ok(handle),
            Err(error) => Err(self.explain(error, "make a file beside it").await),
        }
    }

    /// Nothing will be known of its blocks, also if it has the size and time of the old one.
    async fn forget(&self) {
        if let Some(known) = self.tree.known.clone()
            && self.size >= known::FILE_BYTES_MIN
        {
            let path = self.path.clone();
            // What panics there says so itself.
            let _ = tokio::task::spawn_blocking(move || known.put(&path, None)).await;
        }
    }

    /// Whether there is a file to write into. What is no file makes room for one.
    async fn is_there(&self) -> Result<bool, Failure> {
        let path = self.tree.full(&self.path);
        match self.client().attrs(Request::Lstat { path: path.clone() }).await {
            Ok(attrs) if kind(&attrs) == TYPE_FILE => Ok(true),
            Ok(_) => {
                let removed = self.client().done(Request::Remove { path }).await;
                removed.map(|()| false).map_err(|error| error.failure("make room for it"))
            }
            Err(error) if error.is_missing() => Ok(false),
            Err(error) => Err(error.failure("look at it")),
        }
    }

    /// Where it is written.
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
                let handle = handle.clone();
                writes.push(self.client().done(Request::Write { handle, offset, data }));
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
        // A file that ends with zeros may be shorter than it should be, an old one longer.
        let Manner { sparse, in_place } = self.tree.manner;
        let size = (sparse || in_place).then_some(self.size);
        let size = size.map(|size| Attrs { size: Some(size), ..Attrs::default() });
        let set = self.client().burst(|burst| {
            for attrs in size.into_iter().chain(of_file(self.meta)) {
                burst.post(&Request::FsetStat { handle: handle.clone(), attrs });
            }
        });
        let (set, attrs) = tokio::join!(
            set.done(),
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

    async fn explain(&self, error: SftpError, action: &str) -> Failure {
        explain(self.tree, self.size, error, action).await
    }
}
