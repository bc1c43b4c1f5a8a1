//! `.env.production`: read as Ruby's dotenv 3 reads it, changed without touching another byte.
//!
//! In flow the file's bytes, out flow values, and new bytes. It does no I/O, never runs the
//! `$(commands)` that dotenv would run, and never prints a value, apart from those of a few
//! harmless keys in [`EnvFile::redacted_diff`].

mod diff;
mod scan;
mod value;
mod write;

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroizing;

use crate::error::Advice;
use crate::secret::Secret;
pub use diff::{Change, DiffLine};
use scan::Statement;

/// A file, understood and kept byte for byte.
#[derive(Clone, PartialEq, Eq)]
pub struct EnvFile {
    bytes: Zeroizing<Vec<u8>>,
    statements: Vec<Statement>,
    values: BTreeMap<String, Value>,
}

/// What a key is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Known(Secret),
    /// dotenv would run a shell command to find it.
    Command,
}

/// Why a file cannot be read or changed. It names lines and keys, never values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvFileError {
    #[error("line {line} is not valid UTF-8")]
    NotText { line: usize },
    /// `export KEY` of a key that has no value: dotenv, and so Mastodon, refuses the file.
    #[error("line {line} exports {key}, which is not set before")]
    ExportOfUnset { line: usize, key: String },
    #[error("{key} is not a name that a variable can have")]
    BadKey { key: String },
    /// No way of quoting gives this value back, or writing it would change another key.
    #[error("the new value of {key} cannot be written so that it is read back as it is")]
    Unwritable { key: String },
}

impl Advice for EnvFileError {
    fn hint(&self) -> Option<String> {
        match self {
            EnvFileError::NotText { .. } | EnvFileError::ExportOfUnset { .. } => {
                Some("correct that line: Mastodon cannot read the file either".into())
            }
            EnvFileError::BadKey { .. } => {
                Some("use letters, digits, `_` and `.` under `env` in transhume.toml".into())
            }
            EnvFileError::Unwritable { key } => {
                Some(format!("set {key} by hand, or look for an open quote further up in the file"))
            }
        }
    }
}

impl EnvFile {
    /// Understands `bytes`. Lines that are no assignment are kept and mean nothing, as in dotenv.
    pub fn parse(bytes: &[u8]) -> Result<EnvFile, EnvFileError> {
        let text = std::str::from_utf8(bytes).map_err(|error| EnvFileError::NotText {
            line: scan::line_of(bytes, error.valid_up_to()),
        })?;
        let statements = scan::statements(text);
        let values = value::evaluate(text, &statements)?;
        Ok(EnvFile { bytes: Zeroizing::new(bytes.to_vec()), statements, values })
    }

    /// The value of `key` as Mastodon sees it; `None` where it is not set, or set to what a shell
    /// command prints (see [`EnvFile::commands`]).
    pub fn get(&self, key: &str) -> Option<Secret> {
        match self.values.get(key)? {
            Value::Known(secret) => Some(secret.clone()),
            Value::Command => None,
        }
    }

    /// The keys that are set, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// The keys whose values only a shell command knows.
    pub fn commands(&self) -> impl Iterator<Item = &str> {
        let commands = self.values.iter().filter(|(_, value)| **value == Value::Command);
        commands.map(|(key, _)| key.as_str())
    }

    /// The same file with these values. A key that has its value already, and every byte that
    /// belongs to no changed value, stays; keys that are not there yet are appended.
    pub fn with(&self, changes: &BTreeMap<String, Secret>) -> Result<EnvFile, EnvFileError> {
        changes.iter().try_fold(self.clone(), |file, (key, value)| write::set(&file, key, value))
    }

    pub fn to_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What is different in `other`, without the values, apart from those of harmless keys.
    pub fn redacted_diff(&self, other: &EnvFile) -> Vec<DiffLine> {
        diff::diff(self, other)
    }
}

impl fmt::Debug for EnvFile {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("EnvFile").field("keys", &self.values.keys()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
