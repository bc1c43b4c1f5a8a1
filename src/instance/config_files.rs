//! Configuration that comes along when the operator asks for it: nginx sites, units with their
//! drop-ins, PgBouncer, certificates.
//!
//! In flow paths on the source, out flow the same files on the target, and a record without their
//! contents by which [`undo`] puts the target back. Symlinks are followed, so a certificate from
//! letsencrypt's `live/` arrives as a file. Private keys arrive 0600. Nothing here knows what the
//! files mean; reloading their programs is for others.

mod install;

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::services::{Systemd, Unit};
use crate::error::{Advice, Retry};
use crate::host::{Command, Host, HostError, RunAs, files, run_ok};
pub use install::{install, undo};

/// How many files one call takes: configuration is small, and `/` is a typing error.
const FILES_MAX: usize = 1000;
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A file to install. Its content may be secret and is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigFile {
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    pub owner: String,
    pub group: String,
    pub content: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for ConfigFile {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {:o} {}:{}", self.path, self.mode, self.owner, self.group)
    }
}

/// What [`gather`] read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gathered {
    pub files: Vec<ConfigFile>,
    /// Paths at which nothing is, or no file.
    pub missing: Vec<String>,
}

/// What [`install`] did; enough to undo it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// Where what was replaced is kept on the target.
    pub keep_dir: String,
    pub files: Vec<InstalledFile>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledFile {
    pub path: String,
    pub change: FileChange,
    /// It belongs to root, because this owner and group are not both on the target.
    pub unknown_owner: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileChange {
    /// It was there already.
    Same,
    Created,
    Replaced,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigFilesError {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error("below {} on {host} are more than {FILES_MAX} files", paths.join(", "))]
    TooMany { host: String, paths: Vec<String> },
    #[error("{path} on {host} has {bytes} bytes: too large for configuration")]
    TooLarge { host: String, path: String, bytes: u64 },
    #[error("{path} is not an absolute path")]
    Relative { path: String },
}

impl Advice for ConfigFilesError {
    fn hint(&self) -> Option<String> {
        match self {
            ConfigFilesError::Host(error) => error.hint(),
            ConfigFilesError::TooMany { .. }
            | ConfigFilesError::TooLarge { .. }
            | ConfigFilesError::Relative { .. } => {
                Some("name the files themselves under `copy` in transhume.toml".into())
            }
        }
    }

    fn retry(&self) -> Retry {
        match self {
            ConfigFilesError::Host(error) => error.retry(),
            ConfigFilesError::TooMany { .. }
            | ConfigFilesError::TooLarge { .. }
            | ConfigFilesError::Relative { .. } => Retry::Never,
        }
    }
}

/// The unit files and drop-ins of `units` that an administrator installed. Those of packages come
/// with their packages.
pub fn unit_paths(systemd: &Systemd, units: &[Unit]) -> Vec<String> {
    let paths = units.iter().flat_map(|unit| unit.fragment.iter().chain(&unit.drop_ins));
    let inside = format!("{}/", systemd.unit_dir);
    let mut paths: Vec<String> = paths.filter(|path| path.starts_with(&inside)).cloned().collect();
    paths.sort();
    paths.dedup();
    paths
}

/// Reads files, and directories with everything below them.
pub async fn gather(host: &dyn Host, paths: &[String]) -> Result<Gathered, ConfigFilesError> {
    if let Some(path) = paths.iter().find(|path| !path.starts_with('/')) {
        return Err(ConfigFilesError::Relative { path: path.clone() });
    }
    let script = r#"for path in "$@"; do
            if [ -f "$path" ] || [ -d "$path" ]; then
                find -L "$path" -type f -printf '%m %s %u %g %p\0' || exit
            else
                printf 'missing %s\0' "$path"
            fi
        done"#;
    let words: Vec<&str> = paths.iter().map(String::as_str).collect();
    let command = Command::script(script, &words).run_as(RunAs::Root);
    let text = run_ok(host, &command).await?;
    let records: Vec<&str> = text.split('\0').filter(|record| !record.is_empty()).collect();
    if records.len() > FILES_MAX {
        let host = host.name().to_owned();
        return Err(ConfigFilesError::TooMany { host, paths: paths.to_vec() });
    }
    let mut gathered = Gathered::default();
    for record in records {
        match record.strip_prefix("missing ") {
            Some(path) => gathered.missing.push(path.to_owned()),
            None => gathered.files.extend(read(host, &command, record).await?),
        }
    }
    Ok(gathered)
}

/// The file that a line of the listing describes; `None` where it went away since.
async fn read(
    host: &dyn Host,
    command: &Command,
    record: &str,
) -> Result<Option<ConfigFile>, ConfigFilesError> {
    let odd = || HostError::Output {
        host: host.name().to_owned(),
        command: command.to_string(),
        problem: "a listing that cannot be understood".into(),
    };
    let fields: Vec<&str> = record.splitn(5, ' ').collect();
    let [mode, bytes, owner, group, path] = fields.as_slice() else { return Err(odd().into()) };
    let mode = u32::from_str_radix(mode, 8).map_err(|_| odd())?;
    let bytes: u64 = bytes.parse().map_err(|_| odd())?;
    if bytes > FILE_BYTES_MAX {
        let (host, path) = (host.name().to_owned(), (*path).to_owned());
        return Err(ConfigFilesError::TooLarge { host, path, bytes });
    }
    let content = files::read(host, &RunAs::Root, path).await?;
    Ok(content.map(|content| ConfigFile {
        path: (*path).to_owned(),
        mode: if is_private_key(&content) { 0o600 } else { mode },
        owner: (*owner).to_owned(),
        group: (*group).to_owned(),
        content: Zeroizing::new(content),
    }))
}

fn is_private_key(content: &[u8]) -> bool {
    const MARK: &[u8] = b"PRIVATE KEY-----";
    content.windows(MARK.len()).any(|window| window == MARK)
}
