//! What a pass has done so far and whom it tells.

use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::change::{Action, Change, NodeKind};
use super::options::{ChangeSink, Outcome, PROBLEMS_MAX, Stats};
use super::throttle::Throttle;
use crate::event::{Event, Monitor, Progress};
use crate::wire::path::RelPath;
use crate::wire::tree::{FailureKind, Problem};

/// Progress is told no more often than this.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

pub(crate) struct Board<'a> {
    monitor: &'a dyn Monitor,
    on_change: Option<ChangeSink>,
    pub throttle: Throttle,
    /// Told to the one that opens lanes.
    pub more_planned: Notify,
    /// The target was asked to change something.
    pub touched: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    outcome: Outcome,
    planned_files: u64,
    planned_bytes: u64,
    /// Given to the target; its acknowledgements come in batches, too coarse to watch.
    given_files: u64,
    given_bytes: u64,
    /// The scan is over: what is planned is the total.
    planned_all: bool,
    told: Option<Instant>,
}

impl<'a> Board<'a> {
    pub fn new(
        monitor: &'a dyn Monitor,
        on_change: Option<ChangeSink>,
        bwlimit: Option<u64>,
    ) -> Self {
        let throttle = Throttle::new(bwlimit);
        let more_planned = Notify::new();
        let touched = AtomicBool::new(false);
        Board { monitor, on_change, throttle, more_planned, touched, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Changes the statistics.
    pub fn count(&self, change: impl FnOnce(&mut Stats)) {
        change(&mut self.state().outcome.stats);
    }

    pub fn stats(&self) -> Stats {
        self.state().outcome.stats.clone()
    }

    pub fn change(&self, change: &Change) {
        if change.action != Action::Delete {
            self.count(|stats| match change.node {
                NodeKind::File | NodeKind::HardLink => stats.differing_files += 1,
                NodeKind::Link => stats.differing_links += 1,
                NodeKind::Dir => {}
            });
        }
        if let Some(tell) = &self.on_change {
            tell(change);
        }
    }

    pub fn problem(&self, problem: Problem) {
        self.monitor.emit(Event::Problem {
            subject: problem.path.to_string(),
            text: problem.failure.to_string(),
            remedy: remedy(problem.failure.kind).map(str::to_owned),
        });
        let mut state = self.state();
        state.outcome.problems_total += 1;
        if state.outcome.problems.len() < PROBLEMS_MAX {
            state.outcome.problems.push(problem);
        }
    }

    /// A file is to be transferred.
    pub fn planned(&self, bytes: u64) {
        let mut state = self.state();
        state.planned_files += 1;
        state.planned_bytes += bytes;
        state.outcome.stats.differing_bytes += bytes;
        self.more_planned.notify_one();
    }

    /// Files that are planned and not yet given to the target, and their bytes.
    pub fn rest(&self) -> (u64, u64) {
        let state = self.state();
        (
            state.planned_files.saturating_sub(state.given_files),
            state.planned_bytes.saturating_sub(state.given_bytes),
        )
    }

    /// What was given to the target so far: files and their bytes.
    pub fn done(&self) -> (u64, u64) {
        let state = self.state();
        (state.given_files, state.given_bytes)
    }

    /// No more files will be planned.
    pub fn planned_all(&self) {
        self.state().planned_all = true;
    }

    /// A file is on the target.
    pub fn transferred(&self, size: u64, literal_bytes: u64) {
        self.count(|stats| {
            stats.transferred_files += 1;
            stats.transferred_bytes += size;
            stats.literal_bytes += literal_bytes;
            stats.matched_bytes += size.saturating_sub(literal_bytes);
        });
    }

    /// Content bytes went to the target, and with them `files` files to their end.
    pub fn given(&self, at: &RelPath, files: u64, bytes: u64) {
        {
            let mut state = self.state();
            state.given_files += files;
            state.given_bytes += bytes;
        }
        self.progress(at, false);
    }

    /// Tells where the pass stands, unless that was told just now and need not be told.
    pub fn progress(&self, at: &RelPath, always: bool) {
        let progress = {
            let mut state = self.state();
            let now = Instant::now();
            let recent = state.told.is_some_and(|told| now - told < PROGRESS_EVERY);
            if recent && !always {
                return;
            }
            state.told = Some(now);
            Progress {
                activity: "media".into(),
                detail: (!at.is_root()).then(|| at.to_string()),
                items_done: state.given_files,
                items_total: state.planned_all.then_some(state.planned_files),
                bytes_done: state.given_bytes,
                bytes_total: state.planned_all.then_some(state.planned_bytes),
            }
        };
        self.monitor.emit(Event::Progress(progress));
    }

    pub fn finish(self) -> Outcome {
        self.state.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()).outcome
    }
}

/// What the operator can do about a problem of this kind.
fn remedy(kind: FailureKind) -> Option<&'static str> {
    match kind {
        FailureKind::Denied => Some("use a login that may do that, such as root"),
        FailureKind::Changed | FailureKind::Corrupt => Some("the next pass tries again"),
        FailureKind::Vanished
        | FailureKind::Full
        | FailureKind::NotEmpty
        | FailureKind::Confined
        | FailureKind::Lost
        | FailureKind::Other => None,
    }
}
