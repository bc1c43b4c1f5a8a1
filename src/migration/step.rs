//! A step of a move: check (already true?) → remember (what undo needs) → run → verify → undo.
//!
//! The contract, which `run` relies on and the fault tests try: `check` and `verify` only look;
//! `run` and `undo` may be called again after they failed, were cut off, or succeeded, and then
//! lead to the same end.

use std::error::Error;
use std::fmt;

use async_trait::async_trait;
use serde_json::Value;

use crate::error::{Advice, Retry};

/// Where in the move a step belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Segment {
    /// The old server is live.
    Prepare,
    /// Nobody can post.
    Cutover,
    /// The new server is live.
    Settle,
}

impl fmt::Display for Segment {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Segment::Prepare => "prepare",
            Segment::Cutover => "cutover",
            Segment::Settle => "settle",
        })
    }
}

/// What a look at the world says about a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    Needed,
    /// Its effect is there; the text says what was seen.
    AlreadyTrue(String),
    /// It does not apply to this move.
    NotApplicable(String),
}

#[async_trait]
pub trait Step: Send + Sync {
    /// The name in plan, journal and `--until`; stable.
    fn id(&self) -> &'static str;

    /// What it does, for people, in the imperative.
    fn title(&self) -> String;

    /// Looks whether there is anything to do.
    async fn check(&self) -> Result<Check, StepError>;

    /// What `undo` must know of the world as it was. Taken once, before the first side effect,
    /// and durable in the journal before `run` is called.
    async fn remember(&self) -> Result<Value, StepError> {
        Ok(Value::Null)
    }

    async fn run(&self, memory: &Value) -> Result<(), StepError>;

    /// Proves the effect by another path than the one that made it; gives the evidence.
    async fn verify(&self) -> Result<String, StepError>;

    /// Puts back what `run` changed. What may stay (files already copied) stays.
    async fn undo(&self, memory: &Value) -> Result<(), StepError>;
}

/// Why a step failed: any engine's error, with its remedy.
#[derive(Debug)]
pub struct StepError {
    error: Box<dyn Error + Send + Sync>,
    hint: Option<String>,
    retry: Retry,
}

impl StepError {
    /// A failure that no engine raised, in words.
    pub fn new(text: impl Into<String>, hint: Option<&str>) -> Self {
        StepError { error: text.into().into(), hint: hint.map(str::to_owned), retry: Retry::Never }
    }

    /// The error that the step ended with, without this wrapping.
    pub fn inner(&self) -> &(dyn Error + Send + Sync + 'static) {
        self.error.as_ref()
    }

    pub fn into_inner(self) -> Box<dyn Error + Send + Sync> {
        self.error
    }

    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    pub fn retry(&self) -> Retry {
        self.retry
    }

    /// The whole chain on one line, for journal and events.
    pub fn one_line(&self) -> String {
        crate::error::one_line(self.error.as_ref())
    }
}

impl<E: Advice + Send + Sync + 'static> From<E> for StepError {
    fn from(error: E) -> Self {
        StepError { hint: error.hint(), retry: error.retry(), error: Box::new(error) }
    }
}
