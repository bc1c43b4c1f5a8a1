//! Going back: every step that was begun is undone, the last one first.

use super::{Cause, Ending, Runner, repeat};
use crate::error::Advice;
use crate::event::{Event, StepOutcome};
use crate::migration::record::Fact;

impl Runner<'_> {
    /// Undoes what the run did. An undo that fails is told and recorded, and the others still
    /// happen: each puts back something of its own. A journal that cannot be written does not
    /// stop it either: to have the old server back matters more than the record of it.
    pub(super) async fn unwind(&self, cause: Option<Cause>) -> Ending {
        let text = cause.as_ref().map_or("on request".to_owned(), |cause| {
            format!("{}: {}", cause.step, cause.error.one_line())
        });
        self.record(Fact::UnwindStarted { cause: text });
        let mut failed = Vec::new();
        for state in self.log.state().to_undo() {
            let Some(step) = self.plan.step(&state.step) else { continue };
            match repeat(|| step.undo(&state.memory)).await {
                Ok(()) => {
                    self.record(Fact::StepUndone { step: state.step.clone() });
                    self.tell(&state.step, StepOutcome::Undone);
                }
                Err(error) => {
                    let error = error.one_line();
                    self.record(Fact::UndoFailed {
                        step: state.step.clone(),
                        error: error.clone(),
                    });
                    self.tell(&state.step, StepOutcome::UndoFailed { error });
                    failed.push(state.step);
                }
            }
        }
        if !failed.is_empty() {
            return Ending::UndoFailed { cause, failed };
        }
        if let Err(error) = self.end_downtime() {
            self.complain(&error);
        }
        self.record(Fact::Unwound);
        Ending::Unwound { cause }
    }

    fn record(&self, fact: Fact) {
        if let Err(error) = self.log.append(fact) {
            self.complain(&error);
        }
    }

    fn complain(&self, error: &crate::journal::JournalError) {
        let (text, remedy) = (crate::error::one_line(error), error.hint());
        self.monitor.emit(Event::Problem { subject: "journal".into(), text, remedy });
    }

    fn tell(&self, step: &str, outcome: StepOutcome) {
        self.monitor.emit(Event::StepFinished { step: step.to_owned(), outcome, millis: 0 });
    }
}
