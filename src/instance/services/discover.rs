//! Which units there are: those systemd has loaded, those it has files for, and instances that
//! are only enabled.

use std::collections::BTreeSet;

use super::{Systemd, Unit, describe};
use crate::host::{Host, HostError, RunAs, failure, files, run};

/// Mastodon's units: services, timers, paths, sockets and targets that match the patterns, with
/// the instances of templates. Templates themselves are among them: they have files but no state.
pub async fn discover(host: &dyn Host, systemd: &Systemd) -> Result<Vec<Unit>, HostError> {
    let mut names = BTreeSet::new();
    names.extend(list(host, systemd, &["list-units", "--all"]).await?);
    names.extend(list(host, systemd, &["list-unit-files"]).await?);
    names.extend(enabled(host, systemd).await?);
    let names: Vec<String> = names.into_iter().filter(|name| is_ours(systemd, name)).collect();
    describe(host, systemd, &names).await
}

async fn list(
    host: &dyn Host,
    systemd: &Systemd,
    words: &[&str],
) -> Result<Vec<String>, HostError> {
    let options = ["--plain", "--no-legend", "--no-pager", "--full", "--"];
    let command = systemd.command(words.iter().chain(&options).copied()).args(&systemd.patterns);
    let output = run(host, &command).await?;
    // `list-unit-files` fails, silently, when nothing matches.
    let nothing = output.stdout.is_empty() && output.stderr_tail.trim().is_empty();
    if !output.success() && !nothing {
        return Err(failure(host, &command, output));
    }
    Ok(output.text().lines().filter_map(unit_name).collect())
}

/// The unit's name in a line of a list. Failed units may carry a dot in front.
fn unit_name(line: &str) -> Option<String> {
    line.split_whitespace().find(|word| word.contains('.')).map(str::to_owned)
}

/// The names that links in `*.wants` directories enable: an instance may be enabled and neither
/// loaded nor have a file.
async fn enabled(host: &dyn Host, systemd: &Systemd) -> Result<Vec<String>, HostError> {
    let mut names = Vec::new();
    let entries = files::list(host, &RunAs::Root, &systemd.unit_dir).await?;
    for entry in
        entries.iter().filter(|name| name.ends_with(".wants") || name.ends_with(".requires"))
    {
        let dir = format!("{}/{entry}", systemd.unit_dir);
        names.extend(files::list(host, &RunAs::Root, &dir).await?);
    }
    Ok(names)
}

/// Slices, scopes, mounts and devices are never ours to stop, whatever their names.
fn is_ours(systemd: &Systemd, name: &str) -> bool {
    let kinds = [".service", ".timer", ".path", ".socket", ".target"];
    kinds.iter().any(|kind| name.ends_with(kind)) && matches_any(&systemd.patterns, name)
}

/// Whether `name` matches one of the patterns, with or without its type: `mastodon-web` names
/// `mastodon-web.service`.
pub fn matches_any(patterns: &[String], name: &str) -> bool {
    let stem = name.strip_suffix(".service");
    patterns.iter().any(|pattern| {
        let pattern = pattern.as_bytes();
        matches(pattern, name.as_bytes())
            || stem.is_some_and(|stem| matches(pattern, stem.as_bytes()))
    })
}

/// Whether a shell pattern of `*`, `?` and plain characters matches the whole of `name`.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=name.len()).any(|skipped| matches(rest, &name[skipped..])),
        (Some((b'?', pattern)), Some((_, name))) => matches(pattern, name),
        (Some((wanted, pattern)), Some((found, name))) => wanted == found && matches(pattern, name),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// The template of an instance: `mastodon-streaming@.service`. `None` for any other name.
pub fn template_of(name: &str) -> Option<String> {
    let (stem, kind) = name.rsplit_once('.')?;
    let (prefix, instance) = stem.split_once('@')?;
    (!instance.is_empty()).then(|| format!("{prefix}@.{kind}"))
}

pub(super) fn is_template(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(stem, _)| stem.ends_with('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names_with_or_without_the_type() {
        let patterns = ["mastodon*".to_owned(), "puma-?".to_owned()];
        let names = [
            "mastodon-web.service",
            "mastodon.target",
            "puma-1.service",
            "puma-10.service",
            "my-mastodon.service",
        ];
        assert_eq!(
            names.map(|name| matches_any(&patterns, name)),
            [true, true, true, false, false]
        );
    }

    #[test]
    fn a_failed_unit_is_found_behind_its_dot() {
        let line = "● mastodon-web.service loaded failed failed mastodon-web";
        assert_eq!(unit_name(line).unwrap(), "mastodon-web.service");
    }
}
