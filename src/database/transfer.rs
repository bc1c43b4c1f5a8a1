//! The whole story in one call: prepare the target, copy under a snapshot, compare, and leave the
//! mark that tells the truth.

use std::time::Duration;

use crate::event::Monitor;

use super::compare::{self, Comparison};
use super::copied::Copied;
use super::session::{self, Access};
use super::target::{self, Destination, Mark, MarkState};
use super::{DatabaseError, Server, Snapshot, inspect, parallel, stream};

/// How to transfer.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub mode: Mode,
    pub compare: compare::Options,
    /// Leave the comparison out: the caller makes it.
    pub skip_compare: bool,
}

/// The way to copy, and how.
#[derive(Clone, Debug)]
pub enum Mode {
    Stream(stream::Options),
    Parallel(parallel::Options),
}

impl Default for Mode {
    fn default() -> Self {
        Mode::Stream(stream::Options::default())
    }
}

/// What a transfer did and what was found afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transferred {
    pub copied: Copied,
    /// Absent where it was left out.
    pub comparison: Option<Comparison>,
}

/// How long it may take to note down a failure.
const MARK_WAIT_MAX: Duration = Duration::from_secs(10);

/// Copies the source's database to the destination for `run`, and compares. The target is marked
/// complete only if it was found equal; otherwise it is marked failed, or, where even that was not
/// possible, stays marked as being copied: [`target::prepare`] replaces it next time.
pub async fn transfer(
    source: &Server,
    destination: &Destination,
    run: &str,
    options: &Options,
    monitor: &dyn Monitor,
) -> Result<Transferred, DatabaseError> {
    let session = session::connect(source, Access::Read).await?;
    let facts = inspect::inspect_database(&session).await?;
    drop(session);
    let prepared = target::prepare(destination, &facts, run).await?;
    let result = fill(source, destination, &prepared, options, monitor).await;
    let state = match &result {
        Ok(Transferred { comparison: Some(comparison), .. }) if comparison.is_equal() => {
            MarkState::Complete
        }
        // Nobody has looked yet: to be compared by the caller.
        Ok(Transferred { comparison: None, .. }) => MarkState::Copying,
        Ok(_) | Err(_) => MarkState::Failed,
    };
    let mark = Mark::new(run, state);
    let marked = tokio::time::timeout(MARK_WAIT_MAX, target::set_mark(destination, &mark)).await;
    let transferred = result?;
    match marked {
        Ok(marked) => marked?,
        Err(_) => {
            return Err(DatabaseError::TimedOut {
                server: destination.server.label(),
                action: "mark the target database",
                secs: MARK_WAIT_MAX.as_secs(),
            });
        }
    }
    Ok(transferred)
}

async fn fill(
    source: &Server,
    destination: &Destination,
    prepared: &target::Prepared,
    options: &Options,
    monitor: &dyn Monitor,
) -> Result<Transferred, DatabaseError> {
    let snapshot = Snapshot::take(source).await?;
    let copied = match &options.mode {
        Mode::Stream(options) => {
            stream::copy(source, destination, &snapshot, prepared, options, monitor).await?
        }
        Mode::Parallel(options) => {
            parallel::copy(source, destination, &snapshot, prepared, options, monitor).await?
        }
    };
    if options.skip_compare {
        return Ok(Transferred { copied, comparison: None });
    }
    let target = &destination.server;
    let comparison =
        compare::compare(source, target, Some(&snapshot), options.compare, monitor).await?;
    Ok(Transferred { copied, comparison: Some(comparison) })
}
