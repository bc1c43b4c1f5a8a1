//! Keeping the old Mastodon from ever starting again, also after a reboot, and undoing it exactly.
//!
//! In flows a [`FenceRecord`], taken before anything is touched and kept in the journal; it says
//! how things were and holds no secret. [`apply`], [`holes`] and [`lift`] can be called again at
//! any time, from any half-done state.
//!
//! What systemd does, and what follows from it:
//! - `systemctl mask` puts a link to /dev/null into /etc/systemd/system, which beats every other
//!   place. Mastodon's unit files are themselves there, so it refuses: "File already exists".
//! - `mask --runtime` puts the link into /run/systemd/system. That loses against a file in /etc,
//!   so it masks nothing here, and a reboot forgets it.
//! - So the unit file is renamed to `NAME.transhume-fenced`, a name that is no unit's, and the
//!   link takes its place. Drop-ins stay where they are: a masked unit does not read them.
//! - A link over a template masks its instances, apart from those with a file or link of their
//!   own; so each known instance is masked too.
//! - Links in `*.wants` would only log an error about a masked unit, but they would count again
//!   once somebody unmasks it by hand: they go as well, and are put back as they were, which
//!   `systemctl enable` would not do for links that `[Install]` does not ask for.
//! - A masked unit that still runs can be stopped, but without what its file said (time limits,
//!   `ExecStop=`). So units are stopped first, masked then, and looked at again afterwards.
//! - All this counts for running systemd only after a daemon-reload, and for the next boot only
//!   once it is on the disk.

mod look;
mod seal;

use serde::{Deserialize, Serialize};

use super::cron::{self, Cron, CronJob};
use super::services::{self, ServiceError, Systemd, UnitKind};
use crate::error::{Advice, Retry};
use crate::host::{Host, HostError};
pub use look::{Hole, holes, record};

/// What is fenced: Mastodon's units and cron jobs on one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    pub systemd: Systemd,
    pub cron: Cron,
}

/// How things were before the fence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceRecord {
    pub units: Vec<UnitRecord>,
    pub cron_jobs: Vec<CronJob>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitRecord {
    pub name: String,
    pub was_running: bool,
    /// `enabled`, `static`, …, for people.
    pub file_state: String,
    pub file: UnitFile,
    /// The links that enabled it or named it otherwise.
    pub links: Vec<Link>,
}

/// What was at the unit's name in the unit directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitFile {
    /// Nothing: the unit's file is elsewhere, or it is an instance.
    Absent,
    /// A file, or a link to one.
    Present,
    /// A mask: somebody else's, which stays.
    Masked,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub path: String,
    pub target: String,
}

#[derive(Debug, thiserror::Error)]
pub enum FenceError {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// Units lie aside from a run whose record is not at hand.
    #[error("{} on {host} were fenced by an earlier run", files.join(", "))]
    AlreadyFenced { host: String, files: Vec<String> },
    /// A unit's file is there, and the one that was put aside too.
    #[error("on {host}, {path} is there again although it was put aside")]
    FileCameBack { host: String, path: String },
    #[error("on {host}, {path}.transhume-fenced is gone: the unit cannot be put back")]
    FileLost { host: String, path: String },
    #[error("{} on {host} keep coming back after they were stopped", units.join(", "))]
    Restless { host: String, units: Vec<String> },
}

impl Advice for FenceError {
    fn hint(&self) -> Option<String> {
        match self {
            FenceError::Host(error) => error.hint(),
            FenceError::Service(error) => error.hint(),
            FenceError::AlreadyFenced { .. } => Some(
                "run `transhume rollback` from where that run's journal is, or rename each file \
                 back by hand and run `systemctl daemon-reload`"
                    .into(),
            ),
            FenceError::FileCameBack { path, .. } => Some(format!(
                "compare {path} with {path}.transhume-fenced and remove the one that is not wanted"
            )),
            FenceError::FileLost { path, .. } => {
                Some(format!("put {path} back from Mastodon's dist/ directory or a backup"))
            }
            FenceError::Restless { units, .. } => {
                Some(format!("find what starts them: `systemctl status {}`", units.join(" ")))
            }
        }
    }

    fn retry(&self) -> Retry {
        match self {
            FenceError::Host(error) => error.retry(),
            FenceError::Service(error) => error.retry(),
            FenceError::AlreadyFenced { .. }
            | FenceError::FileCameBack { .. }
            | FenceError::FileLost { .. } => Retry::Never,
            FenceError::Restless { .. } => Retry::Safe,
        }
    }
}

/// What starts others goes first; Sidekiq goes last, as its jobs may need the web.
const STOP_ORDER: [UnitKind; 5] =
    [UnitKind::Trigger, UnitKind::Other, UnitKind::Web, UnitKind::Streaming, UnitKind::Sidekiq];

/// How often a unit that came back is stopped again before it is called restless.
const STOPS_MAX: usize = 3;

/// Stops, disables and masks everything in `record`, and silences the cron jobs. [`holes`] tells
/// whether that holds.
pub async fn apply(host: &dyn Host, fence: &Fence, record: &FenceRecord) -> Result<(), FenceError> {
    let systemd = &fence.systemd;
    cron::silence(host, &fence.cron).await?;
    let units = services::describe(host, systemd, &record.names()).await?;
    for kind in STOP_ORDER {
        let running = units.iter().filter(|unit| unit.kind == kind && unit.is_running());
        let names: Vec<String> = running.map(|unit| unit.name.clone()).collect();
        if !names.is_empty() {
            services::stop(host, systemd, &names).await?;
        }
    }
    seal::disable(host, record).await?;
    seal::mask(host, &systemd.unit_dir, record).await?;
    services::daemon_reload(host, systemd).await?;
    stop_again(host, systemd, record).await
}

/// Stops what was started between its stop and its mask.
async fn stop_again(
    host: &dyn Host,
    systemd: &Systemd,
    record: &FenceRecord,
) -> Result<(), FenceError> {
    let mut running = Vec::new();
    for _ in 0..STOPS_MAX {
        let units = services::describe(host, systemd, &record.names()).await?;
        running =
            units.into_iter().filter(|unit| unit.is_running()).map(|unit| unit.name).collect();
        if running.is_empty() {
            return Ok(());
        }
        services::stop(host, systemd, &running).await?;
    }
    Err(FenceError::Restless { host: host.name().to_owned(), units: running })
}

/// Puts everything back as `record` says: files, links, cron jobs, and what ran runs again. Every
/// unit is tried, also when one does not start; the first failure is told last.
pub async fn lift(host: &dyn Host, fence: &Fence, record: &FenceRecord) -> Result<(), FenceError> {
    let systemd = &fence.systemd;
    seal::unmask(host, &systemd.unit_dir, record).await?;
    seal::enable(host, record).await?;
    services::daemon_reload(host, systemd).await?;
    let [triggers, others] = record.ran();
    let started = services::start(host, systemd, &others, services::START).await;
    let started = started.and(services::start(host, systemd, &triggers, services::START).await);
    cron::wake(host, &fence.cron, &record.cron_jobs).await?;
    started.map_err(FenceError::from)
}

impl FenceRecord {
    pub fn names(&self) -> Vec<String> {
        self.units.iter().map(|unit| unit.name.clone()).collect()
    }

    /// What ran: what triggers others, and the others.
    fn ran(&self) -> [Vec<String>; 2] {
        let ran = self.units.iter().filter(|unit| unit.was_running).map(|unit| unit.name.clone());
        let (triggers, others) = ran.partition(|name| UnitKind::of(name, "") == UnitKind::Trigger);
        [triggers, others]
    }
}
