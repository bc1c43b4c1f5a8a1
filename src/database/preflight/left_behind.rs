//! What a copy leaves behind on the source.

use super::Facts;
use crate::event::Finding;

pub(super) fn left_behind(facts: &Facts, found: &mut Vec<Finding>) {
    let has = |role: &&String| facts.target.roles_all.contains(role);
    let missing: Vec<&str> =
        facts.database.policy_roles.iter().filter(|role| !has(role)).map(String::as_str).collect();
    if !missing.is_empty() {
        found.push(Finding::refusal(
            "roles",
            format!("row security policies are for {}: the target lacks them", missing.join(", ")),
            Some(format!("on the target: CREATE ROLE \"{}\"", missing.join("\"; CREATE ROLE \""))),
        ));
    }
    if !facts.database.invalid_indexes.is_empty() {
        let names = facts.database.invalid_indexes.join(", ");
        found.push(Finding::warning(
            "invalid indexes",
            format!("of no use on the source, and not copied: {names}"),
            Some(
                "on the source: REINDEX INDEX CONCURRENTLY or DROP INDEX; SELECT \
                 indexrelid::regclass FROM pg_index WHERE NOT (indisvalid AND indisready AND \
                 indislive)"
                    .into(),
            ),
        ));
    }
    if !facts.database.grantees.is_empty() {
        found.push(Finding::warning(
            "grants",
            format!("rights given to {} are not copied", facts.database.grantees.join(", ")),
            Some("GRANT them on the target after the move".into()),
        ));
    }
    if !facts.database.settings.is_empty() {
        found.push(Finding::warning(
            "database settings",
            format!("not copied: {}", facts.database.settings.join(", ")),
            Some(format!("ALTER DATABASE \"{}\" SET … on the target", facts.wanted)),
        ));
    }
}
