//! What can be told beforehand of how long a move takes.

use std::time::Duration;

use crate::error::one_line;
use crate::event::{Event, Finding, Monitor};
use crate::migration::facts::Facts;
use crate::migration::steps::database;
use crate::migration::world::World;

/// How long steps will take, by their ids.
#[derive(Default)]
pub(super) struct Predicted(Vec<(&'static str, Told)>);

/// A time, with what it consists of; or why it cannot be told.
type Told = Result<(Duration, String), String>;

impl Predicted {
    /// Measures what can be told beforehand.
    pub async fn of(world: &World, facts: &Facts) -> Predicted {
        let time = database::predict(world, facts).await;
        let told = time.map(|time| (time.total(), time.to_string()));
        Predicted(vec![(database::ID, told.map_err(|error| one_line(&error)))])
    }

    /// Tells them, for the report of a run.
    pub fn tell(&self, monitor: &dyn Monitor) {
        for (step, told) in &self.0 {
            monitor.emit(match told {
                Ok((time, text)) => Event::StepPredicted {
                    step: (*step).to_owned(),
                    millis: millis(*time),
                    text: text.clone(),
                },
                Err(error) => Event::Note {
                    text: format!("how long the step `{step}` will take cannot be told: {error}"),
                },
            });
        }
    }

    /// Tells them as part of a look.
    pub fn findings(&self) -> impl Iterator<Item = Finding> {
        const SUBJECT: &str = "expected time";
        self.0.iter().map(|(step, told)| match told {
            Ok((_, text)) => Finding::ok(SUBJECT, format!("the step `{step}` takes {text}")),
            Err(error) => Finding::warning(SUBJECT, format!("cannot be told: {error}"), None),
        })
    }

    pub fn time(&self, step: &str) -> Option<Duration> {
        let (_, told) = self.0.iter().find(|(name, _)| *name == step)?;
        told.as_ref().ok().map(|(time, _)| *time)
    }
}

/// For programs.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
