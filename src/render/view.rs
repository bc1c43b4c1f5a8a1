//! What a run looks like at a moment: a fold of its events.
//!
//! In flow events with their moment, out flow plain figures that every renderer and the report
//! draw from. It reads no clock and prints nothing. Any sequence of events folds: a step that
//! ends without having started, or a second start of one that was cut off, is told as it came.
//! Progress changes [`View::activities`] alone.

mod fold;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::rate::Rate;
use crate::event::{Level, Progress, StepOutcome};

/// How many findings, problems and notes are kept each; the rest is counted.
pub const LISTED_MAX: usize = 1000;
/// How many activities are followed at a time.
const ACTIVITIES_MAX: usize = 32;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    pub run: Option<String>,
    pub verb: String,
    /// When the run first started, and how often it was taken up again.
    pub began: Option<Timestamp>,
    pub resumed: usize,
    /// How many steps the plan has; `steps` holds those that were heard of.
    pub steps_total: usize,
    pub steps: Vec<Step>,
    /// How long a step, by its id, was expected to take.
    pub predicted: BTreeMap<String, Duration>,
    /// What is under way and reports figures.
    pub activities: Vec<Activity>,
    pub downtimes: Vec<Downtime>,
    /// When the point of no return was passed.
    pub no_return: Option<Timestamp>,
    pub findings: Listed<Finding>,
    pub problems: Listed<Problem>,
    pub notes: Listed<Note>,
    pub finished: Option<Finished>,
    /// How many steps have ended, or were undone, so far.
    pub endings: usize,
    /// When the newest event was emitted.
    pub latest: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub id: String,
    pub title: String,
    /// Its place in the plan, from 1; 0 if it was never told.
    pub number: usize,
    pub began: Timestamp,
    pub state: StepState,
    /// How its undo ended, if it was undone.
    pub undo: Option<StepOutcome>,
    /// Earlier attempts that were cut off, each with the last moment that was heard of.
    pub cut_off: Vec<(Timestamp, Timestamp)>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum StepState {
    Running,
    Ended {
        outcome: StepOutcome,
        took: Duration,
    },
    /// The program ended before the step did.
    Interrupted,
}

/// Something that reports figures while it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Activity {
    /// The step it belongs to: the one of its name, else the one that started last.
    pub step: Option<String>,
    pub began: Timestamp,
    pub heard: Timestamp,
    pub progress: Progress,
    pub items: Rate,
    pub bytes: Rate,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Downtime {
    pub began: Timestamp,
    pub ended: Option<(Timestamp, Duration)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub level: Level,
    pub subject: String,
    pub text: String,
    pub remedy: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    pub at: Timestamp,
    pub subject: String,
    pub text: String,
    pub remedy: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    pub at: Timestamp,
    pub text: String,
    /// [`View::endings`] when it was told: a note after the last is about what to do next.
    pub endings: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    pub at: Timestamp,
    pub exit: u8,
    pub took: Duration,
}

/// A list that stops growing at [`LISTED_MAX`] and goes on counting.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed<T> {
    pub kept: Vec<T>,
    pub total: usize,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Listed { kept: Vec::new(), total: 0 }
    }
}

impl<T> Listed<T> {
    fn push(&mut self, item: T) {
        self.total += 1;
        if self.kept.len() < LISTED_MAX {
            self.kept.push(item);
        }
    }

    /// How many were counted but not kept.
    pub fn left_out(&self) -> usize {
        self.total - self.kept.len()
    }
}

impl View {
    /// The steps under way, in the order in which they started.
    pub fn running(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.state == StepState::Running)
    }

    /// How many steps have had their effect, or need not have it, and were not undone.
    pub fn steps_done(&self) -> usize {
        self.steps.iter().filter(|step| step.is_done()).count()
    }

    /// How many steps were put back; none if no undoing has begun.
    pub fn steps_undone(&self) -> Option<usize> {
        let undos = self.steps.iter().filter_map(|step| step.undo.as_ref());
        let undone = undos.clone().filter(|undo| **undo == StepOutcome::Undone).count();
        undos.clone().next().map(|_| undone)
    }

    /// Whether a move that ended well ended before its last step began, because it was asked to.
    pub fn stopped_early(&self) -> bool {
        let ended_well = self.finished.as_ref().is_some_and(|finished| finished.exit == 0);
        let last = self.steps_total;
        let reached = self.steps.iter().any(|step| step.number == last);
        self.verb == "migrate" && ended_well && last > 0 && !reached
    }

    /// Since when nobody can post, if that is so.
    pub fn downtime_running(&self) -> Option<Timestamp> {
        self.downtimes.last().filter(|downtime| downtime.ended.is_none()).map(|last| last.began)
    }

    /// How long nobody could post, all in all; none if the old server never stopped.
    pub fn downtime(&self, now: Timestamp) -> Option<Duration> {
        let spans = self.downtimes.iter().map(|downtime| match downtime.ended {
            Some((_, span)) => span,
            None => span(downtime.began, now),
        });
        (!self.downtimes.is_empty()).then(|| spans.sum())
    }

    /// How many findings there are of `level`.
    pub fn found(&self, level: Level) -> usize {
        self.findings.kept.iter().filter(|finding| finding.level == level).count()
    }

    /// The notes that came after the last step: what is left for the operator to do.
    pub fn next_steps(&self) -> impl Iterator<Item = &Note> {
        self.notes.kept.iter().filter(|note| self.is_next(note))
    }

    /// The notes from under way.
    pub fn notes_under_way(&self) -> impl Iterator<Item = &Note> {
        self.notes.kept.iter().filter(|note| !self.is_next(note))
    }

    fn is_next(&self, note: &Note) -> bool {
        self.endings > 0 && note.endings == self.endings
    }
}

impl Step {
    /// Whether it ended well and still counts.
    pub fn is_done(&self) -> bool {
        let well = match &self.state {
            StepState::Running | StepState::Interrupted => false,
            StepState::Ended { outcome, .. } => match outcome {
                StepOutcome::Done { .. }
                | StepOutcome::AlreadyTrue { .. }
                | StepOutcome::Skipped { .. } => true,
                StepOutcome::Failed { .. }
                | StepOutcome::Undone
                | StepOutcome::UndoFailed { .. } => false,
            },
        };
        well && self.undo.is_none()
    }
}

impl Activity {
    /// How much is done, between 0 and 1: by bytes where their total is known, else by items.
    pub fn share(&self) -> Option<f64> {
        let share = |done: u64, total: u64| (done as f64 / total as f64).min(1.0);
        let figures = &self.progress;
        match (figures.bytes_total, figures.items_total) {
            (Some(total), _) if total > 0 => Some(share(figures.bytes_done, total)),
            (_, Some(total)) if total > 0 => Some(share(figures.items_done, total)),
            _ => None,
        }
    }

    /// How much longer it takes at the present speed.
    pub fn left(&self) -> Option<Duration> {
        let figures = &self.progress;
        let of_bytes = figures
            .bytes_total
            .and_then(|total| self.bytes.secs_for(total.saturating_sub(figures.bytes_done)));
        let of_items = figures
            .items_total
            .and_then(|total| self.items.secs_for(total.saturating_sub(figures.items_done)));
        // Many small files take time that bytes do not show, and the other way round.
        let secs = match (of_bytes, of_items) {
            (Some(bytes), Some(items)) => bytes.max(items),
            (one, other) => one.or(other)?,
        };
        Duration::try_from_secs_f64(secs).ok()
    }
}

/// The time from one moment to another; none if the clock was set back in between.
pub fn span(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}
