//! Whether a copy can work, said before anything is touched. Pure: facts in, findings out.

use crate::event::Finding;
use crate::units::Bytes;

use super::inspect::{DatabaseFacts, Provider, ServerFacts, canonical_locale};
use super::target::Existing;
use super::{Version, inspect};

/// All that the answer depends on.
#[derive(Clone, Debug)]
pub struct Facts {
    pub source: ServerFacts,
    pub database: DatabaseFacts,
    /// `pg_dump` where the source's programs run.
    pub dump: Version,
    /// The target as its administrator sees it.
    pub target: ServerFacts,
    /// `pg_restore` where the target's programs run.
    pub restore: Version,
    /// The database to be written, and its owner to be.
    pub wanted: String,
    pub owner: String,
    pub owner_is_superuser: bool,
    pub existing: Existing,
    /// The operator allowed that the existing database is dropped.
    pub may_replace: bool,
    /// The owner may be created.
    pub may_create_role: bool,
}

/// The subject of findings about the database to be written.
pub const TARGET: &str = "target database";

/// Connections that a copy and its comparison take on each side.
const CONNECTIONS_WANTED: i64 = 6;

/// What there is to say about a copy under these facts, the worst first.
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    versions(facts, &mut found);
    locale(facts, &mut found);
    existing(facts, &mut found);
    extensions(facts, &mut found);
    connections(facts, &mut found);
    disk(facts, &mut found);
    left_behind(facts, &mut found);
    found.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    found
}

fn versions(facts: &Facts, found: &mut Vec<Finding>) {
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

fn locale(facts: &Facts, found: &mut Vec<Finding>) {
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

fn existing(facts: &Facts, found: &mut Vec<Finding>) {
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
pub(super) fn is_fit(facts: &Facts, there: &DatabaseFacts) -> bool {
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

fn extensions(facts: &Facts, found: &mut Vec<Finding>) {
    for extension in &facts.database.extensions {
        let subject = format!("extension {}", extension.name);
        match extension_plan(extension, &facts.target, facts.owner_is_superuser) {
            ExtensionPlan::WithArchive => {}
            ExtensionPlan::Beforehand if facts.target.login.is_superuser => {
                if extension.has_settings {
                    found.push(Finding::warning(
                        &subject,
                        "it is created by the administrator; the rows in its own tables are not \
                         copied",
                        Some("copy them by hand after the move".into()),
                    ));
                }
            }
            ExtensionPlan::Beforehand => found.push(Finding::refusal(
                &subject,
                "only a superuser can create it on the target",
                Some("name an administrator's login for the target".into()),
            )),
            ExtensionPlan::Missing => found.push(Finding::refusal(
                &subject,
                "the target does not have it",
                Some("install its package on the target".into()),
            )),
        }
    }
}

/// Who creates an extension on the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExtensionPlan {
    /// The restore, as the owner.
    WithArchive,
    /// A superuser, before the restore.
    Beforehand,
    Missing,
}

pub(super) fn extension_plan(
    extension: &inspect::Extension,
    target: &ServerFacts,
    owner_is_superuser: bool,
) -> ExtensionPlan {
    let available = target.available_extensions.iter().find(|found| found.name == extension.name);
    match available {
        None => ExtensionPlan::Missing,
        Some(found) if found.trusted || owner_is_superuser => ExtensionPlan::WithArchive,
        Some(_) => ExtensionPlan::Beforehand,
    }
}

fn connections(facts: &Facts, found: &mut Vec<Finding>) {
    for (side, server) in [("source", &facts.source), ("target", &facts.target)] {
        if server.free_connections < CONNECTIONS_WANTED {
            found.push(Finding::warning(
                "connections",
                format!(
                    "the {side} has {} free, the copy takes up to {CONNECTIONS_WANTED}",
                    server.free_connections.max(0)
                ),
                Some("stop what is not needed, or raise max_connections".into()),
            ));
        }
    }
    if let Some(oldest) = facts.source.long_transactions.first() {
        found.push(Finding::warning(
            "long transactions",
            format!("on the source, the oldest: {oldest}"),
            Some("a lock it holds would stop the copy; end it before the move".into()),
        ));
    }
}

fn disk(facts: &Facts, found: &mut Vec<Finding>) {
    let need = facts.database.size_bytes;
    let Some(free) = facts.target.disk_free_bytes else { return };
    let text = format!(
        "the target has {} free, the database takes {} on the source",
        Bytes(free),
        Bytes(need)
    );
    // What is dropped first makes room; of a half-done copy nobody knows how much.
    let dropped = match &facts.existing {
        Existing::Empty(there) | Existing::Complete(_, there) | Existing::Foreign(there)
            if facts.may_replace =>
        {
            there.size_bytes
        }
        Existing::HalfDone(_) => need,
        Existing::Absent | Existing::Empty(_) | Existing::Complete(..) | Existing::Foreign(_) => 0,
    };
    if free.saturating_add(dropped) < need {
        let remedy = Some("make room where PostgreSQL keeps its data".into());
        found.push(Finding::refusal("disk", text, remedy));
    } else if free < need + need / 2 {
        let remedy = Some("write-ahead log and index builds need room of their own".into());
        found.push(Finding::warning("disk", text, remedy));
    } else {
        found.push(Finding::ok("disk", text));
    }
}

fn left_behind(facts: &Facts, found: &mut Vec<Finding>) {
    if !facts.database.invalid_indexes.is_empty() {
        let names = facts.database.invalid_indexes.join(", ");
        found.push(Finding::warning(
            "invalid indexes",
            format!("of no use on the source, and not copied: {names}"),
            Some("REINDEX or DROP them on the source".into()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::inspect::{Extension, Locale, Login};
    use crate::event::Level;

    fn server(version: u32) -> ServerFacts {
        ServerFacts {
            label: "127.0.0.1:5432 (this server)".into(),
            version: Version(version),
            login: Login {
                name: "mastodon".into(),
                is_superuser: false,
                can_create_databases: true,
                can_create_roles: false,
            },
            wal_level: "replica".into(),
            free_connections: 90,
            long_transactions: Vec::new(),
            roles: vec!["mastodon".into()],
            databases: Vec::new(),
            available_extensions: Vec::new(),
            locales: vec!["C".into(), "en_US.utf8".into()],
            has_icu: true,
            disk_free_bytes: Some(10 << 30),
        }
    }

    fn facts() -> Facts {
        let locale = Locale {
            encoding: "UTF8".into(),
            provider: Provider::Libc,
            collate: "en_US.UTF-8".into(),
            ctype: "en_US.UTF-8".into(),
            locale: None,
            rules: None,
            version: Some("2.36".into()),
            version_now: Some("2.36".into()),
        };
        Facts {
            source: server(150_018),
            database: DatabaseFacts {
                name: "prod".into(),
                owner: "mastodon".into(),
                comment: None,
                locale,
                size_bytes: 1 << 30,
                extensions: Vec::new(),
                tables: Vec::new(),
                other_objects: 0,
                grantees: Vec::new(),
                invalid_indexes: Vec::new(),
                settings: Vec::new(),
            },
            dump: Version(150_018),
            target: server(170_002),
            restore: Version(170_002),
            wanted: "prod".into(),
            owner: "mastodon".into(),
            owner_is_superuser: false,
            existing: Existing::Absent,
            may_replace: false,
            may_create_role: false,
        }
    }

    /// What is not well under facts that `change` made worse.
    fn told(change: impl FnOnce(&mut Facts)) -> Vec<String> {
        let mut facts = facts();
        change(&mut facts);
        findings(&facts)
            .into_iter()
            .filter(|finding| finding.level != Level::Ok)
            .map(|finding| format!("{:?}: {}", finding.level, finding.text))
            .collect()
    }

    #[test]
    fn nothing_is_wrong_with_a_newer_target_that_has_everything() {
        assert_eq!(told(|_| {}), Vec::<String>::new());
    }

    #[test]
    fn each_obstacle_is_named() {
        assert_eq!(
            told(|facts| facts.target.version = Version(140_010)),
            ["Refusal: the target has 14.10, older than the source's 15.18"]
        );
        assert_eq!(
            told(|facts| facts.dump = Version(140_010)),
            ["Refusal: version 14.10 refuses to read a server 15.18"]
        );
        assert_eq!(
            told(|facts| facts.restore = Version(140_010)),
            ["Refusal: version 14.10 cannot read what pg_dump 15.18 writes"]
        );
        assert_eq!(
            told(|facts| facts.database.locale.ctype = "de_DE.UTF-8".into()),
            ["Refusal: the target does not have de_DE.UTF-8, which the database uses"]
        );
        assert_eq!(
            told(|facts| facts.owner = "other".into()),
            ["Refusal: the target has no role other that may log in"]
        );
        assert_eq!(
            told(|facts| facts.target.disk_free_bytes = Some(1 << 20)),
            ["Refusal: the target has 1.0 MiB free, the database takes 1.0 GiB on the source"]
        );
        // What is replaced makes room.
        assert_eq!(
            told(|facts| {
                facts.target.disk_free_bytes = Some(1 << 20);
                facts.existing = Existing::Foreign(facts.database.clone());
                facts.may_replace = true;
            }),
            [
                "Warning: prod will be dropped",
                "Warning: the target has 1.0 MiB free, the database takes 1.0 GiB on the source"
            ]
        );
        assert_eq!(
            told(|facts| facts.target.free_connections = -2),
            ["Warning: the target has 0 free, the copy takes up to 6"]
        );
        assert_eq!(
            told(|facts| facts.database.locale.version_now = Some("2.41".into())),
            [
                "Warning: the source's system sorts text differently than when the database was made: \
              its indexes may be corrupt, and duplicates may be hidden under unique ones"
            ]
        );
        let pgroonga = Extension {
            name: "pgroonga".into(),
            version: "3".into(),
            schema: "public".into(),
            has_settings: false,
        };
        assert_eq!(
            told(|facts| facts.database.extensions.push(pgroonga)),
            ["Refusal: the target does not have it"]
        );
    }
}
