//! Mastodon's own command line, for what only Mastodon can do: fill feeds and indices.
//!
//! In flow the place and the user of a Mastodon, out flows what a command said. A good exit code
//! alone proves nothing here: `feeds build` logs accounts it failed for and still exits with 0, so
//! the closing line is demanded and complaints are handed back as problems.

mod output;

use std::time::Duration;

use tokio::io::AsyncReadExt;

use crate::error::{Advice, Retry};
use crate::event::{Event, Monitor, Progress};
use crate::host::{Command, Ended, Exit, Host, HostError, RunAs, run, run_ok};
use output::{BAR_CHARS, Output};

/// Loading Mastodon's code takes a while on a small machine.
const VERSION_DEADLINE: Duration = Duration::from_secs(300);
/// An hour or two is usual for tens of thousands of accounts.
const FEEDS_DEADLINE: Duration = Duration::from_secs(24 * 3600);
const SEARCH_DEADLINE: Duration = Duration::from_secs(7 * 24 * 3600);
const PATH_REST: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How to call tootctl on one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tootctl {
    /// Mastodon's directory.
    pub root: String,
    /// The user that Mastodon runs as.
    pub user: String,
    /// The program: `bin/tootctl`, relative to `root`.
    pub words: Vec<String>,
    /// Variables that differ from `.env.production`, such as `DB_PORT` to get past PgBouncer. They
    /// are visible to every user of the machine, so no secrets.
    pub env: Vec<(String, String)>,
}

/// What a long command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its closing line: `Regenerated feeds for 120 accounts`.
    pub evidence: String,
    /// What it complained about and went on; the first few of [`Outcome::problem_count`].
    pub problems: Vec<String>,
    pub problem_count: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum TootctlError {
    #[error(transparent)]
    Host(HostError),
    #[error("`tootctl {command}` on {host} failed with {exit}: {said}")]
    Failed { host: String, command: String, exit: Exit, said: String },
    /// It ended well, but without the line that says so.
    #[error("`tootctl {command}` on {host} ended without saying that it is done: {said}")]
    NotDone { host: String, command: String, said: String },
}

impl Advice for TootctlError {
    fn hint(&self) -> Option<String> {
        match self {
            TootctlError::Host(error) => error.hint(),
            TootctlError::Failed { command, .. } | TootctlError::NotDone { command, .. } => {
                Some(format!(
                    "run it by hand as the Mastodon user, in its directory: `RAILS_ENV=production \
                     bin/tootctl {command}`; it may be repeated"
                ))
            }
        }
    }

    fn retry(&self) -> Retry {
        match self {
            TootctlError::Host(error) => error.retry(),
            // Both commands begin anew and overwrite what they find.
            TootctlError::Failed { .. } | TootctlError::NotDone { .. } => Retry::Safe,
        }
    }
}

impl Tootctl {
    /// The version that the installed code says it is: proof that it loads with its gems.
    pub async fn version(&self, host: &dyn Host) -> Result<String, TootctlError> {
        let command = self.command(host, &["version"]).await?.deadline(VERSION_DEADLINE);
        let output = run(host, &command).await.map_err(TootctlError::Host)?;
        if !output.success() {
            let said = format!("{}\n{}", output.text(), output.stderr_tail);
            return Err(self.failed(host, &["version"], output.exit, said.trim()));
        }
        // Deprecation warnings may come first.
        let text = output.text();
        let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
        line.map(str::to_owned).ok_or_else(|| TootctlError::NotDone {
            host: host.name().to_owned(),
            command: "version".into(),
            said: String::new(),
        })
    }

    /// Fills home and list feeds from the database. `skip_filled` leaves those alone that are
    /// more than half full (Mastodon 4.4 and later): for a Redis that came along.
    pub async fn feeds_build(
        &self,
        host: &dyn Host,
        skip_filled: bool,
        monitor: &dyn Monitor,
    ) -> Result<Outcome, TootctlError> {
        let mut words = vec!["feeds", "build"];
        words.extend(skip_filled.then_some("--skip-filled-timelines"));
        self.long(host, &words, FEEDS_DEADLINE, "Regenerated feeds for", monitor).await
    }

    /// Makes the search indices and fills them from the database.
    pub async fn search_deploy(
        &self,
        host: &dyn Host,
        monitor: &dyn Monitor,
    ) -> Result<Outcome, TootctlError> {
        self.long(host, &["search", "deploy"], SEARCH_DEADLINE, "Indexed", monitor).await
    }

    /// The command for these words: in Mastodon's directory, as its user, with rbenv in front of
    /// the PATH, as in Mastodon's own units.
    pub async fn command(&self, host: &dyn Host, words: &[&str]) -> Result<Command, TootctlError> {
        let home = home(host, &self.user).await.map_err(TootctlError::Host)?;
        let command = Command::new(self.words.iter().cloned())
            .args(words.iter().copied())
            .run_as(RunAs::User(self.user.clone()))
            .dir(&self.root)
            .env("PATH", format!("{home}/.rbenv/shims:{home}/.rbenv/bin:{PATH_REST}"))
            .env("HOME", home)
            .env("RAILS_ENV", "production")
            .env("RUBY_PROGRESS_BAR_LENGTH", BAR_CHARS.to_string());
        Ok(self.env.iter().fold(command, |command, (name, value)| command.env(name, value)))
    }

    async fn long(
        &self,
        host: &dyn Host,
        words: &[&str],
        limit: Duration,
        closing: &str,
        monitor: &dyn Monitor,
    ) -> Result<Outcome, TootctlError> {
        let command = self.command(host, words).await?;
        let timed_out = || {
            TootctlError::Host(HostError::TimedOut {
                host: host.name().to_owned(),
                command: command.to_string(),
                secs: limit.as_secs(),
            })
        };
        let running = follow(host, &command, words, monitor);
        let (output, ended) = match tokio::time::timeout(limit, running).await {
            Ok(result) => result.map_err(TootctlError::Host)?,
            Err(_) => return Err(timed_out()),
        };
        if ended.exit != Exit::Code(0) {
            let said = format!("{}\n{}", output.last_words(), ended.stderr_tail);
            return Err(self.failed(host, words, ended.exit, said.trim()));
        }
        match output.line_with(closing) {
            Some(evidence) => Ok(Outcome {
                evidence,
                problem_count: output.problem_count,
                problems: output.problems,
            }),
            None => Err(TootctlError::NotDone {
                host: host.name().to_owned(),
                command: words.join(" "),
                said: output.last_words(),
            }),
        }
    }

    fn failed(&self, host: &dyn Host, words: &[&str], exit: Exit, said: &str) -> TootctlError {
        TootctlError::Failed {
            host: host.name().to_owned(),
            command: words.join(" "),
            exit,
            said: said.to_owned(),
        }
    }
}

/// Runs `command` and reads what it says as it says it.
async fn follow(
    host: &dyn Host,
    command: &Command,
    words: &[&str],
    monitor: &dyn Monitor,
) -> Result<(Output, Ended), HostError> {
    let (stdin, mut stdout, ending) = host.spawn(command).await?.split();
    drop(stdin);
    let reading = async {
        let mut output = Output::default();
        let mut buffer = [0; 4096];
        // A read that fails means a link that is lost, and the ending tells that.
        while let Ok(count @ 1..) = stdout.read(&mut buffer).await {
            if output.feed(&buffer[..count]) {
                monitor.emit(Event::Progress(Progress {
                    activity: words.join(" "),
                    detail: output.progress.clone(),
                    ..Progress::default()
                }));
            }
        }
        output.finish();
        output
    };
    let (output, ended) = tokio::join!(reading, ending);
    Ok((output, ended?))
}

/// The home directory of `user`.
async fn home(host: &dyn Host, user: &str) -> Result<String, HostError> {
    let command = Command::new(["getent", "passwd", user]);
    let line = run_ok(host, &command).await?;
    let home = line.split(':').nth(5).filter(|home| home.starts_with('/'));
    home.map(str::to_owned).ok_or_else(|| HostError::Output {
        host: host.name().to_owned(),
        command: command.to_string(),
        problem: "no line of passwd(5)".into(),
    })
}
