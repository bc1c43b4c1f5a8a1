//! Reads the files of a local source: jobs in, pieces out, in the same order. A file that changed
//! while it was read is told as such, never passed off as whole. Blocking: runs on a thread of its
//! own.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use blake3::hazmat::HasherExt;
use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use tokio::sync::mpsc::{self, error::SendError};

use super::delta::{self, Basis, Diffed};
use super::failure::failure;
use super::gentle::{self, Gentle};
use super::root::{Dirs, Root, Stat, StatKind, stat_open};
use super::session::Bunch;
use super::session::local::Tree;
use super::throttle::Throttle;
use crate::wire::message::{
    CHUNK_BYTES_MAX, FileHead, Job, Manner, PartHead, Piece, WHOLE_BYTES_MAX, part_place,
};
use crate::wire::path::RelPath;
use crate::wire::tree::{Digest, Failure, FailureKind};

/// What is read between two looks at the pace.
const STRETCH_BYTES: u64 = 1 << 20;
/// Pieces are handed on together up to so much: waking whoever takes them costs more than a small
/// file does.
const BUNCH_BYTES: u64 = 128 << 10;

/// Serves jobs until no more come or nobody takes the pieces.
pub(crate) fn run(tree: &Tree, mut jobs: mpsc::Receiver<Job>, pieces: mpsc::Sender<Bunch>) {
    if tree.gentle.is_some() {
        gentle::yield_to_others();
    }
    let gentle = tree.gentle.clone();
    let mut pieces = Out { pieces, bunch: Vec::new(), bytes: 0, gentle };
    let mut dirs = Dirs::new(tree.root.clone());
    while let Some(job) = jobs.blocking_recv() {
        let ticket = job.ticket;
        let done = match read(&mut dirs, tree.manner, job, &mut pieces) {
            Ok(()) => Ok(()),
            Err(Stop::Failed(failure)) => pieces.add(Piece::Failed { ticket, failure }),
            Err(Stop::Gone) => return,
        };
        // Whoever takes the pieces waits for what it has asked for, not for a full bunch.
        let sent = done.and_then(|()| if jobs.is_empty() { pieces.send() } else { Ok(()) });
        if sent.is_err() {
            return;
        }
    }
}

/// Where pieces go, several at a time and at a pace that leaves time for others.
struct Out {
    pieces: mpsc::Sender<Bunch>,
    bunch: Bunch,
    bytes: u64,
    gentle: Option<Gentle>,
}

impl Out {
    fn add(&mut self, piece: Piece) -> Result<(), SendError<Bunch>> {
        let bytes = match &piece {
            Piece::Whole { content, .. } | Piece::Chunk(content) => content.len() as u64,
            Piece::Begin { .. } | Piece::End { .. } => 0,
            Piece::Failed { .. } | Piece::Part { .. } => 0,
        };
        self.pass(bytes);
        self.bytes += bytes;
        self.bunch.push(piece);
        if self.bytes >= BUNCH_BYTES { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> Result<(), SendError<Bunch>> {
        self.bytes = 0;
        match std::mem::take(&mut self.bunch) {
            bunch if bunch.is_empty() => Ok(()),
            bunch => self.pieces.blocking_send(bunch),
        }
    }

    /// Leaves time for others before so much is read.
    fn pass(&self, bytes: u64) {
        if let Some(gentle) = &self.gentle {
            gentle.contents.pass_here(bytes);
        }
    }
}

/// The hash of the file at `path`, read at this pace.
pub(crate) fn digest_of(
    root: &Root,
    path: &RelPath,
    pace: &Throttle,
    gentle: Option<&Gentle>,
) -> Result<Digest, Failure> {
    let (file, before) = open(root, path)?;
    let mut hasher = blake3::Hasher::new();
    loop {
        let hashed = hasher.count();
        hasher
            .update_reader((&file).take(STRETCH_BYTES))
            .map_err(|error| failure("read it", error))?;
        if hasher.count() == hashed {
            break;
        }
        pace.pass_here((hasher.count() - hashed) as usize);
        if let Some(gentle) = gentle {
            gentle.contents.pass_here(hasher.count() - hashed);
        }
    }
    unchanged(&file, &before, hasher.count())?;
    Ok(finish(&hasher))
}

fn open(root: &Root, path: &RelPath) -> Result<(File, Stat), Failure> {
    let (dir, name) = path.split().ok_or_else(|| Failure::new(FailureKind::Other, "no file"))?;
    let dir = root.open_dir(&dir).map_err(|error| failure("open its directory", error))?;
    let flags = rustix::fs::OFlags::RDONLY
        | rustix::fs::OFlags::NOFOLLOW
        | rustix::fs::OFlags::NONBLOCK
        | rustix::fs::OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, name.as_bytes(), flags, rustix::fs::Mode::empty())
        .map_err(|error| failure("open it", error))?;
    let file = File::from(fd);
    let stat = regular(&file)?;
    Ok((file, stat))
}

/// The status of `file`, if it is a regular one.
pub(crate) fn regular(file: &File) -> Result<Stat, Failure> {
    let stat = stat_open(file).map_err(|error| failure("look at it", error))?;
    if stat.kind == StatKind::File {
        Ok(stat)
    } else {
        Err(Failure::new(FailureKind::Changed, "it is no longer a regular file"))
    }
}

enum Stop {
    Failed(Failure),
    /// Nobody takes the pieces any more.
    Gone,
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Stop::Failed(failure)
    }
}

impl<T> From<SendError<T>> for Stop {
    fn from(_: SendError<T>) -> Self {
        Stop::Gone
    }
}

fn read(dirs: &mut Dirs, manner: Manner, job: Job, pieces: &mut Out) -> Result<(), Stop> {
    let Job { ticket, path, signature, part, .. } = job;
    let file = dirs.open_file(&path)?;
    let before = regular(&file)?;
    if let Some(index) = part {
        return read_part(&file, &before, (ticket, index, signature.as_deref()), pieces);
    }
    let head = FileHead { meta: before.meta, size: before.size, delta: false };
    if let Some(signature) = signature
        && read_delta(&file, &before, manner, (ticket, &signature), pieces)?
    {
        return Ok(());
    }
    if before.size <= WHOLE_BYTES_MAX as u64 {
        let content = read_whole(&file, &before)?;
        let digest = Digest(*blake3::hash(&content).as_bytes());
        pieces.add(Piece::Whole { ticket, meta: before.meta, digest, content })?;
        return Ok(());
    }
    pieces.add(Piece::Begin { ticket, head })?;
    let mut hasher = blake3::Hasher::new();
    read_chunks(&mut (&file).take(before.size + 1), &mut hasher, pieces)?;
    unchanged(&file, &before, hasher.count())?;
    pieces.add(Piece::End { ticket, digest: finish(&hasher) })?;
    Ok(())
}

/// One part of a large file, without its content if that has the hash `kept` and is on the target
/// already. Whether all parts are of the same state of the file is seen where they come together,
/// by their heads.
fn read_part(
    file: &File,
    before: &Stat,
    (ticket, index, kept): (u64, u32, Option<&[u8]>),
    pieces: &mut Out,
) -> Result<(), Stop> {
    let (at, length) = part_place(index, before.size).ok_or_else(changed)?;
    let Stat { meta, size, inode, changed, .. } = *before;
    pieces.add(Piece::Part { ticket, head: PartHead { meta, size, inode, changed } })?;
    let begin = |mut file: &File| -> Result<blake3::Hasher, Failure> {
        file.seek(SeekFrom::Start(at)).map_err(|error| failure("read it", error))?;
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(at);
        Ok(hasher)
    };
    if let Some(kept) = kept {
        pieces.pass(length);
        let mut hasher = begin(file)?;
        hasher.update_reader(file.take(length)).map_err(|error| failure("read it", error))?;
        if hasher.count() == length && hasher.finalize_non_root()[..] == *kept {
            unchanged(file, before, before.size)?;
            let digest = Digest(hasher.finalize_non_root());
            return Ok(pieces.add(Piece::End { ticket, digest })?);
        }
    }
    let mut hasher = begin(file)?;
    read_chunks(&mut file.take(length), &mut hasher, pieces)?;
    unchanged(file, before, before.size - length + hasher.count())?;
    let digest = Digest(hasher.finalize_non_root());
    pieces.add(Piece::End { ticket, digest })?;
    Ok(())
}

fn read_chunks(
    rest: &mut impl Read,
    hasher: &mut blake3::Hasher,
    pieces: &mut Out,
) -> Result<(), Stop> {
    loop {
        let mut chunk = vec![0; CHUNK_BYTES_MAX];
        let length = read_full(rest, &mut chunk).map_err(|error| failure("read it", error))?;
        if length == 0 {
            return Ok(());
        }
        chunk.truncate(length);
        hasher.update(&chunk);
        pieces.add(Piece::Chunk(chunk.into()))?;
    }
}

/// Room for one byte more than there should be tells a file that grew.
fn read_whole(file: &File, before: &Stat) -> Result<Bytes, Failure> {
    let mut content = Vec::with_capacity(before.size as usize + 1);
    loop {
        match rustix::io::read(file, spare_capacity(&mut content)) {
            Ok(0) => break,
            // Whether that was all is told by the status.
            Ok(_) if content.len() as u64 >= before.size => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(failure("read it", error)),
        }
    }
    unchanged(file, before, content.len() as u64)?;
    Ok(content.into())
}

/// Sends the file as a delta; `false` if that does not pay and it must be sent as it is.
fn read_delta(
    file: &File,
    before: &Stat,
    manner: Manner,
    (ticket, signature): (u64, &[u8]),
    pieces: &mut Out,
) -> Result<bool, Stop> {
    // A damaged signature is no reason to fail: the file can still be sent.
    let Ok(mut basis) = Basis::new(signature) else { return Ok(false) };
    basis.in_place = manner.in_place;
    let head = FileHead { meta: before.meta, size: before.size, delta: true };
    pieces.add(Piece::Begin { ticket, head })?;
    let mut hasher = blake3::Hasher::new();
    let mut gone = false;
    let emit = |delta: Vec<u8>| {
        let mut delta = Bytes::from(delta);
        while !delta.is_empty() && !gone {
            let part = delta.split_to(delta.len().min(CHUNK_BYTES_MAX));
            gone = pieces.add(Piece::Chunk(part)).is_err();
        }
        !gone
    };
    let diffed = delta::diff(
        &basis,
        file,
        before.size,
        |part| {
            hasher.update(part);
        },
        emit,
    )
    .map_err(|error| failure("read it", error))?;
    match diffed {
        _ if gone => Err(Stop::Gone),
        Diffed::Unrelated => Ok(false),
        Diffed::Whole { read_bytes } => {
            unchanged(file, before, read_bytes)?;
            pieces.add(Piece::End { ticket, digest: finish(&hasher) })?;
            Ok(true)
        }
    }
}

/// Fills `buffer`; less only at the end.
fn read_full(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Whether what was read is the file as it was when the reading began.
fn unchanged(file: &File, before: &Stat, read_bytes: u64) -> Result<(), Failure> {
    let after = stat_open(file).map_err(|error| failure("look at it", error))?;
    let same = read_bytes == before.size
        && after.size == before.size
        && after.meta.mtime == before.meta.mtime;
    if same { Ok(()) } else { Err(changed()) }
}

pub(crate) fn changed() -> Failure {
    Failure::new(FailureKind::Changed, "it changed while it was read")
}

fn finish(hasher: &blake3::Hasher) -> Digest {
    Digest(*hasher.finalize().as_bytes())
}
