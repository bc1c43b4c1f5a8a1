//! Where a run stands: the fold of its journal. Pure.

use jiff::Timestamp;
use serde_json::Value;

use super::record::{Fact, Record};

/// The state of the last run in a journal.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    pub run: String,
    pub job: String,
    pub plan: String,
    pub version: String,
    pub phase: Phase,
    /// Steps that were touched, in the order in which they began.
    pub steps: Vec<StepState>,
    pub started: Timestamp,
    pub downtime: Option<Downtime>,
    pub past_no_return: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Under way, or killed on the way.
    Running,
    /// Going back, or killed while going back.
    Unwinding {
        cause: String,
    },
    /// Ended with the source as it was.
    Unwound,
    Finished {
        problems: u64,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct StepState {
    pub step: String,
    pub memory: Value,
    pub progress: StepProgress,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepProgress {
    /// It began; what it did is to be looked at.
    Started,
    Done {
        evidence: String,
    },
    Skipped {
        reason: String,
    },
    Undone,
    UndoFailed {
        error: String,
    },
}

/// What the steps of a run noted down before their first side effects.
pub trait Memories: Send + Sync {
    fn memory(&self, step: &str) -> Option<Value>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Downtime {
    pub from: Timestamp,
    pub to: Option<Timestamp>,
}

impl State {
    /// Whether the old server was stopped, and nothing serves in its place yet.
    pub fn nobody_can_post(&self) -> bool {
        self.downtime.is_some_and(|downtime| downtime.to.is_none())
    }

    /// The state of the last run that `records` tell of; `None` where there is none.
    pub fn fold(records: &[Record]) -> Option<State> {
        let start =
            records.iter().rposition(|record| matches!(record.fact, Fact::RunStarted { .. }))?;
        let mut state = State::begin(&records[start])?;
        for record in &records[start + 1..] {
            state.apply(record);
        }
        Some(state)
    }

    fn begin(record: &Record) -> Option<State> {
        let Fact::RunStarted { run, job, plan, version } = &record.fact else { return None };
        Some(State {
            run: run.clone(),
            job: job.clone(),
            plan: plan.clone(),
            version: version.clone(),
            phase: Phase::Running,
            steps: Vec::new(),
            started: record.at,
            downtime: None,
            past_no_return: false,
        })
    }

    /// Takes one more record into account.
    pub fn apply(&mut self, record: &Record) {
        match &record.fact {
            Fact::RunStarted { .. } => {
                if let Some(state) = State::begin(record) {
                    *self = state;
                }
            }
            Fact::RunResumed => {}
            Fact::StepStarted { step, memory } => {
                // The first memory is of the world as it was; a later one would be of our own work.
                if self.find(step).is_none() {
                    self.steps.push(StepState {
                        step: step.clone(),
                        memory: memory.clone(),
                        progress: StepProgress::Started,
                    });
                } else {
                    self.set(step, StepProgress::Started);
                }
            }
            Fact::StepDone { step, evidence } => {
                self.set(step, StepProgress::Done { evidence: evidence.clone() });
            }
            Fact::StepSkipped { step, reason } => {
                self.set(step, StepProgress::Skipped { reason: reason.clone() });
            }
            Fact::StepFailed { .. } => {}
            Fact::DowntimeStarted => {
                if self.downtime.is_none() {
                    self.downtime = Some(Downtime { from: record.at, to: None });
                }
            }
            Fact::DowntimeEnded => {
                if let Some(downtime) = &mut self.downtime {
                    downtime.to.get_or_insert(record.at);
                }
            }
            Fact::NoReturn => self.past_no_return = true,
            Fact::UnwindStarted { cause } => self.phase = Phase::Unwinding { cause: cause.clone() },
            Fact::StepUndone { step } => self.set(step, StepProgress::Undone),
            Fact::UndoFailed { step, error } => {
                self.set(step, StepProgress::UndoFailed { error: error.clone() });
            }
            Fact::Unwound => self.phase = Phase::Unwound,
            Fact::Finished { problems } => self.phase = Phase::Finished { problems: *problems },
        }
    }

    pub fn find(&self, step: &str) -> Option<&StepState> {
        self.steps.iter().find(|state| state.step == step)
    }

    fn set(&mut self, step: &str, progress: StepProgress) {
        match self.steps.iter_mut().find(|state| state.step == step) {
            Some(state) => state.progress = progress,
            None => {
                self.steps.push(StepState { step: step.to_owned(), memory: Value::Null, progress })
            }
        }
    }

    /// Whether the run has ended: another one may begin.
    pub fn ended(&self) -> bool {
        match self.phase {
            Phase::Running | Phase::Unwinding { .. } => false,
            Phase::Unwound | Phase::Finished { .. } => true,
        }
    }

    /// Whether the run will go on with this step behind it.
    pub fn is_behind(&self, step: &str) -> bool {
        match self.find(step).map(|state| &state.progress) {
            Some(StepProgress::Done { .. } | StepProgress::Skipped { .. }) => true,
            Some(
                StepProgress::Started | StepProgress::Undone | StepProgress::UndoFailed { .. },
            ) => false,
            None => false,
        }
    }

    /// The steps that an unwind must undo, last begun first.
    pub fn to_undo(&self) -> Vec<StepState> {
        let touched = self.steps.iter().filter(|state| match state.progress {
            StepProgress::Started | StepProgress::Done { .. } | StepProgress::UndoFailed { .. } => {
                true
            }
            StepProgress::Skipped { .. } | StepProgress::Undone => false,
        });
        touched.rev().cloned().collect()
    }
}

impl Memories for State {
    fn memory(&self, step: &str) -> Option<Value> {
        self.find(step).map(|state| state.memory.clone())
    }
}

impl Memories for Option<State> {
    fn memory(&self, step: &str) -> Option<Value> {
        self.as_ref()?.memory(step)
    }
}
