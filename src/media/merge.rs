//! Walks two scans at once, in step. In flow the heads and contents of both; out flow pairs: what
//! is equal (known by digest alone), what is on both sides, on one of them. Verdicts are given
//! ahead of need, so a link's delay is not paid for every shard. Bounded: [`AHEAD_MAX`] shards on
//! each side. What the sides send is checked for its order, because everything rests on it.

use std::cmp::Ordering;
use std::collections::VecDeque;

use super::shard::{AHEAD_MAX, Scanner};
use crate::wire::message::{Side, Verdict};
use crate::wire::path::RelPath;
use crate::wire::tree::{Directory, ShardHead};

/// One step of the walk over both trees.
#[derive(Debug)]
pub(crate) enum Pair {
    Equal(ShardHead),
    Both(Directory, Directory),
    Source(Directory),
    Target(Directory),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MergeError {
    /// The scan of that side ended before it was finished.
    Broken(Side),
    /// That side's scan is not in order: it is no walk.
    Disorder(Side),
}

pub(crate) struct Merge {
    source: Half,
    target: Half,
}

struct Half {
    side: Side,
    scanner: Scanner,
    slots: VecDeque<Slot>,
    /// How many slots have their verdict: always the first ones.
    decided: usize,
    ended: bool,
    /// The last path of the latest head.
    reached: Option<RelPath>,
}

struct Slot {
    head: ShardHead,
    content: Option<VecDeque<Directory>>,
}

/// Where a half stands.
enum Position<'a> {
    /// Its next directory is here.
    At(&'a RelPath),
    /// Its next directory is this one, or a later one, and is not here yet.
    From(&'a RelPath),
    Unknown,
    End,
}

impl Merge {
    pub fn new(source: Scanner, target: Scanner) -> Self {
        Merge { source: Half::new(Side::Source, source), target: Half::new(Side::Target, target) }
    }

    /// The next step; `None` at the end of both trees. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<Pair>, MergeError> {
        loop {
            if let Some(head) = self.decide()? {
                return Ok(Some(Pair::Equal(head)));
            }
            if let Some(pair) = self.step() {
                return Ok(Some(pair));
            }
            if self.source.is_done() && self.target.is_done() {
                return Ok(None);
            }
            tokio::select! {
                moved = self.source.advance(), if self.source.can_advance() => moved?,
                moved = self.target.advance(), if self.target.can_advance() => moved?,
                else => return Err(MergeError::Broken(Side::Source)),
            }
        }
    }

    /// Gives all verdicts that can be given; stops at a shard that is the same on both sides.
    fn decide(&mut self) -> Result<Option<ShardHead>, MergeError> {
        loop {
            let order = match (self.source.undecided(), self.target.undecided()) {
                (Some(source), Some(target)) => source.first.cmp(&target.first),
                (Some(_), None) if self.target.ended => Ordering::Less,
                (None, Some(_)) if self.source.ended => Ordering::Greater,
                _ => return Ok(None),
            };
            match order {
                Ordering::Less => self.source.take()?,
                Ordering::Greater => self.target.take()?,
                Ordering::Equal => {
                    if self.source.undecided().zip(self.target.undecided()).is_some_and(same) {
                        self.target.drop_undecided()?;
                        return self.source.drop_undecided();
                    }
                    self.source.take()?;
                    self.target.take()?;
                }
            }
        }
    }

    /// The next pair, if what is here tells what it is.
    fn step(&mut self) -> Option<Pair> {
        let order = match (self.source.position(), self.target.position()) {
            (Position::At(source), Position::At(target)) => source.cmp(target),
            (Position::At(source), Position::From(target)) if source < target => Ordering::Less,
            (Position::From(source), Position::At(target)) if target < source => Ordering::Greater,
            (Position::At(_), Position::End) => Ordering::Less,
            (Position::End, Position::At(_)) => Ordering::Greater,
            _ => return None,
        };
        match order {
            Ordering::Less => self.source.pop().map(Pair::Source),
            Ordering::Greater => self.target.pop().map(Pair::Target),
            Ordering::Equal => {
                let (source, target) = (self.source.pop(), self.target.pop());
                source.zip(target).map(|(source, target)| Pair::Both(source, target))
            }
        }
    }
}

fn same((one, other): (&ShardHead, &ShardHead)) -> bool {
    one.first == other.first && one.last == other.last && one.digest == other.digest
}

impl Half {
    fn new(side: Side, scanner: Scanner) -> Self {
        Half { side, scanner, slots: VecDeque::new(), decided: 0, ended: false, reached: None }
    }

    fn is_done(&self) -> bool {
        self.ended && self.slots.is_empty()
    }

    fn undecided(&self) -> Option<&ShardHead> {
        self.slots.get(self.decided).map(|slot| &slot.head)
    }

    fn verdict(&self, take: bool) -> Result<(), MergeError> {
        let Some(head) = self.undecided() else { return Ok(()) };
        // There is room for the verdict of every head that may be open.
        let verdict = Verdict { index: head.index, take };
        self.scanner.verdicts.try_send(verdict).map_err(|_| MergeError::Broken(self.side))
    }

    fn take(&mut self) -> Result<(), MergeError> {
        self.verdict(true)?;
        self.decided += 1;
        Ok(())
    }

    fn drop_undecided(&mut self) -> Result<Option<ShardHead>, MergeError> {
        self.verdict(false)?;
        Ok(self.slots.remove(self.decided).map(|slot| slot.head))
    }

    fn position(&self) -> Position<'_> {
        match self.slots.front() {
            Some(Slot { content: Some(dirs), head }) => {
                dirs.front().map_or(Position::From(&head.first), |dir| Position::At(&dir.path))
            }
            Some(Slot { content: None, head }) => Position::From(&head.first),
            None if self.ended => Position::End,
            None => Position::Unknown,
        }
    }

    fn pop(&mut self) -> Option<Directory> {
        let dirs = self.slots.front_mut()?.content.as_mut()?;
        let dir = dirs.pop_front();
        if dirs.is_empty() {
            self.slots.pop_front();
            self.decided -= 1;
        }
        dir
    }

    fn wants_head(&self) -> bool {
        !self.ended && self.slots.len() < AHEAD_MAX
    }

    /// The first shard that was taken and is not here.
    fn awaited(&self) -> Option<usize> {
        self.slots.iter().take(self.decided).position(|slot| slot.content.is_none())
    }

    fn can_advance(&self) -> bool {
        self.wants_head() || self.awaited().is_some()
    }

    /// Receives one head or one content.
    async fn advance(&mut self) -> Result<(), MergeError> {
        let (wants_head, awaited) = (self.wants_head(), self.awaited());
        let broken = MergeError::Broken(self.side);
        tokio::select! {
            head = self.scanner.heads.recv(), if wants_head => match head.ok_or(broken)? {
                Some(head) => self.accept_head(head),
                None => {
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

    fn accept_head(&mut self, head: ShardHead) -> Result<(), MergeError> {
        let follows = match &self.reached {
            Some(reached) => *reached < head.first,
            None => head.first.is_root(),
        };
        if !follows || head.last < head.first {
            return Err(MergeError::Disorder(self.side));
        }
        self.reached = Some(head.last.clone());
        self.slots.push_back(Slot { head, content: None });
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

#[cfg(test)]
mod tests;
