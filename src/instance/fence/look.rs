//! Looking: how things are before the fence, and whether it holds.

use std::collections::BTreeSet;
use std::fmt;

use super::{Fence, FenceError, FenceRecord, Link, UnitFile, UnitRecord};
use crate::host::{Command, Host, HostError, RunAs, run_ok};
use crate::instance::cron::{self, Cron, CronJob};
use crate::instance::services::{self, LoadState, Systemd, Unit};

const ASIDE: &str = ".transhume-fenced";

/// How things are now. It changes nothing. Where units lie aside already, the record of that run
/// is what counts, so this refuses.
pub async fn record(host: &dyn Host, fence: &Fence) -> Result<FenceRecord, FenceError> {
    let entries = entries(host, &fence.systemd).await?;
    let aside: Vec<String> = entries
        .iter()
        .filter(|entry| entry.path.ends_with(ASIDE))
        .map(|entry| entry.path.clone())
        .collect();
    if !aside.is_empty() {
        return Err(FenceError::AlreadyFenced { host: host.name().to_owned(), files: aside });
    }
    let units = services::discover(host, &fence.systemd).await?;
    let names: Vec<&str> = units.iter().map(|unit| unit.name.as_str()).collect();
    let record = |unit| unit_record(&fence.systemd, unit, &entries, &names);
    let units = units.iter().map(record).collect();
    Ok(FenceRecord { units, cron_jobs: cron::jobs(host, &fence.cron).await? })
}

fn unit_record(systemd: &Systemd, unit: &Unit, entries: &[Entry], names: &[&str]) -> UnitRecord {
    let path = format!("{}/{}", systemd.unit_dir, unit.name);
    let file = match entries.iter().find(|entry| entry.path == path) {
        None => UnitFile::Absent,
        Some(entry) if entry.target.as_deref() == Some("/dev/null") => UnitFile::Masked,
        Some(_) => UnitFile::Present,
    };
    let links = entries.iter().filter_map(|entry| entry.link_to(&systemd.unit_dir, &unit.name));
    // An alias that is a unit of its own in `names` is put aside as one.
    let is_unit =
        |link: &Link| names.iter().any(|name| link.path == format!("{}/{name}", systemd.unit_dir));
    UnitRecord {
        name: unit.name.clone(),
        was_running: unit.is_running(),
        file_state: unit.file_state.clone(),
        file,
        links: links.filter(|link| !is_unit(link)).collect(),
    }
}

/// Something in the unit directory or in a directory of it.
struct Entry {
    path: String,
    /// Where it points, if it is a link.
    target: Option<String>,
}

impl Entry {
    /// This entry as a link that enables `unit`, or names it otherwise.
    fn link_to(&self, unit_dir: &str, unit: &str) -> Option<Link> {
        let target = self.target.as_ref()?;
        let (dir, name) = self.path.rsplit_once('/')?;
        // What lies aside has a name that is no unit's any more.
        let other_unit = name != unit && !name.ends_with(ASIDE);
        let is_alias = dir == unit_dir && other_unit && target.rsplit('/').next() == Some(unit);
        let enables = dir != unit_dir && name == unit;
        (is_alias || enables).then(|| Link { path: self.path.clone(), target: target.clone() })
    }
}

async fn entries(host: &dyn Host, systemd: &Systemd) -> Result<Vec<Entry>, HostError> {
    let words = ["find", &systemd.unit_dir, "-mindepth", "1", "-maxdepth", "2"];
    let command = Command::new(words).args(["-printf", r"%y %p\0%l\0"]).run_as(RunAs::Root);
    let text = run_ok(host, &command).await?;
    let mut fields = text.split('\0');
    let mut entries = Vec::new();
    while let (Some(kind_and_path), Some(target)) = (fields.next(), fields.next()) {
        if let Some((kind, path)) = kind_and_path.split_once(' ') {
            let target = (kind == "l").then(|| target.to_owned());
            entries.push(Entry { path: path.to_owned(), target });
        }
    }
    entries.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(entries)
}

/// A way in which the old Mastodon runs or could start again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hole {
    Running {
        unit: String,
    },
    /// systemd would start it now, if asked.
    Startable {
        unit: String,
    },
    /// It would be startable after the next daemon-reload or boot.
    NotMaskedOnDisk {
        unit: String,
    },
    Enabled {
        unit: String,
        link: String,
    },
    /// A process of Mastodon's user that belongs to no unit we know.
    Process {
        pid: u32,
        command: String,
    },
    Cron {
        job: CronJob,
    },
}

impl fmt::Display for Hole {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hole::Running { unit } => write!(out, "{unit} runs"),
            Hole::Startable { unit } => write!(out, "{unit} can be started"),
            Hole::NotMaskedOnDisk { unit } => write!(out, "{unit} could start after a reboot"),
            Hole::Enabled { unit, link } => write!(out, "{unit} is enabled by {link}"),
            Hole::Process { pid, command } => write!(out, "process {pid} runs: {command}"),
            Hole::Cron { job } => write!(out, "{job} would run"),
        }
    }
}

/// Looks again, at everything: the recorded units and any that appeared since, their files on the
/// disk, the processes of Mastodon's user, and cron. Empty means that the fence holds.
pub async fn holes(
    host: &dyn Host,
    fence: &Fence,
    record: &FenceRecord,
) -> Result<Vec<Hole>, FenceError> {
    let mut holes = Vec::new();
    let entries = entries(host, &fence.systemd).await?;
    for unit in all_units(host, &fence.systemd, record).await? {
        holes.extend(unit_holes(&fence.systemd, &unit, &entries));
    }
    holes.extend(processes(host, &fence.cron).await?);
    holes.extend(cron::jobs(host, &fence.cron).await?.into_iter().map(|job| Hole::Cron { job }));
    Ok(holes)
}

async fn all_units(
    host: &dyn Host,
    systemd: &Systemd,
    record: &FenceRecord,
) -> Result<Vec<Unit>, HostError> {
    let found = services::discover(host, systemd).await?.into_iter().map(|unit| unit.name);
    let names: BTreeSet<String> = record.names().into_iter().chain(found).collect();
    services::describe(host, systemd, &names.into_iter().collect::<Vec<_>>()).await
}

fn unit_holes(systemd: &Systemd, unit: &Unit, entries: &[Entry]) -> Vec<Hole> {
    let name = || unit.name.clone();
    let mut holes = Vec::new();
    if unit.is_running() {
        holes.push(Hole::Running { unit: name() });
    }
    // Of a template systemd says nothing; its file does.
    let is_template = unit.name.contains("@.");
    match unit.load {
        LoadState::Loaded | LoadState::Broken(_) if !is_template => {
            holes.push(Hole::Startable { unit: name() });
        }
        LoadState::Loaded | LoadState::Broken(_) | LoadState::NotFound | LoadState::Masked => {}
    }
    let path = format!("{}/{}", systemd.unit_dir, unit.name);
    let file = entries.iter().find(|entry| entry.path == path);
    if file.and_then(|entry| entry.target.as_deref()) != Some("/dev/null") {
        holes.push(Hole::NotMaskedOnDisk { unit: name() });
    }
    let links = entries.iter().filter_map(|entry| entry.link_to(&systemd.unit_dir, &unit.name));
    holes.extend(links.map(|link| Hole::Enabled { unit: name(), link: link.path }));
    holes
}

/// The programs by which a process is known as Mastodon's.
const PROGRAMS: [&str; 11] = [
    "bundle",
    "node",
    "nodejs",
    "puma",
    "rails",
    "rake",
    "ruby",
    "sidekiq",
    "sidekiqswarm",
    "streaming",
    "tootctl",
];

/// Processes of Mastodon's user that run one of its programs in or from its directory. They are
/// looked for without systemd: a console in a forgotten terminal writes too.
async fn processes(host: &dyn Host, cron: &Cron) -> Result<Vec<Hole>, HostError> {
    let script = r#"id -u -- "$1" >/dev/null || exit 45
        root=$(readlink -f -- "$2") || root=$2
        ps -ww -u "$1" -o pid= -o args= | while read -r pid args; do
            dir=$(readlink -- "/proc/$pid/cwd") || continue
            case "$dir/" in
                "$root"/*) ;;
                *) case "$args" in *"$root"/*|*"$2"/*) ;; *) continue ;; esac ;;
            esac
            printf '%s %s\n' "$pid" "$args"
        done"#;
    let command = Command::script(script, &[&cron.user, &cron.root]).run_as(RunAs::Root);
    let text = run_ok(host, &command).await?;
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    let ours = lines.filter(|(_, command)| is_program(command));
    Ok(ours
        .filter_map(|(pid, command)| {
            // No more words: further ones may be secrets.
            let command = command.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
            Some(Hole::Process { pid: pid.parse().ok()?, command })
        })
        .collect())
}

/// Whether one of the first words is a program of Mastodon's: `puma: cluster worker 0`,
/// `/usr/bin/node ./streaming`, `ruby bin/tootctl media remove`.
fn is_program(command: &str) -> bool {
    command.split_whitespace().take(3).any(|word| {
        let name = word.rsplit('/').next().unwrap_or(word).trim_end_matches(':');
        let versioned = name
            .strip_prefix("ruby")
            .is_some_and(|rest| rest.starts_with(|char: char| char.is_ascii_digit()));
        versioned || PROGRAMS.contains(&name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_known_by_what_they_run() {
        let ours = [
            "puma: cluster worker 0: 812 [live]",
            "sidekiq 8.1.6 live [0 of 25 busy]",
            "/usr/bin/node ./streaming",
            "ruby3.3 bin/rails console",
        ];
        let others = ["vim config/puma.rb", "-bash", "tail -f log/production.log"];
        assert_eq!(ours.map(is_program), [true; 4]);
        assert_eq!(others.map(is_program), [false; 3]);
    }
}
