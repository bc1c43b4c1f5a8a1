//! What a pass is told, and what it tells in the end.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::change::Change;
use super::listed::Listed;
use crate::units::{Bytes, count, duration};
use crate::wire::message::Manner;
use crate::wire::scope::Scope;
use crate::wire::tree::Problem;

/// Called for each change, made or (in a dry run) to be made. It must not block.
pub type ChangeSink = Arc<dyn Fn(&Change) + Send + Sync>;

/// How to mirror. The default copies and deletes nothing.
#[derive(Clone, Default)]
pub struct Options {
    /// Only tell what would be done.
    pub dry_run: bool,
    /// Remove from the target what the source does not have.
    pub delete: bool,
    /// More deletions than this stop the pass before the first of them.
    pub max_delete: Option<DeleteLimit>,
    /// Patterns as in rsync's `--exclude`.
    pub exclude: Vec<Vec<u8>>,
    /// Only what is listed here, of both sides.
    pub listed: Option<Listed>,
    /// What is one file under several names on the source is one on the target.
    pub hard_links: bool,
    /// Compare contents by hash instead of by size and time.
    pub checksum: bool,
    /// Bytes a second that each side reads for that, at most.
    pub checksum_rate: Option<u64>,
    /// Do not look at files that had not changed for so long when they were last looked at, where
    /// no name in their directory changed since.
    pub quiet: Option<Duration>,
    /// The parts of the tree that are walked, one after the other; none at all: everything.
    pub walks: Vec<Scope>,
    /// The walks are over what is known to have changed: what is remembered is of no use, and
    /// nothing follows from a source where nothing is left there.
    pub hinted: bool,
    /// Content bytes a second over all connections.
    pub bwlimit: Option<u64>,
    /// Leave the machine of the source to others while it is busy.
    pub gentle: bool,
    pub owner: Owner,
    pub manner: Manner,
    /// Where changes are told one by one. They are not collected: there may be millions.
    pub on_change: Option<ChangeSink>,
}

/// Who owns what is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Owner {
    /// By number as on the source, where the target allows it (as root), like `rsync -a
    /// --numeric-ids`; otherwise whoever writes.
    #[default]
    Numbers,
    /// Whoever writes.
    Writer,
    /// This user and group of the target, by name or number; the user's own group by default.
    Named { user: String, group: Option<String> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteLimit {
    Count(u64),
    /// Of what the target holds.
    Percent(u8),
}

impl DeleteLimit {
    pub(crate) fn allows(self, target_entries: u64) -> u64 {
        match self {
            DeleteLimit::Count(count) => count,
            DeleteLimit::Percent(percent) => {
                target_entries.saturating_mul(percent.into()).div_ceil(100)
            }
        }
    }
}

/// What a pass did (or, in a dry run, would do).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub stats: Stats,
    /// What went wrong with single files, the first [`PROBLEMS_MAX`] of them.
    pub problems: Vec<Problem>,
    pub problems_total: u64,
}

/// Problems that are kept; all are told as events.
pub const PROBLEMS_MAX: usize = 1000;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub source_files: u64,
    pub source_dirs: u64,
    pub source_bytes: u64,
    pub target_files: u64,
    pub target_dirs: u64,
    /// Files that the target lacked or had otherwise, in content or mode; sizes of those whose
    /// content differed; symlinks. Of what a pass does, a dry run counts these alone.
    pub differing_files: u64,
    pub differing_bytes: u64,
    pub differing_links: u64,
    pub transferred_files: u64,
    /// Sizes of the transferred files.
    pub transferred_bytes: u64,
    /// What of them was sent.
    pub literal_bytes: u64,
    /// What of them was found in the target's old files.
    pub matched_bytes: u64,
    /// Directories and symlinks made, modes and times changed.
    pub changed_entries: u64,
    pub deleted_entries: u64,
    /// All bytes of both directions, without the encryption around them.
    pub sent_bytes: u64,
    pub received_bytes: u64,
    pub elapsed: Duration,
}

impl Stats {
    /// How many files and symlinks of the source are not on the target as they should be.
    pub fn differing(&self) -> u64 {
        self.differing_files + self.differing_links
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = [
            ("Source files", count(self.source_files)),
            ("Source directories", count(self.source_dirs)),
            ("Source size", Bytes(self.source_bytes).to_string()),
            ("Files transferred", count(self.transferred_files)),
            ("Size of these", Bytes(self.transferred_bytes).to_string()),
            ("Literal data", Bytes(self.literal_bytes).to_string()),
            ("Matched data", Bytes(self.matched_bytes).to_string()),
            ("Other changes", count(self.changed_entries)),
            ("Deleted", count(self.deleted_entries)),
            ("Bytes sent", Bytes(self.sent_bytes).to_string()),
            ("Bytes received", Bytes(self.received_bytes).to_string()),
            ("Time", duration(self.elapsed)),
        ];
        for (label, value) in lines {
            writeln!(out, "{label:<20}{value}")?;
        }
        Ok(())
    }
}
