//! Walks two scans at once, in step. In flow the heads and contents of both; out flow pairs: what
//! is equal (known by digest alone), what is on both sides, on one of them. First groups are
//! judged, then the shards of those that differ. Verdicts are given ahead of need, so a link's
//! delay is not paid for every group. Bounded: on each side as many shards and entries as a scan
//! may be ahead (`group`). What the sides send is checked for its order, because everything rests
//! on it.
//!
//! Nobody waits for ever. Of two sides the one that is behind has room: whatever it told is judged
//! as soon as the other one has got past it. The one that is ahead is full of what comes later, and
//! gives room when the other one has caught up.

mod half;

use std::cmp::Ordering;

use super::group::Scanner;
use crate::wire::message::Side;
use crate::wire::tree::{Directory, ShardHead};
use half::{Half, Position, Undecided};

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

impl Merge {
    pub fn new(source: Scanner, target: Scanner) -> Self {
        Merge { source: Half::new(Side::Source, source), target: Half::new(Side::Target, target) }
    }

    /// The next step; `None` at the end of both trees. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<Pair>, MergeError> {
        loop {
            if let Some(head) = self.judge_groups()? {
                return Ok(Some(Pair::Equal(head)));
            }
            if let Some(head) = self.judge_shards()? {
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

    /// Judges all groups that can be judged; stops at one that is the same on both sides. One that
    /// cannot be the same as any on the other side is opened, if there is room for its shards.
    fn judge_groups(&mut self) -> Result<Option<ShardHead>, MergeError> {
        loop {
            let (source, target) = (self.source.group(), self.target.group());
            let opened = match (source, target) {
                (Some(one), Some(other)) => match one.first.cmp(&other.first) {
                    Ordering::Less => self.source.open_group()?,
                    Ordering::Greater => self.target.open_group()?,
                    Ordering::Equal if same(one, other) => {
                        self.target.drop_group()?;
                        return self.source.drop_group();
                    }
                    Ordering::Equal => {
                        let opened = self.source.open_group()?;
                        self.target.open_group()? || opened
                    }
                },
                (Some(one), None) if self.target.is_past(&one.first) => self.source.open_group()?,
                (None, Some(other)) if self.source.is_past(&other.first) => {
                    self.target.open_group()?
                }
                (Some(_), None) | (None, Some(_)) | (None, None) => false,
            };
            if !opened {
                return Ok(None);
            }
        }
    }

    /// Judges all shards that can be judged; stops at one that is the same on both sides.
    fn judge_shards(&mut self) -> Result<Option<ShardHead>, MergeError> {
        loop {
            let order = match (self.source.undecided(), self.target.undecided()) {
                (Undecided::Shard(one), Undecided::Shard(other)) => one.first.cmp(&other.first),
                (Undecided::Shard(one), Undecided::From(at)) if one.first < *at => Ordering::Less,
                (Undecided::From(at), Undecided::Shard(one)) if one.first < *at => {
                    Ordering::Greater
                }
                (Undecided::Shard(_), Undecided::End) => Ordering::Less,
                (Undecided::End, Undecided::Shard(_)) => Ordering::Greater,
                _ => return Ok(None),
            };
            match order {
                Ordering::Less => self.source.take()?,
                Ordering::Greater => self.target.take()?,
                Ordering::Equal => {
                    let heads = self.source.undecided_shard().zip(self.target.undecided_shard());
                    if heads.is_some_and(|(one, other)| same(one, other)) {
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

fn same(one: &ShardHead, other: &ShardHead) -> bool {
    one.first == other.first && one.last == other.last && one.digest == other.digest
}

#[cfg(test)]
mod tests;
