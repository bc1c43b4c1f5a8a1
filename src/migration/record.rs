//! What the journal of a move holds. Records are facts about the run, in order; none carries a
//! secret (a step's memory least of all: it is written for `undo`, and people read journals).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub at: Timestamp,
    #[serde(flatten)]
    pub fact: Fact,
}

impl Record {
    pub fn now(fact: Fact) -> Self {
        Record { at: Timestamp::now(), fact }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum Fact {
    /// A run began. Whatever stands before this record belongs to runs that have ended.
    RunStarted {
        run: String,
        job: String,
        plan: String,
        version: String,
    },
    /// The same run was taken up again.
    RunResumed,
    /// Written before the first side effect of a step.
    StepStarted {
        step: String,
        memory: Value,
    },
    StepDone {
        step: String,
        evidence: String,
    },
    StepSkipped {
        step: String,
        reason: String,
    },
    StepFailed {
        step: String,
        error: String,
    },
    DowntimeStarted,
    DowntimeEnded,
    /// Written before the first effect that cannot be taken back.
    NoReturn,
    UnwindStarted {
        cause: String,
    },
    StepUndone {
        step: String,
    },
    UndoFailed {
        step: String,
        error: String,
    },
    /// Every undo was done: the source is as it was.
    Unwound,
    Finished {
        problems: u64,
    },
}
