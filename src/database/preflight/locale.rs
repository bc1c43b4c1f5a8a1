//! Whether the target encodes, sorts and folds text as the source does.

use super::super::inspect::{Collation, Provider, canonical_locale};
use super::Facts;
use crate::event::Finding;

/// Collations of columns, indexes and the operator's own: a restore stops at the first that cannot
/// be made.
pub(super) fn collations(facts: &Facts, found: &mut Vec<Finding>) {
    for collation in &facts.database.collations {
        let Collation { name, provider, locale, is_systems } = collation;
        let has_locale = || {
            let wanted = canonical_locale(locale);
            facts.target.locales.iter().any(|name| canonical_locale(name) == wanted)
        };
        let problem = match provider {
            _ if *is_systems && !facts.target.collations.contains(name) => Some((
                "the target does not have it",
                "on the target: install its locale, then SELECT \
                 pg_import_system_collations('pg_catalog') in template1 and template0",
            )),
            Provider::Icu if !facts.target.has_icu => {
                Some(("the target's PostgreSQL is built without ICU", "install one with ICU"))
            }
            Provider::Builtin if facts.target.version.major() < 17 => {
                Some(("the target would need PostgreSQL 17 or newer", "install it there"))
            }
            Provider::Libc if !is_systems && !has_locale() => Some((
                "the target does not have its locale",
                "on the target: add the locale to /etc/locale.gen, run `locale-gen`, restart \
                 PostgreSQL",
            )),
            Provider::Icu | Provider::Builtin | Provider::Libc => None,
        };
        if let Some((problem, remedy)) = problem {
            let subject = format!("collation {name}");
            let text = match locale.as_str() {
                "" => problem.to_owned(),
                locale => format!("{problem} ({locale})"),
            };
            found.push(Finding::refusal(&subject, text, Some(remedy.into())));
        }
        if collation_changed(facts, name) {
            found.push(Finding::warning(
                &format!("collation {name}"),
                "the source's system sorts by it differently than when its indexes were built: they \
                 may be corrupt, and duplicates may be hidden under unique ones",
                Some("the copy rebuilds all indexes and stops at a duplicate, naming the index".into()),
            ));
        }
    }
}

fn collation_changed(facts: &Facts, name: &str) -> bool {
    facts.database.collations_changed.iter().any(|changed| changed == name)
}

pub(super) fn locale(facts: &Facts, found: &mut Vec<Finding>) {
    let locale = &facts.database.locale;
    let has = |wanted: &str| {
        let wanted = canonical_locale(wanted);
        facts.target.locales.iter().any(|name| canonical_locale(name) == wanted)
    };
    let mut missing: Vec<&str> =
        [&*locale.collate, &*locale.ctype].into_iter().filter(|name| !has(name)).collect();
    missing.dedup();
    for name in &missing {
        found.push(Finding::refusal(
            "locale",
            format!("the target does not have {name}, which the database uses"),
            Some(format!(
                "on the target: add {name} to /etc/locale.gen, run `locale-gen`, restart \
                 PostgreSQL"
            )),
        ));
    }
    let needs = match locale.provider {
        Provider::Libc => None,
        Provider::Icu if !facts.target.has_icu => Some("a PostgreSQL built with ICU"),
        Provider::Icu => (facts.target.version.major() < 15).then_some("PostgreSQL 15 or newer"),
        Provider::Builtin => {
            (facts.target.version.major() < 17).then_some("PostgreSQL 17 or newer")
        }
    };
    if let Some(needs) = needs {
        let text = format!("{locale}: the target would need {needs}");
        found.push(Finding::refusal("locale", text, None));
    }
    if missing.is_empty() && needs.is_none() {
        found.push(Finding::ok("locale", format!("{locale}: the target has it")));
    }
    if locale.encoding != "UTF8" {
        found.push(Finding::warning(
            "encoding",
            format!("the database is in {}, Mastodon wants UTF8; it is kept", locale.encoding),
            None,
        ));
    }
    if locale.version != locale.version_now && locale.version.is_some() {
        found.push(Finding::warning(
            "collation version",
            "the source's system sorts text differently than when the database was made: its \
             indexes may be corrupt, and duplicates may be hidden under unique ones",
            Some("the copy rebuilds all indexes and stops at a duplicate, naming the index".into()),
        ));
    }
}
