//! What is known to have changed since it was last looked at: some paths, or too many to name them.
//! Bounded.

use std::collections::BTreeSet;

use tokio::time::Instant;

use crate::wire::path::RelPath;
use crate::wire::scope::SCOPE_PATHS_MAX;

/// What a pass can be told in one message.
const PATH_BYTES_TOTAL_MAX: usize = 256 * 1024;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Dirty {
    paths: BTreeSet<RelPath>,
    bytes: usize,
    /// Anything may have changed.
    everything: bool,
    since: Option<Instant>,
}

/// What a pass has to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Changed {
    Nothing,
    /// Whatever is at these paths and in them.
    Paths(Vec<RelPath>),
    Everything,
}

impl Dirty {
    /// Something happened at `path`.
    pub fn add(&mut self, path: RelPath, now: Instant) {
        self.since.get_or_insert(now);
        if self.everything || self.holds(&path) {
            return;
        }
        // What is in a directory that is dirty itself need not be named.
        let inside: Vec<RelPath> =
            self.paths.range(&path..).take_while(|other| other.is_within(&path)).cloned().collect();
        for inside in inside {
            self.bytes -= inside.as_bytes().len();
            self.paths.remove(&inside);
        }
        self.bytes += path.as_bytes().len();
        self.paths.insert(path);
        if self.paths.len() > SCOPE_PATHS_MAX || self.bytes > PATH_BYTES_TOTAL_MAX {
            self.add_everything(now);
        }
    }

    fn holds(&self, path: &RelPath) -> bool {
        self.paths.range(..=path).next_back().is_some_and(|other| path.is_within(other))
    }

    /// It is not known what happened.
    pub fn add_everything(&mut self, now: Instant) {
        let since = self.since.or(Some(now));
        *self = Dirty { everything: true, since, ..Dirty::default() };
    }

    /// When the first of it happened.
    pub fn since(&self) -> Option<Instant> {
        self.since
    }

    pub fn is_everything(&self) -> bool {
        self.everything
    }

    /// Takes all of it.
    pub fn take(&mut self) -> Changed {
        let taken = std::mem::take(self);
        match (taken.everything, taken.paths.is_empty()) {
            (true, _) => Changed::Everything,
            (false, true) => Changed::Nothing,
            (false, false) => Changed::Paths(taken.paths.into_iter().collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_is_in_a_dirty_directory_is_not_named_and_the_first_change_counts() {
        let (mut dirty, start) = (Dirty::default(), Instant::now());
        assert_eq!(dirty.take(), Changed::Nothing);
        for (secs, text) in ["a/b/c", "a/bc", "d", "a/b", "a/b/x"].into_iter().enumerate() {
            dirty.add(path(text), start + std::time::Duration::from_secs(secs as u64));
        }
        assert_eq!(dirty.since(), Some(start));
        assert_eq!(dirty.take(), Changed::Paths(vec![path("d"), path("a/bc"), path("a/b")]));
        assert_eq!((dirty.take(), dirty.since()), (Changed::Nothing, None));
    }

    #[test]
    fn too_much_to_name_is_everything() {
        let (mut dirty, now) = (Dirty::default(), Instant::now());
        for number in 0..=SCOPE_PATHS_MAX {
            dirty.add(path(&format!("d/{number}")), now);
        }
        assert!(dirty.is_everything());
        dirty.add(path("more"), now);
        assert_eq!(dirty.take(), Changed::Everything);
    }
}
