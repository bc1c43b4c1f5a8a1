//! The words that the renderers and the report share: outcomes, results, figures.

use std::time::Duration;

use jiff::Timestamp;

use super::view::{Activity, View, span};
use crate::event::{Level, StepOutcome};
use crate::units::{Bytes, count, duration};

/// After this long without a word an activity is called silent.
const SILENCE_SECS: u64 = 15;

/// What an exit code says about a run of `verb`. `docs/exit-codes.md` has the long form.
pub fn result(verb: &str, exit: u8) -> &'static str {
    match exit {
        0 if verb == "rollback" => "done; the old server serves as before",
        0 => "done",
        1 if matches!(verb, "files" | "db" | "dns" | "bench") => "failed",
        1 => "failed; the old server serves as before",
        2 => "wrong arguments or configuration; nothing was changed",
        3 => "done, with problems",
        4 => "refused; nothing was touched",
        5 => "stopped past the point of no return; run `transhume migrate` again",
        6 => "undoing failed; the old server needs you",
        130 => "interrupted; the same command goes on from here",
        _ => "ended in an unknown way",
    }
}

/// What is expected of a step.
pub(super) fn predicted(step: &str, text: &str) -> String {
    format!("{step} is expected to take {text}")
}

/// How the run that `view` shows ended with `exit`.
pub(super) fn ended(view: &View, exit: u8) -> &'static str {
    match exit {
        0 if view.stopped_early() => "stopped as asked, before its end",
        exit => result(&view.verb, exit),
    }
}

/// How many steps are done, or how many of those that were done were undone again.
pub(super) fn steps(view: &View) -> Option<(&'static str, String)> {
    let undone = view.steps_undone();
    if let Some(undone) = undone {
        let touched = view.steps.iter().filter(|step| step.undo.is_some()).count();
        return Some(("steps undone", format!("{undone} of {touched}")));
    }
    (view.steps_total > 0)
        .then(|| ("steps done", format!("{} of {}", view.steps_done(), view.steps_total)))
}

/// An outcome as a word, and what there is to say about it.
pub(super) fn outcome(outcome: &StepOutcome) -> (&'static str, &str) {
    match outcome {
        StepOutcome::Done { evidence } => ("done", evidence),
        StepOutcome::AlreadyTrue { evidence } => ("already true", evidence),
        StepOutcome::Skipped { reason } => ("skipped", reason),
        StepOutcome::Failed { error } => ("failed", error),
        StepOutcome::Undone => ("undone", ""),
        StepOutcome::UndoFailed { error } => ("undo failed", error),
    }
}

pub(super) fn level(level: Level) -> &'static str {
    match level {
        Level::Ok => "ok",
        Level::Warning => "warning",
        Level::Refusal => "refusal",
    }
}

/// What the items of an activity are: several, and one.
pub(super) fn items(activity: &str) -> (&'static str, &'static str) {
    match activity {
        "media" | "files" => ("files", "file"),
        "database" => ("rows", "row"),
        "indexes" | "amcheck" => ("indexes", "index"),
        "analyze" | "compare" => ("tables", "table"),
        "redis" => ("keys", "key"),
        _ => ("items", "item"),
    }
}

/// The figures of an activity: how much and how fast.
pub(super) fn figures(activity: &Activity, now: Timestamp) -> Vec<String> {
    let mut parts = Vec::new();
    let figures = &activity.progress;
    let (noun, _) = items(&figures.activity);
    match figures.items_total.filter(|total| *total > 0) {
        Some(total) => {
            parts.push(format!("{} of {} {noun}", count(figures.items_done), count(total)));
        }
        None if figures.items_done > 0 => {
            parts.push(format!("{} {noun}", count(figures.items_done)))
        }
        None => {}
    }
    match figures.bytes_total.filter(|total| *total > 0) {
        Some(total) => parts.push(format!("{} of {}", Bytes(figures.bytes_done), Bytes(total))),
        None if figures.bytes_done > 0 => parts.push(Bytes(figures.bytes_done).to_string()),
        None => {}
    }
    let silence = span(activity.heard, now);
    if silence.as_secs() >= SILENCE_SECS {
        parts.push(format!("no news for {}", whole_secs(silence)));
        return parts;
    }
    if let Some(rate) = activity.items.per_sec().filter(|rate| *rate >= 0.5) {
        parts.push(format!("{} {noun}/s", count(rate.round() as u64)));
    }
    if let Some(rate) = activity.bytes.per_sec().filter(|rate| *rate >= 0.5) {
        parts.push(format!("{}/s", Bytes(rate as u64)));
    }
    parts
}

/// How much longer an activity takes, if that can be told.
pub(super) fn left(activity: &Activity, now: Timestamp) -> Option<String> {
    let heard = span(activity.heard, now).as_secs() < SILENCE_SECS;
    let left = activity.left().filter(|left| heard && left.as_secs() > 0)?;
    Some(format!("{} left", whole_secs(left)))
}

/// A duration without fractions of a second, for figures that change while one reads them.
pub(super) fn whole_secs(span: Duration) -> String {
    match span.as_secs() {
        secs @ 0..=59 => format!("{secs} s"),
        secs => duration(Duration::from_secs(secs)),
    }
}

/// A running clock: `0:42`, `1:02:03`.
pub(super) fn clock(span: Duration) -> String {
    let secs = span.as_secs();
    match secs / 3600 {
        0 => format!("{}:{:02}", secs / 60, secs % 60),
        hours => format!("{hours}:{:02}:{:02}", secs / 60 % 60, secs % 60),
    }
}
