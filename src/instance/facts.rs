//! Answers of one look at a machine: `key=value` records, each ended by a NUL, as a shell script
//! prints them. One round trip for many questions.

use std::str::FromStr;

use crate::host::{Command, Host, HostError, run_ok};

/// Defines `say KEY VALUE` for a script and makes programs speak plainly.
pub(super) const SAY: &str =
    "LC_ALL=C; export LC_ALL; say() { printf '%s=%s\\000' \"$1\" \"$2\"; }\n";

/// What a script said, in order.
pub(super) struct Facts {
    records: Vec<(String, String)>,
    host: String,
    command: String,
}

impl Facts {
    /// Runs `command`, a script that begins with [`SAY`].
    pub async fn ask(host: &dyn Host, command: &Command) -> Result<Facts, HostError> {
        let text = run_ok(host, command).await?;
        let records = text.split('\0').filter_map(|record| record.split_once('='));
        Ok(Facts {
            records: records.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            host: host.name().to_owned(),
            command: command.to_string(),
        })
    }

    /// The first answer to `key` that is not empty.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.all(key).find(|value| !value.is_empty())
    }

    pub fn all<'a, 'key>(
        &'a self,
        key: &'key str,
    ) -> impl Iterator<Item = &'a str> + use<'a, 'key> {
        self.records.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The answer to `key`, which every machine has.
    pub fn need<T: FromStr>(&self, key: &str) -> Result<T, HostError> {
        self.get(key).and_then(|value| value.trim().parse().ok()).ok_or_else(|| self.odd(key))
    }

    /// The error for an answer that cannot be understood.
    pub fn odd(&self, key: &str) -> HostError {
        HostError::Output {
            host: self.host.clone(),
            command: self.command.clone(),
            problem: format!("nothing that can be understood about `{key}`"),
        }
    }
}
