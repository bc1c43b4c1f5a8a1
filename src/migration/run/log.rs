//! The journal of a move together with the state it folds to.

use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use super::RunError;
use crate::journal::{Journal, JournalError};
use crate::migration::plan::Plan;
use crate::migration::record::{Fact, Record};
use crate::migration::state::State;

/// An open, locked journal. Shared by the steps of a stage.
pub struct Log {
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
        Ok(Log { inner: Mutex::new(Inner { journal, state }) })
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
                run: new_run_id(),
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

/// A name for a run that no other run has: its time and process.
fn new_run_id() -> String {
    format!("{}-{}", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ"), std::process::id())
}
