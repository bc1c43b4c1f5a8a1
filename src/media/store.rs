//! Stores files in a local target: pieces in, acknowledgements out. A file is written beside its
//! final name, checked against the hash that its reader made, given its mode and time, made
//! durable together with others, and only then renamed: it is there whole or not at all, also
//! after a power failure. Blocking: runs on a thread of its own.

mod in_place;
mod part;
mod partial;
mod sparse;
mod temp_file;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::fs::Mode;
use rustix::io::Errno;
use tokio::sync::mpsc;

use super::apply::{Changer, set_open};
use super::delta::Patcher;
use super::failure::failure;
use super::root::{Dirs, Root};
use super::temp::TempNames;
use crate::wire::message::{Ack, FileHead, Manner, Op, Store, Told};
use crate::wire::path::{Name, RelPath};
use crate::wire::tree::{Digest, Failure, FailureKind, Meta};
use partial::Partial;
use sparse::{Sparse, hash_and_write};
use temp_file::{CREATE, TempFile, remove_temp};

/// A batch is published when it holds so much.
const BATCH_FILES_MAX: usize = 512;
const BATCH_BYTES_MAX: u64 = 64 << 20;
/// It is also published when its first file has waited so long.
const BATCH_AGE_MAX: Duration = Duration::from_secs(3);
/// A shorter partial file is not worth keeping.
const PARTIAL_BYTES_MIN: u64 = 4 << 20;

/// Stores files until no more come or nobody takes what is told. What was complete by
/// then is published, what was not is removed, except for a partial file that spares the next run much.
pub(crate) fn run(
    mut storer: Storer,
    mut pieces: mpsc::Receiver<Store>,
    tells: mpsc::Sender<Told>,
) {
    while let Some(piece) = pieces.blocking_recv() {
        storer.take(piece);
        while let Some(told) = storer.told.pop_front() {
            if tells.blocking_send(told).is_err() {
                storer.discard();
                return;
            }
        }
    }
    for told in storer.finish() {
        // Whoever asked is usually gone by now.
        let _ = tells.blocking_send(told);
    }
}

/// A complete file under its temporary name.
struct Ready {
    ticket: u64,
    dir: Arc<OwnedFd>,
    /// Empty for one that has its own.
    temp: Vec<u8>,
    name: Name,
}

/// A file that is being written.
struct Writing {
    ticket: u64,
    head: FileHead,
    hasher: blake3::Hasher,
    written: u64,
    /// It is a part, written to a file that other lanes write to as well.
    part: bool,
    /// `Err` once something went wrong; what still comes of the file is then passed over.
    output: Result<Output, Failure>,
}

struct Output {
    file: File,
    temp: TempFile,
    /// Where zeros become holes.
    sparse: Option<Sparse>,
    patcher: Option<Patcher>,
    /// The partial file that the patcher reads, until there is more than it holds.
    outgrown: Option<Partial>,
}

/// Stores files one after the other.
pub(crate) struct Storer {
    dirs: Dirs,
    names: TempNames,
    manner: Manner,
    writing: Option<Writing>,
    ready: Vec<Ready>,
    ready_bytes: u64,
    ready_since: Option<Instant>,
    /// Renamed, but the renaming is not durable yet.
    published: Vec<u64>,
    /// To be done when what is ready is published.
    settling: Vec<Vec<Op>>,
    /// For whoever takes them.
    pub told: VecDeque<Told>,
}

impl Storer {
    pub fn new(root: Arc<Root>, names: TempNames, manner: Manner) -> Self {
        Storer {
            dirs: Dirs::new(root),
            names,
            manner,
            writing: None,
            ready: Vec::new(),
            ready_bytes: 0,
            ready_since: None,
            published: Vec::new(),
            settling: Vec::new(),
            told: VecDeque::new(),
        }
    }

    pub fn take(&mut self, piece: Store) {
        match piece {
            Store::Apply(ops) => {
                let mut changer = Changer { dirs: &mut self.dirs, names: &mut self.names };
                self.told.push_back(Told::Applied(changer.apply_all(&ops.0)));
            }
            Store::Whole { ticket, path, meta, digest, content } => {
                self.abort();
                match self.whole(&path, meta, digest, &content) {
                    Ok(temp) => self.complete(ticket, temp, content.len() as u64),
                    Err(failure) => self.refuse(ticket, failure),
                }
            }
            Store::Begin { ticket, path, head } => {
                self.abort();
                let output = self.begin(&path, &head);
                let hasher = blake3::Hasher::new();
                let part = false;
                self.writing = Some(Writing { ticket, head, hasher, written: 0, part, output });
            }
            Store::Chunk(bytes) => self.chunk(&bytes),
            Store::End { digest } => self.end(digest),
            Store::Abort => self.abort(),
            Store::Settle(ops) => self.settling.push(ops.0),
            Store::Flush => self.flush(),
            Store::Part { ticket, file, index } => {
                self.abort();
                self.begin_part(ticket, &file, index);
            }
            Store::Join { ticket, file, meta } => match self.join(&file, meta) {
                Ok(temp) => self.complete(ticket, temp, file.size),
                Err(failure) => self.refuse(ticket, failure),
            },
            Store::Drop(file) => self.drop_parts(&file),
        }
        let old = self.ready_since.is_some_and(|since| since.elapsed() >= BATCH_AGE_MAX);
        if old || self.ready.len() >= BATCH_FILES_MAX || self.ready_bytes >= BATCH_BYTES_MAX {
            self.publish();
        }
    }

    fn whole(
        &mut self,
        path: &RelPath,
        meta: Meta,
        digest: Digest,
        content: &Bytes,
    ) -> Result<TempFile, Failure> {
        if blake3::hash(content).as_bytes() != &digest.0 {
            return Err(corrupt());
        }
        let in_place = self.manner.in_place;
        let (mut file, mut temp) = match in_place {
            true => self.open_in_place(path)?,
            false => self.create(path)?,
        };
        temp.touched = true;
        let written = match self.sparse(0, in_place) {
            Some(mut sparse) => {
                sparse.write(&mut file, content).and_then(|()| sparse.finish(&file))
            }
            None => file.write_all(content),
        };
        let written = written.and_then(|()| match in_place {
            true => file.set_len(content.len() as u64),
            false => Ok(()),
        });
        written.map_err(|error| failure("write it", error))?;
        set_open(&file, meta)?;
        Ok(temp)
    }

    fn begin(&mut self, path: &RelPath, head: &FileHead) -> Result<Output, Failure> {
        if self.manner.in_place {
            return self.begin_in_place(path, head);
        }
        if let Some(names) = self.partial_names(path, head)? {
            return self.begin_partial(path, head, names);
        }
        let basis = if head.delta { Some(self.dirs.open_file(path)?) } else { None };
        let (file, temp) = self.create(path)?;
        let (sparse, patcher) = (self.sparse(0, false), basis.map(Patcher::new));
        Ok(Output { file, temp, sparse, patcher, outgrown: None })
    }

    /// What makes holes in a file that is written from `at`, if holes are to be made.
    fn sparse(&self, at: u64, used: bool) -> Option<Sparse> {
        self.manner.sparse.then(|| Sparse::new(at, used))
    }

    /// A new file beside `path` that only its owner can read until it has its mode.
    fn create(&mut self, path: &RelPath) -> Result<(File, TempFile), Failure> {
        let (dir, name) = self.dirs.parent(path)?;
        loop {
            let temp = self.names.next();
            match rustix::fs::openat(&dir, &temp, CREATE, Mode::from_raw_mode(0o600)) {
                Ok(fd) => {
                    let temp = TempFile::new(dir, temp, name, false);
                    return Ok((File::from(fd), temp));
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(failure("make a file beside it", error)),
            }
        }
    }

    fn chunk(&mut self, bytes: &[u8]) {
        let Some(writing) = &mut self.writing else { return };
        let Writing { head, hasher, written, output, .. } = writing;
        let Ok(Output { file, temp, sparse, patcher, outgrown }) = output else { return };
        temp.touched = true;
        let mut write = |part: &[u8], from: Option<u64>| -> io::Result<()> {
            let at = *written;
            *written += part.len() as u64;
            if *written > head.size {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "more than was announced"));
            }
            if temp.in_place && from == Some(at) {
                hasher.update(part);
                return in_place::pass(file, sparse, part.len());
            }
            hash_and_write(hasher, file, sparse, part)
        };
        let result = match patcher {
            Some(patcher) => patcher.push_from(bytes, &mut write),
            None => write(bytes, None),
        };
        if let Some(part) = outgrown.take_if(|part| *written >= part.bytes) {
            remove_temp(&temp.dir, part.name.as_bytes());
        }
        if let Err(error) = result {
            // A delta that does not fit the file is like damage on the way.
            let failure = if error.raw_os_error().is_none() {
                Failure::new(FailureKind::Corrupt, error.to_string())
            } else {
                failure("write it", error)
            };
            *output = Err(failure);
        }
    }

    fn end(&mut self, digest: Digest) {
        let Some(writing) = self.writing.take() else { return };
        if writing.part {
            return self.end_part(writing, digest);
        }
        let Writing { ticket, head, hasher, written, output, .. } = writing;
        let finished = output.and_then(|Output { file, mut temp, sparse, patcher, outgrown }| {
            let whole = patcher.is_none_or(|patcher| patcher.finish().is_ok());
            if !whole || written != head.size || hasher.finalize().as_bytes() != &digest.0 {
                return Err(corrupt());
            }
            if let Some(sparse) = sparse {
                sparse.finish(&file).map_err(|error| failure("write it", error))?;
            }
            if temp.in_place {
                file.set_len(head.size).map_err(|error| failure("write it", error))?;
            }
            if temp.partial {
                temp.claim(&file, self.names.next())?;
            }
            if let Some(part) = outgrown {
                remove_temp(&temp.dir, part.name.as_bytes());
            }
            set_open(&file, head.meta)?;
            Ok(temp)
        });
        match finished {
            Ok(temp) => self.complete(ticket, temp, head.size),
            Err(failure) => self.refuse(ticket, failure),
        }
    }

    fn complete(&mut self, ticket: u64, temp: TempFile, bytes: u64) {
        self.ready.push(temp.ready(ticket));
        self.ready_bytes += bytes;
        self.ready_since.get_or_insert_with(Instant::now);
    }

    fn refuse(&mut self, ticket: u64, failure: Failure) {
        self.told.push_back(Told::Ack(Ack { ticket, result: Err(failure) }));
    }

    /// Drops the file that is being written.
    fn abort(&mut self) {
        self.writing = None;
    }

    /// Drops the file that is being written, but not what the next run can go on with.
    fn break_off(&mut self) {
        if let Some(Writing { written, part, output: Ok(output), .. }) = &mut self.writing {
            let enough = *part || *written >= PARTIAL_BYTES_MIN;
            output.temp.kept = output.temp.partial && enough;
        }
        self.writing = None;
    }

    /// Makes the batch durable, then visible. One sync serves two batches: the content of this
    /// one and the renames of the one before, which is acknowledged with it.
    fn publish(&mut self) {
        self.ready_bytes = 0;
        self.ready_since = None;
        if let Err(failure) = self.sync() {
            for ready in std::mem::take(&mut self.ready) {
                remove_temp(&ready.dir, &ready.temp);
                self.refuse(ready.ticket, failure.clone());
            }
            return;
        }
        for Ready { ticket, dir, temp, name } in std::mem::take(&mut self.ready) {
            if temp.is_empty() {
                self.published.push(ticket);
                continue;
            }
            match rustix::fs::renameat(&dir, &temp, &dir, name.as_bytes()) {
                Ok(()) => self.published.push(ticket),
                Err(error) => {
                    remove_temp(&dir, &temp);
                    self.refuse(ticket, failure("put it in place", error));
                }
            }
        }
        self.settle();
    }

    /// Nothing more is renamed into the directories that these changes are about.
    fn settle(&mut self) {
        for ops in std::mem::take(&mut self.settling) {
            let mut changer = Changer { dirs: &mut self.dirs, names: &mut self.names };
            self.told.push_back(Told::Settled(changer.apply_all(&ops)));
        }
    }

    fn flush(&mut self) {
        if !self.ready.is_empty() {
            self.publish();
        }
        self.settle();
        if !self.published.is_empty() {
            // A failure is told to the files that waited for it.
            let _ = self.sync();
        }
    }

    fn sync(&mut self) -> Result<(), Failure> {
        let result = self.dirs.root().sync();
        for ticket in self.published.drain(..) {
            self.told.push_back(Told::Ack(Ack { ticket, result: result.clone() }));
        }
        result
    }

    /// Nothing more comes: publishes what is complete, removes what is not.
    pub fn finish(mut self) -> impl Iterator<Item = Told> {
        self.break_off();
        self.flush();
        self.told.into_iter()
    }

    /// Gives up: nothing more becomes visible.
    pub fn discard(&mut self) {
        self.break_off();
        for ready in self.ready.drain(..) {
            remove_temp(&ready.dir, &ready.temp);
        }
    }
}

fn corrupt() -> Failure {
    Failure::new(FailureKind::Corrupt, "what arrived is not what was read")
}
