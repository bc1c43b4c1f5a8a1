//! `.env.production` as dotenv reads it: the process's own environment wins.

use std::collections::BTreeMap;
use std::path::Path;

use super::application::Problem;

pub struct Settings(BTreeMap<String, String>);

impl Settings {
    /// Reads the file at `path`.
    pub fn read(path: &Path) -> Result<Settings, Problem> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        Ok(Settings(text.lines().filter_map(assignment).collect()))
    }

    /// The value from the environment, else from the file; an empty one counts as absent.
    pub fn get(&self, name: &str) -> Option<String> {
        let found = std::env::var(name).ok().or_else(|| self.0.get(name).cloned());
        found.filter(|value| !value.is_empty())
    }

    pub fn required(&self, name: &str) -> Result<String, Problem> {
        self.get(name).ok_or_else(|| {
            format!("Mastodon cannot start: the variable {name} is missing from .env.production")
                .into()
        })
    }
}

fn assignment(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    let line = line.strip_prefix("export ").unwrap_or(line);
    if line.starts_with('#') {
        return None;
    }
    let (name, value) = line.split_once('=')?;
    let value = value.trim();
    let quoted = ['"', '\''].into_iter().find_map(|quote| {
        value.strip_prefix(quote)?.split_once(quote).map(|(inside, _)| inside.to_owned())
    });
    let bare = || value.split(" #").next().unwrap_or_default().trim_end().to_owned();
    Some((name.trim().to_owned(), quoted.unwrap_or_else(bare)))
}
