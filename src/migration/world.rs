//! What a move works on: the two machines with what the configuration says of each.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::config::{Config, Side, Transport};
use crate::error::{Advice, Retry};
use crate::event::{Event, Monitor};
use crate::host::helper::{self, Helper, HelperError, Reach};
use crate::host::{Command, Host, HostError, RunAs, run, run_ok};

/// Everything that the steps share. Cheap to clone.
#[derive(Clone)]
pub struct World(Arc<Shared>);

pub struct Shared {
    pub config: Config,
    pub source: Machine,
    pub target: Machine,
    pub monitor: Arc<dyn Monitor>,
    /// Names this installation of transhume on locks and on the target's database, so that a
    /// later run knows what an earlier one left. Not a secret.
    pub owner: String,
}

impl std::ops::Deref for World {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// One of the two servers.
pub struct Machine {
    pub host: Arc<dyn Host>,
    pub side: Side,
    /// What is installed there as the helper.
    program: PathBuf,
    helper: OnceCell<Helper>,
}

impl Machine {
    pub fn new(host: Arc<dyn Host>, side: Side) -> Self {
        Machine { host, side, program: "/proc/self/exe".into(), helper: OnceCell::new() }
    }

    /// For a caller that is not transhume itself: where the program lies.
    pub fn with_program(self, program: PathBuf) -> Self {
        Machine { program, ..self }
    }

    pub fn host(&self) -> &dyn Host {
        self.host.as_ref()
    }

    /// Who owns Mastodon's files and runs its commands.
    pub fn mastodon(&self) -> RunAs {
        RunAs::User(self.side.user.clone())
    }

    /// A path below the directory where transhume keeps its own things.
    pub fn work_path(&self, name: &str) -> String {
        format!("{}/{name}", self.side.work_dir)
    }
}

impl Machine {
    /// Our helper on that machine, for every user of it; installed at the first call and reused
    /// by later runs.
    pub async fn helper(&self) -> Result<&Helper, HelperError> {
        let base = self.work_path("helper");
        let install =
            || helper::install_binary(self.host(), Reach::Everyone { base }, &self.program);
        self.helper.get_or_try_init(install).await
    }

    /// Takes every helper of ours off that machine again.
    pub async fn remove_helper(&self) -> Result<(), HostError> {
        // What it kept for the user that the file engine ran as. It is a cache: what cannot be
        // removed may stay.
        let script = r#"for file in "$1"/*/transhume; do
                [ ! -x "$file" ] || "$file" helper forget 2>/dev/null || true
            done"#;
        let command = Command::script(script, &[&self.work_path("helper")]);
        let _ = run(self.host(), &command.run_as(self.mastodon())).await;
        if let Some(helper) = self.helper.get() {
            helper.remove(self.host()).await?;
        }
        // Those of earlier runs. What else may lie there stays.
        let script = r#"for file in "$1"/*/transhume; do
                rm -f -- "$file"; rmdir -- "${file%/*}" 2>/dev/null
            done
            rmdir -- "$1" 2>/dev/null || true"#;
        let command = Command::script(script, &[&self.work_path("helper")]);
        run_ok(self.host(), &command.run_as(RunAs::Root)).await.map(drop)
    }

    /// The command that starts the file engine's helper there. `None` where the operator wants
    /// SFTP, or where no helper can be had and SFTP will do; the monitor is told why.
    pub async fn media_helper(
        &self,
        transport: Transport,
        monitor: &dyn Monitor,
    ) -> Result<Option<Command>, HelperError> {
        if transport == Transport::Sftp {
            return Ok(None);
        }
        match self.helper().await {
            Ok(helper) => Ok(Some(helper.command(["files"]))),
            // A link that was cut is no reason: the next try has the helper.
            Err(error) if transport == Transport::Auto && error.retry() == Retry::Never => {
                let text = crate::error::one_line(&error);
                monitor.emit(Event::Note { text });
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Where a state directory keeps the journal.
pub fn journal_path(state_dir: &Path) -> PathBuf {
    state_dir.join("journal.jsonl")
}

impl World {
    pub fn new(
        config: Config,
        source: Machine,
        target: Machine,
        monitor: Arc<dyn Monitor>,
        owner: String,
    ) -> Self {
        World(Arc::new(Shared { config, source, target, monitor, owner }))
    }

    /// Names the move: a journal of another one is refused.
    pub fn job(&self) -> String {
        let place = |machine: &Machine| format!("{}:{}", machine.host.name(), machine.side.root);
        format!("{} → {}", place(&self.source), place(&self.target))
    }

    pub fn journal_path(&self) -> PathBuf {
        journal_path(&self.config.state_dir)
    }

    pub fn machines(&self) -> [&Machine; 2] {
        [&self.source, &self.target]
    }
}
