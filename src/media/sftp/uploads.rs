//! Large files that come in parts over several channels, each to one temporary file that all of them
//! write to. Whichever channel comes first makes it, or finds that it can go on with the one that an
//! earlier pass has left.
//!
//! What such a pass has left cannot be read back, so the proof that it is what was sent rests on
//! what is [written down](super::record) of each part when the server has said that it is on its
//! disk, and on the time of the file. Behind every WRITE goes a request that gives the file a time
//! of long ago which nobody knows. Wherever a pass breaks off, the file has that time; anybody
//! else who writes to it takes it away. A file without it, or of another size, is begun anew.
//!
//! Which content a part must have to be the one that is there is not decided here: the source
//! reads it again, and only one with the hash that was written down counts as there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::OnceCell;

use super::known::{HASH_BYTES, Known};
use super::meta::{TYPE_FILE, kind};
use super::record::{self, Done, Head, Parts, Record, part_count};
use super::reply::SftpError;
use super::session::Tree;
use crate::media::apply::secret_seed;
use crate::media::delta::PartSums;
use crate::media::kept::Kept;
use crate::media::temp::partial_names;
use crate::wire::message::{PART_BYTES, Parted};
use crate::wire::path::RelPath;
use crate::wire::sftp::{Attrs, Request};
use crate::wire::tree::{Failure, FailureKind};

/// Times from 1978 on, for eight years: none that a clock or another program gives.
const MARK_FIRST: u32 = 1 << 28;

/// The files that are on their way to one tree.
#[derive(Default)]
pub(super) struct Uploads(Mutex<HashMap<RelPath, Arc<Upload>>>);

/// One of them, in one of its states.
pub(super) struct Upload {
    pub file: Parted,
    /// Its temporary file.
    pub at: RelPath,
    prepared: OnceCell<Result<Prepared, Failure>>,
}

/// One whose temporary file is there.
pub(super) struct Prepared {
    mark: u32,
    /// Something of it was there before.
    pub continued: bool,
    /// How its blocks are summed, if they are.
    pub sums: Option<PartSums>,
    progress: Mutex<Progress>,
}

struct Progress {
    parts: Parts,
    /// `None` if nothing can be written down.
    record: Option<Record>,
}

impl Uploads {
    /// That of `file`, which is begun if need be.
    pub fn get(&self, file: &Parted) -> Result<Arc<Upload>, Failure> {
        let at = temp_path(file)?;
        let mut uploads = self.lock();
        let upload = uploads.entry(at.clone()).or_insert_with(|| {
            Arc::new(Upload { file: file.clone(), at, prepared: OnceCell::new() })
        });
        Ok(upload.clone())
    }

    /// It has ended, well or not.
    pub fn end(&self, upload: &Upload) {
        self.lock().remove(&upload.at);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RelPath, Arc<Upload>>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn temp_path(file: &Parted) -> Result<RelPath, Failure> {
    let no_place = || Failure::new(FailureKind::Other, "it has no place for its parts");
    let (dir, name) = file.path.split().ok_or_else(no_place)?;
    // Nobody cuts a file that is so short.
    let [temp, _] = partial_names(&name, file.size, file.mtime).ok_or_else(no_place)?;
    dir.join(&temp).map_err(|_| no_place())
}

impl Upload {
    /// Its temporary file, as the server knows it.
    pub fn temp(&self, tree: &Tree) -> Bytes {
        tree.full(&self.at)
    }

    /// Has the temporary file made or looked at, once.
    pub async fn prepared(&self, tree: &Tree) -> Result<&Prepared, Failure> {
        let prepared = self.prepared.get_or_init(|| self.prepare(tree)).await;
        prepared.as_ref().map_err(Clone::clone)
    }

    async fn prepare(&self, tree: &Tree) -> Result<Prepared, Failure> {
        let file = self.file.clone();
        let left = self.blocking(tree, move |known, at| Record::resume(known, at, &file)).await;
        if let Some((record, head, parts)) = left
            && is_left(tree, &self.at, &head).await?
        {
            let sums = sums(tree, self.file.size, head.seed);
            let sums = sums.filter(|sums| sums.sums_bytes(PART_BYTES) == head.sums_bytes);
            let progress = Mutex::new(Progress { parts, record: Some(record) });
            return Ok(Prepared { mark: head.mark, continued: true, sums, progress });
        }
        let sums = sums(tree, self.file.size, secret_seed());
        let mark = MARK_FIRST + secret_seed() as u32 % MARK_FIRST;
        self.make(tree, mark).await?;
        let head = Head {
            size: self.file.size,
            mtime: self.file.mtime,
            mark,
            seed: sums.as_ref().map_or(0, PartSums::seed),
            sums_bytes: sums.as_ref().map_or(0, |sums| sums.sums_bytes(PART_BYTES)),
        };
        let record = self.blocking(tree, move |known, at| Record::begin(known, at, &head)).await;
        let parts = vec![None; part_count(self.file.size)];
        let progress = Mutex::new(Progress { parts, record });
        Ok(Prepared { mark, continued: false, sums, progress })
    }

    /// Makes the temporary file, with the length that it will have: so parts may come in any order.
    async fn make(&self, tree: &Tree, mark: u32) -> Result<(), Failure> {
        let path = self.temp(tree);
        // Whatever else has its name is of no use.
        drop(tree.client.post(&Request::Remove { path: path.clone() }));
        let making = |error: SftpError| error.failure("make a file beside it");
        let handle = tree.client.hold(&super::target::create(path)).await.map_err(making)?;
        let made = tree.client.burst(|burst| {
            let attrs = Attrs { size: Some(self.file.size), ..marked(mark) };
            burst.post(&Request::FsetStat { handle: handle.clone(), attrs });
            burst.close(&handle);
        });
        made.done().await.map_err(making)
    }

    /// Does something with the record, where there may be one.
    async fn blocking<T: Send + 'static>(
        &self,
        tree: &Tree,
        work: impl FnOnce(&Known, &RelPath) -> Option<T> + Send + 'static,
    ) -> Option<T> {
        let (records, at) = (tree.records.clone()?, self.at.clone());
        // What panics there says so itself.
        tokio::task::spawn_blocking(move || work(&records, &at)).await.ok()?
    }

    /// Whether all is there, and the signature of the file if its blocks were summed.
    pub fn whole(&self) -> (bool, Option<Bytes>) {
        let Some(Ok(Prepared { sums, progress, .. })) = self.prepared.get() else {
            return (false, None);
        };
        let Progress { parts, .. } = &*lock(progress);
        let sums_of = |part: &Done| part.sums.clone();
        let done: Vec<Bytes> = parts.iter().flatten().map(sums_of).collect();
        let signature = sums.as_ref().and_then(|sums| sums.join(done.iter().map(|sums| &sums[..])));
        (done.len() == parts.len(), signature)
    }

    /// Whether it is written down what comes.
    pub fn is_recorded(&self) -> bool {
        let Some(Ok(Prepared { progress, .. })) = self.prepared.get() else { return false };
        lock(progress).record.is_some()
    }

    /// Whether it is known to be on the disk of the server with this hash.
    pub fn has(&self, index: u32, chaining: &[u8; HASH_BYTES]) -> bool {
        let Some(Ok(Prepared { progress, .. })) = self.prepared.get() else { return false };
        let Progress { parts, .. } = &*lock(progress);
        parts
            .get(index as usize)
            .is_some_and(|part| part.as_ref().is_some_and(|done| done.chaining == *chaining))
    }

    /// Notes that a part is there, or, without a hash, that it is about to be written.
    pub async fn note(self: &Arc<Self>, index: u32, done: Option<Done>) {
        let upload = self.clone();
        let noting = tokio::task::spawn_blocking(move || {
            let Some(Ok(Prepared { progress, .. })) = upload.prepared.get() else { return };
            let mut progress = lock(progress);
            let index = index as usize;
            let Some(part) = progress.parts.get_mut(index) else { return };
            if part.is_none() && done.is_none() {
                return;
            }
            part.clone_from(&done);
            if let Some(record) = &mut progress.record
                && !record.note(index, done.as_ref())
            {
                progress.record = None;
            }
        });
        // What panics there says so itself.
        let _ = noting.await;
    }

    /// Forgets what is written down of it.
    pub async fn forget(&self, tree: &Tree) {
        self.blocking(tree, |known, at| {
            record::forget(known, at);
            Some(())
        })
        .await;
    }
}

impl Prepared {
    /// What behind each WRITE gives the file its time.
    pub fn mark(&self, handle: &Bytes) -> Request {
        Request::FsetStat { handle: handle.clone(), attrs: marked(self.mark) }
    }

    /// Whether it is the temporary file, and nobody else has written to it.
    pub fn is_of(&self, upload: &Upload, attrs: &Attrs) -> bool {
        is_marked(attrs, upload.file.size, self.mark)
    }
}

/// What is left of a file whose temporary one is `at`, if it is as it was left.
pub(super) async fn kept(tree: &Tree, at: &RelPath) -> Result<Option<Kept>, Failure> {
    let Some(records) = tree.records.clone() else { return Ok(None) };
    let path = at.clone();
    let looked = tokio::task::spawn_blocking(move || record::look(&records, &path)).await;
    let Some((head, parts)) = looked.ok().flatten() else { return Ok(None) };
    if !is_left(tree, at, &head).await? {
        return Ok(None);
    }
    let chaining = |part: Option<Done>| part.map(|done| done.chaining);
    Ok(Kept::new(parts.into_iter().map(chaining).collect()))
}

async fn is_left(tree: &Tree, at: &RelPath, head: &Head) -> Result<bool, Failure> {
    match tree.client.attrs(Request::Lstat { path: tree.full(at) }).await {
        Ok(attrs) => Ok(is_marked(&attrs, head.size, head.mark)),
        Err(SftpError::Lost) => Err(SftpError::Lost.failure("look at its temporary file")),
        Err(_) => Ok(false),
    }
}

fn is_marked(attrs: &Attrs, size: u64, mark: u32) -> bool {
    let mtime = attrs.times.map(|(_, mtime)| mtime);
    kind(attrs) == TYPE_FILE && attrs.size == Some(size) && mtime == Some(mark)
}

fn marked(mark: u32) -> Attrs {
    Attrs { times: Some((mark, mark)), ..Attrs::default() }
}

/// Blocks are summed where deltas may follow.
fn sums(tree: &Tree, size: u64, seed: u64) -> Option<PartSums> {
    tree.known.as_ref().and_then(|_| PartSums::new(size, PART_BYTES, seed))
}

fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
