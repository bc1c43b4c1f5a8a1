//! The directories that a walk is in, from the outermost to the innermost, as far as something is
//! to be done about them: how each is made, and what comes when the walk has left it. In flow
//! directories in the order of a walk; memory is that of its depth.

use super::batch::Waits;
use crate::wire::message::Op;
use crate::wire::path::RelPath;

#[derive(Debug, Default)]
pub(crate) struct Trail(Vec<Step>);

#[derive(Debug)]
struct Step {
    path: RelPath,
    make: Option<Op>,
    last: Option<Last>,
}

/// What comes last for a directory.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Last {
    pub op: Op,
    /// The batch that what is directly in the directory belongs to, and what of it `op` must wait
    /// for.
    pub batch: u64,
    pub waits: Waits,
}

impl Trail {
    /// A walk comes to `path`, after [`Trail::leave`] for it. It may be there already: each walk of
    /// a pass begins with the root.
    pub fn enter(&mut self, path: RelPath, make: Option<Op>, last: Option<Last>) {
        if let Some(step) = self.0.last_mut().filter(|step| step.path == path) {
            step.make = make.or(step.make.take());
            let last = last.or(step.last.take());
            step.last = last.map(|last| Last { waits: Waits::Earlier, ..last });
        } else if make.is_some() || last.is_some() {
            self.0.push(Step { path, make, last });
        }
    }

    /// What is to be done about the directories that are left on the way to `path`, the deepest
    /// first; `None` leaves all.
    pub fn leave(&mut self, path: Option<&RelPath>) -> Vec<Last> {
        let stays = |step: &Step| path.is_some_and(|path| path.is_within(&step.path));
        let kept = self.0.iter().take_while(|step| stays(step)).count();
        self.0.drain(kept..).rev().filter_map(|step| step.last).collect()
    }

    /// What makes the directories that the walk is in, the outermost first. Done again it changes
    /// nothing.
    pub fn ops(&self) -> Vec<Op> {
        self.0.iter().filter_map(|step| step.make.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tree::{Meta, Mtime};

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).unwrap()
    }

    fn make(text: &str) -> Op {
        Op::MakeDir { path: path(text), meta: Meta::default() }
    }

    fn time(text: &str) -> Last {
        let op = Op::SetDirTime { path: path(text), mtime: Mtime::default() };
        Last { op, batch: 1, waits: Waits::Changes }
    }

    #[test]
    fn a_directory_gets_its_time_when_the_walk_has_left_all_that_is_in_it() {
        let mut trail = Trail::default();
        for dir in ["a", "a/b", "a/b/c"] {
            assert_eq!(trail.leave(Some(&path(dir))), []);
            trail.enter(path(dir), Some(make(dir)), Some(time(dir)));
        }
        assert_eq!(trail.leave(Some(&path("a/b/d"))), [time("a/b/c")]);
        trail.enter(path("a/b/d"), None, None);
        assert_eq!(trail.ops(), [make("a"), make("a/b")]);
        assert_eq!(trail.leave(Some(&path("a/bc"))), [time("a/b")]);
        assert_eq!(trail.leave(Some(&path("a"))), []);
        // Another walk: what the one before put into it may still be under way.
        trail.enter(path("a"), None, None);
        assert_eq!(trail.leave(None), [Last { waits: Waits::Earlier, ..time("a") }]);
        assert_eq!(trail.ops(), []);
    }
}
