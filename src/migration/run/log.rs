//! The journal of a move together with the state it folds to.

use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use serde_json::Value;

use super::RunError;
use crate::journal::{Journal, JournalError};
use crate::migration::plan::Plan;
use crate::migration::record::{Fact, Record};
use crate::migration::state::{Memories, State};

/// An open, locked journal. Shared by the steps of a stage.
pub struct Log {
    run: String,
    inner: Mutex<Inner>,
}

struct Inner {
    journal: Journal<Record>,
    state: Option<State>,
}

impl Log {
    pub fn open(path: &Path) -> Result<Log, JournalError> {
        let (journal, records) = Journal::open(path)?;
        let state = State::fold(&records);
        let unfinished = state.as_ref().filter(|state| !state.ended());
        let run = unfinished.map_or_else(new_run_id, |state| state.run.clone());
        Ok(Log { run, inner: Mutex::new(Inner { journal, state }) })
    }

    /// The name of the run that goes on, or of the one that would begin.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Whether an unfinished run would go on.
    pub fn is_unfinished(&self) -> bool {
        self.current().is_some_and(|state| !state.ended())
    }

    /// The state of the last run, if there was one.
    pub fn current(&self) -> Option<State> {
        self.lock().state.clone()
    }

    /// Takes up the unfinished run, or begins a new one. A run of another job, or of another
    /// plan, is refused.
    pub(super) fn enter(&self, plan: &Plan) -> Result<(), RunError> {
        let (job, digest) = (plan.job.clone(), plan.digest());
        let fact = match self.current().filter(|state| !state.ended()) {
            Some(state) if state.job != job => {
                let journal = self.lock().journal.path().display().to_string();
                return Err(RunError::OtherJob { journal, ours: job, theirs: state.job });
            }
            Some(state) if state.plan != digest => {
                return Err(RunError::PlanChanged { run: state.run });
            }
            Some(_) => Fact::RunResumed,
            None => Fact::RunStarted {
                run: self.run.clone(),
                job,
                plan: digest,
                version: env!("CARGO_PKG_VERSION").to_owned(),
            },
        };
        Ok(self.append(fact)?)
    }

    /// The state of the run that was entered.
    pub(super) fn state(&self) -> State {
        // `enter` comes before every use and leaves a state behind.
        self.current().expect("a run was entered")
    }

    /// Makes the fact durable, then part of the state.
    pub(super) fn append(&self, fact: Fact) -> Result<(), JournalError> {
        let record = Record::now(fact);
        let mut inner = self.lock();
        inner.journal.append(&record)?;
        match &mut inner.state {
            Some(state) => state.apply(&record),
            None => inner.state = State::fold(std::slice::from_ref(&record)),
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Memories for Log {
    fn memory(&self, step: &str) -> Option<Value> {
        self.current()?.memory(step)
    }
}

/// A name for a run that no other run has: its time and process.
fn new_run_id() -> String {
    format!("{}-{}", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ"), std::process::id())
}
