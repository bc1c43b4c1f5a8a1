//! The bytes of a manifest. A head; then blocks, each a shard with its digest and the directories
//! in it, each with its length and a hash; then an end. Nothing in a block refers to another one.
//! Pure: what is damaged or makes no sense is `None`.
//!
//! A block is the head of its shard and then for each directory its path (how much of the one
//! before it begins with, and the rest) and a record: its mark, and of each entry kind, name, mark
//! and the text of a symlink. An empty record says that the directory must be listed anew.

use super::mark::{MARK_BYTES, Mark};
use crate::media::hard_links::Inode;
use crate::media::scan::Scan;
use crate::wire::bounded::Blob;
use crate::wire::path::{Name, PATH_BYTES_MAX, RelPath, turn};
use crate::wire::tree::{Directory, Entry, LINK_BYTES_MAX, Node, ShardHead};

const MAGIC: &[u8; 8] = b"trhmani2";
pub(crate) const KEY_BYTES: usize = 32;
const CHECK_BYTES: usize = 16;
pub(crate) const HEAD_BYTES: usize = MAGIC.len() + KEY_BYTES + 12 + CHECK_BYTES;
/// In front of the bytes of a block: their length and hash.
pub(crate) const FRAME_BYTES: usize = 4 + CHECK_BYTES;
/// Larger blocks are not kept.
pub(crate) const BLOCK_BYTES_MAX: usize = 64 << 20;

const FILE: u8 = b'f';
const LINK: u8 = b'l';
const DIR: u8 = b'd';
const SPECIAL: u8 = b's';

fn check(parts: &[&[u8]]) -> [u8; CHECK_BYTES] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&hasher.finalize().as_bytes()[..CHECK_BYTES]);
    check
}

/// What a manifest is of, and when its scan began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub key: [u8; KEY_BYTES],
    pub started: (i64, u32),
}

impl Head {
    pub fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..40].copy_from_slice(&self.key);
        bytes[40..48].copy_from_slice(&self.started.0.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.started.1.to_le_bytes());
        let check = check(&[&bytes[..52]]);
        bytes[52..].copy_from_slice(&check);
        bytes
    }

    pub fn decode(bytes: &[u8; HEAD_BYTES]) -> Option<Self> {
        let mut input = Input(bytes);
        let magic = input.take(MAGIC.len())?;
        let head = Head { key: input.array()?, started: (input.i64()?, input.u32()?) };
        (magic == MAGIC && input.0 == check(&[&bytes[..52]])).then_some(head)
    }
}

/// What comes in front of the bytes of a block; of no bytes, the end.
pub(crate) fn frame(bytes: &[u8]) -> [u8; FRAME_BYTES] {
    let length = (bytes.len() as u32).to_le_bytes();
    let mut frame = [0; FRAME_BYTES];
    frame[..4].copy_from_slice(&length);
    frame[4..].copy_from_slice(&check(&[&length, bytes]));
    frame
}

/// How many bytes of a block follow `frame`.
pub(crate) fn framed(frame: &[u8; FRAME_BYTES]) -> Option<usize> {
    let length = Input(frame).u32()? as usize;
    (length <= BLOCK_BYTES_MAX).then_some(length)
}

/// An entry of a directory as it was found. Only directories and special files have no mark.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub entry: Entry,
    pub mark: Option<Mark>,
    /// Of a file.
    pub inode: Option<Inode>,
}

/// The record of a directory with these entries. Its length is that of what it holds, which was in
/// memory already.
pub(crate) fn record(mark: &Mark, entries: &[Found]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(MARK_BYTES + 4 + entries.len() * 80);
    bytes.extend_from_slice(&mark.0);
    for Found { entry, mark, .. } in entries {
        let (kind, text) = match &entry.node {
            Node::File { .. } | Node::HardLink { .. } => (FILE, None),
            Node::Link { text, .. } => (LINK, Some(&text.0)),
            Node::Dir => (DIR, None),
            Node::Special => (SPECIAL, None),
        };
        let name = entry.name.as_bytes();
        bytes.extend_from_slice(&[kind, name.len() as u8]);
        bytes.extend_from_slice(name);
        if let Some(mark) = mark {
            bytes.extend_from_slice(&mark.0);
        }
        if let Some(text) = text {
            bytes.extend_from_slice(&(text.len() as u16).to_le_bytes());
            bytes.extend_from_slice(text);
        }
    }
    bytes
}

/// Collects the directories of a block.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    records: Vec<u8>,
    last: Vec<u8>,
}

impl Builder {
    pub fn push(&mut self, path: &RelPath, record: &[u8]) {
        let path = path.as_bytes();
        let shared = self.last.iter().zip(path).take_while(|(one, other)| one == other).count();
        let rest = &path[shared..];
        self.records.extend_from_slice(&(shared as u16).to_le_bytes());
        self.records.extend_from_slice(&(rest.len() as u16).to_le_bytes());
        self.records.extend_from_slice(rest);
        self.records.extend_from_slice(&(record.len() as u32).to_le_bytes());
        self.records.extend_from_slice(record);
        self.last.clear();
        self.last.extend_from_slice(path);
    }

    /// The bytes of the block, whose shard has this head.
    pub fn finish(&mut self, head: &ShardHead) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.records.len() + 256);
        bytes.extend_from_slice(&head.digest);
        for number in [head.files, head.dirs, head.bytes] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for path in [&head.first, &head.last] {
            bytes.extend_from_slice(&(path.as_bytes().len() as u16).to_le_bytes());
            bytes.extend_from_slice(path.as_bytes());
        }
        bytes.append(&mut self.records);
        self.last.clear();
        bytes
    }
}

/// The path of a directory and, if it need not be listed anew, what is in it and its record.
pub(crate) type Recorded = (RelPath, Option<(Directory, Vec<u8>)>);

/// A block whose hash was right. Its directories are in order.
#[derive(Debug)]
pub(crate) struct Block {
    pub head: ShardHead,
    /// Where in the manifest its frame begins.
    pub at: u64,
    bytes: Vec<u8>,
    records_at: usize,
}

impl Block {
    pub fn decode(at: u64, frame: &[u8; FRAME_BYTES], bytes: Vec<u8>) -> Option<Self> {
        if frame[4..] != check(&[&frame[..4], &bytes]) {
            return None;
        }
        let mut input = Input(&bytes);
        let head = ShardHead {
            index: 0,
            digest: input.array()?,
            files: input.u64()?,
            dirs: input.u64()?,
            bytes: input.u64()?,
            first: input.path()?,
            last: input.path()?,
        };
        let records_at = bytes.len() - input.0.len();
        Some(Block { head, at, bytes, records_at })
    }

    /// Gives `visit` each path and record; whether all of it makes sense.
    pub fn each(&self, mut visit: impl FnMut(&[u8], Record<'_>)) -> Option<()> {
        let mut input = Input(&self.bytes[self.records_at..]);
        let mut path = Vec::new();
        let mut count = 0;
        while !input.0.is_empty() {
            let shared = input.u16()?.into();
            let rest = input.u16()?.into();
            let rest = input.take(rest)?;
            if count == 0 && shared > 0 || shared > path.len() {
                return None;
            }
            let follows =
                if path.is_empty() { !rest.is_empty() } else { comes_after(&path[shared..], rest) };
            if count > 0 && !follows {
                return None;
            }
            path.truncate(shared);
            path.extend_from_slice(rest);
            // What comes before was looked at with the path before.
            let from = path[..shared].iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
            if !is_path(&path[from..]) && !path.is_empty() || path.len() > PATH_BYTES_MAX {
                return None;
            }
            if count == 0 && path != self.head.first.as_bytes() {
                return None;
            }
            let length = input.u32()? as usize;
            visit(&path, Record::new(input.take(length)?)?);
            count += 1;
        }
        (count == self.head.dirs && path == self.head.last.as_bytes()).then_some(())
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many bytes of the manifest it takes.
    pub fn framed_bytes(&self) -> u64 {
        (FRAME_BYTES + self.bytes.len()) as u64
    }

    /// Its directories.
    pub fn directories(&self, scan: &Scan) -> Vec<Recorded> {
        let mut directories = Vec::new();
        // What was gone through once makes sense.
        let _ = self.each(|path, record| {
            if let Ok(path) = RelPath::new(path) {
                let directory = record.directory(&path, scan);
                let known = directory.map(|directory| (directory, record.bytes.to_vec()));
                directories.push((path, known));
            }
        });
        directories
    }
}

/// Whether a path that goes on with `rest` where another one below the root goes on with `old`
/// comes after that.
fn comes_after(old: &[u8], rest: &[u8]) -> bool {
    turn(rest.first()) > turn(old.first())
}

fn is_name(bytes: &[u8]) -> bool {
    !matches!(bytes, b"" | b"." | b"..")
        && bytes.len() <= 255
        && !bytes.iter().any(|byte| matches!(byte, b'/' | 0))
}

fn is_path(bytes: &[u8]) -> bool {
    bytes.split(|byte| *byte == b'/').all(is_name)
}

/// The record of a directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    bytes: &'a [u8],
    /// `None` where it must be listed anew.
    pub mark: Option<Mark>,
}

/// An entry of a record.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Known<'a> {
    File(&'a [u8], Mark),
    Link(&'a [u8], Mark, &'a [u8]),
    Dir(&'a [u8]),
    Special(&'a [u8]),
}

impl<'a> Record<'a> {
    fn new(bytes: &'a [u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Record { bytes, mark: None });
        }
        let mark = Some(Mark(Input(bytes).array()?));
        Some(Record { bytes, mark })
    }

    /// Its entries, up to the first that makes no sense, which is told as `None`.
    pub fn entries(&self) -> impl Iterator<Item = Option<Known<'a>>> {
        let mut input = Input(self.bytes.get(MARK_BYTES..).unwrap_or_default());
        std::iter::from_fn(move || {
            if input.0.is_empty() {
                return None;
            }
            let entry = input.entry();
            if entry.is_none() {
                input.0 = &[];
            }
            Some(entry)
        })
    }

    /// `None` where it must be listed anew.
    fn directory(&self, path: &RelPath, scan: &Scan) -> Option<Directory> {
        let meta = Some(scan.meta(self.mark?.meta()));
        let mut entries = Vec::new();
        for known in self.entries() {
            let (name, node) = match known? {
                Known::File(name, mark) => {
                    let (size, meta) = (mark.size(), scan.meta(mark.meta()));
                    (name, Node::File { size, meta, content: None })
                }
                Known::Link(name, mark, text) => {
                    let meta = scan.meta(mark.meta());
                    (name, Node::Link { meta, text: Blob(text.to_vec()) })
                }
                Known::Dir(name) => (name, Node::Dir),
                Known::Special(name) => (name, Node::Special),
            };
            entries.push(Entry { name: Name::new(name).ok()?, node });
        }
        let (leftovers, problems) = (Vec::new(), Vec::new());
        Some(Directory { path: path.clone(), meta, entries, leftovers, problems })
    }
}

/// Bytes being read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (part, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(part)
    }

    fn array<const LENGTH: usize>(&mut self) -> Option<[u8; LENGTH]> {
        self.take(LENGTH)?.try_into().ok()
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    fn path(&mut self) -> Option<RelPath> {
        let length = self.u16()?;
        RelPath::new(self.take(length.into())?).ok()
    }

    fn entry(&mut self) -> Option<Known<'a>> {
        let [kind, length] = self.array()?;
        let name = self.take(length.into())?;
        if !is_name(name) {
            return None;
        }
        Some(match kind {
            FILE => Known::File(name, Mark(self.array()?)),
            LINK => {
                let mark = Mark(self.array()?);
                let length = usize::from(self.u16()?);
                let text = self.take(length)?;
                if text.len() > LINK_BYTES_MAX {
                    return None;
                }
                Known::Link(name, mark, text)
            }
            DIR => Known::Dir(name),
            SPECIAL => Known::Special(name),
            _ => return None,
        })
    }
}
