//! PostgreSQL on either side.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{EnvFile, chmod, configure, refused, small};
use crate::harness::free_port;
use crate::harness::process::tool;
use crate::harness::sandbox::{DATABASE, Locale, Options, Sandbox};

#[test]
fn not_there_or_not_mastodons_on_the_old_server() {
    let sandbox = small();
    let env = EnvFile::of(&sandbox.old);
    let port = free_port();
    env.set("DB_PORT", Some(&port.to_string()));
    let nobody = format!("cannot reach PostgreSQL at 127.0.0.1:{port} (this server)");
    refused(&sandbox, "nobody listens", 4, &[&nobody, "Connection refused", "pg_lsclusters"]);

    env.set("DB_PASS", Some("wrong"));
    let words = ["does not accept the login as mastodon", "check the password of mastodon"];
    refused(&sandbox, "a wrong password", 4, &words);

    env.set("DB_NAME", Some("mastodon_prodution"));
    let words = ["there is no database mastodon_prodution on", "`psql -l`"];
    refused(&sandbox, "a database that is not there", 4, &words);

    env.set("DB_NAME", Some("postgres"));
    let words = ["is not Mastodon's: it has no accounts, schema_migrations", "correct DB_NAME"];
    refused(&sandbox, "some other database", 4, &words);
}

#[test]
fn not_there_on_the_new_server() {
    let sandbox = small();
    configure(&sandbox, &["target", "env", "DB_PORT"], "1");
    let words = ["cannot reach PostgreSQL at 127.0.0.1:1 (127.0.0.1)", "pg_lsclusters"];
    refused(&sandbox, "nobody listens", 4, &words);
}

/// The system's only UTF-8 locale under another name, which the old server's PostgreSQL alone
/// finds.
#[test]
fn a_locale_that_the_new_server_does_not_have() {
    let compiled = ["C.utf8", "C.UTF-8"].map(|name| Path::new("/usr/lib/locale").join(name));
    let Some(compiled) = compiled.iter().find(|path| path.is_dir()) else {
        eprintln!("skipped: this system has no compiled C.UTF-8 to be given another name");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    chmod(dir.path(), 0o755);
    tool(Command::new("cp").arg("-rL").arg(compiled).arg(dir.path().join("tt_TT.utf8")));
    let locale = Locale { name: "tt_TT.UTF-8".into(), dir: dir.path().to_owned() };
    let sandbox = Sandbox::start(&Options { locale: Some(locale), ..Options::small() });
    let words = [
        "locale: the target does not have tt_TT.UTF-8, which the database uses",
        "add tt_TT.UTF-8 to /etc/locale.gen, run `locale-gen`, restart PostgreSQL",
    ];
    refused(&sandbox, "a locale that is missing", 4, &words);
}

/// PostgreSQL counts what its files say they are; a file with a hole says whatever we like.
#[test]
fn a_disk_that_is_too_small_on_the_new_server() {
    let sandbox = small();
    let free = tool(
        Command::new("df").args(["-B1", "--output=avail"]).arg(sandbox.new.postgres.data_dir()),
    );
    let free: u64 = free.lines().last().unwrap().trim().parse().unwrap();
    let oid = format!("SELECT oid FROM pg_database WHERE datname = '{DATABASE}'");
    let oid = sandbox.old.postgres.sql("postgres", &oid);
    let path = sandbox.old.postgres.data_dir().join("base").join(oid).join("999999999");
    let hole = fs::File::create(&path).unwrap();
    if hole.set_len(free * 2).is_err() {
        eprintln!("skipped: this file system has no files of {} bytes", free * 2);
        return;
    }
    let words = ["disk: the target has", "the database takes", "make room where PostgreSQL keeps"];
    refused(&sandbox, "a disk that is short", 4, &words);
}
