//! What humans are told while it happens: a typed stream that the engines emit and `render` draws.
//!
//! Events never drive recovery (that is the journal) and never carry a secret. Their JSON form is
//! documented in `docs/events.md` and stays stable.

use std::sync::Mutex;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Takes events. Engines are given one and call it from any task; it must not block.
pub trait Monitor: Send + Sync {
    fn emit(&self, event: Event);
}

/// Something that happened. Lifecycle events are never dropped; [`Event::Progress`] may coalesce.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A verb began its work.
    RunStarted { run: String, verb: String },
    /// How long a step of the plan is expected to take, in words too; told before the first begins.
    StepPredicted { step: String, millis: u64, text: String },
    /// A step of the plan began.
    StepStarted { step: String, title: String, number: usize, steps: usize },
    /// A step ended.
    StepFinished { step: String, outcome: StepOutcome, millis: u64 },
    /// The old server stopped taking writes.
    DowntimeStarted,
    /// The new server takes writes (or, after an unwind, the old one again).
    DowntimeEnded { millis: u64 },
    /// From here on the run only goes forward.
    PointOfNoReturn,
    /// Figures of a running activity; totals where they are known.
    Progress(Progress),
    /// What `check` found.
    Finding { level: Level, subject: String, text: String, remedy: Option<String> },
    /// Something went wrong that does not stop the run; it is listed at the end.
    Problem {
        subject: String,
        text: String,
        #[serde(default)]
        remedy: Option<String>,
    },
    /// A line for people. What the operator should do next is told after the last step ended: the
    /// report lists those notes apart.
    Note { text: String },
    /// The verb ended.
    RunFinished { run: String, exit: u8, millis: u64 },
}

/// An event and the moment it was emitted, to the millisecond.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stamped {
    pub at: Timestamp,
    #[serde(flatten)]
    pub event: Event,
}

impl Stamped {
    /// `event`, emitted now.
    pub fn now(event: Event) -> Self {
        Stamped { at: now(), event }
    }
}

/// The wall clock, to the millisecond: when things are told to have happened. Deadlines and
/// measured times come from `Instant`.
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    // The same moment with fewer digits is always in range.
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StepOutcome {
    /// It ran and its effect was seen by another path; `evidence` says what was seen.
    Done {
        evidence: String,
    },
    /// Its effect was already there.
    AlreadyTrue {
        evidence: String,
    },
    /// It does not apply here.
    Skipped {
        reason: String,
    },
    Failed {
        error: String,
    },
    Undone,
    UndoFailed {
        error: String,
    },
}

/// Where an activity stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// What it works on: `media`, `database`, `redis`, …
    pub activity: String,
    /// What it is doing at the moment: a table, a directory.
    pub detail: Option<String>,
    pub items_done: u64,
    pub items_total: Option<u64>,
    pub bytes_done: u64,
    pub bytes_total: Option<u64>,
}

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Ok,
    Warning,
    /// `migrate` will not start.
    Refusal,
}

/// What a read-only look at the two servers found, with the remedy where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub level: Level,
    pub subject: String,
    pub text: String,
    pub remedy: Option<String>,
}

impl Finding {
    pub fn ok(subject: &str, text: impl Into<String>) -> Self {
        Finding::new(Level::Ok, subject, text, None)
    }

    pub fn warning(subject: &str, text: impl Into<String>, remedy: Option<String>) -> Self {
        Finding::new(Level::Warning, subject, text, remedy)
    }

    pub fn refusal(subject: &str, text: impl Into<String>, remedy: Option<String>) -> Self {
        Finding::new(Level::Refusal, subject, text, remedy)
    }

    fn new(level: Level, subject: &str, text: impl Into<String>, remedy: Option<String>) -> Self {
        Finding { level, subject: subject.to_owned(), text: text.into(), remedy }
    }
}

impl From<Finding> for Event {
    fn from(finding: Finding) -> Event {
        let Finding { level, subject, text, remedy } = finding;
        Event::Finding { level, subject, text, remedy }
    }
}

/// A monitor that tells nobody.
pub struct Silent;

impl Monitor for Silent {
    fn emit(&self, _: Event) {}
}

/// A monitor that keeps everything, for tests.
#[derive(Default)]
pub struct Recorder(Mutex<Vec<Event>>);

impl Recorder {
    /// What was emitted so far, in order.
    pub fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

impl Monitor for Recorder {
    fn emit(&self, event: Event) {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(event);
    }
}
