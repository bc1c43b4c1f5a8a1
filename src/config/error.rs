//! Why there is no configuration to work with. No message repeats a value.

use std::path::PathBuf;

use crate::error::Advice;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("there is no configuration: looked for {}", list(looked))]
    Missing { looked: Vec<PathBuf> },
    #[error("cannot read {path}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// The parser's message without the offending lines: they may hold a password.
    #[error("{path}, line {line}: {message}")]
    Invalid { path: PathBuf, line: usize, message: String },
    #[error("{path} holds secrets ({}) and can be read by others (mode {mode:o})", keys.join(", "))]
    Readable { path: PathBuf, mode: u32, keys: Vec<String> },
    #[error("{path} can be written by others (mode {mode:o}), and its commands would be run")]
    Writable { path: PathBuf, mode: u32 },
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

impl Advice for ConfigError {
    fn hint(&self) -> Option<String> {
        match self {
            ConfigError::Missing { .. } => Some(
                "run `transhume init` on the old server to write one, or name it with -c".into(),
            ),
            ConfigError::Unreadable { source, .. } => {
                let is_denied = source.kind() == std::io::ErrorKind::PermissionDenied;
                is_denied.then(|| "run transhume as the owner of that file, usually root".into())
            }
            ConfigError::Readable { path, .. } => Some(format!(
                "chmod 600 {}; if anybody else works on this machine, change those secrets",
                path.display()
            )),
            ConfigError::Writable { path, .. } => {
                Some(format!("read it through, then chmod 600 {}", path.display()))
            }
            ConfigError::Invalid { .. } => Some("docs/config.md lists every key".into()),
        }
    }
}
