//! Plain lines for logs: one for each change of state, no control characters, progress at most
//! every ten seconds. With [`Detail::Problems`] only what is wrong is told.

use std::io::Write;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::outlet::Sink;
use super::tables;
use super::text::{escape, hanging};
use super::view::{Activity, View, span};
use super::words;
use crate::event::{Event, Level, Stamped, StepOutcome};
use crate::units::duration;

const PROGRESS_SECS: u64 = 10;
/// How far the second line of a text is indented: past the time.
const INDENT: usize = 21;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    All,
    Problems,
}

pub(super) struct Plain<W> {
    out: Option<W>,
    zone: TimeZone,
    detail: Detail,
    view: View,
    progress_told: Option<Timestamp>,
}

impl<W: Write + Send> Plain<W> {
    pub fn new(out: W, zone: TimeZone, detail: Detail) -> Self {
        Plain { out: Some(out), zone, detail, view: View::default(), progress_told: None }
    }

    fn tell(&mut self, at: Timestamp, text: &str) {
        let time =
            at.to_zoned_datetime(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string();
        self.write(&format!("{time}  {}\n", hanging(text, INDENT)));
    }

    fn write(&mut self, text: &str) {
        let Some(out) = &mut self.out else { return };
        if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
            self.out = None;
        }
    }

    fn tell_progress(&mut self, at: Timestamp) {
        if self.progress_told.is_some_and(|told| span(told, at).as_secs() < PROGRESS_SECS) {
            return;
        }
        self.progress_told = Some(at);
        let activities = self.view.activities.iter();
        let lines: Vec<String> =
            activities.filter_map(|activity| progress_line(activity, at)).collect();
        for line in lines {
            self.tell(at, &line);
        }
    }

    /// What `event` is worth saying, if anything; the view has it already.
    fn line(&self, stamped: &Stamped) -> Option<String> {
        let detail = self.detail;
        let text = match &stamped.event {
            Event::RunStarted { run, verb } => self.started(stamped.at, run, verb),
            Event::StepPredicted { step, text, .. } => words::predicted(step, text),
            Event::StepStarted { step, title, number, steps } => {
                format!("step {number}/{steps} {step}: {title}")
            }
            Event::StepFinished { step, outcome, millis } => {
                return self.finished_step(step, outcome, Duration::from_millis(*millis));
            }
            Event::DowntimeStarted => "downtime started: nobody can post from now on".to_owned(),
            Event::DowntimeEnded { millis } => {
                format!("downtime ended after {}", duration(Duration::from_millis(*millis)))
            }
            Event::PointOfNoReturn => {
                "point of no return: from here on the run only goes forward".to_owned()
            }
            Event::Progress(_) => return None,
            Event::Finding { level, .. } if !self.shows(*level) => return None,
            Event::Finding { level, subject, text, remedy } => {
                return Some(with_remedy(
                    &format!("{}: {subject}: {text}", words::level(*level)),
                    remedy,
                ));
            }
            Event::Problem { subject, text, remedy } => {
                return Some(with_remedy(&format!("problem: {subject}: {text}"), remedy));
            }
            Event::Note { text } => text.clone(),
            Event::RunFinished { exit, millis, .. } => {
                let took = duration(Duration::from_millis(*millis));
                format!("{} ended after {took}: {}", self.verb(), words::ended(&self.view, *exit))
            }
        };
        (detail == Detail::All).then_some(text)
    }

    /// `check` prints its findings itself, as a table; elsewhere what is well is not worth a line.
    fn shows(&self, level: Level) -> bool {
        match level {
            Level::Ok => false,
            Level::Warning | Level::Refusal => self.view.verb != "check",
        }
    }

    fn verb(&self) -> &str {
        if self.view.verb.is_empty() { "the run" } else { &self.view.verb }
    }

    fn started(&self, at: Timestamp, run: &str, verb: &str) -> String {
        let zone = at.to_zoned_datetime(self.zone.clone()).strftime("%Z").to_string();
        let again = if self.view.resumed > 0 { "goes on" } else { "started" };
        format!("{verb} {again}, run {run}, times in {zone}")
    }

    fn finished_step(&self, id: &str, outcome: &StepOutcome, took: Duration) -> Option<String> {
        let bad = match outcome {
            StepOutcome::Failed { .. } | StepOutcome::UndoFailed { .. } => true,
            StepOutcome::Done { .. }
            | StepOutcome::AlreadyTrue { .. }
            | StepOutcome::Skipped { .. }
            | StepOutcome::Undone => false,
        };
        if self.detail == Detail::Problems && !bad {
            return None;
        }
        let step = self.view.steps.iter().find(|step| step.id == id)?;
        let place = match step.number {
            0 => String::new(),
            number => format!(" {number}/{}", self.view.steps_total),
        };
        let (word, detail) = words::outcome(outcome);
        let after = match outcome {
            StepOutcome::Done { .. } | StepOutcome::Failed { .. } => {
                format!(" after {}", duration(took))
            }
            StepOutcome::AlreadyTrue { .. }
            | StepOutcome::Skipped { .. }
            | StepOutcome::Undone
            | StepOutcome::UndoFailed { .. } => String::new(),
        };
        let said = if detail.is_empty() { String::new() } else { format!(": {detail}") };
        Some(format!("step{place} {id} {word}{after}{said}"))
    }
}

impl<W: Write + Send> Sink for Plain<W> {
    fn take(&mut self, stamped: &Stamped) {
        self.view.apply(stamped);
        match &stamped.event {
            Event::Progress(_) if self.detail == Detail::All => self.tell_progress(stamped.at),
            // Progress of the step before is no reason to keep this one's waiting.
            Event::StepStarted { .. } => self.progress_told = None,
            Event::RunFinished { .. } if self.detail == Detail::All => {
                let problems = tables::problems(&self.view);
                self.write(&problems);
            }
            Event::Progress(_)
            | Event::RunStarted { .. }
            | Event::RunFinished { .. }
            | Event::StepPredicted { .. }
            | Event::StepFinished { .. }
            | Event::DowntimeStarted
            | Event::DowntimeEnded { .. }
            | Event::PointOfNoReturn
            | Event::Finding { .. }
            | Event::Problem { .. }
            | Event::Note { .. } => {}
        }
        if let Some(line) = self.line(stamped) {
            self.tell(stamped.at, &line);
        }
    }
}

/// The figures of an activity; none while there is nothing to tell.
fn progress_line(activity: &Activity, now: Timestamp) -> Option<String> {
    let mut parts = words::figures(activity, now);
    if let Some(share) = activity.share() {
        parts.insert(0, format!("{:.0} %", (share * 100.0).floor()));
    }
    parts.extend(words::left(activity, now));
    if let Some(detail) = &activity.progress.detail {
        parts.push(escape(detail).into_owned());
    }
    (!parts.is_empty()).then(|| format!("{}: {}", activity.progress.activity, parts.join(", ")))
}

fn with_remedy(text: &str, remedy: &Option<String>) -> String {
    match remedy {
        Some(remedy) => format!("{text}\nremedy: {remedy}"),
        None => text.to_owned(),
    }
}
