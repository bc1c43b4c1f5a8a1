//! The fold itself: one event into the view.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    ACTIVITIES_MAX, Activity, Downtime, Finding, Finished, Listed, Note, Problem, Step, StepState,
    View,
};
use crate::event::{Event, Progress, Stamped, StepOutcome};
use crate::render::rate::Rate;

impl View {
    /// The view after all of `events`.
    pub fn of<'a>(events: impl IntoIterator<Item = &'a Stamped>) -> View {
        let mut view = View::default();
        for stamped in events {
            view.apply(stamped);
        }
        view
    }

    /// Takes one event in.
    pub fn apply(&mut self, stamped: &Stamped) {
        let at = stamped.at;
        match &stamped.event {
            Event::RunStarted { run, verb } => self.start(at, run, verb),
            Event::StepStarted { step, title, number, steps } => {
                self.steps_total = *steps;
                self.start_step(at, step, title, *number);
            }
            Event::StepPredicted { step, millis, .. } => {
                self.predicted.insert(step.clone(), Duration::from_millis(*millis));
            }
            Event::StepFinished { step, outcome, millis } => {
                self.finish_step(at, step, outcome, Duration::from_millis(*millis));
            }
            Event::DowntimeStarted => {
                if self.downtime_running().is_none() {
                    self.downtimes.push(Downtime { began: at, ended: None });
                }
            }
            Event::DowntimeEnded { millis } => {
                self.end_downtime(at, Duration::from_millis(*millis));
            }
            Event::PointOfNoReturn => self.no_return = self.no_return.or(Some(at)),
            Event::Progress(progress) => self.progress(at, progress),
            Event::Finding { level, subject, text, remedy } => self.findings.push(Finding {
                level: *level,
                subject: subject.clone(),
                text: text.clone(),
                remedy: remedy.clone(),
            }),
            Event::Problem { subject, text, remedy } => self.problems.push(Problem {
                at,
                subject: subject.clone(),
                text: text.clone(),
                remedy: remedy.clone(),
            }),
            Event::Note { text } => {
                self.notes.push(Note { at, text: text.clone(), endings: self.endings });
            }
            Event::RunFinished { run, exit, millis } => {
                self.run.get_or_insert_with(|| run.clone());
                self.activities.clear();
                let took = Duration::from_millis(*millis);
                self.finished = Some(Finished { at, exit: *exit, took });
            }
        }
        self.latest = self.latest.max(Some(at));
    }

    fn start(&mut self, at: Timestamp, run: &str, verb: &str) {
        if self.run.as_deref() == Some(run) {
            self.resumed += 1;
            self.finished = None;
            self.activities.clear();
            // What was found is found again, in its present state.
            self.findings = Listed::default();
            let latest = self.latest.unwrap_or(at);
            for step in &mut self.steps {
                if step.state == StepState::Running {
                    step.state = StepState::Interrupted;
                    step.cut_off.push((step.began, latest.max(step.began)));
                }
            }
        } else {
            *self = View { run: Some(run.to_owned()), began: Some(at), ..View::default() };
        }
        self.verb = verb.to_owned();
    }

    fn start_step(&mut self, at: Timestamp, id: &str, title: &str, number: usize) {
        let index = self.steps.iter().position(|step| step.id == id).unwrap_or_else(|| {
            self.steps.push(unheard_of(id, at));
            self.steps.len() - 1
        });
        let step = &mut self.steps[index];
        step.title = title.to_owned();
        step.number = number;
        step.began = at;
        step.state = StepState::Running;
        step.undo = None;
    }

    fn finish_step(&mut self, at: Timestamp, id: &str, outcome: &StepOutcome, took: Duration) {
        self.endings += 1;
        self.activities.retain(|activity| activity.step.as_deref() != Some(id));
        let index = self.steps.iter().position(|step| step.id == id).unwrap_or_else(|| {
            self.steps.push(unheard_of(id, at.checked_sub(took).unwrap_or(at)));
            self.steps.len() - 1
        });
        let step = &mut self.steps[index];
        if is_undo(outcome) {
            step.undo = Some(outcome.clone());
            if step.state == StepState::Running {
                step.state = StepState::Interrupted;
            }
        } else {
            step.state = StepState::Ended { outcome: outcome.clone(), took };
        }
    }

    fn end_downtime(&mut self, at: Timestamp, took: Duration) {
        match self.downtimes.last_mut() {
            Some(last) if last.ended.is_none() => last.ended = Some((at, took)),
            Some(_) | None => self.downtimes.push(Downtime {
                began: at.checked_sub(took).unwrap_or(at),
                ended: Some((at, took)),
            }),
        }
    }

    fn progress(&mut self, at: Timestamp, progress: &Progress) {
        let known =
            self.activities.iter_mut().find(|known| known.progress.activity == progress.activity);
        if let Some(activity) = known {
            activity.observe(at, progress);
        } else if self.activities.len() < ACTIVITIES_MAX && self.finished.is_none() {
            let owner = self
                .running()
                .find(|step| step.id == progress.activity)
                .or_else(|| self.running().max_by_key(|step| step.began));
            let mut activity = Activity {
                step: owner.map(|step| step.id.clone()),
                began: at,
                heard: at,
                progress: Progress::default(),
                items: Rate::default(),
                bytes: Rate::default(),
            };
            activity.observe(at, progress);
            self.activities.push(activity);
        }
    }
}

impl Activity {
    fn observe(&mut self, at: Timestamp, progress: &Progress) {
        self.items.observe(at, progress.items_done);
        self.bytes.observe(at, progress.bytes_done);
        self.heard = self.heard.max(at);
        self.progress = progress.clone();
    }
}

/// A step that was never announced: an undo of an earlier run, or a start that was not recorded.
fn unheard_of(id: &str, began: Timestamp) -> Step {
    Step {
        id: id.to_owned(),
        title: id.to_owned(),
        number: 0,
        began,
        state: StepState::Running,
        undo: None,
        cut_off: Vec::new(),
    }
}

fn is_undo(outcome: &StepOutcome) -> bool {
    match outcome {
        StepOutcome::Undone | StepOutcome::UndoFailed { .. } => true,
        StepOutcome::Done { .. }
        | StepOutcome::AlreadyTrue { .. }
        | StepOutcome::Skipped { .. }
        | StepOutcome::Failed { .. } => false,
    }
}
