//! Groups of shards, and who keeps them until their fate is known. Of a group whose digest is the
//! same on both sides nothing more is told, so a pass with nothing to do costs a few bytes for
//! thousands of directories; of any other the heads of its shards are told, and of those the
//! content of the ones that somebody takes. In flow shards; out flow heads and contents.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};

use tokio::sync::mpsc;

use super::shard::{DIRS_MEAN, Listing, Shard, hash};
use crate::wire::message::{Level, Verdict};
use crate::wire::path::RelPath;
use crate::wire::tree::{Directory, GroupHead, ShardHead};

/// A group ends after a shard whose last path hashes to 0 in this many. The first groups also end
/// after 1 shard, 2, 4 and so on, so that there is something to do long before a group is full.
const GROUP_DIRS_MEAN: u64 = if cfg!(test) { 8 } else { 128 * DIRS_MEAN };
/// It also ends when it holds so many shards or entries.
pub(crate) const GROUP_SHARDS_MAX: usize = if cfg!(test) { 4 } else { 512 };
const GROUP_ENTRIES_MAX: u64 = 1 << 16;
/// What a scan may be ahead: so many shards, and so many entries in them, have no verdict yet.
/// What comes on top is a group at most, and one shard.
pub(crate) const SHARDS_AHEAD_MAX: usize = if cfg!(test) { 8 } else { 1024 };
pub(crate) const ENTRIES_AHEAD_MAX: u64 = 1 << 17;
/// All shards that may be without a verdict.
pub(crate) const SHARDS_KEPT_MAX: usize = SHARDS_AHEAD_MAX + GROUP_SHARDS_MAX;

/// What a scan tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heading {
    Group(GroupHead),
    Shard(ShardHead),
    /// The tree was walked to its end. Only the shards of groups come after it.
    End,
}

/// The three ends of a scan in progress, as whoever compares holds them: heads come, a verdict
/// goes for each in order, and content comes for each shard that is taken, in order. A channel that
/// closes before the end was told did not get there, and nothing may be concluded from what is
/// missing.
pub(crate) struct Scanner {
    pub heads: mpsc::Receiver<Heading>,
    pub verdicts: mpsc::Sender<Verdict>,
    pub contents: mpsc::Receiver<Vec<Directory>>,
}

pub(crate) struct ScannerEnds {
    pub heads: mpsc::Sender<Heading>,
    pub verdicts: mpsc::Receiver<Verdict>,
    pub contents: mpsc::Sender<Vec<Directory>>,
}

/// A scanner and the other ends of its channels.
pub(crate) fn channels() -> (Scanner, ScannerEnds) {
    // Room for the heads of all groups and shards without a verdict, for what is told at once, and
    // for the end.
    let (head_sender, heads) = mpsc::channel(2 * SHARDS_KEPT_MAX + 3);
    let (verdicts, verdict_receiver) = mpsc::channel(2 * SHARDS_KEPT_MAX);
    // Room for all that can be asked for: a scan that waited for its reader would hold up the other
    // channels of its connection, and with them the answers that the reader waits for.
    let (content_sender, contents) = mpsc::channel(SHARDS_KEPT_MAX);
    let ends =
        ScannerEnds { heads: head_sender, verdicts: verdict_receiver, contents: content_sender };
    (Scanner { heads, verdicts, contents }, ends)
}

/// A group that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub head: GroupHead,
    /// All of it, if it [is told at once](GroupHead::is_told_at_once).
    pub told: Option<Shard>,
}

/// Groups shards and keeps them until their verdict comes.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    /// Of the group that has not ended.
    gathered: Vec<Shard>,
    gathered_entries: u64,
    index: u64,
    /// Without a verdict.
    groups: VecDeque<(u64, Vec<Shard>)>,
    /// Of groups that differ, without a verdict of their own.
    shards: VecDeque<Shard>,
    /// In both.
    shard_count: usize,
    entries: u64,
}

/// What follows from a verdict.
#[derive(Debug)]
pub(crate) enum Judged {
    Nothing,
    /// The heads of a group's shards are to be told.
    Open(Vec<ShardHead>),
    Content(u64, Listing),
}

fn entries(head: &ShardHead) -> u64 {
    head.files.saturating_add(head.dirs)
}

impl Keeper {
    /// Whether it may take another shard.
    pub fn has_room(&self) -> bool {
        self.shard_count < SHARDS_AHEAD_MAX && self.entries < ENTRIES_AHEAD_MAX
    }

    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.shards.is_empty()
    }

    /// Takes the next shard; gives the group that it ends, if it ends one.
    pub fn push(&mut self, shard: Shard) -> Option<Ended> {
        self.gathered_entries += entries(&shard.head);
        let ends = hash(&shard.head.last).is_multiple_of(GROUP_DIRS_MEAN)
            || self.gathered_entries >= GROUP_ENTRIES_MAX
            || self.gathered.len() + 1 >= shards_max(self.index);
        self.gathered.push(shard);
        if ends { self.end() } else { None }
    }

    /// The last group, if anything is left.
    pub fn end(&mut self) -> Option<Ended> {
        let head = group_head(self.index, &self.gathered)?;
        self.index += 1;
        let entries = std::mem::take(&mut self.gathered_entries);
        let mut shards = std::mem::take(&mut self.gathered);
        if head.is_told_at_once() {
            return Some(Ended { head, told: shards.pop() });
        }
        self.shard_count += shards.len();
        self.entries += entries;
        self.groups.push_back((head.whole.index, shards));
        Some(Ended { head, told: None })
    }

    /// Forgets what comes before what was judged, and that too; or gives what is wanted of it.
    pub fn judge(&mut self, verdict: Verdict) -> Judged {
        match verdict.level {
            Level::Group => {
                while let Some((index, shards)) = self.groups.pop_front() {
                    if index == verdict.index && verdict.take {
                        let heads = shards.iter().map(|shard| shard.head.clone()).collect();
                        self.shards.extend(shards);
                        return Judged::Open(heads);
                    }
                    shards.iter().for_each(|shard| self.forget(&shard.head));
                    if index == verdict.index {
                        break;
                    }
                }
            }
            Level::Shard => {
                while let Some(shard) = self.shards.pop_front() {
                    self.forget(&shard.head);
                    if shard.head.index == verdict.index {
                        return match verdict.take {
                            true => Judged::Content(verdict.index, shard.dirs),
                            false => Judged::Nothing,
                        };
                    }
                }
            }
        }
        Judged::Nothing
    }

    fn forget(&mut self, head: &ShardHead) {
        self.shard_count -= 1;
        self.entries -= entries(head);
    }
}

fn shards_max(index: u64) -> usize {
    1_usize
        .checked_shl(index.min(63) as u32)
        .map_or(GROUP_SHARDS_MAX, |max| max.min(GROUP_SHARDS_MAX))
}

fn group_head(index: u64, shards: &[Shard]) -> Option<GroupHead> {
    let (first, last): (&RelPath, _) = (&shards.first()?.head.first, &shards.last()?.head.last);
    let mut hasher = blake3::Hasher::new();
    let (mut files, mut dirs, mut bytes) = (0, 0, 0_u64);
    for Shard { head, .. } in shards {
        hasher.update(&head.digest);
        files += head.files;
        dirs += head.dirs;
        bytes = bytes.saturating_add(head.bytes);
    }
    let mut digest = [0; 16];
    digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    let (first, last) = (first.clone(), last.clone());
    let whole = ShardHead { index, first, last, digest, files, dirs, bytes };
    Some(GroupHead { whole, shards: shards.len() as u32 })
}

/// Keeps shards, tells their heads and gives what is wanted of them.
pub(crate) async fn hold(mut shards: mpsc::Receiver<Option<Shard>>, ends: ScannerEnds) {
    let ScannerEnds { heads, mut verdicts, contents } = ends;
    let mut keeper = Keeper::default();
    let mut scanning = true;
    loop {
        let (mut told, mut content) = (Vec::new(), None);
        tokio::select! {
            shard = shards.recv(), if scanning && keeper.has_room() => {
                // Without its end the walk has failed; closing the channels tells that on.
                let Some(shard) = shard else { return };
                scanning = shard.is_some();
                let ended = match shard {
                    Some(shard) => keeper.push(shard),
                    None => keeper.end(),
                };
                if let Some(Ended { head, told: shard }) = ended {
                    told.push(Heading::Group(head));
                    told.extend(shard.as_ref().map(|shard| Heading::Shard(shard.head.clone())));
                    content = shard.map(|shard| shard.dirs);
                }
                if !scanning {
                    told.push(Heading::End);
                }
            },
            verdict = verdicts.recv(), if !keeper.is_empty() => {
                let Some(verdict) = verdict else { return };
                match keeper.judge(verdict) {
                    Judged::Nothing => {}
                    Judged::Open(heads) => told.extend(heads.into_iter().map(Heading::Shard)),
                    Judged::Content(_, dirs) => content = Some(dirs),
                }
            }
            else => return,
        }
        if let Some(dirs) = content
            && contents.send(dirs.into_vec()).await.is_err()
        {
            return;
        }
        for told in told {
            if heads.send(told).await.is_err() {
                return;
            }
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
    keeper: Keeper,
    closed: bool,
}

impl Held {
    fn state(&self) -> MutexGuard<'_, HeldState> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Takes a shard, or the end, when there is room; gives a group that it ends, or `Err` if nobody
    /// wants one any more. Blocks.
    pub fn keep(&self, shard: Option<Shard>) -> Result<Option<Ended>, ()> {
        let mut state = self.state();
        while !state.keeper.has_room() && !state.closed {
            state = self.moved.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        if state.closed {
            return Err(());
        }
        Ok(match shard {
            Some(shard) => state.keeper.push(shard),
            None => state.keeper.end(),
        })
    }

    pub fn judge(&self, verdict: Verdict) -> Judged {
        let judged = self.state().keeper.judge(verdict);
        self.moved.notify_one();
        judged
    }

    /// No more verdicts come.
    pub fn close(&self) {
        self.state().closed = true;
        self.moved.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It was not so: a pass over trees that differed much never ended.
    #[test]
    fn all_that_may_be_asked_for_finds_room_although_nobody_reads_it() {
        let (_scanner, ends) = channels();
        for _ in 0..SHARDS_KEPT_MAX {
            assert!(ends.contents.try_send(Vec::new()).is_ok());
        }
    }

    fn shard(number: u64, digest: u8) -> Shard {
        let path = RelPath::new(format!("{number:08}").as_bytes()).unwrap();
        let (first, last) = (path.clone(), path);
        let digest = [digest; 16];
        let head = ShardHead { index: number, first, last, digest, files: 60, dirs: 1, bytes: 9 };
        Shard { head, dirs: Listing::Fresh(Vec::new()) }
    }

    fn groups(shards: impl Iterator<Item = Shard>) -> Vec<(RelPath, [u8; 16])> {
        let mut keeper = Keeper::default();
        let mut heads: Vec<_> = shards.filter_map(|shard| keeper.push(shard)).collect();
        heads.extend(keeper.end());
        heads.into_iter().map(|Ended { head, .. }| (head.whole.first, head.whole.digest)).collect()
    }

    #[test]
    fn after_an_insertion_groups_fall_into_step_again_and_a_change_shows_in_one() {
        let all = groups((0..20_000).map(|number| shard(number, 1)));
        assert!(all.len() > 1000, "{} groups", all.len());
        let less = groups((0..20_000).filter(|it| *it != 9_000).map(|it| shard(it, 1)));
        let same = less.iter().filter(|group| all.contains(group)).count();
        assert!(same >= all.len() - 5, "{same} of {}", all.len());
        let changed = groups((0..20_000).map(|it| shard(it, if it == 9_000 { 2 } else { 1 })));
        let differ = all.iter().zip(&changed).filter(|(one, other)| one != other).count();
        assert_eq!((changed.len(), differ), (all.len(), 1));
    }

    #[test]
    fn what_is_kept_is_bounded_by_shards_and_by_entries() {
        for files in [0, 60, 3_000] {
            let mut keeper = Keeper::default();
            let mut number = 0;
            while keeper.has_room() {
                let mut shard = shard(number, 1);
                shard.head.files = files;
                keeper.push(shard);
                number += 1;
            }
            assert!(number as usize <= SHARDS_KEPT_MAX, "{number}");
            let entries = number * (files + 1);
            assert!(entries <= ENTRIES_AHEAD_MAX + GROUP_ENTRIES_MAX + files + 1, "{entries}");
        }
    }
}
