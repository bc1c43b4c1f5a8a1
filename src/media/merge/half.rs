//! One of the two scans of a merge: what of it was told, what was asked for and what came.

use std::collections::VecDeque;

use super::MergeError;
use crate::media::group::{
    ENTRIES_AHEAD_MAX, GROUP_SHARDS_MAX, Heading, SHARDS_AHEAD_MAX, SHARDS_KEPT_MAX, Scanner,
};
use crate::wire::message::{Level, Side, Verdict};
use crate::wire::path::RelPath;
use crate::wire::tree::{Directory, GroupHead, ShardHead};

/// Groups that wait to be judged; more are taken only while the heads of shards are awaited, which
/// may come after them.
const GROUPS_MAX: usize = 64;

pub(super) struct Half {
    side: Side,
    scanner: Scanner,
    /// Without a verdict.
    groups: VecDeque<GroupHead>,
    /// Groups that were opened and whose shards were not all told.
    opened: VecDeque<Opened>,
    slots: VecDeque<Slot>,
    /// How many slots have their verdict: always the first ones.
    decided: usize,
    /// The first shard comes with its content, unasked.
    told_at_once: bool,
    ended: bool,
    /// The last path of the latest group.
    reached: Option<RelPath>,
    /// In slots and opened groups.
    shard_count: usize,
    entries: u64,
}

struct Opened {
    missing: u32,
    /// The next shard begins here, or later.
    from: RelPath,
    /// None of its shards was told.
    whole: bool,
    last: RelPath,
}

struct Slot {
    head: ShardHead,
    content: Option<VecDeque<Directory>>,
}

/// Where a half stands.
pub(super) enum Position<'a> {
    /// Its next directory is here.
    At(&'a RelPath),
    /// Its next directory is this one, or a later one, and is not here yet.
    From(&'a RelPath),
    Unknown,
    End,
}

/// The next shard to be judged.
pub(super) enum Undecided<'a> {
    Shard(&'a ShardHead),
    /// It begins here or later, and was not told yet.
    From(&'a RelPath),
    Unknown,
    End,
}

impl Half {
    pub fn new(side: Side, scanner: Scanner) -> Self {
        Half {
            side,
            scanner,
            groups: VecDeque::new(),
            opened: VecDeque::new(),
            slots: VecDeque::new(),
            decided: 0,
            told_at_once: false,
            ended: false,
            reached: None,
            shard_count: 0,
            entries: 0,
        }
    }

    pub fn is_done(&self) -> bool {
        self.ended && self.slots.is_empty() && self.opened.is_empty() && self.groups.is_empty()
    }

    /// The next group to be judged.
    pub fn group(&self) -> Option<&ShardHead> {
        self.groups.front().map(|group| &group.whole)
    }

    /// Whether no group that begins at `path` can come any more.
    pub fn is_past(&self, path: &RelPath) -> bool {
        self.ended || self.reached.as_ref().is_some_and(|reached| reached >= path)
    }

    /// Asks for the shards of the next group, if there is room for them.
    pub fn open_group(&mut self) -> Result<bool, MergeError> {
        if self.shard_count >= SHARDS_AHEAD_MAX || self.entries >= ENTRIES_AHEAD_MAX {
            return Ok(false);
        }
        let Some(head) = self.groups.pop_front() else { return Ok(false) };
        self.verdict(Level::Group, head.whole.index, true)?;
        self.opening(head);
        Ok(true)
    }

    /// The shards of a group are to come.
    fn opening(&mut self, GroupHead { whole, shards }: GroupHead) {
        self.shard_count += shards as usize;
        self.entries = self.entries.saturating_add(entries(&whole));
        let ShardHead { first: from, last, .. } = whole;
        self.opened.push_back(Opened { missing: shards, from, whole: true, last });
    }

    pub fn drop_group(&mut self) -> Result<Option<ShardHead>, MergeError> {
        let Some(GroupHead { whole, .. }) = self.groups.pop_front() else { return Ok(None) };
        self.verdict(Level::Group, whole.index, false)?;
        Ok(Some(whole))
    }

    pub fn undecided_shard(&self) -> Option<&ShardHead> {
        self.slots.get(self.decided).map(|slot| &slot.head)
    }

    pub fn undecided(&self) -> Undecided<'_> {
        if let Some(head) = self.undecided_shard() {
            return Undecided::Shard(head);
        }
        match self.untold() {
            Position::At(path) | Position::From(path) => Undecided::From(path),
            Position::Unknown => Undecided::Unknown,
            Position::End => Undecided::End,
        }
    }

    /// Where the shards begin that were not told yet.
    fn untold(&self) -> Position<'_> {
        match (self.opened.front(), self.groups.front(), &self.reached) {
            (Some(opened), _, _) => Position::From(&opened.from),
            (None, Some(group), _) => Position::From(&group.whole.first),
            (None, None, _) if self.ended => Position::End,
            (None, None, Some(reached)) => Position::From(reached),
            (None, None, None) => Position::Unknown,
        }
    }

    fn verdict(&self, level: Level, index: u64, take: bool) -> Result<(), MergeError> {
        // There is room for the verdict of every head that may be open.
        let verdict = Verdict { level, index, take };
        self.scanner.verdicts.try_send(verdict).map_err(|_| MergeError::Broken(self.side))
    }

    pub fn take(&mut self) -> Result<(), MergeError> {
        if let Some(index) = self.undecided_shard().map(|head| head.index) {
            self.verdict(Level::Shard, index, true)?;
            self.decided += 1;
        }
        Ok(())
    }

    pub fn drop_undecided(&mut self) -> Result<Option<ShardHead>, MergeError> {
        let Some(index) = self.undecided_shard().map(|head| head.index) else { return Ok(None) };
        self.verdict(Level::Shard, index, false)?;
        let head = self.slots.remove(self.decided).map(|slot| slot.head);
        if let Some(head) = &head {
            self.forget(head);
        }
        Ok(head)
    }

    fn forget(&mut self, head: &ShardHead) {
        // What the groups claimed may have been less than what their shards do.
        self.shard_count = self.shard_count.saturating_sub(1);
        self.entries = self.entries.saturating_sub(entries(head));
    }

    pub fn position(&self) -> Position<'_> {
        match self.slots.front() {
            Some(Slot { content: Some(dirs), head }) => {
                dirs.front().map_or(Position::From(&head.first), |dir| Position::At(&dir.path))
            }
            Some(Slot { content: None, head }) => Position::From(&head.first),
            None => self.untold(),
        }
    }

    pub fn pop(&mut self) -> Option<Directory> {
        let dirs = self.slots.front_mut()?.content.as_mut()?;
        let dir = dirs.pop_front();
        if dirs.is_empty()
            && let Some(slot) = self.slots.pop_front()
        {
            self.decided -= 1;
            self.forget(&slot.head);
        }
        dir
    }

    fn wants_head(&self) -> bool {
        !self.opened.is_empty() || (!self.ended && self.groups.len() < GROUPS_MAX)
    }

    /// The first shard that was taken and is not here.
    fn awaited(&self) -> Option<usize> {
        self.slots.iter().take(self.decided).position(|slot| slot.content.is_none())
    }

    pub fn can_advance(&self) -> bool {
        self.wants_head() || self.awaited().is_some()
    }

    /// Receives one head or one content.
    pub async fn advance(&mut self) -> Result<(), MergeError> {
        let (wants_head, awaited) = (self.wants_head(), self.awaited());
        let broken = MergeError::Broken(self.side);
        tokio::select! {
            told = self.scanner.heads.recv(), if wants_head => match told.ok_or(broken)? {
                Heading::Group(head) => self.accept_group(head),
                Heading::Shard(head) => self.accept_shard(head),
                Heading::End => {
                    self.ended = true;
                    Ok(())
                }
            },
            dirs = self.scanner.contents.recv(), if awaited.is_some() => {
                let dirs = dirs.ok_or(broken)?;
                awaited.map_or(Ok(()), |at| self.accept_content(at, dirs))
            }
        }
    }

    fn accept_group(&mut self, head: GroupHead) -> Result<(), MergeError> {
        let GroupHead { whole, shards } = &head;
        let follows = match &self.reached {
            Some(reached) => *reached < whole.first,
            None => whole.first.is_root(),
        };
        let sound = (1..=GROUP_SHARDS_MAX).contains(&(*shards as usize))
            && self.groups.len() < SHARDS_KEPT_MAX;
        if self.ended || !follows || !sound || whole.last < whole.first {
            return Err(MergeError::Disorder(self.side));
        }
        self.told_at_once = self.reached.is_none() && head.is_told_at_once();
        self.reached = Some(whole.last.clone());
        match self.told_at_once {
            true => self.opening(head),
            false => self.groups.push_back(head),
        }
        Ok(())
    }

    fn accept_shard(&mut self, head: ShardHead) -> Result<(), MergeError> {
        let disorder = MergeError::Disorder(self.side);
        let opened = self.opened.front_mut().ok_or(disorder)?;
        let follows = match opened.whole {
            true => opened.from == head.first,
            false => opened.from < head.first,
        };
        let ends = match opened.missing {
            1 => opened.last == head.last,
            _ => head.last < opened.last,
        };
        if !follows || !ends || head.last < head.first {
            return Err(disorder);
        }
        if opened.missing == 1 {
            self.opened.pop_front();
        } else {
            (opened.missing, opened.whole) = (opened.missing - 1, false);
            opened.from = head.last.clone();
        }
        self.slots.push_back(Slot { head, content: None });
        if std::mem::take(&mut self.told_at_once) {
            self.decided += 1;
        }
        Ok(())
    }

    fn accept_content(&mut self, at: usize, dirs: Vec<Directory>) -> Result<(), MergeError> {
        let slot = &mut self.slots[at];
        let ends = dirs.first().zip(dirs.last());
        let in_order = ends.is_some_and(|(first, last)| {
            first.path == slot.head.first && last.path == slot.head.last
        }) && dirs.windows(2).all(|pair| pair[0].path < pair[1].path)
            && dirs
                .iter()
                .all(|dir| dir.entries.windows(2).all(|pair| pair[0].name < pair[1].name));
        if !in_order {
            return Err(MergeError::Disorder(self.side));
        }
        slot.content = Some(dirs.into());
        Ok(())
    }
}

fn entries(head: &ShardHead) -> u64 {
    head.files.saturating_add(head.dirs)
}
