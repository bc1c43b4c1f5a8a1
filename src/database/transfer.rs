//! The whole story in one call: prepare the target, copy under a snapshot, compare, and leave the
//! mark that tells the truth.

use std::time::Duration;

use crate::event::Monitor;

use super::compare::{self, Comparison};
use super::copied::Copied;
use super::inspect::DatabaseFacts;
use super::session::{self, Access};
use super::target::{self, Destination, Mark, MarkState};
use super::{DatabaseError, Server, Snapshot, cluster, inspect, parallel, stream};

/// How to transfer.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub mode: Mode,
    pub compare: compare::Options,
    /// Leave the comparison out: the caller makes it.
    pub skip_compare: bool,
    /// Raise settings of the target's cluster for the time of the copy.
    pub tune_cluster: bool,
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
    let job = Job { source, destination, run, options, monitor };
    let mut problems = Vec::new();
    match job.transfer(&mut problems).await {
        Ok(mut transferred) => {
            transferred.copied.problems.extend(problems);
            Ok(transferred)
        }
        Err(error) => {
            cluster::tell(problems, monitor);
            Err(error)
        }
    }
}

/// One transfer.
struct Job<'a> {
    source: &'a Server,
    destination: &'a Destination,
    run: &'a str,
    options: &'a Options,
    monitor: &'a dyn Monitor,
}

impl Job<'_> {
    /// What is wrong with the settings of the cluster is added to `problems`, also where it fails.
    async fn transfer(&self, problems: &mut Vec<String>) -> Result<Transferred, DatabaseError> {
        let Job { source, destination, run, options, monitor } = *self;
        let session = session::connect(source, Access::Read).await?;
        let facts = inspect::inspect_database(&session).await?;
        drop(session);
        let hands = cluster::ready(destination, options.tune_cluster, monitor, problems).await?;
        let prepared = target::prepare(destination, &facts, run).await?;
        let result = match hands {
            Some(hands) => self.fill_raised(hands, &facts, &prepared, problems).await,
            None => fill(source, destination, &prepared, options, monitor).await,
        };
        mark(destination, run, result).await
    }

    /// Fills the target while settings of its cluster are raised. They are put back before the
    /// target is marked: a complete copy has nothing left to be done.
    async fn fill_raised(
        &self,
        hands: cluster::Hands,
        facts: &DatabaseFacts,
        prepared: &target::Prepared,
        problems: &mut Vec<String>,
    ) -> Result<Transferred, DatabaseError> {
        let Job { source, destination, run, options, monitor } = *self;
        let raised = cluster::raise(&hands, destination, facts, run, monitor, problems).await;
        let result = match raised {
            Ok(()) => fill(source, destination, prepared, options, monitor).await,
            Err(error) => Err(error),
        };
        // Its session may be gone with the link; putting back takes a new one.
        drop(hands);
        problems.extend(cluster::restore(destination, Some(run), monitor).await);
        result
    }
}

/// Marks the target by how the copy ended.
async fn mark(
    destination: &Destination,
    run: &str,
    result: Result<Transferred, DatabaseError>,
) -> Result<Transferred, DatabaseError> {
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
