//! Mastodon's systemd units: which there are, what they run, and starting and stopping them.
//!
//! In flow unit names, out flow what systemd says of them. Every call goes through systemctl(1),
//! whose words can be overridden. It knows nothing of jobs in Redis: whether Sidekiq is idle is for
//! others to see.

mod discover;
mod show;

use std::time::Duration;

use crate::error::{Advice, Retry};
use crate::host::{Command, Host, HostError, RunAs, files, run, run_ok};
use crate::secret::Secret;
pub use discover::{discover, matches_any, template_of};
pub use show::describe;

/// How a machine's units are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Systemd {
    /// The words that run systemctl.
    pub systemctl: Vec<String>,
    /// Where the administrator's unit files are: `/etc/systemd/system`.
    pub unit_dir: String,
    /// Names or shell patterns of Mastodon's units: `mastodon*`.
    pub patterns: Vec<String>,
}

/// A unit, as systemd has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    pub name: String,
    pub kind: UnitKind,
    pub load: LoadState,
    pub active: ActiveState,
    /// `enabled`, `disabled`, `static`, `masked`, …; empty for an instance without a file.
    pub file_state: String,
    pub fragment: Option<String>,
    pub drop_ins: Vec<String>,
    pub main_pid: Option<u32>,
    pub user: Option<String>,
    /// The first command's words, as systemd joins them.
    pub command: String,
    pub environment: Vec<(String, Secret)>,
    pub environment_files: Vec<EnvironmentFile>,
    /// How long systemd waits before it kills; `None` for no limit.
    pub stop_timeout: Option<Duration>,
}

/// What a unit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnitKind {
    Web,
    Streaming,
    Sidekiq,
    /// Starts other units: a timer, a path, a socket.
    Trigger,
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadState {
    Loaded,
    NotFound,
    Masked,
    /// `bad-setting`, `error`, …
    Broken(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActiveState {
    /// Running, or a oneshot that stays; also while it reloads.
    Active,
    Inactive,
    Failed,
    /// Between two states: starting, stopping, and what systemd may add.
    Changing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentFile {
    pub path: String,
    pub optional: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error("{} did not become {wanted} within {secs} s", units.join(", "))]
    NotReached { units: Vec<String>, wanted: &'static str, secs: u64 },
    #[error("{unit} failed while it was started")]
    StartFailed { unit: String },
}

impl Advice for ServiceError {
    fn hint(&self) -> Option<String> {
        match self {
            ServiceError::Host(error) => error.hint(),
            ServiceError::NotReached { units, .. } => {
                Some(format!("look at `systemctl status {}`", units.join(" ")))
            }
            ServiceError::StartFailed { unit } => Some(format!("look at `journalctl -u {unit}`")),
        }
    }

    fn retry(&self) -> Retry {
        match self {
            ServiceError::Host(error) => error.retry(),
            // It was watched for as long as the operator allows: waiting again only lengthens the
            // downtime.
            ServiceError::NotReached { .. } => Retry::Never,
            ServiceError::StartFailed { .. } => Retry::Safe,
        }
    }
}

/// Sidekiq takes 25 s to hand unfinished jobs back after SIGTERM; killed before, it loses them.
/// Mastodon's own unit allows 15 s.
pub const SIDEKIQ_STOP: Duration = Duration::from_secs(40);

/// How long a unit may take to become active.
pub const START: Duration = Duration::from_secs(120);

const STOP_MARGIN: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(200);
const PATIENCE_FILE: &str = "transhume-patience.conf";

impl Systemd {
    pub(super) fn command<W: Into<String>>(&self, words: impl IntoIterator<Item = W>) -> Command {
        Command::new(self.systemctl.iter().cloned()).args(words).run_as(RunAs::Root)
    }

    /// Where drop-ins go that a reboot forgets.
    fn runtime_dir(&self) -> String {
        match self.unit_dir.strip_suffix("/etc/systemd/system") {
            Some(root) => format!("{root}/run/systemd/system"),
            None => "/run/systemd/system".into(),
        }
    }

    fn patience_dir(&self, unit: &str) -> String {
        format!("{}/{unit}.d", self.runtime_dir())
    }
}

/// Starts units and waits until each is active; those that are already stay as they are.
pub async fn start(
    host: &dyn Host,
    systemd: &Systemd,
    units: &[String],
    limit: Duration,
) -> Result<(), ServiceError> {
    if units.is_empty() {
        return Ok(());
    }
    let command = systemd.command(["start"]).args(units).deadline(limit);
    run_ok(host, &command).await?;
    wait(host, systemd, units, ActiveState::Active, limit).await
}

/// Stops units and waits until none of them runs. A Sidekiq gets the time it needs, also where
/// its unit does not give it. Units that are stopped, or unknown, are fine.
pub async fn stop(
    host: &dyn Host,
    systemd: &Systemd,
    units: &[String],
) -> Result<(), ServiceError> {
    let known = describe(host, systemd, units).await?;
    let running: Vec<&Unit> = known.iter().filter(|unit| unit.is_running()).collect();
    if !running.is_empty() {
        let hasty: Vec<&Unit> = running.iter().copied().filter(|unit| is_hasty(unit)).collect();
        grant_patience(host, systemd, &hasty).await?;
        let longest = running.iter().filter_map(|unit| unit.stop_timeout).max();
        let limit = longest.unwrap_or_default().max(SIDEKIQ_STOP) + STOP_MARGIN;
        let names: Vec<String> = running.iter().map(|unit| unit.name.clone()).collect();
        run_ok(host, &systemd.command(["stop"]).args(&names).deadline(limit)).await?;
        wait(host, systemd, &names, ActiveState::Inactive, limit).await?;
    }
    // Also what a call that was interrupted has left.
    let granted = known.iter().filter(|unit| {
        let left = unit.drop_ins.iter().any(|path| path.ends_with(PATIENCE_FILE));
        left || (unit.is_running() && is_hasty(unit))
    });
    revoke_patience(host, systemd, &granted.collect::<Vec<_>>()).await?;
    Ok(())
}

pub async fn restart(
    host: &dyn Host,
    systemd: &Systemd,
    units: &[String],
    limit: Duration,
) -> Result<(), ServiceError> {
    let command = systemd.command(["restart"]).args(units).deadline(limit);
    run_ok(host, &command).await?;
    wait(host, systemd, units, ActiveState::Active, limit).await
}

/// Lets units start at boot.
pub async fn enable(host: &dyn Host, systemd: &Systemd, units: &[String]) -> Result<(), HostError> {
    run_ok(host, &systemd.command(["enable"]).args(units)).await.map(drop)
}

pub async fn disable(
    host: &dyn Host,
    systemd: &Systemd,
    units: &[String],
) -> Result<(), HostError> {
    run_ok(host, &systemd.command(["disable"]).args(units)).await.map(drop)
}

/// Makes systemd read the unit files again.
pub async fn daemon_reload(host: &dyn Host, systemd: &Systemd) -> Result<(), HostError> {
    run_ok(host, &systemd.command(["daemon-reload"])).await.map(drop)
}

/// Tells Sidekiq to take no more jobs (SIGTSTP). Only its main process is told: the same signal
/// would freeze an ffmpeg that a running job waits for. Units that do not run are left out.
pub async fn quiet(
    host: &dyn Host,
    systemd: &Systemd,
    units: &[String],
) -> Result<(), ServiceError> {
    let known = describe(host, systemd, units).await?;
    for unit in known.iter().filter(|unit| unit.main_pid.is_some()) {
        // `--kill-who` is the spelling that systemd before and after version 252 takes.
        let words = ["kill", "--kill-who=main", "--signal=TSTP", &unit.name];
        run_ok(host, &systemd.command(words)).await?;
    }
    Ok(())
}

/// The state of each unit, in the order asked for.
pub async fn states(
    host: &dyn Host,
    systemd: &Systemd,
    units: &[String],
) -> Result<Vec<(String, ActiveState)>, HostError> {
    let known = describe(host, systemd, units).await?;
    Ok(known.into_iter().map(|unit| (unit.name, unit.active)).collect())
}

/// Waits until every unit is `wanted`. A failed unit counts as stopped; where `Active` is wanted,
/// it ends the wait.
pub async fn wait(
    host: &dyn Host,
    systemd: &Systemd,
    units: &[String],
    wanted: ActiveState,
    limit: Duration,
) -> Result<(), ServiceError> {
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        let states = states(host, systemd, units).await?;
        let failed = states.iter().find(|(_, state)| *state == ActiveState::Failed);
        if let (ActiveState::Active, Some((unit, _))) = (wanted, failed) {
            return Err(ServiceError::StartFailed { unit: unit.clone() });
        }
        let reached = |state: ActiveState| {
            state == wanted || (state == ActiveState::Failed && wanted == ActiveState::Inactive)
        };
        let missing: Vec<String> = states
            .into_iter()
            .filter(|(_, state)| !reached(*state))
            .map(|(unit, _)| unit)
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        if tokio::time::Instant::now() >= deadline {
            let wanted = if wanted == ActiveState::Active { "active" } else { "inactive" };
            return Err(ServiceError::NotReached { units: missing, wanted, secs: limit.as_secs() });
        }
        tokio::time::sleep(POLL).await;
    }
}

fn is_hasty(unit: &Unit) -> bool {
    unit.kind == UnitKind::Sidekiq && unit.stop_timeout.is_some_and(|limit| limit < SIDEKIQ_STOP)
}

/// Gives units time to stop, until the next reboot at most.
async fn grant_patience(
    host: &dyn Host,
    systemd: &Systemd,
    units: &[&Unit],
) -> Result<(), HostError> {
    if units.is_empty() {
        return Ok(());
    }
    let text = format!("[Service]\nTimeoutStopSec={}\n", SIDEKIQ_STOP.as_secs());
    for unit in units {
        let dir = systemd.patience_dir(&unit.name);
        files::make_dir(host, &RunAs::Root, &dir, 0o755).await?;
        let path = format!("{dir}/{PATIENCE_FILE}");
        files::write(host, &RunAs::Root, &path, 0o644, text.as_bytes()).await?;
    }
    daemon_reload(host, systemd).await
}

async fn revoke_patience(
    host: &dyn Host,
    systemd: &Systemd,
    units: &[&Unit],
) -> Result<(), HostError> {
    if units.is_empty() {
        return Ok(());
    }
    for unit in units {
        let dir = systemd.patience_dir(&unit.name);
        files::remove(host, &RunAs::Root, &format!("{dir}/{PATIENCE_FILE}")).await?;
        // Others may keep drop-ins there.
        let rmdir = Command::new(["rmdir", "--ignore-fail-on-non-empty", "--", &dir]);
        run(host, &rmdir.run_as(RunAs::Root)).await?;
    }
    daemon_reload(host, systemd).await
}

impl Unit {
    pub fn is_running(&self) -> bool {
        match self.active {
            ActiveState::Active | ActiveState::Changing => true,
            ActiveState::Inactive | ActiveState::Failed => false,
        }
    }
}

impl UnitKind {
    /// What a unit is for, by what it runs, and by its name where that says nothing.
    pub fn of(name: &str, command: &str) -> UnitKind {
        if [".timer", ".path", ".socket"].iter().any(|suffix| name.ends_with(suffix)) {
            return UnitKind::Trigger;
        }
        if !name.ends_with(".service") {
            return UnitKind::Other;
        }
        let runs = |words: &[&str]| words.iter().any(|word| command.contains(word));
        if runs(&["sidekiq"]) {
            UnitKind::Sidekiq
        } else if runs(&["puma", "rails server", "rails s "]) {
            UnitKind::Web
        } else if runs(&["streaming"]) {
            UnitKind::Streaming
        } else if name.contains("sidekiq") {
            UnitKind::Sidekiq
        } else if name.contains("streaming") {
            UnitKind::Streaming
        } else if name.contains("-web") {
            UnitKind::Web
        } else {
            UnitKind::Other
        }
    }
}
