//! What is there under the name of the database to be, and who may make it.

use super::super::inspect::DatabaseFacts;
use super::super::target::Existing;
use super::{Facts, TARGET};
use crate::event::Finding;

pub(super) fn existing(facts: &Facts, found: &mut Vec<Finding>) {
    let name = &facts.wanted;
    let remedy = Some(format!("name another, or allow that it is dropped: `--replace {name}`"));
    let replaced = || Finding::warning(TARGET, format!("{name} will be dropped"), None);
    match &facts.existing {
        Existing::Absent => {
            may_create(facts, found);
        }
        Existing::HalfDone(mark) => {
            let text = format!(
                "{name} is a half-done copy of ours (run {}): it will be replaced",
                mark.run
            );
            found.push(Finding::ok(TARGET, text));
            may_create(facts, found);
        }
        Existing::Empty(there) if !is_fit(facts, there) => {
            if facts.may_replace {
                found.push(replaced());
            } else {
                let text = format!(
                    "{name} is there, empty, but it has {} and belongs to {}; wanted is {} and {}",
                    there.locale, there.owner, facts.database.locale, facts.owner
                );
                found.push(Finding::refusal(TARGET, text, remedy));
            }
        }
        Existing::Empty(_) => {
            found.push(Finding::ok(TARGET, format!("{name} is there, empty and fit")));
        }
        Existing::Complete(..) | Existing::Foreign(_) if facts.may_replace => {
            found.push(replaced());
        }
        Existing::Complete(mark, _) => {
            let text = format!("{name} holds the finished copy of run {}", mark.run);
            found.push(Finding::refusal(TARGET, text, remedy));
        }
        Existing::Foreign(there) => {
            let text = format!("{name} is not empty: it holds {}", contents(there));
            found.push(Finding::refusal(TARGET, text, remedy));
        }
    }
    if !facts.target.roles.contains(&facts.owner) && !facts.may_create_role {
        found.push(Finding::refusal(
            "role",
            format!("the target has no role {} that may log in", facts.owner),
            Some(format!("on the target: sudo -u postgres createuser {}", facts.owner)),
        ));
    }
}

fn may_create(facts: &Facts, found: &mut Vec<Finding>) {
    let login = &facts.target.login;
    if !login.can_create_databases {
        found.push(Finding::refusal(
            TARGET,
            format!("{} may not create {}", login.name, facts.wanted),
            Some(format!("on the target: ALTER ROLE \"{}\" CREATEDB", login.name)),
        ));
    }
}

/// Whether an empty database can be used as it is.
fn is_fit(facts: &Facts, there: &DatabaseFacts) -> bool {
    there.owner == facts.owner && there.locale.agrees_with(&facts.database.locale)
}

/// What a database holds, in a few words.
pub fn contents(database: &DatabaseFacts) -> String {
    let tables = crate::units::counted(database.tables.len() as u64, "table");
    let first: Vec<&str> =
        database.tables.iter().take(3).map(|table| table.name.as_str()).collect();
    match first.as_slice() {
        [] => crate::units::counted(database.other_objects.unsigned_abs(), "other object"),
        names => format!("{tables} ({}, …)", names.join(", ")),
    }
}
