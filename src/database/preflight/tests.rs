//! Facts that something was made worse in, and what is said of them.

use super::*;
use crate::database::inspect::{Collation, Extension, Locale, Login, Provider};
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
        roles_all: vec!["mastodon".into()],
        databases: Vec::new(),
        available_extensions: Vec::new(),
        locales: vec!["C".into(), "en_US.utf8".into()],
        has_icu: true,
        collations: vec!["\"en_US.utf8\"".into()],
        wal_bytes_max: 1 << 30,
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
            policy_roles: Vec::new(),
            collations: Vec::new(),
            collations_changed: Vec::new(),
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
        jobs: 0,
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
        [
            "Refusal: the target has 1.0 MiB free, the database takes 1.0 GiB on the source (0 B of it indexes); up to \
          1.0 GiB of write-ahead log come on top"
        ]
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
            "Warning: the target has 1.0 MiB free, the database takes 1.0 GiB on the source (0 B of it indexes); up to \
          1.0 GiB of write-ahead log come on top"
        ]
    );
    assert_eq!(
        told(|facts| facts.database.policy_roles = vec!["mastodon".into(), "auditor".into()]),
        ["Refusal: row security policies are for auditor: the target lacks them"]
    );
    let collation = |provider, locale: &str, is_systems| Collation {
        name: "sorted".into(),
        provider,
        locale: locale.into(),
        is_systems,
    };
    assert_eq!(
        told(|facts| {
            facts.database.collations = vec![collation(Provider::Libc, "tlh_QO.utf8", false)];
        }),
        ["Refusal: the target does not have its locale (tlh_QO.utf8)"]
    );
    assert_eq!(
        told(|facts| {
            facts.database.collations = vec![collation(Provider::Icu, "de", false)];
            facts.database.collations_changed = vec!["sorted".into()];
            facts.target.has_icu = false;
        }),
        [
            "Refusal: the target's PostgreSQL is built without ICU (de)",
            "Warning: the source's system sorts by it differently than when its indexes were built: \
             they may be corrupt, and duplicates may be hidden under unique ones"
        ]
    );
    assert_eq!(
        told(|facts| {
            facts.database.collations = vec![collation(Provider::Libc, "de_DE.utf8", true)];
        }),
        ["Refusal: the target does not have it (de_DE.utf8)"]
    );
    assert_eq!(
        told(|facts| facts.target.disk_free_bytes = Some(5 << 28)),
        [
            "Warning: the target has 1.2 GiB free, the database takes 1.0 GiB on the source (0 B of it \
          indexes); up to 1.0 GiB of write-ahead log come on top"
        ]
    );
    assert_eq!(
        told(|facts| {
            facts.jobs = 16;
            facts.source.free_connections = 17;
        }),
        ["Warning: the source has 17 free, the copy takes up to 18"]
    );
    assert_eq!(
        told(|facts| facts.target.free_connections = -2),
        ["Warning: the target has 0 free, the copy takes up to 6"]
    );
    assert_eq!(
        told(|facts| facts.database.locale.version_now = Some("2.41".into())),
        ["Warning: the source's system sorts text differently than when the database was made: \
          its indexes may be corrupt, and duplicates may be hidden under unique ones"]
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
