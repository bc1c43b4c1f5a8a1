//! Cron lines that start something of Mastodon: `tootctl media remove` and its like.
//!
//! They are found in the crontab of Mastodon's user, in /etc/crontab and /etc/cron.d, and as
//! scripts in /etc/cron.daily and the like. Silenced lines get a marker in front and scripts lose
//! their execute bits; both are undone exactly. What a line says is not handed out: it may hold a
//! token.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::host::{Command, Exit, Host, HostError, RunAs, failure, files, run, run_ok};

/// Put in front of a line that is silenced.
const MARKER: &[u8] = b"#transhume-fenced# ";

/// What tells a line of Mastodon's user that does not name the root: `cd live && bin/tootctl …`.
const PROGRAMS: [&str; 3] = ["tootctl", "bin/rails", "rake "];

/// Where to look, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    /// The user that Mastodon runs as.
    pub user: String,
    /// Mastodon's directory.
    pub root: String,
    /// The words that run crontab(1) for that user.
    pub crontab: Vec<String>,
    /// `/etc`.
    pub system_dir: String,
}

/// A job that will run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CronJob {
    /// A line, counted from 1, of the user's crontab.
    User { user: String, line: usize },
    /// A line of a file of the system.
    File { path: String, line: usize },
    /// An executable script, with its mode.
    Script { path: String, mode: u32 },
}

impl fmt::Display for CronJob {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CronJob::User { user, line } => write!(out, "line {line} of the crontab of {user}"),
            CronJob::File { path, line } => write!(out, "line {line} of {path}"),
            CronJob::Script { path, .. } => out.write_str(path),
        }
    }
}

/// The jobs that would run now.
pub async fn jobs(host: &dyn Host, cron: &Cron) -> Result<Vec<CronJob>, HostError> {
    let mut jobs = Vec::new();
    let table = read_crontab(host, cron).await?.unwrap_or_default();
    let user = || cron.user.clone();
    jobs.extend(
        active_lines(&table, |line| cron.is_ours(line))
            .map(|line| CronJob::User { user: user(), line }),
    );
    for path in system_files(host, cron).await? {
        let Some(text) = files::read(host, &RunAs::Root, &path).await? else { continue };
        if !is_script(&path) {
            let lines = active_lines(&text, |line| cron.is_ours_in_system(line));
            jobs.extend(lines.map(|line| CronJob::File { path: path.clone(), line }));
        } else if active_lines(&text, |line| cron.is_ours_in_system(line)).next().is_some() {
            let stat = files::stat(host, &RunAs::Root, &path).await?;
            let mode = stat.map_or(0, |stat| stat.mode);
            if mode & 0o111 != 0 {
                jobs.push(CronJob::Script { path, mode });
            }
        }
    }
    Ok(jobs)
}

/// Makes every job stay silent. Doing it again changes nothing.
pub async fn silence(host: &dyn Host, cron: &Cron) -> Result<(), HostError> {
    if let Some(table) = read_crontab(host, cron).await? {
        let silenced = comment_out(&table, |line| cron.is_ours(line));
        write_crontab(host, cron, &table, &silenced).await?;
    }
    for path in system_files(host, cron).await? {
        if is_script(&path) {
            run_ok(host, &chmod("a-x", &path)).await?;
        } else {
            edit(host, &path, |text| comment_out(text, |line| cron.is_ours_in_system(line)))
                .await?;
        }
    }
    Ok(())
}

/// Undoes [`silence`], byte for byte. `jobs` are those that ran before.
pub async fn wake(host: &dyn Host, cron: &Cron, jobs: &[CronJob]) -> Result<(), HostError> {
    if let Some(table) = read_crontab(host, cron).await? {
        write_crontab(host, cron, &table, &uncomment(&table)).await?;
    }
    let mut edited: Vec<&String> = Vec::new();
    for job in jobs {
        match job {
            CronJob::User { .. } => {}
            CronJob::File { path, .. } if edited.contains(&path) => {}
            CronJob::File { path, .. } => {
                edit(host, path, uncomment).await?;
                edited.push(path);
            }
            CronJob::Script { path, mode } => {
                run_ok(host, &chmod(&format!("{mode:04o}"), path)).await?;
            }
        }
    }
    Ok(())
}

impl Cron {
    fn is_ours(&self, line: &str) -> bool {
        line.contains(&self.root) || PROGRAMS.iter().any(|program| line.contains(program))
    }

    /// Lines of the system may belong to another Mastodon on the machine.
    fn is_ours_in_system(&self, line: &str) -> bool {
        let names_user = line.split_whitespace().any(|word| word == self.user);
        line.contains(&self.root) || (names_user && self.is_ours(line))
    }

    fn command(&self, word: &str) -> Command {
        let user = RunAs::User(self.user.clone());
        Command::new(self.crontab.iter().cloned()).arg(word).run_as(user)
    }
}

/// The numbers of the lines that are no comments and are `ours`.
fn active_lines<'a>(
    text: &'a [u8],
    ours: impl Fn(&str) -> bool + 'a,
) -> impl Iterator<Item = usize> + 'a {
    let lines = text.split(|byte| *byte == b'\n').enumerate();
    lines.filter(move |(_, line)| is_active(line, &ours)).map(|(index, _)| index + 1)
}

fn is_active(line: &[u8], ours: &impl Fn(&str) -> bool) -> bool {
    let text = String::from_utf8_lossy(line);
    !text.trim_start().starts_with('#') && ours(&text)
}

fn comment_out(text: &[u8], ours: impl Fn(&str) -> bool) -> Vec<u8> {
    let mut silenced = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        if is_active(line, &ours) {
            silenced.extend_from_slice(MARKER);
        }
        silenced.extend_from_slice(line);
    }
    silenced
}

fn uncomment(text: &[u8]) -> Vec<u8> {
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    lines.flat_map(|line| line.strip_prefix(MARKER).unwrap_or(line)).copied().collect()
}

/// The user's crontab; `None` where there is none, or no cron at all.
async fn read_crontab(host: &dyn Host, cron: &Cron) -> Result<Option<Vec<u8>>, HostError> {
    let command = cron.command("-l");
    let output = match run(host, &command).await {
        Err(HostError::Start { .. }) => return Ok(None),
        other => other?,
    };
    match output.exit {
        Exit::Code(0) => Ok(Some(output.stdout)),
        Exit::Code(127) => Ok(None),
        Exit::Code(_) if output.stderr_tail.contains("no crontab") => Ok(None),
        Exit::Code(_) | Exit::Signal(_) => Err(failure(host, &command, output)),
    }
}

async fn write_crontab(
    host: &dyn Host,
    cron: &Cron,
    old: &[u8],
    new: &[u8],
) -> Result<(), HostError> {
    if old == new {
        return Ok(());
    }
    run_ok(host, &cron.command("-").stdin(new)).await.map(drop)
}

/// The files of the system that may hold a job of ours.
async fn system_files(host: &dyn Host, cron: &Cron) -> Result<Vec<String>, HostError> {
    let script = r#"cd -- "$1" || exit 0
        for f in crontab cron.d/* cron.hourly/* cron.daily/* cron.weekly/* cron.monthly/*; do
            if [ -f "$f" ] && grep -qF -e "$2" -e "$3" -- "$f"; then printf '%s/%s\0' "$1" "$f"; fi
        done"#;
    let command = Command::script(script, &[&cron.system_dir, &cron.root, &cron.user]);
    let text = run_ok(host, &command.run_as(RunAs::Root)).await?;
    Ok(text.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect())
}

/// Whether `path` is run as it is, and not read for lines.
fn is_script(path: &str) -> bool {
    let dir = path.rsplit('/').nth(1).unwrap_or_default();
    ["cron.hourly", "cron.daily", "cron.weekly", "cron.monthly"].contains(&dir)
}

async fn edit(
    host: &dyn Host,
    path: &str,
    change: impl Fn(&[u8]) -> Vec<u8>,
) -> Result<(), HostError> {
    let Some(old) = files::read(host, &RunAs::Root, path).await? else { return Ok(()) };
    let new = change(&old);
    if new == old {
        return Ok(());
    }
    let mode = files::stat(host, &RunAs::Root, path).await?.map_or(0o644, |stat| stat.mode);
    files::write(host, &RunAs::Root, path, mode, &new).await
}

fn chmod(mode: &str, path: &str) -> Command {
    Command::new(["chmod", mode, "--", path]).run_as(RunAs::Root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cron() -> Cron {
        Cron {
            user: "mastodon".into(),
            root: "/home/mastodon/live".into(),
            crontab: vec!["crontab".into()],
            system_dir: "/etc".into(),
        }
    }

    #[test]
    fn only_lines_that_start_mastodon_are_silenced() {
        let table = "MAILTO=admin@example\n# cd /home/mastodon/live\n\
                     @daily cd live && bin/tootctl media remove\n\
                     5 4 * * * backup.sh\n1 1 * * * cd /home/mastodon/live && ./x";
        let silenced = comment_out(table.as_bytes(), |line| cron().is_ours(line));
        assert_eq!(
            String::from_utf8(silenced).unwrap(),
            "MAILTO=admin@example\n# cd /home/mastodon/live\n\
             #transhume-fenced# @daily cd live && bin/tootctl media remove\n\
             5 4 * * * backup.sh\n#transhume-fenced# 1 1 * * * cd /home/mastodon/live && ./x"
        );
    }

    #[test]
    fn another_instance_on_the_machine_keeps_its_lines() {
        let line = "@daily friend cd /home/friend/live && bin/tootctl media remove";
        assert!(!cron().is_ours_in_system(line));
        assert!(cron().is_ours_in_system("@daily mastodon cd ~/live && bin/tootctl media remove"));
    }

    proptest! {
        /// The laws: waking undoes silencing byte for byte, and silencing twice is silencing once.
        #[test]
        fn what_is_silenced_wakes_as_it_was(table in "([a-z#* \t]{0,6}(tootctl|)[\n]?){0,6}") {
            let ours = |line: &str| cron().is_ours(line);
            let silenced = comment_out(table.as_bytes(), ours);
            prop_assert_eq!(active_lines(&silenced, ours).count(), 0);
            prop_assert_eq!(&comment_out(&silenced, ours), &silenced);
            prop_assert_eq!(uncomment(&silenced), table.as_bytes());
        }
    }
}
