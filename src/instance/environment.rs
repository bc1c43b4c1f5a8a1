//! The variables that Mastodon's processes run with: `.env.production`, and what their units add.
//!
//! A process has what its unit says, `EnvironmentFile=` before `Environment=`; dotenv then adds
//! what is not set yet. So a unit beats `.env.production`, and two units may differ. In flow units
//! and files, out flow values with their origin, and findings that name keys, never values.

mod systemd_file;

use std::collections::BTreeMap;
use std::fmt;

use super::env_file::{EnvFile, EnvFileError};
use super::layout::Version;
use super::services::{Unit, UnitKind};
use super::stores::missing_secrets;
use super::variables::Variables;
use crate::error::{Advice, Retry};
use crate::event::Finding;
use crate::host::{Host, HostError, RunAs, files};
use crate::secret::Secret;

/// The variables of one machine's Mastodon.
#[derive(Clone, Debug)]
pub struct Environment {
    /// `.env.production` itself, to be changed and written elsewhere.
    pub file: EnvFile,
    pub file_path: String,
    /// Its permission bits.
    pub file_mode: u32,
    values: BTreeMap<String, (Secret, Origin)>,
    conflicts: Vec<Conflict>,
    /// Units with an `EnvironmentFile=` that is not there.
    missing_files: Vec<(String, String)>,
}

/// Where a value was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    EnvFile,
    /// `Environment=` of a unit.
    Unit(String),
    /// `EnvironmentFile=` of a unit.
    UnitFile {
        unit: String,
        path: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::EnvFile => out.write_str(".env.production"),
            Origin::Unit(unit) => write!(out, "Environment= of {unit}"),
            Origin::UnitFile { unit, path } => write!(out, "{path}, which {unit} reads"),
        }
    }
}

/// A key for which two units see different values.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Conflict {
    key: String,
    units: [String; 2],
}

#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error("there is no {path} on {host}")]
    Missing { host: String, path: String },
    #[error("cannot understand {path} on {host}")]
    Invalid { host: String, path: String, source: EnvFileError },
}

impl Advice for EnvironmentError {
    fn hint(&self) -> Option<String> {
        match self {
            EnvironmentError::Host(error) => error.hint(),
            EnvironmentError::Missing { .. } => {
                Some("set `root` or `env_file` of that side in transhume.toml".into())
            }
            EnvironmentError::Invalid { source, .. } => source.hint(),
        }
    }

    fn retry(&self) -> Retry {
        match self {
            EnvironmentError::Host(error) => error.retry(),
            EnvironmentError::Missing { .. } | EnvironmentError::Invalid { .. } => Retry::Never,
        }
    }
}

/// Reads `.env.production` at `path` and what `units` add to it.
pub async fn read(
    host: &dyn Host,
    path: &str,
    units: &[Unit],
) -> Result<Environment, EnvironmentError> {
    let name = || host.name().to_owned();
    let missing = || EnvironmentError::Missing { host: name(), path: path.to_owned() };
    let bytes = files::read(host, &RunAs::Root, path).await?.ok_or_else(missing)?;
    let file_mode = files::stat(host, &RunAs::Root, path).await?.ok_or_else(missing)?.mode;
    let file = EnvFile::parse(&bytes).map_err(|source| EnvironmentError::Invalid {
        host: name(),
        path: path.to_owned(),
        source,
    })?;
    let mut layers = Vec::new();
    let mut missing_files = Vec::new();
    for unit in processes(units) {
        let (layer, missing) = layer_of(host, unit).await?;
        missing_files.extend(missing.into_iter().map(|path| (unit.name.clone(), path)));
        layers.push((unit.name.clone(), layer));
    }
    let (values, conflicts) = merge(&file, &layers);
    let file_path = path.to_owned();
    Ok(Environment { file, file_path, file_mode, values, conflicts, missing_files })
}

/// The units that are Mastodon's own processes, the one whose word counts most first.
fn processes(units: &[Unit]) -> Vec<&Unit> {
    let kinds = [UnitKind::Web, UnitKind::Sidekiq, UnitKind::Streaming];
    kinds.iter().flat_map(|kind| units.iter().filter(move |unit| unit.kind == *kind)).collect()
}

/// What a unit adds.
type Layer = BTreeMap<String, (Secret, Origin)>;

/// What a unit says, and which of its files are missing.
async fn layer_of(host: &dyn Host, unit: &Unit) -> Result<(Layer, Vec<String>), HostError> {
    let mut layer = Layer::new();
    let mut missing = Vec::new();
    for (key, value) in &unit.environment {
        layer.insert(key.clone(), (value.clone(), Origin::Unit(unit.name.clone())));
    }
    for file in &unit.environment_files {
        // A directory that is not there either is an error of the read.
        let bytes = match files::read(host, &RunAs::Root, &file.path).await {
            Ok(bytes) => bytes,
            Err(HostError::Failed { .. }) => None,
            Err(error) => return Err(error),
        };
        match bytes {
            Some(bytes) => {
                let origin = Origin::UnitFile { unit: unit.name.clone(), path: file.path.clone() };
                let values = systemd_file::parse(&bytes);
                layer.extend(values.into_iter().map(|(key, value)| (key, (value, origin.clone()))));
            }
            None if file.optional => {}
            None => missing.push(file.path.clone()),
        }
    }
    Ok((layer, missing))
}

/// The value of every key, the first unit's where units differ, and where they do.
fn merge(file: &EnvFile, layers: &[(String, Layer)]) -> (Layer, Vec<Conflict>) {
    let from_file: Layer = file
        .keys()
        .filter_map(|key| Some((key.to_owned(), (file.get(key)?, Origin::EnvFile))))
        .collect();
    let mut values = from_file.clone();
    for (_, layer) in layers.iter().rev() {
        values.extend(layer.clone());
    }
    let mut conflicts = Vec::new();
    for key in values.keys().filter(|key| !differs_by_nature(key)) {
        let seen = |layer: &Layer| {
            layer.get(key).or_else(|| from_file.get(key)).map(|(value, _)| value.clone())
        };
        let mut views = layers.iter().map(|(unit, layer)| (unit, seen(layer)));
        let Some((first, value)) = views.next() else { break };
        if let Some((other, _)) = views.find(|(_, other)| *other != value) {
            let units = [first.clone(), other.clone()];
            conflicts.push(Conflict { key: key.clone(), units });
        }
    }
    (values, conflicts)
}

/// Keys that say how a process runs, not where its data is: no two need to agree.
fn differs_by_nature(key: &str) -> bool {
    const PREFIXES: [&str; 6] =
        ["MALLOC_", "LD_", "OTEL_", "MASTODON_PROMETHEUS_", "NODE_", "RUBY"];
    const KEYS: [&str; 11] = [
        "BIND",
        "DB_POOL",
        "MAX_THREADS",
        "MIN_THREADS",
        "PATH",
        "PORT",
        "RAILS_ENV",
        "RAILS_LOG_LEVEL",
        "SOCKET",
        "STREAMING_CLUSTER_NUM",
        "WEB_CONCURRENCY",
    ];
    KEYS.contains(&key) || PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}

impl Variables for Environment {
    fn get(&self, key: &str) -> Option<Secret> {
        self.values.get(key).map(|(value, _)| value.clone())
    }
}

impl Environment {
    /// Where the value of `key` comes from.
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        self.values.get(key).map(|(_, origin)| origin)
    }

    /// What an operator should know before this is moved.
    pub fn findings(&self, version: Option<&Version>) -> Vec<Finding> {
        const SUBJECT: &str = "environment";
        let mut findings = Vec::new();
        let mut missing = missing_secrets(self, version);
        missing.retain(|key| !self.file.commands().any(|command| command == *key));
        if missing.is_empty() {
            findings.push(Finding::ok(SUBJECT, "all secrets are there"));
        } else {
            let text = format!("{} has no {}", self.file_path, missing.join(", "));
            let remedy = "put them back from a backup of .env.production; new ones would cut off \
                          logins, two-factor codes, push and federation";
            findings.push(Finding::refusal(SUBJECT, text, Some(remedy.into())));
        }
        findings.extend(self.namespace_finding(version));
        if self.file_mode & 0o077 != 0 {
            let text =
                format!("{} can be read by others (mode {:o})", self.file_path, self.file_mode);
            let remedy = format!("chmod 600 {}", self.file_path);
            findings.push(Finding::warning(SUBJECT, text, Some(remedy)));
        }
        for key in self.file.commands() {
            let text = format!("{key} is what a shell command prints, which is not run here");
            let remedy = format!("write the value of {key} into {}", self.file_path);
            findings.push(Finding::warning(SUBJECT, text, Some(remedy)));
        }
        for Conflict { key, units: [one, other] } in &self.conflicts {
            let text = format!("{one} and {other} run with different values of {key}");
            let remedy = format!("let both have the {key} of .env.production");
            findings.push(Finding::warning(SUBJECT, text, Some(remedy)));
        }
        for (unit, path) in &self.missing_files {
            let text = format!("{unit} wants {path}, which cannot be read");
            findings.push(Finding::warning(SUBJECT, text, None));
        }
        findings
    }

    fn namespace_finding(&self, version: Option<&Version>) -> Option<Finding> {
        self.get("REDIS_NAMESPACE").filter(|value| !value.is_empty())?;
        let gone = version.is_none_or(|version| version.at_least(4, 4));
        let remedy = "https://github.com/mastodon/redis_namespace_migration".to_owned();
        let text = "REDIS_NAMESPACE is set";
        Some(if gone {
            let text = format!("{text}, with which Mastodon 4.4 and later do not start");
            Finding::refusal("environment", text, Some(format!("rename the keys first: {remedy}")))
        } else {
            let text = format!("{text}: Mastodon 4.4 and later will not start with it");
            Finding::warning("environment", text, Some(format!("before an upgrade: {remedy}")))
        })
    }
}

#[cfg(test)]
mod tests;
