//! The difference of two files as an operator may see it.

use std::fmt;

use super::EnvFile;

/// Keys whose values are no secret and worth seeing: they say where things are.
const HARMLESS: [&str; 29] = [
    "BIND",
    "CACHE_REDIS_DB",
    "CACHE_REDIS_HOST",
    "CACHE_REDIS_PORT",
    "DB_HOST",
    "DB_NAME",
    "DB_POOL",
    "DB_PORT",
    "DB_SSLMODE",
    "DB_USER",
    "ES_ENABLED",
    "ES_HOST",
    "ES_PORT",
    "ES_PRESET",
    "LOCAL_DOMAIN",
    "MAX_THREADS",
    "PAPERCLIP_ROOT_PATH",
    "PORT",
    "PREPARED_STATEMENTS",
    "REDIS_DB",
    "REDIS_HOST",
    "REDIS_PORT",
    "SIDEKIQ_CONCURRENCY",
    "SIDEKIQ_REDIS_DB",
    "SIDEKIQ_REDIS_HOST",
    "SIDEKIQ_REDIS_PORT",
    "SOCKET",
    "TRUSTED_PROXY_IP",
    "WEB_CONCURRENCY",
];

/// One key that is different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiffLine {
    pub key: String,
    pub change: Change,
    /// Both values, where the key is harmless.
    pub shown: Option<(Option<String>, Option<String>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Added,
    Removed,
    Changed,
}

impl fmt::Display for DiffLine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.change {
            Change::Added => '+',
            Change::Removed => '-',
            Change::Changed => '~',
        };
        write!(out, "{sign} {}", self.key)?;
        match &self.shown {
            Some((Some(old), Some(new))) => write!(out, ": {old} -> {new}"),
            Some((None, Some(only)) | (Some(only), None)) => write!(out, ": {only}"),
            Some((None, None)) | None => out.write_str(": [secret]"),
        }
    }
}

pub(super) fn diff(old: &EnvFile, new: &EnvFile) -> Vec<DiffLine> {
    let mut keys: Vec<&str> = old.keys().chain(new.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter().filter_map(|key| line(old, new, key)).collect()
}

fn line(old: &EnvFile, new: &EnvFile, key: &str) -> Option<DiffLine> {
    let change = match (old.values.get(key), new.values.get(key)) {
        (None, None) => return None,
        (Some(old), Some(new)) if old == new => return None,
        (Some(_), Some(_)) => Change::Changed,
        (None, Some(_)) => Change::Added,
        (Some(_), None) => Change::Removed,
    };
    let text = |file: &EnvFile| file.get(key).map(|secret| secret.expose().to_owned());
    let shown = HARMLESS.contains(&key).then(|| (text(old), text(new)));
    Some(DiffLine { key: key.to_owned(), change, shown })
}
