//! Shards: runs of consecutive directories with a digest each, cut so that equal trees are cut
//! alike. Of a shard whose digest is the same on both sides nothing but the digest is ever looked
//! at. Whoever uploads files has a say in what is hashed here, so the hash is a cryptographic one:
//! 128 bits of BLAKE3, which take a fraction of the time of looking at the files. In flow
//! directories in the order of a walk; out flow shards, which `group` keeps.

use std::sync::Arc;

use super::manifest::format::Block;
use super::scan::Scan;
use crate::wire::message::Side;
use crate::wire::path::RelPath;
use crate::wire::tree::{Directory, Meta, MetaRule, Node, ShardHead};

/// A shard ends after a directory whose path hashes to 0 in this many, on average.
pub(super) const DIRS_MEAN: u64 = if cfg!(test) { 16 } else { 64 };
/// It also ends when it holds so many entries.
const ENTRIES_MAX: u64 = 1024;

/// A shard with its content.
#[derive(Debug)]
pub(crate) struct Shard {
    pub head: ShardHead,
    pub dirs: Listing,
}

/// What is in a shard.
#[derive(Debug)]
pub(crate) enum Listing {
    Fresh(Vec<Directory>),
    /// As it is remembered; it is taken apart only if somebody wants it.
    Remembered(Box<Block>, Arc<Scan>),
}

impl Listing {
    pub fn into_vec(self) -> Vec<Directory> {
        match self {
            Listing::Fresh(dirs) => dirs,
            Listing::Remembered(block, scan) => {
                let dirs = block.directories(&scan).into_iter();
                dirs.filter_map(|(_, known)| known.map(|(directory, _)| directory)).collect()
            }
        }
    }
}

/// Cuts a walk into shards.
pub(crate) struct Cutter {
    side: Side,
    rule: MetaRule,
    index: u64,
    dirs: Vec<Directory>,
    hasher: blake3::Hasher,
    files: u64,
    bytes: u64,
    /// Something must be told or swept: the shard equals none.
    marked: bool,
}

impl Cutter {
    pub fn new(side: Side, rule: MetaRule) -> Self {
        Cutter {
            side,
            rule,
            index: 0,
            dirs: Vec::new(),
            hasher: blake3::Hasher::new(),
            files: 0,
            bytes: 0,
            marked: false,
        }
    }

    /// Adds the next directory; gives the shard that it ends, if it ends one.
    pub fn push(&mut self, directory: Directory) -> Option<Shard> {
        self.absorb(&directory);
        let entries = self.files + self.dirs.len() as u64 + 1;
        let ends = ends(&directory.path, entries);
        self.dirs.push(directory);
        if ends { self.end() } else { None }
    }

    /// Whether the next directory begins a shard.
    pub fn is_empty(&self) -> bool {
        self.dirs.is_empty()
    }

    /// Whether a shard ends with what it holds, and not because the walk came to its end. Cuts
    /// depend on what is in a shard alone, so a remembered one that begins where a shard begins
    /// ends where it ended before.
    pub fn would_cut(head: &ShardHead) -> bool {
        ends(&head.last, head.files + head.dirs)
    }

    /// Takes over a remembered shard where one begins.
    pub fn keep(&mut self, block: Box<Block>, scan: &Arc<Scan>) -> Shard {
        let head = ShardHead { index: self.index, ..block.head.clone() };
        self.index += 1;
        Shard { head, dirs: Listing::Remembered(block, scan.clone()) }
    }

    /// The last shard, if anything is left.
    pub fn end(&mut self) -> Option<Shard> {
        let first = self.dirs.first()?.path.clone();
        let last = self.dirs.last()?.path.clone();
        if self.marked {
            self.hasher.update(match self.side {
                Side::Source => b"marked source",
                Side::Target => b"marked target",
            });
        }
        let mut digest = [0; 16];
        digest.copy_from_slice(&self.hasher.finalize().as_bytes()[..16]);
        let dirs = std::mem::take(&mut self.dirs);
        let (files, bytes, index) = (self.files, self.bytes, self.index);
        let next = Cutter { index: index + 1, ..Cutter::new(self.side, self.rule) };
        *self = next;
        let count = dirs.len() as u64;
        Some(Shard {
            head: ShardHead { index, first, last, digest, files, dirs: count, bytes },
            dirs: Listing::Fresh(dirs),
        })
    }

    fn absorb(&mut self, directory: &Directory) {
        let Directory { path, meta, entries, leftovers, problems } = directory;
        self.marked |= meta.is_none() || !leftovers.is_empty() || !problems.is_empty();
        self.bytes_of(b'd', path.as_bytes());
        self.meta_of(meta.unwrap_or_default());
        for entry in entries {
            match &entry.node {
                Node::File { size, meta, content } => {
                    self.bytes_of(b'f', entry.name.as_bytes());
                    self.meta_of(*meta);
                    self.hasher.update(&size.to_le_bytes());
                    self.hasher.update(&content.map_or([0; 32], |digest| digest.0));
                    self.files += 1;
                    self.bytes = self.bytes.saturating_add(*size);
                }
                Node::Link { meta, text } => {
                    self.bytes_of(b'l', entry.name.as_bytes());
                    // The mode of a symlink means nothing; its time exists only in nanoseconds.
                    let meta = Meta { mode: 0, ..*meta };
                    let meta = if self.rule.whole_secs {
                        Meta { mtime: Default::default(), ..meta }
                    } else {
                        meta
                    };
                    self.meta_of(meta);
                    self.bytes_of(b't', &text.0);
                    self.files += 1;
                }
                Node::Dir => self.bytes_of(b's', entry.name.as_bytes()),
                Node::HardLink { size, meta, content, first } => {
                    // The first name of a file is a file like others.
                    let own = path.join(&entry.name).ok();
                    match first {
                        Some(_) if *first == own => self.bytes_of(b'f', entry.name.as_bytes()),
                        Some(first) => {
                            self.bytes_of(b'h', entry.name.as_bytes());
                            self.bytes_of(b't', first.as_bytes());
                        }
                        None => self.bytes_of(b'?', entry.name.as_bytes()),
                    }
                    self.meta_of(*meta);
                    self.hasher.update(&size.to_le_bytes());
                    self.hasher.update(&content.map_or([0; 32], |digest| digest.0));
                    self.files += 1;
                    self.bytes = self.bytes.saturating_add(*size);
                }
                Node::Special => {
                    self.marked = true;
                    self.bytes_of(b'x', entry.name.as_bytes());
                    self.files += 1;
                }
            }
        }
    }

    fn bytes_of(&mut self, tag: u8, bytes: &[u8]) {
        self.hasher.update(&[tag]);
        self.hasher.update(&(bytes.len() as u32).to_le_bytes());
        self.hasher.update(bytes);
    }

    fn meta_of(&mut self, meta: Meta) {
        let Meta { mode, mtime, uid, gid } = meta;
        let mut bytes = [0; 24];
        bytes[..4].copy_from_slice(&mode.to_le_bytes());
        bytes[4..12].copy_from_slice(&mtime.secs.to_le_bytes());
        bytes[12..16].copy_from_slice(&mtime.nanos.to_le_bytes());
        bytes[16..20].copy_from_slice(&uid.to_le_bytes());
        bytes[20..].copy_from_slice(&gid.to_le_bytes());
        self.hasher.update(&bytes);
    }
}

/// Whether a shard that holds so many entries ends after the directory at `path`.
fn ends(path: &RelPath, entries: u64) -> bool {
    hash(path).is_multiple_of(DIRS_MEAN) || entries >= ENTRIES_MAX
}

/// A number that depends on `path` alone: where to cut is decided by it.
pub(super) fn hash(path: &RelPath) -> u64 {
    let hash = blake3::hash(path.as_bytes());
    hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::path::Name;
    use crate::wire::tree::{Entry, Mtime, OwnerRule};

    const RULE: MetaRule = MetaRule { whole_secs: false, owner: OwnerRule::Ignore };

    fn directories(changed: Option<usize>) -> Vec<Directory> {
        let directory = |number: usize| {
            let secs = if changed == Some(number) { 9 } else { 1 };
            let meta = Meta { mtime: Mtime { secs, nanos: 0 }, ..Meta::default() };
            let name = Name::new(b"file").unwrap();
            Directory {
                path: RelPath::new(format!("{number:06}").as_bytes()).unwrap(),
                meta: Some(Meta::default()),
                entries: vec![Entry { name, node: Node::File { size: 3, meta, content: None } }],
                leftovers: Vec::new(),
                problems: Vec::new(),
            }
        };
        (0..20_000).map(directory).collect()
    }

    fn cut(side: Side, directories: Vec<Directory>) -> Vec<ShardHead> {
        let mut cutter = Cutter::new(side, RULE);
        let mut heads: Vec<ShardHead> =
            directories.into_iter().filter_map(|dir| cutter.push(dir)).map(|it| it.head).collect();
        heads.extend(cutter.end().map(|shard| shard.head));
        heads
    }

    #[test]
    fn both_sides_cut_alike_and_a_change_shows_in_one_shard() {
        let source = cut(Side::Source, directories(None));
        let expected = 20_000 / DIRS_MEAN as usize;
        assert!((expected / 2..expected * 2).contains(&source.len()), "{} shards", source.len());
        assert_eq!(cut(Side::Target, directories(None)), source);
        let changed = cut(Side::Target, directories(Some(12_345)));
        let differ = source.iter().zip(&changed).filter(|(one, other)| one != other).count();
        assert_eq!((changed.len(), differ), (source.len(), 1));
    }

    #[test]
    fn after_an_insertion_the_cuts_fall_into_step_again() {
        let mut more = directories(None);
        let mut inserted = more[9_999].clone();
        inserted.path = RelPath::new(b"009999-inserted").unwrap();
        more.insert(10_000, inserted);
        let firsts =
            |heads: Vec<ShardHead>| heads.into_iter().map(|head| (head.first, head.digest));
        let source: Vec<_> = firsts(cut(Side::Source, directories(None))).collect();
        let same = firsts(cut(Side::Target, more)).filter(|head| source.contains(head)).count();
        assert!(same >= source.len() - 2, "{same} of {}", source.len());
    }

    #[test]
    fn what_must_be_told_makes_a_shard_equal_to_none() {
        let mut directories = directories(None);
        directories.truncate(1);
        directories[0].leftovers.push(Name::new(b"left").unwrap());
        let source = cut(Side::Source, directories.clone());
        assert_ne!(source[0].digest, cut(Side::Target, directories)[0].digest);
    }
}
