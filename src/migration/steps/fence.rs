//! The old Mastodon is made quiet, stopped, and kept from ever starting again.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use super::{Scene, recalled, remembered};
use crate::event::Event;
use crate::instance::fence::{self, FenceRecord};
use crate::instance::redis::Link;
use crate::instance::services::{self, UnitKind};
use crate::instance::sidekiq::{self, Drained};
use crate::migration::step::{Check, Step, StepError};

/// Sidekiq takes no more jobs, and finishes those it has.
pub struct Quiet(pub Scene);

impl Quiet {
    fn sidekiqs(&self) -> Vec<String> {
        let units = self.0.facts.units.iter();
        let running = units.filter(|unit| unit.kind == UnitKind::Sidekiq && unit.is_running());
        running.map(|unit| unit.name.clone()).collect()
    }

    async fn drain(&self) -> Result<Drained, StepError> {
        // The last database of the list is Sidekiq's own where it has one.
        let Some(pair) = self.0.facts.redis.last() else {
            return Err(StepError::new("there is no Redis to ask", None));
        };
        let link = Link::connect(self.0.world.source.host(), &pair.source, None).await?;
        let limit = Duration::from_secs(self.0.world.config.cutover.drain_secs_max);
        Ok(sidekiq::wait_idle(&link, pair.source.namespace.as_deref(), limit).await?)
    }
}

#[async_trait]
impl Step for Quiet {
    fn id(&self) -> &'static str {
        "quiet"
    }

    fn title(&self) -> String {
        "Let Sidekiq finish its jobs and take no more".into()
    }

    async fn check(&self) -> Result<Check, StepError> {
        Ok(match self.sidekiqs().is_empty() {
            true => Check::NotApplicable("no Sidekiq runs".into()),
            false => Check::Needed,
        })
    }

    async fn remember(&self) -> Result<Value, StepError> {
        remembered(&self.sidekiqs())
    }

    async fn run(&self, _: &Value) -> Result<(), StepError> {
        let source = &self.0.world.source;
        services::quiet(source.host(), &source.systemd(), &self.sidekiqs()).await?;
        Ok(())
    }

    /// Jobs that take longer than the limit go back to their queue when Sidekiq is stopped: that
    /// is told, and no reason to stop.
    async fn verify(&self) -> Result<String, StepError> {
        match self.drain().await? {
            Drained::Idle { waited, .. } => {
                Ok(format!("idle after {}", crate::units::duration(waited)))
            }
            Drained::Busy { jobs, .. } => {
                let text = format!(
                    "{} still run after {} s; Sidekiq puts them back when it stops",
                    crate::units::counted(jobs.len() as u64, "job"),
                    self.0.world.config.cutover.drain_secs_max
                );
                self.0.world.monitor.emit(Event::Problem {
                    subject: "sidekiq".into(),
                    text: text.clone(),
                    remedy: Some("raise `cutover.drain_secs_max` for long jobs".into()),
                });
                Ok(text)
            }
        }
    }

    /// A quiet Sidekiq stays quiet until it is started again.
    async fn undo(&self, memory: &Value) -> Result<(), StepError> {
        let units: Vec<String> = recalled(memory)?;
        let source = &self.0.world.source;
        services::restart(source.host(), &source.systemd(), &units, services::START).await?;
        Ok(())
    }
}

/// Every unit, timer and cron job of the old Mastodon stopped, disabled and masked.
pub struct Fence(pub Scene);

#[async_trait]
impl Step for Fence {
    fn id(&self) -> &'static str {
        "fence"
    }

    fn title(&self) -> String {
        "Stop the old Mastodon and keep it from starting again".into()
    }

    async fn check(&self) -> Result<Check, StepError> {
        Ok(Check::Needed)
    }

    async fn remember(&self) -> Result<Value, StepError> {
        let source = &self.0.world.source;
        remembered(&fence::record(source.host(), &source.fence()).await?)
    }

    async fn run(&self, memory: &Value) -> Result<(), StepError> {
        let record: FenceRecord = recalled(memory)?;
        let source = &self.0.world.source;
        Ok(fence::apply(source.host(), &source.fence(), &record).await?)
    }

    async fn verify(&self) -> Result<String, StepError> {
        fenced(&self.0).await
    }

    async fn undo(&self, memory: &Value) -> Result<(), StepError> {
        let record: FenceRecord = recalled(memory)?;
        let source = &self.0.world.source;
        Ok(fence::lift(source.host(), &source.fence(), &record).await?)
    }
}

/// The proof that the old Mastodon is stopped and stays so; asked again before the new one starts.
pub(super) async fn fenced(scene: &Scene) -> Result<String, StepError> {
    let source = &scene.world.source;
    // Whatever is there now counts, recorded or not.
    let none = FenceRecord { units: Vec::new(), cron_jobs: Vec::new() };
    let holes = fence::holes(source.host(), &source.fence(), &none).await?;
    if holes.is_empty() {
        return Ok("nothing of the old Mastodon runs, is enabled, or can be started".into());
    }
    let holes: Vec<String> = holes.iter().map(ToString::to_string).collect();
    Err(StepError::new(
        format!("the old Mastodon is not fenced: {}", holes.join("; ")),
        Some("stop what starts it, then run `transhume migrate` again"),
    ))
}
