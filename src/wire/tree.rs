//! A file tree as values: entries, directories, shards of directories, and how times and owners
//! are to be compared.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::bounded::{Blob, List};
use super::path::{Name, PATH_BYTES_MAX, RelPath};

/// A BLAKE3 hash of a file's content.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

impl fmt::Debug for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..6].iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

/// Tells the temporary files of one run from those of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunId(pub u64);

impl fmt::Display for RunId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:016x}", self.0)
    }
}

/// When content last changed, since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Mtime {
    pub secs: i64,
    pub nanos: u32,
}

/// What is kept beside the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Meta {
    /// Permission bits, `0o7777` at most.
    pub mode: u32,
    pub mtime: Mtime,
    /// Or [`OWNER_UNCHANGED`], as `gid`.
    pub uid: u32,
    pub gid: u32,
}

/// How exact times are on both sides, and what happens to owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaRule {
    /// Whole seconds, as SFTP has them, and no times of symlinks.
    pub whole_secs: bool,
    pub owner: OwnerRule,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OwnerRule {
    /// Files belong to whoever writes them.
    Ignore,
    /// By number, as on the source.
    Keep,
    Fixed {
        uid: u32,
        gid: u32,
    },
}

/// As a user or group: leave it as it is.
pub const OWNER_UNCHANGED: u32 = u32::MAX;

impl MetaRule {
    /// `meta` of the source, as it should be on the target.
    pub fn wanted(&self, meta: Meta) -> Meta {
        let (uid, gid) = match self.owner {
            OwnerRule::Ignore => (OWNER_UNCHANGED, OWNER_UNCHANGED),
            OwnerRule::Keep => (meta.uid, meta.gid),
            OwnerRule::Fixed { uid, gid } => (uid, gid),
        };
        Meta { uid, gid, mtime: self.time(meta.mtime), ..meta }
    }

    /// `meta` of the target, comparable with [`MetaRule::wanted`].
    pub fn present(&self, meta: Meta) -> Meta {
        let (uid, gid) = match self.owner {
            OwnerRule::Ignore => (OWNER_UNCHANGED, OWNER_UNCHANGED),
            OwnerRule::Keep | OwnerRule::Fixed { .. } => (meta.uid, meta.gid),
        };
        Meta { uid, gid, mtime: self.time(meta.mtime), ..meta }
    }

    fn time(&self, mtime: Mtime) -> Mtime {
        if self.whole_secs {
            Mtime { secs: mtime.secs.clamp(0, i64::from(u32::MAX)), nanos: 0 }
        } else {
            mtime
        }
    }
}

/// The longest text of a symlink.
pub const LINK_BYTES_MAX: usize = PATH_BYTES_MAX;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub name: Name,
    pub node: Node,
}

/// What an entry of a directory is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Node {
    File {
        size: u64,
        meta: Meta,
        /// Only where contents are compared.
        content: Option<Digest>,
    },
    Link {
        meta: Meta,
        text: Blob<LINK_BYTES_MAX>,
    },
    /// Its own [`Directory`] tells the rest.
    Dir,
    /// A socket, device or pipe: never transferred.
    Special,
    /// A file that has more names than this one. Only where hard links are kept.
    HardLink {
        size: u64,
        meta: Meta,
        content: Option<Digest>,
        /// The name of it that comes first in the walk, which may be this one; `None` where only
        /// that there are others is known.
        first: Option<RelPath>,
    },
}

/// A directory and what is in it, names in byte order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    pub path: RelPath,
    /// `None` where it could not even be opened.
    pub meta: Option<Meta>,
    pub entries: Vec<Entry>,
    /// Temporary files that another run left here.
    pub leftovers: Vec<Name>,
    /// What could not be read; then absence from `entries` proves nothing.
    pub problems: Vec<Problem>,
}

impl Directory {
    /// One of which nothing is known yet.
    pub fn unread(path: RelPath) -> Self {
        let (entries, leftovers, problems) = (Vec::new(), Vec::new(), Vec::new());
        Directory { path, meta: None, entries, leftovers, problems }
    }
}

/// One frame's worth of a [`Directory`]: a wide one takes several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryPart {
    pub path: RelPath,
    pub meta: Option<Meta>,
    pub entries: List<Entry, 4096>,
    pub leftovers: List<Name, 4096>,
    pub problems: List<Problem, 4096>,
    /// No more parts of this directory follow.
    pub last: bool,
}

/// A run of directories, consecutive in the order of the walk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardHead {
    /// Counts up from 0 within a scan.
    pub index: u64,
    pub first: RelPath,
    pub last: RelPath,
    /// Over all that comparing looks at: equal digests need no listing.
    pub digest: [u8; 16],
    pub files: u64,
    pub dirs: u64,
    pub bytes: u64,
}

/// A run of shards, consecutive in the order of the walk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupHead {
    /// As if it were one shard; its digest is over those of its shards. Groups count for
    /// themselves.
    pub whole: ShardHead,
    pub shards: u32,
}

impl GroupHead {
    /// Whether its shard and that one's content follow unasked: a tree that is hardly there. Most
    /// targets of a first copy are that, which then need not be asked twice.
    pub fn is_told_at_once(&self) -> bool {
        const FILES_MAX: u64 = 16;
        let ShardHead { index, files, dirs, .. } = self.whole;
        index == 0 && self.shards == 1 && dirs == 1 && files <= FILES_MAX
    }
}

/// Something about one path that went wrong and stops nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    pub path: RelPath,
    pub failure: Failure,
}

/// Why an operation on one path failed, in a form that crosses the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}", one_line(text))]
pub struct Failure {
    pub kind: FailureKind,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// It was there and is no more.
    Vanished,
    /// It changed while it was read.
    Changed,
    /// The rights are missing.
    Denied,
    /// The target has no room or cannot be written at all: going on is pointless.
    Full,
    /// A directory that is not empty is in the way, or cannot be removed.
    NotEmpty,
    /// Something other than a directory of the tree is in the path: nothing was followed.
    Confined,
    /// What was written is not what was read.
    Corrupt,
    /// The connection is gone, so this says nothing about the path.
    Lost,
    Other,
}

/// A text that may come from another machine, without what could forge a line.
fn one_line(text: &str) -> String {
    let plain = |letter: char| match letter.is_control() {
        true => letter.escape_default().to_string(),
        false => letter.to_string(),
    };
    text.chars().map(plain).collect()
}

impl Failure {
    pub fn new(kind: FailureKind, text: impl Into<String>) -> Self {
        Failure { kind, text: text.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.path, self.failure)
    }
}
