//! Mode `stream`: `pg_dump` on the source, `pg_restore` on the target, a pipe in between, nothing
//! on a disk.
//!
//! One snapshot, two archives. Definitions and rows flow through the pipe into a serial
//! `pg_restore`. What comes after the rows (indexes, constraints, triggers, refreshes) is a few
//! kilobytes: it becomes a temporary file there, so that `pg_restore` can work on it in parallel.

mod analyze;
mod judge;
mod progress;
mod pump;
mod snapshot;

use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;

use crate::event::Monitor;
use crate::host::{Command, Ended, Host, RunAs, run};

use super::held::HeldFile;
use super::target::{Destination, Prepared};
use super::tools::{self, Credentials, Tool};
use super::{DatabaseError, Server, Version};

pub use pump::Compression;
pub use snapshot::Snapshot;

/// What the post-data archive may take: definitions only, so this is far more than any has.
const POST_DATA_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How to copy.
#[derive(Clone, Debug)]
pub struct Options {
    pub compression: Compression,
    /// Indexes built at the same time on the target; 0 for one per core.
    pub jobs: usize,
    /// How long pg_dump waits for a table that somebody else has locked.
    pub lock_wait: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options { compression: Compression::None, jobs: 0, lock_wait: Duration::from_secs(60) }
    }
}

/// What a copy did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Of the archive, before our compression.
    pub bytes: u64,
    pub data_millis: u64,
    pub post_data_millis: u64,
    pub analyze_millis: u64,
    /// What the programs warned about.
    pub problems: Vec<String>,
}

/// Fills the prepared database with what `snapshot` sees of the source. When this fails, or is
/// dropped, the target holds a part: it stays marked as half-done.
pub async fn copy(
    source: &Server,
    destination: &Destination,
    snapshot: &Snapshot,
    prepared: &Prepared,
    options: &Options,
    monitor: &dyn Monitor,
) -> Result<Copied, DatabaseError> {
    let job = Job {
        source,
        destination,
        snapshot,
        prepared,
        options,
        dump_version: tools::version(source, Tool::Dump).await?,
        dump_login: Credentials::place(source).await?,
        restore_login: Credentials::place(&destination.server).await?,
    };
    let result = job.run(monitor).await;
    let released = tokio::join!(job.dump_login.release(), job.restore_login.release());
    let copied = result?;
    released.0.and(released.1)?;
    Ok(copied)
}

struct Job<'a> {
    source: &'a Server,
    destination: &'a Destination,
    snapshot: &'a Snapshot,
    prepared: &'a Prepared,
    options: &'a Options,
    dump_version: Version,
    dump_login: Credentials,
    restore_login: Credentials,
}

impl Job<'_> {
    async fn run(&self, monitor: &dyn Monitor) -> Result<Copied, DatabaseError> {
        let options = self.options;
        let mut copied = Copied::default();
        let jobs = match options.jobs {
            0 => cores(&*self.destination.server.host).await?,
            jobs => jobs,
        };
        let start = Instant::now();
        let dump = self.dump(&["pre-data", "data"], options.compression.archive_level());
        let restore = self.restore();
        let compression = &options.compression;
        let flow =
            pump::flow(self.source, &self.destination.server, dump, restore, compression, monitor);
        let (bytes, warnings) = flow.await?;
        copied.bytes = bytes;
        copied.problems.extend(warnings);
        copied.data_millis = millis(start);

        let start = Instant::now();
        let archive = self.post_data().await?;
        copied.problems.extend(self.restore_post_data(&archive, jobs, monitor).await?);
        copied.post_data_millis = millis(start);

        let start = Instant::now();
        analyze::analyze(self.destination, jobs, monitor).await?;
        copied.analyze_millis = millis(start);
        Ok(copied)
    }

    fn dump(&self, sections: &[&str], level: u32) -> Command {
        let settings = [("default_transaction_read_only", "on")];
        let command = self
            .dump_login
            .command(self.source, Tool::Dump, &settings)
            .args(["--format=custom", "--no-owner", "--no-acl"])
            .arg(format!("--lock-wait-timeout={}", self.options.lock_wait.as_millis()))
            .args(["--no-publications", "--no-subscriptions"])
            .arg(format!("--compress={level}"))
            .arg(format!("--snapshot={}", self.snapshot.id()))
            .args(sections.iter().map(|section| format!("--section={section}")));
        while_held(self.without_extensions(command))
    }

    /// Leaves out the extensions that the target has already: the owner could not even comment on
    /// them.
    fn without_extensions(&self, command: Command) -> Command {
        if self.prepared.extensions_made.is_empty() {
            return command;
        }
        if self.dump_version.major() < 14 {
            return command.arg("--no-comments");
        }
        // One that is named restricts the dump to those named; plpgsql is always there.
        let kept = self.prepared.extensions_left.iter();
        let patterns = kept.map(|name| format!("--extension={}", super::quote::ident(name)));
        command.arg("--extension=plpgsql").args(patterns)
    }

    fn restore(&self) -> Command {
        let mut settings = vec![("synchronous_commit", "off")];
        if self.prepared.version().major() >= 14 {
            settings.push(("idle_session_timeout", "0"));
        }
        let server = &self.destination.server;
        let mut command = self.restore_login.command(server, Tool::Restore, &settings).args([
            "--exit-on-error",
            "--no-owner",
            "--no-acl",
        ]);
        if server.user != self.destination.owner {
            command = command.arg(format!("--role={}", self.destination.owner));
        }
        command
    }

    /// The archive of what comes after the rows.
    async fn post_data(&self) -> Result<Vec<u8>, DatabaseError> {
        let host = &*self.source.host;
        let command = self.dump(&["post-data"], 1);
        let (stdin, stdout, ending) = host.spawn(&command).await?.split();
        let mut archive = Vec::new();
        let mut stdout = stdout.take(POST_DATA_BYTES_MAX + 1);
        let (read, ended) = tokio::join!(stdout.read_to_end(&mut archive), async {
            let ended = ending.await;
            drop(stdin);
            ended
        });
        if archive.len() as u64 > POST_DATA_BYTES_MAX {
            return Err(DatabaseError::SchemaTooLarge { limit: POST_DATA_BYTES_MAX });
        }
        judge::alone(self.source, Tool::Dump, ended?)?;
        match read {
            Ok(_) => Ok(archive),
            Err(_) => Err(crate::host::HostError::Lost {
                host: host.name().to_owned(),
                command: command.to_string(),
            }
            .into()),
        }
    }

    /// Restores it with several connections; gives what pg_restore warned about.
    async fn restore_post_data(
        &self,
        archive: &[u8],
        jobs: usize,
        monitor: &dyn Monitor,
    ) -> Result<Vec<String>, DatabaseError> {
        let server = &self.destination.server;
        let file = HeldFile::create(&*server.host, &server.os_user, archive).await?;
        let command = self.restore().arg(format!("--jobs={jobs}")).arg(file.path());
        let command = while_held(command);
        let ended = tokio::select! {
            ended = run_held(&*server.host, &command) => ended,
            never = progress::indexes(self.destination, self.snapshot, monitor) => match never {},
        };
        let released = file.release().await;
        let warnings = judge::alone(server, Tool::Restore, ended?)?;
        released?;
        Ok(warnings)
    }
}

/// Starts `command` and waits for its end, its standard input open for just as long.
async fn run_held(host: &dyn Host, command: &Command) -> Result<Ended, DatabaseError> {
    let (stdin, mut stdout, ending) = host.spawn(command).await?.split();
    let mut sink = tokio::io::sink();
    let (_, ended) = tokio::join!(tokio::io::copy(&mut stdout, &mut sink), ending);
    drop(stdin);
    Ok(ended?)
}

/// The command under a watch that ends it as soon as its standard input is closed: when we are
/// dropped or killed, or the link is cut, nothing of ours goes on working over there.
fn while_held(command: Command) -> Command {
    const WATCH: &str = r#"exec 3<&0
"$@" </dev/null 3<&- &
pid=$!
( cat <&3; kill "$pid" ) >/dev/null 2>&1 &
watch=$!
exec 3<&-
wait "$pid"
code=$?
kill "$watch" 2>/dev/null
exit "$code""#;
    command.wrapped(["sh", "-c", WATCH, "sh"])
}

/// The processor cores of a machine.
async fn cores(host: &dyn Host) -> Result<usize, DatabaseError> {
    const CORES_DEFAULT: usize = 2;
    let command = Command::new(["getconf", "_NPROCESSORS_ONLN"]).run_as(RunAs::Login);
    let output = run(host, &command).await?;
    Ok(output.text().trim().parse().unwrap_or(CORES_DEFAULT))
}

fn millis(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// How often progress is looked up on a server.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
