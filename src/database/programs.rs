//! PostgreSQL's own programs at work between the two sides: what every mode leaves to them.
//!
//! In flow both servers, the snapshot to read and the prepared target; the programs log in by
//! files that are there for one run of theirs: a lost link takes them away. [`Programs::pour`] sends sections of an archive through memory
//! into the target; [`Programs::post_data`] and [`Programs::restore`] do in two moves what can be
//! done on the target by several connections.

mod judge;
mod progress;
mod pump;

use std::time::Duration;

use tokio::io::AsyncReadExt;

use crate::event::Monitor;
use crate::host::{Command, Ended, Host, RunAs, run, run_ok};

use super::held::HeldFile;
use super::target::{Destination, Prepared};
use super::tools::{self, Credentials, Tool};
use super::tuning::Tuning;
use super::{DatabaseError, Server, Snapshot, Version};

pub use pump::{Compression, Level, Link, PIPE_SESSIONS};

/// What the post-data archive may take: definitions only, so this is far more than any has.
const POST_DATA_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The programs of both sides.
pub(super) struct Programs<'a> {
    source: &'a Server,
    destination: &'a Destination,
    snapshot: &'a Snapshot,
    prepared: &'a Prepared,
    lock_wait: Duration,
    dump_version: Version,
}

impl<'a> Programs<'a> {
    /// Looks for them. `lock_wait` is how long pg_dump waits for a table that somebody else has
    /// locked.
    pub async fn find(
        source: &'a Server,
        destination: &'a Destination,
        snapshot: &'a Snapshot,
        prepared: &'a Prepared,
        lock_wait: Duration,
    ) -> Result<Programs<'a>, DatabaseError> {
        Ok(Programs {
            source,
            destination,
            snapshot,
            prepared,
            lock_wait,
            dump_version: tools::version(source, Tool::Dump).await?,
        })
    }

    /// Dumps `sections` into a serial pg_restore, with `more` words for pg_dump. Gives the bytes of
    /// the archive and what the programs warned about.
    pub async fn pour(
        &self,
        sections: &[&str],
        more: &[&str],
        compression: &Compression,
        monitor: &dyn Monitor,
    ) -> Result<(u64, Vec<String>), DatabaseError> {
        let (source, target) = (self.source, &self.destination.server);
        let dump_login = Credentials::place(source).await?;
        let restore_login = Credentials::place(target).await?;
        let dump = self.dump(&dump_login, sections, compression.archive_level());
        let dump = while_held(dump.args(more.to_vec()));
        let restore = self.restore_command(&restore_login, None);
        let poured = pump::flow(source, target, dump, restore, compression, monitor).await;
        let released = tokio::join!(dump_login.release(), restore_login.release());
        let poured = poured?;
        released.0.and(released.1)?;
        Ok(poured)
    }

    /// The archive of what comes after the rows: a few kilobytes.
    pub async fn post_data(&self) -> Result<Vec<u8>, DatabaseError> {
        let host = &*self.source.host;
        let login = Credentials::place(self.source).await?;
        let command = while_held(self.dump(&login, &["post-data"], 1));
        let (stdin, stdout, ending) = host.spawn(&command).await?.split();
        let mut archive = Vec::new();
        let mut stdout = stdout.take(POST_DATA_BYTES_MAX + 1);
        let (read, ended) = tokio::join!(stdout.read_to_end(&mut archive), async {
            let ended = ending.await;
            drop(stdin);
            ended
        });
        let released = login.release().await;
        if archive.len() as u64 > POST_DATA_BYTES_MAX {
            return Err(DatabaseError::SchemaTooLarge { limit: POST_DATA_BYTES_MAX });
        }
        judge::alone(self.source, Tool::Dump, ended?)?;
        released?;
        match read {
            Ok(_) => Ok(archive),
            Err(_) => Err(crate::host::HostError::Lost {
                host: host.name().to_owned(),
                command: command.to_string(),
            }
            .into()),
        }
    }

    /// Restores `archive` with `jobs` connections, each with its share of `tuning`; gives what pg_restore warned about. `pick` is
    /// given its table of contents and says what of it is to be restored; without, all of it is.
    pub async fn restore(
        &self,
        archive: &[u8],
        pick: Option<&(dyn Fn(&str) -> String + Sync)>,
        jobs: usize,
        tuning: &Tuning,
        monitor: &dyn Monitor,
    ) -> Result<Vec<String>, DatabaseError> {
        let server = &self.destination.server;
        let login = Credentials::place(server).await?;
        let file = HeldFile::create(&*server.host, &server.os_user, archive).await?;
        let mut command = self.restore_command(&login, Some(tuning)).arg(format!("--jobs={jobs}"));
        let mut list = None;
        if let Some(pick) = pick {
            let contents = run_ok(&*server.host, &tools::contents(server, file.path())).await?;
            let picked = pick(&contents);
            let held = HeldFile::create(&*server.host, &server.os_user, picked.as_bytes()).await?;
            command = command.arg(format!("--use-list={}", held.path()));
            list = Some(held);
        }
        let command = while_held(command.arg(file.path()));
        let ended = tokio::select! {
            ended = run_held(&*server.host, &command) => ended,
            never = progress::indexes(self.destination, self.snapshot, monitor) => match never {},
        };
        let released = file.release().await;
        if let Some(list) = list {
            list.release().await?;
        }
        let logged_out = login.release().await;
        let warnings = judge::alone(server, Tool::Restore, ended?)?;
        released?;
        logged_out?;
        Ok(warnings)
    }

    fn dump(&self, login: &Credentials, sections: &[&str], level: u32) -> Command {
        let settings = [("default_transaction_read_only", "on")];
        let command = login
            .command(self.source, Tool::Dump, &settings)
            .args(["--format=custom", "--no-owner", "--no-acl"])
            .arg(format!("--lock-wait-timeout={}", self.lock_wait.as_millis()))
            .args(["--no-publications", "--no-subscriptions"])
            .arg(format!("--compress={level}"))
            .arg(format!("--snapshot={}", self.snapshot.id()))
            .args(sections.iter().map(|section| format!("--section={section}")));
        self.without_extensions(command)
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

    fn restore_command(&self, login: &Credentials, tuning: Option<&Tuning>) -> Command {
        let mut settings = vec![("synchronous_commit", "off".to_owned())];
        if self.prepared.version().major() >= 14 {
            settings.push(("idle_session_timeout", "0".to_owned()));
        }
        settings.extend(tuning.iter().flat_map(|tuning| tuning.settings()));
        let settings: Vec<(&str, &str)> =
            settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let server = &self.destination.server;
        let mut command = login.command(server, Tool::Restore, &settings).args([
            "--exit-on-error",
            "--no-owner",
            "--no-acl",
        ]);
        if server.user != self.destination.owner {
            command = command.arg(format!("--role={}", self.destination.owner));
        }
        command
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

/// The processor cores of a machine; a modest number where it does not tell.
pub(super) async fn cores(host: &dyn Host) -> Result<usize, DatabaseError> {
    const CORES_DEFAULT: usize = 2;
    let command = Command::new(["getconf", "_NPROCESSORS_ONLN"]).run_as(RunAs::Login);
    let output = run(host, &command).await?;
    Ok(output.text().trim().parse().unwrap_or(CORES_DEFAULT))
}
