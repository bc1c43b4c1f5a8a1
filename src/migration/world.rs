//! What a move works on: the two machines with what the configuration says of each.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{Config, Side};
use crate::event::Monitor;
use crate::host::{Host, RunAs};

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
}

impl Machine {
    pub fn new(host: Arc<dyn Host>, side: Side) -> Self {
        Machine { host, side }
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
    /// The command that starts the file engine's helper there, where one may be used.
    pub async fn media_helper(
        &self,
        transport: crate::config::Transport,
    ) -> Result<Option<crate::host::Command>, super::step::StepError> {
        let _ = transport;
        Ok(None)
    }
}

impl World {
    pub fn new(
        config: Config,
        source: Arc<dyn Host>,
        target: Arc<dyn Host>,
        monitor: Arc<dyn Monitor>,
        owner: String,
    ) -> Self {
        let source = Machine::new(source, config.source.clone());
        let target = Machine::new(target, config.target.clone());
        World(Arc::new(Shared { config, source, target, monitor, owner }))
    }

    /// Names the move: a journal of another one is refused.
    pub fn job(&self) -> String {
        let place = |machine: &Machine| format!("{}:{}", machine.host.name(), machine.side.root);
        format!("{} → {}", place(&self.source), place(&self.target))
    }

    pub fn journal_path(&self) -> PathBuf {
        self.config.state_dir.join("journal.jsonl")
    }

    pub fn machines(&self) -> [&Machine; 2] {
        [&self.source, &self.target]
    }
}
