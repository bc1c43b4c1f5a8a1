//! `.env.production` on the target: the source's, byte for byte, apart from the target's own
//! values.

use async_trait::async_trait;
use serde_json::Value;

use super::Scene;
use crate::host::{Command, RunAs, files, run_ok};
use crate::migration::step::{Check, Step, StepError};
use crate::migration::world::Machine;

pub struct EnvFile(pub Scene);

impl EnvFile {
    fn target(&self) -> &Machine {
        &self.0.world.target
    }

    /// Where a file that was there before is kept.
    fn kept(&self) -> String {
        self.target().work_path("env.production.before")
    }

    async fn is_there(&self) -> Result<bool, StepError> {
        let target = self.target();
        let content = files::read(target.host(), &RunAs::Root, &target.side.env_path()).await?;
        let mode = files::stat(target.host(), &RunAs::Root, &target.side.env_path()).await?;
        let wanted = self.0.facts.target_env.to_bytes();
        Ok(content.as_deref() == Some(wanted)
            && mode.is_some_and(|stat| stat.mode == 0o600 && stat.owner == target.side.user))
    }
}

#[async_trait]
impl Step for EnvFile {
    fn id(&self) -> &'static str {
        "env"
    }

    fn title(&self) -> String {
        "Write .env.production on the new server".into()
    }

    async fn check(&self) -> Result<Check, StepError> {
        Ok(match self.is_there().await? {
            true => Check::AlreadyTrue("it is there as it should be, 0600".into()),
            false => Check::Needed,
        })
    }

    /// A file that was there is kept aside; the memory says whether there was one.
    async fn remember(&self) -> Result<Value, StepError> {
        let target = self.target();
        let path = target.side.env_path();
        let before = files::read(target.host(), &RunAs::Root, &path).await?;
        if let Some(content) = &before {
            files::make_dir(target.host(), &RunAs::Root, &target.side.work_dir, 0o755).await?;
            files::write(target.host(), &RunAs::Root, &self.kept(), 0o600, content).await?;
        }
        Ok(Value::Bool(before.is_some()))
    }

    async fn run(&self, _: &Value) -> Result<(), StepError> {
        let target = self.target();
        let path = target.side.env_path();
        let content = self.0.facts.target_env.to_bytes();
        files::write(target.host(), &RunAs::Root, &path, 0o600, content).await?;
        own(target, &path).await
    }

    async fn verify(&self) -> Result<String, StepError> {
        if !self.is_there().await? {
            return Err(StepError::new("it reads back differently", None));
        }
        let changes = self.0.facts.environment.file.redacted_diff(&self.0.facts.target_env);
        let keys: Vec<String> = changes.iter().map(|line| line.key.clone()).collect();
        Ok(match keys.is_empty() {
            true => "byte for byte the old one, 0600".into(),
            false => format!("0600; the new server's own: {}", keys.join(", ")),
        })
    }

    async fn undo(&self, memory: &Value) -> Result<(), StepError> {
        let target = self.target();
        let path = target.side.env_path();
        if memory.as_bool() != Some(true) {
            return Ok(files::remove(target.host(), &RunAs::Root, &path).await?);
        }
        // Gone when an earlier try put it back already.
        if let Some(content) = files::read(target.host(), &RunAs::Root, &self.kept()).await? {
            files::write(target.host(), &RunAs::Root, &path, 0o600, &content).await?;
            own(target, &path).await?;
            files::remove(target.host(), &RunAs::Root, &self.kept()).await?;
        }
        Ok(())
    }
}

/// Gives a file to Mastodon's user and its group.
async fn own(machine: &Machine, path: &str) -> Result<(), StepError> {
    let owner = format!("{}:", machine.side.user);
    let command = Command::new(["chown", "--", &owner, path]).run_as(RunAs::Root);
    run_ok(machine.host(), &command).await?;
    Ok(())
}
