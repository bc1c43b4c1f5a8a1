//! What one channel does of large files that come in parts ([`uploads`](super::super::uploads)). The
//! handle of the temporary file is waited for and kept from part to part, so nothing can go astray
//! with another one; everything behind it is sent without waiting. A part is acknowledged when all
//! of it was, and, where it is written down that it is there, when it is on the server's disk.

use std::collections::VecDeque;
use std::sync::Arc;

use blake3::hazmat::HasherExt;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use super::{WRITE_BYTES, corrupt, explain};
use crate::media::delta::Summing;
use crate::media::sftp::client::{Client, Replies};
use crate::media::sftp::holes;
use crate::media::sftp::known::Blocks;
use crate::media::sftp::meta::{TYPE_FILE, kind, meta_of, of_file, time};
use crate::media::sftp::record::Done;
use crate::media::sftp::reply::{self, SftpError};
use crate::media::sftp::session::Tree;
use crate::media::sftp::uploads::{Prepared, Upload};
use crate::wire::message::{Ack, Parted, Store, part_place};
use crate::wire::sftp::{Attrs, Request, open_flags};
use crate::wire::tree::{Digest, Failure, FailureKind, Meta};

/// An acknowledgement to come.
pub(super) type Ending = BoxFuture<'static, Option<Ack>>;

pub(super) struct Parts {
    tree: Tree,
    open: Option<Open>,
    writing: Option<Writing>,
}

/// A temporary file that this channel has open.
struct Open {
    upload: Arc<Upload>,
    handle: Bytes,
}

/// The part that comes at the moment.
struct Writing {
    ticket: u64,
    index: u32,
    /// Where it begins, and how long it is to be.
    at: u64,
    length: u64,
    written: u64,
    hasher: blake3::Hasher,
    summing: Option<Summing>,
    replies: VecDeque<Replies>,
    /// What it is a part of; or the first thing that went wrong.
    upload: Result<Arc<Upload>, Failure>,
    refused: Option<SftpError>,
}

impl Parts {
    pub fn new(tree: Tree) -> Self {
        Parts { tree, open: None, writing: None }
    }

    /// Whether a part comes at the moment.
    pub fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    /// A part begins. Nothing is opened for one that will turn out to be there.
    pub async fn begin(&mut self, ticket: u64, file: &Parted, index: u32) {
        self.abort();
        let upload = self.upload(file).await;
        // A part that cannot be is refused when it ends, as any other.
        let (at, length) = part_place(index, file.size).unwrap_or_default();
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(at);
        self.writing = Some(Writing {
            ticket,
            index,
            at,
            length,
            written: 0,
            hasher,
            summing: None,
            replies: VecDeque::new(),
            upload,
            refused: None,
        });
    }

    /// What `file` is written to, which is there then.
    async fn upload(&self, file: &Parted) -> Result<Arc<Upload>, Failure> {
        let upload = self.tree.uploads.get(file)?;
        upload.prepared(&self.tree).await?;
        Ok(upload)
    }

    pub async fn chunk(&mut self, bytes: Bytes) {
        let Some(mut writing) = self.writing.take() else { return };
        if let Ok(upload) = writing.upload.clone()
            && let Err(failure) = self.write(&mut writing, &upload, bytes).await
        {
            writing.upload = Err(failure);
        }
        self.writing = Some(writing);
    }

    async fn write(
        &mut self,
        writing: &mut Writing,
        upload: &Arc<Upload>,
        bytes: Bytes,
    ) -> Result<(), Failure> {
        let prepared = upload.prepared(&self.tree).await?;
        if writing.written == 0 {
            // From here on it is not what it was.
            upload.note(writing.index, None).await;
            writing.summing = prepared.sums.as_ref().map(|sums| sums.summing(writing.length));
        }
        let at = writing.at + writing.written;
        writing.written += bytes.len() as u64;
        if writing.written > writing.length {
            return Err(corrupt());
        }
        writing.hasher.update(&bytes);
        if let Some(summing) = &mut writing.summing {
            summing.push(&bytes);
        }
        let handle = self.open(upload).await?;
        self.tree.client.room().await;
        writing.hear();
        if writing.refused.is_none() {
            writing.replies.push_back(self.post(prepared, &handle, at, bytes));
        }
        Ok(())
    }

    fn post(&self, prepared: &Prepared, handle: &Bytes, at: u64, content: Bytes) -> Replies {
        // What an earlier pass has left would show through a hole.
        let parts = match self.tree.manner.sparse && !prepared.continued {
            true => holes::written(&content),
            false => vec![(0, content)],
        };
        let mark = prepared.mark(handle);
        self.client().burst(|burst| {
            for (skipped, mut content) in parts {
                let mut offset = at + skipped as u64;
                while !content.is_empty() {
                    let data = content.split_to(content.len().min(WRITE_BYTES));
                    let length = data.len() as u64;
                    burst.post(&Request::Write { handle: handle.clone(), offset, data });
                    burst.post(&mark);
                    offset += length;
                }
            }
        })
    }

    /// The part has come to its end, and what was read has this hash.
    pub fn end(&mut self, digest: Digest) -> Ending {
        let Some(writing) = self.writing.take() else { return std::future::ready(None).boxed() };
        let Writing { ticket, index, .. } = writing;
        let upload = match &writing.upload {
            Ok(upload) => upload.clone(),
            Err(failure) => return refuse(ticket, failure.clone()),
        };
        if writing.written == 0 && upload.has(index, &digest.0) {
            return std::future::ready(Some(Ack { ticket, result: Ok(()) })).boxed();
        }
        let whole = writing.written == writing.length && writing.written > 0;
        if !whole || writing.hasher.finalize_non_root() != digest.0 {
            return refuse(ticket, corrupt());
        }
        let sums = writing.summing.map(Summing::into_sums).unwrap_or_default().into();
        let done = Done { chaining: digest.0, sums };
        let (mut replies, tree) = (writing.replies, self.tree.clone());
        replies.extend(self.sync());
        async move {
            let mut written = writing.refused.map_or(Ok(()), Err);
            for replies in replies {
                let done = replies.done().await;
                written = written.and(done);
            }
            let result = match written {
                Ok(()) => {
                    upload.note(index, Some(done)).await;
                    Ok(())
                }
                Err(error) => Err(explain(&tree, upload.file.size, error, "write it").await),
            };
            Some(Ack { ticket, result })
        }
        .boxed()
    }

    /// Has the server bring to its disk what is written, if it is written down that it is there.
    fn sync(&self) -> Option<Replies> {
        let Open { upload, handle } = self.open.as_ref()?;
        let sync = Request::Fsync { handle: handle.clone() };
        upload.is_recorded().then(|| self.client().post(&sync))
    }

    /// Forgets the part that comes at the moment.
    pub fn abort(&mut self) {
        self.writing = None;
    }

    /// All parts were acknowledged: publishes the file, if it is what they made of it.
    pub async fn join(&mut self, ticket: u64, file: &Parted, meta: Meta) -> Ending {
        let joining = async {
            let upload = self.upload(file).await?;
            let open = self.open.take_if(|open| Arc::ptr_eq(&open.upload, &upload));
            let handle = match open {
                Some(open) => open.handle,
                // A part of another file may have the other handle in use.
                None => self.hold(&upload).await?,
            };
            Ok((upload, handle))
        };
        let (upload, handle) = match joining.await {
            Ok(joining) => joining,
            Err(failure) => return refuse(ticket, failure),
        };
        let (tree, path) = (self.tree.clone(), upload.temp(&self.tree));
        let replies = tree.client.burst(|burst| {
            burst.post(&Request::Lstat { path });
            burst.post(&Request::Fstat { handle: handle.clone() });
            for attrs in of_file(meta) {
                burst.post(&Request::FsetStat { handle: handle.clone(), attrs });
            }
            burst.close(&handle);
        });
        async move {
            let result = publish(&tree, &upload, replies, meta).await;
            tree.uploads.end(&upload);
            match result {
                Ok(()) => upload.forget(&tree).await,
                Err(_) => remove(&tree, &upload).await,
            }
            Some(Ack { ticket, result })
        }
        .boxed()
    }

    /// Nothing becomes of the file.
    pub fn give_up(&mut self, file: &Parted) -> Ending {
        let (tree, upload) = (self.tree.clone(), self.tree.uploads.get(file));
        if let Ok(upload) = &upload {
            tree.uploads.end(upload);
        }
        async move {
            if let Ok(upload) = upload {
                remove(&tree, &upload).await;
            }
            None
        }
        .boxed()
    }

    /// The pass has failed, and nobody waits for anything any more: removes what is to be given up.
    pub async fn clear_up(&mut self, pieces: &mut mpsc::Receiver<Store>) {
        while let Some(piece) = pieces.recv().await {
            if let Store::Drop(file) = piece {
                self.give_up(&file).await;
            }
        }
    }

    /// Nothing more comes. What is there of a file stays for the next pass, which goes on with it or
    /// sweeps it.
    pub fn close(&mut self) {
        if let Some(Open { handle, .. }) = self.open.take() {
            drop(self.client().burst(|burst| burst.close(&handle)));
        }
    }

    fn client(&self) -> &Client {
        &self.tree.client
    }

    /// The handle of a temporary file. What is opened is looked at before anything is written to it:
    /// whoever can write to the directory may have put something else there.
    async fn open(&mut self, upload: &Arc<Upload>) -> Result<Bytes, Failure> {
        if let Some(open) = self.open.as_ref().filter(|open| Arc::ptr_eq(&open.upload, upload)) {
            return Ok(open.handle.clone());
        }
        self.close();
        let handle = self.hold(upload).await?;
        self.open = Some(Open { upload: upload.clone(), handle: handle.clone() });
        Ok(handle)
    }

    async fn hold(&self, upload: &Upload) -> Result<Bytes, Failure> {
        let (path, flags) = (upload.temp(&self.tree), open_flags::WRITE);
        let open = Request::Open { path, flags, attrs: Attrs::default() };
        let opened = self.client().hold(&open).await;
        let handle = opened.map_err(|error| error.failure("open its temporary file"))?;
        let fstat = Request::Fstat { handle: handle.clone() };
        let found = self.client().attrs(fstat).await;
        let found = found.map_err(|error| error.failure("look at its temporary file"));
        match found {
            Ok(found) if is_file(&found, upload.file.size) => Ok(handle),
            other => {
                drop(self.client().burst(|burst| burst.close(&handle)));
                Err(other.err().unwrap_or_else(replaced))
            }
        }
    }
}

impl Writing {
    /// Hears what has come.
    fn hear(&mut self) {
        while self.replies.front().is_some_and(Replies::is_ready) {
            if let Some(Err(error)) = self.replies.pop_front().map(Replies::take_done) {
                self.refused.get_or_insert(error);
            }
        }
    }
}

async fn publish(
    tree: &Tree,
    upload: &Upload,
    replies: Replies,
    meta: Meta,
) -> Result<(), Failure> {
    let setting = |error: SftpError| error.failure("set its mode and time");
    let mut replies = replies.all().await.into_iter();
    let prepared = upload.prepared(tree).await?;
    for _ in ["by its name", "by its handle"] {
        let found = replies.next().unwrap_or(Err(SftpError::Lost)).and_then(reply::attrs);
        let found = found.map_err(|error| error.failure("look at its temporary file"))?;
        if !prepared.is_of(upload, &found) {
            return Err(replaced());
        }
    }
    replies.try_for_each(|reply| reply::done(reply?)).map_err(setting)?;
    let (whole, signature) = upload.whole();
    if !whole {
        return Err(corrupt());
    }
    let Parted { path, size, .. } = &upload.file;
    let rename = Request::PosixRename { from: upload.temp(tree), to: tree.full(path) };
    if let Err(error) = tree.client.done(rename).await {
        return Err(explain(tree, *size, error, "put it in place").await);
    }
    let mtime_secs = meta_of(&time(meta.mtime)).mtime.secs;
    let blocks = signature.map(|signature| Blocks { size: *size, mtime_secs, signature });
    if let Some(known) = tree.known.clone() {
        let path = path.clone();
        // What panics there says so itself.
        let _ = tokio::task::spawn_blocking(move || known.put(&path, blocks.as_ref())).await;
    }
    Ok(())
}

/// Removes what is there. If that cannot be asked for any more, because the link is lost, the next
/// pass goes on with it.
async fn remove(tree: &Tree, upload: &Upload) {
    let removed = tree.client.done(Request::Remove { path: upload.temp(tree) }).await;
    if !matches!(removed, Err(SftpError::Lost)) {
        upload.forget(tree).await;
    }
}

fn is_file(attrs: &Attrs, size: u64) -> bool {
    kind(attrs) == TYPE_FILE && attrs.size == Some(size)
}

fn refuse(ticket: u64, failure: Failure) -> Ending {
    std::future::ready(Some(Ack { ticket, result: Err(failure) })).boxed()
}

fn replaced() -> Failure {
    let text = "somebody else changed its temporary file";
    Failure::new(FailureKind::Confined, text)
}
