//! The lock on both servers: a file that names its owner, so that two moves never work on one
//! machine, and a run that was killed finds its own lock again.

use async_trait::async_trait;
use serde_json::Value;

use crate::host::{Command, Exit, HostError, RunAs, failure, files, run, run_ok};
use crate::migration::step::{Check, Step, StepError};
use crate::migration::world::{Machine, World};

pub struct Lock(pub World);

impl Lock {
    /// What the lock file of this move says.
    fn text(&self) -> String {
        format!("{} {}", self.0.owner, self.0.job())
    }

    fn path(machine: &Machine) -> String {
        machine.work_path("lock")
    }

    async fn holder(machine: &Machine) -> Result<Option<String>, HostError> {
        let script = r#"[ ! -e "$1" ] || exec cat -- "$1""#;
        let command = Command::script(script, &[&Self::path(machine)]).run_as(RunAs::Root);
        let text = run_ok(machine.host(), &command).await?;
        Ok((!text.is_empty()).then_some(text))
    }

    async fn take(&self, machine: &Machine) -> Result<(), StepError> {
        files::make_dir(machine.host(), &RunAs::Root, &machine.side.work_dir, 0o755).await?;
        // `set -C` makes the redirection fail where the file exists: made by one, or not at all.
        let script = r#"set -C; cat > "$1" || exit 45"#;
        let command =
            Command::script(script, &[&Self::path(machine)]).run_as(RunAs::Root).stdin(self.text());
        let output = run(machine.host(), &command).await?;
        match output.exit {
            Exit::Code(0) => Ok(()),
            Exit::Code(45) | Exit::Code(2) => self.judge(machine).await,
            Exit::Code(_) | Exit::Signal(_) => {
                Err(failure(machine.host(), &command, output).into())
            }
        }
    }

    /// Somebody holds it: fine if that is us.
    async fn judge(&self, machine: &Machine) -> Result<(), StepError> {
        match Self::holder(machine).await? {
            Some(text) if text == self.text() => Ok(()),
            holder => Err(StepError::new(
                format!(
                    "{} is locked by another move: {}",
                    machine.host.name(),
                    holder.as_deref().unwrap_or("unreadable").trim()
                ),
                Some(&format!(
                    "wait for it or roll it back; if it is gone for good, remove {} there",
                    Self::path(machine)
                )),
            )),
        }
    }
}

#[async_trait]
impl Step for Lock {
    fn id(&self) -> &'static str {
        "lock"
    }

    fn title(&self) -> String {
        "Lock both servers against a second move".into()
    }

    async fn check(&self) -> Result<Check, StepError> {
        Ok(Check::Needed)
    }

    async fn run(&self, _: &Value) -> Result<(), StepError> {
        for machine in self.0.machines() {
            self.take(machine).await?;
        }
        Ok(())
    }

    async fn verify(&self) -> Result<String, StepError> {
        for machine in self.0.machines() {
            self.judge(machine).await?;
        }
        Ok("both servers name this move".into())
    }

    async fn undo(&self, _: &Value) -> Result<(), StepError> {
        for machine in self.0.machines() {
            if Self::holder(machine).await?.is_some_and(|text| text == self.text()) {
                // With the directory, where nothing else of ours is in it.
                let script = r#"rm -f -- "$1/lock"; rmdir -- "$1" 2>/dev/null || true"#;
                let command = Command::script(script, &[&machine.side.work_dir]);
                run_ok(machine.host(), &command.run_as(RunAs::Root)).await?;
            }
        }
        Ok(())
    }
}

/// The end of the move: both servers are free again.
pub struct Unlock(pub World);

#[async_trait]
impl Step for Unlock {
    fn id(&self) -> &'static str {
        "unlock"
    }

    fn title(&self) -> String {
        "Release the lock on both servers".into()
    }

    async fn check(&self) -> Result<Check, StepError> {
        Ok(Check::Needed)
    }

    async fn run(&self, memory: &Value) -> Result<(), StepError> {
        Lock(self.0.clone()).undo(memory).await
    }

    async fn verify(&self) -> Result<String, StepError> {
        Ok("both servers are free".into())
    }

    /// Past the point of no return: never called.
    async fn undo(&self, _: &Value) -> Result<(), StepError> {
        Ok(())
    }
}
