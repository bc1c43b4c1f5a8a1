//! Shards: runs of consecutive directories with a digest each, cut so that equal trees are cut
//! alike. Of a shard whose digest is the same on both sides nothing but the digest is ever looked
//! at. In flow directories in the order of a walk; out flow heads, and the content of those
//! shards that somebody takes.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};

use tokio::sync::mpsc;

use crate::wire::message::{Side, Verdict};
use crate::wire::tree::{Directory, Meta, MetaRule, Node, ShardHead};

/// Shards whose head was told and whose fate is open, at most: what a scan may be ahead.
pub(crate) const AHEAD_MAX: usize = 64;
/// A shard ends after a directory whose path hashes to 0 in this many, on average.
const DIRS_MEAN: u64 = 512;
/// It also ends when it holds so many entries.
const ENTRIES_MAX: u64 = 4096;

/// A shard with its content.
#[derive(Debug)]
pub(crate) struct Shard {
    pub head: ShardHead,
    pub dirs: Vec<Directory>,
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
        let hash = blake3::hash(directory.path.as_bytes());
        let hash = hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        self.dirs.push(directory);
        let entries = self.files + self.dirs.len() as u64;
        if hash.is_multiple_of(DIRS_MEAN) || entries >= ENTRIES_MAX { self.end() } else { None }
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
            dirs,
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

/// The three ends of a scan in progress, as whoever compares holds them: heads come, a verdict
/// goes for each in order, and content comes for each that is taken, in order. `None` among the
/// heads says that the tree was walked to its end; a channel that closes before it did not get
/// there, and nothing may be concluded from what is missing.
pub(crate) struct Scanner {
    pub heads: mpsc::Receiver<Option<ShardHead>>,
    pub verdicts: mpsc::Sender<Verdict>,
    pub contents: mpsc::Receiver<Vec<Directory>>,
}

/// Keeps shards until their verdict comes: [`AHEAD_MAX`] at most, then the scan waits.
pub(crate) async fn hold(mut shards: mpsc::Receiver<Option<Shard>>, ends: ScannerEnds) {
    let ScannerEnds { heads, mut verdicts, contents } = ends;
    let mut held: VecDeque<Shard> = VecDeque::new();
    let mut scanning = true;
    loop {
        tokio::select! {
            shard = shards.recv(), if scanning && held.len() < AHEAD_MAX => {
                // Without its end the walk has failed; closing the channels tells that on.
                let Some(shard) = shard else { return };
                scanning = shard.is_some();
                if heads.send(shard.as_ref().map(|shard| shard.head.clone())).await.is_err() {
                    return;
                }
                held.extend(shard);
            }
            verdict = verdicts.recv(), if !held.is_empty() => {
                let Some(verdict) = verdict else { return };
                while let Some(shard) = held.pop_front() {
                    if shard.head.index < verdict.index {
                        continue;
                    }
                    if verdict.take && contents.send(shard.dirs).await.is_err() {
                        return;
                    }
                    break;
                }
            }
            else => return,
        }
    }
}

/// The same for a walk on a thread, between that and whoever gives the verdicts.
#[derive(Debug, Default)]
pub(crate) struct Held {
    state: Mutex<HeldState>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct HeldState {
    shards: VecDeque<Shard>,
    closed: bool,
}

impl Held {
    fn state(&self) -> MutexGuard<'_, HeldState> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Takes a shard when there is room for it; `false` if nobody wants one any more. Blocks.
    pub fn keep(&self, shard: Shard) -> bool {
        let mut state = self.state();
        while state.shards.len() >= AHEAD_MAX && !state.closed {
            state = self.moved.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        state.shards.push_back(shard);
        !state.closed
    }

    /// Forgets what comes before the shard that was judged, and that one too; gives its content
    /// if it is wanted.
    pub fn judge(&self, verdict: Verdict) -> Option<Vec<Directory>> {
        let mut state = self.state();
        self.moved.notify_one();
        while let Some(shard) = state.shards.pop_front() {
            if shard.head.index == verdict.index {
                return verdict.take.then_some(shard.dirs);
            }
        }
        None
    }

    /// No more verdicts come.
    pub fn close(&self) {
        self.state().closed = true;
        self.moved.notify_one();
    }
}

/// A scanner and the other ends of its channels.
pub(crate) fn channels() -> (Scanner, ScannerEnds) {
    let (head_sender, heads) = mpsc::channel(AHEAD_MAX + 1);
    let (verdicts, verdict_receiver) = mpsc::channel(AHEAD_MAX);
    // Room for all that can be asked for: a scan that waited for its reader would hold up the other
    // channels of its connection, and with them the answers that the reader waits for.
    let (content_sender, contents) = mpsc::channel(AHEAD_MAX);
    let ends =
        ScannerEnds { heads: head_sender, verdicts: verdict_receiver, contents: content_sender };
    (Scanner { heads, verdicts, contents }, ends)
}

pub(crate) struct ScannerEnds {
    pub heads: mpsc::Sender<Option<ShardHead>>,
    pub verdicts: mpsc::Receiver<Verdict>,
    pub contents: mpsc::Sender<Vec<Directory>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::path::{Name, RelPath};
    use crate::wire::tree::{Entry, Mtime, OwnerRule};

    /// It was not so: a pass over trees that differed much never ended.
    #[test]
    fn all_that_may_be_asked_for_finds_room_although_nobody_reads_it() {
        let (_scanner, ends) = channels();
        for _ in 0..AHEAD_MAX {
            assert!(ends.contents.try_send(Vec::new()).is_ok());
        }
    }

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
        assert!((20..200).contains(&source.len()), "{} shards", source.len());
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
