//! The variables Mastodon runs with, wherever they were read from.

use std::collections::BTreeMap;

use super::env_file::EnvFile;
use crate::secret::Secret;

/// Looks up variables by name.
pub trait Variables: Sync {
    /// The value as Mastodon sees it: `None` is "not set", which is not the same as empty.
    fn get(&self, key: &str) -> Option<Secret>;
}

impl Variables for BTreeMap<String, Secret> {
    fn get(&self, key: &str) -> Option<Secret> {
        BTreeMap::get(self, key).cloned()
    }
}

impl Variables for EnvFile {
    fn get(&self, key: &str) -> Option<Secret> {
        EnvFile::get(self, key)
    }
}

/// The text of `key`, empty or not. For values that are no secret.
pub(super) fn text(variables: &dyn Variables, key: &str) -> Option<String> {
    variables.get(key).map(|value| value.expose().to_owned())
}

/// The text of `key` where there is any: Rails' `present?`.
pub(super) fn filled(variables: &dyn Variables, key: &str) -> Option<String> {
    text(variables, key).filter(|value| !value.trim().is_empty())
}

/// The secret in `key` where there is any.
pub(super) fn filled_secret(variables: &dyn Variables, key: &str) -> Option<Secret> {
    variables.get(key).filter(|value| !value.expose().trim().is_empty())
}

/// Whether `key` is exactly `true`, which is all that Mastodon takes for yes.
pub(super) fn is_true(variables: &dyn Variables, key: &str) -> bool {
    variables.get(key).is_some_and(|value| value.expose() == "true")
}
