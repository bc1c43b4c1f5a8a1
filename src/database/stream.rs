//! Mode `stream`: `pg_dump` on the source, `pg_restore` on the target, a pipe in between, nothing
//! on a disk.
//!
//! One snapshot, two archives. Definitions and rows flow through the pipe into a serial
//! `pg_restore`. What comes after the rows (indexes, constraints, triggers, refreshes) is a few
//! kilobytes: it becomes a temporary file there, so that `pg_restore` can work on it in parallel.

use std::time::{Duration, Instant};

use crate::event::Monitor;

use super::analyze::{self, Tables};
use super::copied::millis;
use super::programs::{self, PIPE_SESSIONS, Programs};
use super::target::{Destination, Prepared};
use super::tuning::Tuning;
use super::{DatabaseError, Server};

pub use super::copied::Copied;
pub use super::programs::{Compression, Level};
pub use super::snapshot::Snapshot;

/// How to copy.
#[derive(Clone, Debug)]
pub struct Options {
    pub compression: Compression,
    /// Indexes built at the same time on the target; 0 for one per core.
    pub jobs: usize,
    /// How long pg_dump waits for a table that somebody else has locked.
    pub lock_wait: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options { compression: Compression::None, jobs: 0, lock_wait: Duration::from_secs(60) }
    }
}

/// Fills the prepared database with what `snapshot` sees of the source. When this fails, or is
/// dropped, the target holds a part: it stays marked as half-done.
pub async fn copy(
    source: &Server,
    destination: &Destination,
    snapshot: &Snapshot,
    prepared: &Prepared,
    options: &Options,
    monitor: &dyn Monitor,
) -> Result<Copied, DatabaseError> {
    let found = Programs::find(source, destination, snapshot, prepared, options.lock_wait);
    let programs = found.await?;
    let mut copied = Copied::default();
    let target = &*destination.server.host;
    let cores = programs::cores(target).await?;
    let jobs = if options.jobs == 0 { cores } else { options.jobs };
    let tuning = Tuning::measure(target, prepared.version(), cores, jobs).await;
    let start = Instant::now();
    let (compression, link) = options.compression.fitted(target, PIPE_SESSIONS).await;
    copied.link = link;
    let sections = ["pre-data", "data"];
    let (bytes, warnings) = programs.pour(&sections, &[], &compression, monitor).await?;
    copied.bytes = bytes;
    copied.problems.extend(warnings);
    copied.data_millis = millis(start);

    let start = Instant::now();
    let archive = programs.post_data().await?;
    copied.problems.extend(programs.restore(&archive, None, jobs, &tuning, monitor).await?);
    copied.post_data_millis = millis(start);

    let start = Instant::now();
    analyze::analyze(destination, Tables::All, jobs, monitor).await?;
    copied.analyze_millis = millis(start);
    Ok(copied)
}
