//! What the report tells, before it is drawn: both forms draw from this.

use std::time::Duration;

use jiff::Timestamp;

use super::Meta;
use super::series::{Series, series};
use super::words::{self, Clock};
use crate::event::{Level, Stamped, StepOutcome};
use crate::render::events::newest_run;
use crate::render::view::{Finding, Step, StepState, View, span};
use crate::render::words::{ended, outcome, steps};
use crate::units::{counted, duration};

pub(super) struct Story {
    pub view: View,
    /// The last moment that was heard of: the end, for a run that has ended.
    pub now: Timestamp,
    pub clock: Clock,
    pub headline: String,
    pub lead: String,
    /// Whether it went well, went well enough, or did not.
    pub mood: Mood,
    pub figures: Vec<(&'static str, String)>,
    /// The steps that stopped the run or whose undo failed, with the error.
    pub failures: Vec<(String, String)>,
    pub rows: Vec<Row>,
    pub series: Vec<Series>,
    pub next: Vec<String>,
    /// Notes from under way, with their time of day.
    pub notes: Vec<(String, String)>,
    pub environment: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Good,
    Mixed,
    Bad,
}

/// A step as a row of a table.
pub(super) struct Row {
    pub number: Option<usize>,
    pub title: String,
    pub outcome: &'static str,
    /// Evidence, reason or error.
    pub detail: String,
    pub bad: bool,
    pub began: String,
    pub took: String,
    /// How long it was expected to take; empty where nothing was.
    pub predicted: String,
    /// For the timeline: from when to when, and as what.
    pub bars: Vec<Bar>,
}

pub(super) struct Bar {
    pub from: Timestamp,
    pub to: Timestamp,
    pub look: &'static str,
}

impl Story {
    pub fn of(meta: &Meta, events: &[Stamped]) -> Story {
        let events = newest_run(events);
        let view = View::of(events);
        let now = view.latest.unwrap_or_default();
        let clock = Clock::of(&view, now, &meta.zone);
        let rows: Vec<Row> = view
            .steps
            .iter()
            .map(|step| Row { predicted: predicted(&view, step), ..row(step, now, &clock) })
            .collect();
        let bad = rows.iter().filter(|row| row.bad);
        let failures = bad.map(|row| (row.title.clone(), row.detail.clone())).collect();
        let next = next_steps(&view);
        let notes = view.notes_under_way();
        Story {
            headline: words::headline(meta, &view),
            lead: words::lead(&view, now, &meta.zone),
            mood: mood(&view),
            figures: figures(&view, now),
            failures,
            rows,
            series: series(events),
            next,
            notes: notes.map(|note| (clock.tell(note.at), note.text.clone())).collect(),
            environment: environment(meta, &view),
            view,
            now,
            clock,
        }
    }

    /// The findings that ask for something.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.view.findings.kept.iter().filter(|finding| finding.level != Level::Ok)
    }

    /// The rows whose effect was seen.
    pub fn verified(&self) -> impl Iterator<Item = &Row> {
        self.rows
            .iter()
            .filter(|row| matches!(row.outcome, "done" | "already true") && !row.detail.is_empty())
    }
}

fn mood(view: &View) -> Mood {
    match view.finished.as_ref().map(|finished| finished.exit) {
        Some(0) => Mood::Good,
        Some(3 | 130) | None => Mood::Mixed,
        Some(_) => Mood::Bad,
    }
}

fn figures(view: &View, now: Timestamp) -> Vec<(&'static str, String)> {
    let result = match &view.finished {
        Some(finished) => ended(view, finished.exit).to_owned(),
        None => "has not ended".to_owned(),
    };
    let mut figures = vec![("result", result)];
    if let Some(downtime) = view.downtime(now) {
        figures.push(("downtime", duration(downtime)));
    }
    if let Some(began) = view.began {
        figures.push(("whole run", duration(span(began, now))));
    }
    figures.extend(steps(view));
    figures.push(("problems", view.problems.total.to_string()));
    figures
}

/// What the run said at its end, and what its result asks for.
fn next_steps(view: &View) -> Vec<String> {
    let told = view.next_steps().map(|note| note.text.clone());
    let asked = match view.finished.as_ref().map(|finished| finished.exit) {
        Some(1) => Some("Remove the cause of the error, then run the same command again."),
        Some(4) => Some("Follow the remedies of the refusals, then run `transhume check`."),
        Some(5) => Some("Run `transhume migrate` again: it goes on where it stopped."),
        Some(6) => Some(
            "Look at the old server: the steps whose undo failed are marked. Put them right by \
             hand, or run `transhume rollback` again once their cause is gone.",
        ),
        Some(130) | None => Some("Run the same command again: it goes on where it stopped."),
        Some(_) => None,
    };
    let ended = !view.verb.is_empty();
    told.chain(asked.filter(|_| ended).map(str::to_owned)).collect()
}

fn row(step: &Step, now: Timestamp, clock: &Clock) -> Row {
    let (mut word, mut detail, mut bad) = ("running", String::new(), false);
    let mut bars: Vec<Bar> =
        step.cut_off.iter().map(|(from, to)| Bar { from: *from, to: *to, look: "cut" }).collect();
    let mut took = String::new();
    match &step.state {
        StepState::Running => {
            took = duration(span(step.began, now));
            bars.push(Bar { from: step.began, to: now, look: "running" });
        }
        StepState::Interrupted => word = "interrupted",
        StepState::Ended { outcome: end, took: time } => {
            let (said, why) = outcome(end);
            (word, detail) = (said, why.to_owned());
            bad = matches!(end, StepOutcome::Failed { .. });
            // To find that there is nothing to do takes no time worth telling.
            if !time.is_zero() && !matches!(end, StepOutcome::Skipped { .. }) {
                took = duration(*time);
            }
            let to = step.began.checked_add(*time).unwrap_or(now).min(now);
            bars.push(Bar { from: step.began, to, look: look(end) });
        }
    }
    if let Some(undo) = &step.undo {
        let (said, why) = outcome(undo);
        let before = std::mem::take(&mut detail);
        // What was seen no longer holds; an error still explains.
        detail = if bad { join(&before, why) } else { why.to_owned() };
        word = match (bad, said) {
            (true, "undone") => "failed, undone",
            (true, _) => "failed, undo failed",
            (false, said) => said,
        };
        bad |= matches!(undo, StepOutcome::UndoFailed { .. });
        // What was done and taken back is no longer there.
        bars.iter_mut().filter(|bar| bar.look == "done").for_each(|bar| bar.look = "skipped");
    }
    Row {
        number: (step.number > 0).then_some(step.number),
        title: step.title.clone(),
        outcome: word,
        detail,
        bad,
        began: clock.tell(step.began),
        took,
        predicted: String::new(),
        bars,
    }
}

/// What was expected of a step, to be held against what it took.
fn predicted(view: &View, step: &Step) -> String {
    view.predicted.get(&step.id).map(|time| duration(*time)).unwrap_or_default()
}

fn join(first: &str, second: &str) -> String {
    match (first, second) {
        ("", text) | (text, "") => text.to_owned(),
        (first, second) => format!("{first}\n{second}"),
    }
}

fn look(outcome: &StepOutcome) -> &'static str {
    match outcome {
        StepOutcome::Done { .. } | StepOutcome::AlreadyTrue { .. } => "done",
        StepOutcome::Skipped { .. } | StepOutcome::Undone => "skipped",
        StepOutcome::Failed { .. } | StepOutcome::UndoFailed { .. } => "failed",
    }
}

fn environment(meta: &Meta, view: &View) -> Vec<(String, String)> {
    let mut rows = vec![
        ("from".to_owned(), meta.source.clone()),
        ("to".to_owned(), meta.target.clone()),
        ("transhume".to_owned(), meta.version.clone()),
    ];
    rows.extend(view.run.iter().map(|run| ("run".to_owned(), run.clone())));
    rows.extend(meta.facts.iter().cloned());
    if meta.skipped_lines > 0 {
        let lines = counted(meta.skipped_lines as u64, "line");
        rows.push(("events".to_owned(), format!("{lines} could not be read and are missing here")));
    }
    rows
}

/// The moments between which everything happened, a little wider than nothing.
pub(super) fn whole(story: &Story) -> (Timestamp, Duration) {
    let from = story.view.began.unwrap_or(story.now);
    let earliest = story.rows.iter().flat_map(|row| &row.bars).map(|bar| bar.from).min();
    let from = earliest.map_or(from, |bar| bar.min(from));
    (from, span(from, story.now).max(Duration::from_millis(1)))
}
