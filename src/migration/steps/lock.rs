//! The lock on both servers: a file that names its owner, so that two moves never work on one
//! machine, and a run that was killed finds its own lock again.

use async_trait::async_trait;
use serde_json::Value;

use crate::host::{Command, Exit, HostError, RunAs, failure, files, run};
use crate::migration::step::{Check, Step, StepError};
use crate::migration::world::{Machine, World};

pub struct Lock(pub World);

impl Lock {
    /// What the lock file of this move says.
    fn text(&self) -> String {
        format!("{} {}\n", self.0.owner, self.0.job())
    }

    fn path(machine: &Machine) -> String {
        machine.work_path("lock")
    }

    async fn holder(machine: &Machine) -> Result<Option<String>, HostError> {
        files::make_dir(machine.host(), &RunAs::Root, &machine.side.work_dir, 0o755).await?;
        let content = files::read(machine.host(), &RunAs::Root, &Self::path(machine)).await?;
        Ok(content.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    async fn take(&self, machine: &Machine) -> Result<(), StepError> {
        // `set -C` makes the redirection fail where the file exists: made by one, or not at all.
        let script = r#"set -C; cat > "$1" || exit 45"#;
        let command = Command::script(script, &[&Self::path(machine)])
            .run_as(RunAs::Root)
            .stdin(self.text());
        let output = run(machine.host(), &command).await?;
        match output.exit {
            Exit::Code(0) => Ok(()),
            Exit::Code(45) | Exit::Code(2) => self.judge(machine).await,
            Exit::Code(_) | Exit::Signal(_) => Err(failure(machine.host(), &command, output).into()),
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
                files::remove(machine.host(), &RunAs::Root, &Self::path(machine)).await?;
            }
        }
        Ok(())
    }
}
