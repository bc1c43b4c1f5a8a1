//! Whether the servers and their programs understand each other.

use super::Facts;
use crate::event::Finding;

pub(super) fn versions(facts: &Facts, found: &mut Vec<Finding>) {
    let (source, target) = (facts.source.version, facts.target.version);
    if target.major() < source.major() {
        found.push(Finding::refusal(
            "PostgreSQL version",
            format!("the target has {target}, older than the source's {source}"),
            Some(format!("install PostgreSQL {} or newer on the target", source.major())),
        ));
    } else {
        let text = format!("source {source}, target {target}");
        found.push(Finding::ok("PostgreSQL version", text));
    }
    if facts.dump.major() < source.major() {
        found.push(Finding::refusal(
            "pg_dump",
            format!("version {} refuses to read a server {source}", facts.dump),
            Some(format!("set `bin_dir` to the programs of PostgreSQL {}", source.major())),
        ));
    }
    if facts.restore.major() < facts.dump.major() {
        found.push(Finding::refusal(
            "pg_restore",
            format!("version {} cannot read what pg_dump {} writes", facts.restore, facts.dump),
            Some("set `bin_dir` of the target to the programs of its newest PostgreSQL".into()),
        ));
    }
}
