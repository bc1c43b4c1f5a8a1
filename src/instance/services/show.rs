//! `systemctl show`, understood.

use std::time::Duration;

use super::discover::is_template;
use super::{ActiveState, EnvironmentFile, LoadState, Systemd, Unit, UnitKind};
use crate::host::{Host, HostError, run_ok};
use crate::secret::Secret;

const PROPERTIES: &str = "--property=Id,LoadState,ActiveState,UnitFileState,FragmentPath,\
     DropInPaths,MainPID,User,ExecStart,Environment,EnvironmentFiles,TimeoutStopUSec";

/// What systemd says of `names`, in one call, in their order. A name that it does not know comes
/// back as not found; a template, of which systemd knows nothing but its file, as inactive.
pub async fn describe(
    host: &dyn Host,
    systemd: &Systemd,
    names: &[String],
) -> Result<Vec<Unit>, HostError> {
    let real: Vec<&str> =
        names.iter().map(String::as_str).filter(|name| !is_template(name)).collect();
    let text = show(host, systemd, &real).await?;
    let mut blocks = text.split("\n\n").map(Properties::new);
    // Asked for by an alias, a unit answers with its own name; ours is the one asked for.
    let units = names.iter().map(|name| {
        let block = if is_template(name) { None } else { blocks.next() };
        unit(name, &block.unwrap_or_default())
    });
    Ok(units.collect())
}

/// As many blocks as names, with an empty line between two.
async fn show(host: &dyn Host, systemd: &Systemd, names: &[&str]) -> Result<String, HostError> {
    if names.is_empty() {
        return Ok(String::new());
    }
    let command =
        systemd.command(["show", "--no-pager", PROPERTIES, "--"]).args(names.iter().copied());
    let text = run_ok(host, &command).await?;
    let blocks = text.split("\n\n").count();
    if blocks == names.len() {
        return Ok(text);
    }
    let problem = format!("{blocks} blocks for {} units", names.len());
    Err(HostError::Output { host: host.name().to_owned(), command: command.to_string(), problem })
}

/// One block of `KEY=VALUE` lines; a key may come more than once.
#[derive(Default)]
struct Properties<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Properties<'a> {
    fn new(block: &'a str) -> Self {
        Properties(block.lines().filter_map(|line| line.split_once('=')).collect())
    }

    fn all(&self, wanted: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| *key == wanted).map(|(_, value)| *value)
    }

    fn get(&self, wanted: &'a str) -> Option<&'a str> {
        self.all(wanted).next().filter(|value| !value.is_empty())
    }
}

fn unit(name: &str, properties: &Properties<'_>) -> Unit {
    let command = properties.get("ExecStart").map(command_text).unwrap_or_default();
    let load = match properties.get("LoadState") {
        Some("loaded") | None => LoadState::Loaded,
        Some("not-found") => LoadState::NotFound,
        Some("masked") => LoadState::Masked,
        Some(other) => LoadState::Broken(other.to_owned()),
    };
    let active = match properties.get("ActiveState") {
        Some("active" | "reloading" | "refreshing") => ActiveState::Active,
        Some("inactive") | None => ActiveState::Inactive,
        Some("failed") => ActiveState::Failed,
        Some(_) => ActiveState::Changing,
    };
    let owned = |key| properties.get(key).map(str::to_owned);
    Unit {
        name: name.to_owned(),
        kind: UnitKind::of(name, &command),
        load,
        active,
        file_state: owned("UnitFileState").unwrap_or_default(),
        fragment: owned("FragmentPath"),
        drop_ins: properties.get("DropInPaths").map(words).unwrap_or_default(),
        main_pid: properties
            .get("MainPID")
            .and_then(|pid| pid.parse().ok())
            .filter(|pid| *pid != 0),
        user: owned("User"),
        command,
        environment: properties.get("Environment").map(assignments).unwrap_or_default(),
        environment_files: properties
            .all("EnvironmentFiles")
            .filter_map(environment_file)
            .collect(),
        stop_timeout: properties.get("TimeoutStopUSec").and_then(span),
    }
}

/// The words of `{ path=… ; argv[]=WORDS ; ignore_errors=… }`.
fn command_text(value: &str) -> String {
    let argv = value.split_once("argv[]=").map_or(value, |(_, rest)| rest);
    argv.split_once(" ; ignore_errors=").map_or(argv, |(argv, _)| argv).trim().to_owned()
}

/// `PATH (ignore_errors=no)`.
fn environment_file(value: &str) -> Option<EnvironmentFile> {
    let (path, rest) = value.rsplit_once(" (ignore_errors=")?;
    Some(EnvironmentFile { path: path.to_owned(), optional: rest.starts_with("yes") })
}

fn assignments(value: &str) -> Vec<(String, Secret)> {
    let words = words(value).into_iter();
    words
        .filter_map(|word| {
            let (key, value) = word.split_once('=')?;
            Some((key.to_owned(), Secret::new(value)))
        })
        .collect()
}

/// The entries of a list: bare, in `"…"`, or in `$'…'`, as the versions of systemctl print them.
/// The oldest print `[unprintable]` for an entry with blanks; it has no `=` and gets lost.
fn words(value: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = value.chars().peekable();
    while let Some(char) = chars.next() {
        match (char, quote) {
            ('\\', Some(_)) => {
                let escaped = chars.next().map(|next| match next {
                    'n' => '\n',
                    't' => '\t',
                    other => other,
                });
                word.get_or_insert_default().extend(escaped);
            }
            ('$', None) if word.is_none() && chars.peek() == Some(&'\'') => {}
            ('"' | '\'', None) => {
                quote = Some(char);
                word.get_or_insert_default();
            }
            (_, Some(open)) if open == char => quote = None,
            (' ', None) => words.extend(word.take()),
            _ => word.get_or_insert_default().push(char),
        }
    }
    words.extend(word);
    words
}

/// A time span as systemd prints it: `15s`, `1min 30s`, `infinity`.
fn span(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    for word in text.split(' ') {
        let digits = word.find(|char: char| !char.is_ascii_digit() && char != '.')?;
        let (number, unit) = word.split_at(digits);
        let secs = match unit {
            "us" => 0.000_001,
            "ms" => 0.001,
            "s" => 1.0,
            "min" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        total += Duration::try_from_secs_f64(number.parse::<f64>().ok()? * secs).ok()?;
    }
    Some(total)
}

#[cfg(test)]
mod tests;
