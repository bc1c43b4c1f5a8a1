//! The old nginx answers 503 with Retry-After.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use super::Scene;
use crate::instance::maintenance;
use crate::instance::nginx::{self, Kind, Place};
use crate::migration::step::{Check, Step, StepError};

/// How long nginx may take until all its workers answer in the new way.
const RELOAD_LIMIT: Duration = Duration::from_secs(30);

pub struct Maintenance(pub Scene);

impl Maintenance {
    fn keep_dir(&self) -> String {
        self.0.world.source.work_path("nginx")
    }

    fn place<'a>(&'a self, keep_dir: &'a str) -> Place<'a> {
        let source = &self.0.world.source;
        Place { host: source.host(), nginx: &source.side.nginx, keep_dir }
    }
}

#[async_trait]
impl Step for Maintenance {
    fn id(&self) -> &'static str {
        "maintenance"
    }

    fn title(&self) -> String {
        "Answer 503 with Retry-After on the old server".into()
    }

    async fn check(&self) -> Result<Check, StepError> {
        Ok(Check::Needed)
    }

    async fn run(&self, _: &Value) -> Result<(), StepError> {
        let retry_after = self.0.world.config.cutover.retry_after_secs;
        let names = self.0.facts.domains.all();
        let keep_dir = self.keep_dir();
        maintenance::on(&self.place(&keep_dir), &names, retry_after).await?;
        Ok(())
    }

    async fn verify(&self) -> Result<String, StepError> {
        let front = self.0.front(&self.0.world.source)?;
        let sight = maintenance::wait_until(&front, true, RELOAD_LIMIT).await?;
        if sight.on {
            return Ok(sight.evidence);
        }
        let hint = "does another site of nginx serve the name? look at `nginx -T`";
        Err(StepError::new(format!("nginx still answers: {}", sight.evidence), Some(hint)))
    }

    async fn undo(&self, _: &Value) -> Result<(), StepError> {
        let keep_dir = self.keep_dir();
        nginx::take_out(&self.place(&keep_dir), Kind::Maintenance).await?;
        Ok(())
    }
}
