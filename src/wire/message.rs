//! What the coordinator asks of a half and what it answers, as values. [`super::stream`] turns
//! them into frames and back.
//!
//! A stream has one purpose for its whole life, after [`Open`]: a scan, reading files, storing
//! files, or calls. Answers come in the order of what was asked.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::bounded::{Blob, List};
use super::names::NAMES_CHUNK_BYTES;
use super::path::{Name, PATH_BYTES_MAX, RelPath};
use super::scope::Scope;
use super::tree::{
    Digest, DirectoryPart, Failure, GroupHead, LINK_BYTES_MAX, Meta, MetaRule, Mtime, RunId,
    ShardHead,
};

/// The largest file that travels whole, in one piece.
pub const WHOLE_BYTES_MAX: usize = 128 * 1024;
/// The largest piece of a longer one.
pub const CHUNK_BYTES_MAX: usize = 256 * 1024;
/// How long the parts of a large file are; the last one may be shorter. A power of two, so that
/// each part is a subtree of the file's BLAKE3 tree.
pub const PART_BYTES: u64 = 8 << 20;
const _: () = assert!(PART_BYTES.is_power_of_two() && PART_BYTES >= CHUNK_BYTES_MAX as u64);
/// The longest signature.
pub const SIGNATURE_BYTES_MAX: u64 = 64 << 20;
/// Operations in one [`Call::Apply`].
pub const OPS_MAX: usize = 1024;

#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    Open(Open),
    /// Some of the list of [`Extent::Listed`], before its scan is asked for.
    Names(Blob<NAMES_CHUNK_BYTES>),
    Scan(ScanSpec),
    Verdict(Verdict),
    Read(Job),
    Store(Store),
    Call(Call),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Opened(Result<Facts, Failure>),
    Group(GroupHead),
    /// Those of a group come when it is wanted.
    Shard(ShardHead),
    Content(Content),
    ScanEnd,
    Piece(Piece),
    Told(Told),
    Answer(Answer),
    /// The half gives up.
    Fatal(Failure),
}

/// The first request: where the root is and what for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    pub root: Blob<PATH_BYTES_MAX>,
    pub side: Side,
    /// Make the root if it is missing and its parent is there.
    pub create: bool,
    pub run: RunId,
    /// Tells this stream's temporary files from those of the others.
    pub lane: u32,
    pub manner: Manner,
    /// Leave the machine to others.
    pub gentle: bool,
}

/// How files are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manner {
    /// Runs of zeros become holes.
    pub sparse: bool,
    /// Into the file that is there. Deltas then hold no copy from before where it goes.
    pub in_place: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    Source,
    Target,
}

/// What is known about a root that was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// `false` for a target that is to be made later.
    pub exists: bool,
    /// The process may change owners.
    pub privileged: bool,
    /// Its canonical path.
    pub path: Blob<PATH_BYTES_MAX>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanSpec {
    pub rule: MetaRule,
    /// Hash every file.
    pub checksum: bool,
    /// Bytes a second that are read for that, at most.
    pub checksum_rate: Option<u64>,
    pub trust: Trust,
    /// Patterns as in `--exclude`.
    pub exclude: List<Blob<PATH_BYTES_MAX>, 4096>,
    pub extent: Extent,
    /// Tell which names are of the same file.
    pub hard_links: bool,
    pub scope: Scope,
}

/// How much of a tree is scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Extent {
    Whole,
    /// What the list names that came before; with `recursive` also all that is in the directories
    /// on it.
    Listed {
        recursive: bool,
    },
}

/// How far what the last scan found is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trust {
    /// Every directory is listed.
    Nothing,
    /// Directories that were not changed since then are not listed, but every file is looked at.
    Names,
    /// Nor are files in them looked at that had not changed for so long even then.
    QuietFiles { secs: u32 },
}

/// What a head is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Level {
    Group,
    Shard,
}

/// What becomes of a group or shard whose head was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub level: Level,
    pub index: u64,
    /// The heads of its shards, or its content, are wanted; otherwise it is forgotten.
    pub take: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    pub index: u64,
    pub parts: List<DirectoryPart, 4096>,
    /// No more of this shard follows.
    pub last: bool,
}

/// A file to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub ticket: u64,
    pub path: RelPath,
    /// As scanned, so that not more is asked for than there is. A helper is not told: it looks.
    pub size: u64,
    /// Of the file as it lies on the target, if a delta may pay. Of a part the hash that it has
    /// there; only a source of this machine is told.
    pub signature: Option<Bytes>,
    /// Only this part of it.
    pub part: Option<u32>,
}

/// A piece of a file that was read. Pieces of one file follow each other.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    Whole {
        ticket: u64,
        meta: Meta,
        digest: Digest,
        content: Bytes,
    },
    /// A second one for the same ticket starts it over.
    Begin {
        ticket: u64,
        head: FileHead,
    },
    Chunk(Bytes),
    End {
        ticket: u64,
        digest: Digest,
    },
    Failed {
        ticket: u64,
        failure: Failure,
    },
    /// Begins the part that was asked for; what [`Piece::End`] tells of it is the chaining value of
    /// its subtree.
    Part {
        ticket: u64,
        head: PartHead,
    },
}

/// What is told before a part of a file. Parts of one file have the same head, or it changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartHead {
    pub meta: Meta,
    /// Of the whole file.
    pub size: u64,
    pub inode: u64,
    /// Seconds and nanoseconds of the last change of the inode.
    pub changed: (i64, u32),
}

/// Where a part of `size` bytes in total begins, and how long it is; `None` behind the end.
pub fn part_place(index: u32, size: u64) -> Option<(u64, u64)> {
    let at = u64::from(index) * PART_BYTES;
    (at < size).then(|| (at, PART_BYTES.min(size - at)))
}

/// What is told before the content of a longer file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHead {
    pub meta: Meta,
    pub size: u64,
    /// The chunks are a delta against the file of that name on the target.
    pub delta: bool,
}

/// A piece of a file to be stored. The path is the coordinator's, never the source's.
#[derive(Clone, Debug, PartialEq)]
pub enum Store {
    /// Changes without content, done before whatever follows.
    Apply(List<Op, OPS_MAX>),
    Whole {
        ticket: u64,
        path: RelPath,
        meta: Meta,
        digest: Digest,
        content: Bytes,
    },
    Begin {
        ticket: u64,
        path: RelPath,
        head: FileHead,
    },
    Chunk(Bytes),
    End {
        digest: Digest,
    },
    /// Forget the file that was begun; no acknowledgement follows.
    Abort,
    /// Changes without content, done when all that was stored before is published.
    Settle(List<Op, OPS_MAX>),
    /// Publish and acknowledge what was stored so far.
    Flush,
    /// Begins a part of a file, which is acknowledged by itself as soon as it is written.
    Part {
        ticket: u64,
        file: Parted,
        index: u32,
    },
    /// All parts were acknowledged: publish the file.
    Join {
        ticket: u64,
        file: Parted,
        meta: Meta,
    },
    /// Forget the parts of a file; no acknowledgement follows.
    Drop(Parted),
}

/// A file that comes in parts, in one of its states. Lanes that are given the same one write to
/// the same temporary file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parted {
    pub path: RelPath,
    /// Of the whole file.
    pub size: u64,
    pub mtime: Mtime,
}

/// What became of a file: published and durable, or why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    pub ticket: u64,
    pub result: Result<(), Failure>,
}

/// What came of each operation of a list.
pub type Results = Vec<Result<(), Failure>>;

/// What a target tells of what it was given: results of changes at once, those of settling changes
/// when they are done, each kind in order; files when they are published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Applied(Results),
    Settled(Results),
    Ack(Ack),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    Apply(List<Op, OPS_MAX>),
    Signature(RelPath),
    /// Make everything durable.
    Sync,
}

/// A change on the target that needs no content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Makes a directory, unless it is there, and gives it the owner and mode of `meta`; in any
    /// case it is usable for its owner.
    MakeDir {
        path: RelPath,
        meta: Meta,
    },
    /// Makes or replaces a symlink.
    Link {
        path: RelPath,
        meta: Meta,
        text: Blob<LINK_BYTES_MAX>,
    },
    SetFile {
        path: RelPath,
        meta: Meta,
    },
    SetLink {
        path: RelPath,
        meta: Meta,
    },
    SetDir {
        path: RelPath,
        meta: Meta,
    },
    /// Gives a directory that this pass made its time, when all that is in it is there.
    SetDirTime {
        path: RelPath,
        mtime: Mtime,
    },
    /// Removes what is no directory.
    Remove {
        path: RelPath,
    },
    /// Removes an empty directory.
    RemoveDir {
        path: RelPath,
    },
    /// Removes temporary files that another run left.
    Sweep {
        path: RelPath,
        name: Name,
    },
    /// Makes `path` another name of the file at `first`.
    HardLink {
        path: RelPath,
        first: RelPath,
    },
}

impl Op {
    pub fn path(&self) -> &RelPath {
        match self {
            Op::MakeDir { path, .. }
            | Op::Link { path, .. }
            | Op::SetFile { path, .. }
            | Op::SetLink { path, .. }
            | Op::SetDir { path, .. }
            | Op::SetDirTime { path, .. }
            | Op::Remove { path }
            | Op::RemoveDir { path }
            | Op::Sweep { path, .. }
            | Op::HardLink { path, .. } => path,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Applied(Results),
    Signature(Result<Bytes, Failure>),
    Synced(Result<(), Failure>),
}
