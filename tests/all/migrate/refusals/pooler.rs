//! PgBouncer between Mastodon and PostgreSQL: nothing may be copied through it.

use std::fs;

use super::{EnvFile, configure, refused, small};
use crate::harness::free_port;
use crate::harness::pgbouncer::PgBouncer;
use crate::harness::sandbox::{DATABASE, ROLE, Sandbox, Snapshot};
use crate::migrate::{assert_exit, told, transhume};

/// As Mastodon's documentation has it, in front of the old server's PostgreSQL on `port`.
fn bouncer(sandbox: &Sandbox, port: u16) -> PgBouncer {
    let password = &sandbox.old.database_password;
    let entry = format!(
        "{DATABASE} = host=127.0.0.1 port={port} dbname={DATABASE} user={ROLE} password={password}"
    );
    // The stand-ins prepare statements, which an old PgBouncer keeps apart in this mode alone.
    PgBouncer::start_with(&entry, &["pool_mode = session"])
}

#[test]
fn that_does_not_say_where_it_leads() {
    let sandbox = small();
    let pooler = bouncer(&sandbox, sandbox.old.postgres.port());
    let env = EnvFile::of(&sandbox.old);
    env.set("DB_PORT", Some(&pooler.port().to_string()));
    let words = ["is a connection pooler, not PostgreSQL itself", "`url` in `[source.database]`"];
    refused(&sandbox, "a pooler that looks like a server", 4, &words);

    env.set("DB_PORT", Some(&format!("{}\nPREPARED_STATEMENTS=false", pooler.port())));
    let words = [
        "looks like PgBouncer (port 6432, or PREPARED_STATEMENTS=false)",
        "does not tell where it leads",
        "`database.pgbouncer_ini`",
        "`database.url` of that side",
    ];
    refused(&sandbox, "a pooler whose configuration is not found", 4, &words);

    let nowhere = free_port();
    let lost = bouncer(&sandbox, nowhere);
    env.set("DB_PORT", Some(&lost.port().to_string()));
    let ini = lost.ini().display().to_string();
    configure(&sandbox, &["source", "database", "pgbouncer_ini"], ini.clone());
    let nobody = format!("cannot reach PostgreSQL at 127.0.0.1:{nowhere} (this server)");
    let way = format!("(where {ini} leads)");
    let words = [nobody.as_str(), &way, "pg_lsclusters"];
    refused(&sandbox, "a pooler in front of nothing", 4, &words);

    let text = fs::read_to_string(&ini).unwrap();
    fs::write(&ini, text.replace(&format!("{DATABASE} = "), "other = ")).unwrap();
    let words = ["does not say where the database", "`database.url` of that side"];
    refused(&sandbox, "a pooler for other databases", 4, &words);
}

#[test]
fn that_is_bypassed_by_its_configuration() {
    let sandbox = small();
    let pooler = bouncer(&sandbox, sandbox.old.postgres.port());
    let env = EnvFile::of(&sandbox.old);
    env.set("DB_PORT", Some(&pooler.port().to_string()));
    let old = Snapshot::take(&sandbox.old);
    let ini = pooler.ini().display().to_string();
    configure(&sandbox, &["source", "database", "pgbouncer_ini"], ini);
    let output = transhume(&sandbox, &["check"]);
    assert_exit(&output, 0);
    let port = sandbox.old.postgres.port();
    let bypassed = format!("bypassed: PostgreSQL is at 127.0.0.1:{port}");
    assert!(told(&output).contains(&bypassed), "{}", told(&output));

    assert_exit(&transhume(&sandbox, &["migrate", "--yes", "--until", "database"]), 0);
    let rows = "SELECT count(*) FROM statuses";
    let copied = sandbox.new.postgres.sql(DATABASE, rows);
    assert_eq!(copied, sandbox.old.postgres.sql(DATABASE, rows));
    assert_ne!(copied, "0");
    // And Mastodon itself comes back through it.
    assert_exit(&transhume(&sandbox, &["rollback", "--yes"]), 0);
    sandbox.wait_for_services(&sandbox.old);
    assert_eq!(sandbox.source_changes(&old), [""; 0]);
}
