//! The sandbox itself: it holds what it promises, a move by hand passes its verification, and what
//! a careless move leaves undone is found.

use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

use crate::harness::media_tree;
use crate::harness::sandbox::{DATABASE, Login, Options, Sandbox, Snapshot};
use crate::harness::{process, random, wait_for};

#[test]
fn the_old_server_works_and_the_new_one_is_ready() {
    let sandbox = Sandbox::start(&Options::small());
    let old = &sandbox.old;
    wait_for("the quick jobs being done", Duration::from_secs(30), || {
        let done = "SELECT count(*) FROM job_ledger WHERE worker = 'ActivityPub::DeliveryWorker'";
        old.postgres.sql(DATABASE, done).trim() == "20"
    });
    let count = |sql: &str| old.postgres.sql(DATABASE, sql).trim().parse::<u64>().unwrap();
    assert_eq!(count("SELECT count(*) FROM statuses"), 500);
    assert!(count("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") >= 25);
    let (media, nothing) = sandbox.media();
    assert!(media.files() >= 60 && media.hidden() > 0, "{} files", media.files());
    assert_eq!(nothing.files(), 0);
    for unit in sandbox.new.unit_names() {
        assert_eq!(sandbox.new.unit_state(&unit).0, "inactive", "{unit}");
    }
    let env = fs::read_to_string(old.env_path()).unwrap();
    assert!(env.matches(random::CANARY).count() > 8, "secrets can be recognised");
}

#[test]
fn the_configuration_is_one_that_transhume_reads() {
    let sandbox = Sandbox::start(&Options::small());
    let text = fs::read_to_string(sandbox.config_path()).unwrap();
    let config = transhume::config::Config::parse(&text, &sandbox.config_path()).unwrap();
    assert_eq!(config.source.root, sandbox.old.live().to_string_lossy());
    assert_eq!(config.target.env_path(), sandbox.new.env_path().to_string_lossy());
}

#[test]
fn a_move_by_hand_passes_with_either_way_to_log_in() {
    for login in [Login::Password, Login::Peer] {
        let sandbox = Sandbox::start(&Options { login, ..Options::small() });
        stop_old(&sandbox);
        copy(&sandbox);
        open_new(&sandbox);
        let verdict = sandbox.verify_moved();
        assert_eq!(verdict.problems, [""; 0], "with {login:?}");
        assert!(verdict.seen.len() > 12, "{:#?}", verdict.seen);
    }
}

#[test]
fn what_a_careless_move_leaves_undone_is_found() {
    let sandbox = Sandbox::start(&Options::small());
    stop_old(&sandbox);
    copy(&sandbox);
    let (old, new) = (&sandbox.old, &sandbox.new);
    // One of each: a row, a sequence, an index, a mode, a file, a key, a job twice, a cron line.
    new.postgres.sql(DATABASE, "UPDATE accounts SET note = 'changed' WHERE username = 'admin'");
    new.postgres.sql(DATABASE, "SELECT setval('statuses_id_seq', 1)");
    new.postgres.sql(DATABASE, "DROP INDEX index_statuses_on_uri");
    let hidden = "find . -type f -perm 600 -name '*.jpg' | head -n 1 | xargs chmod 644";
    run(Command::new("sh").args(["-c", hidden]).current_dir(new.media()));
    fs::write(new.media().join("site_uploads/stray"), "stray").unwrap();
    new.redis.cli(&["DEL", "odd:empty"]);
    let job = old.redis.cli(&["ZRANGE", "schedule", "0", "0"]);
    new.redis.cli(&["RPUSH", "queue:unheard-of", &job]);
    check(old.systemctl(&["unmask", "mastodon-streaming.service"]));
    check(old.systemctl(&["start", "mastodon-streaming.service"]));
    open_new(&sandbox);
    let problems = sandbox.verify_moved().problems.join("\n");
    for expected in [
        "rows missing: accounts|",
        "sequence missing: statuses_id_seq",
        "schema missing: CREATE UNIQUE INDEX index_statuses_on_uri",
        "mode: 384",
        "\"site_uploads/stray\" appeared",
        "Redis key odd:empty is missing",
        "0 times done, 2 times waiting",
        "mastodon-streaming.service is active",
    ] {
        assert!(problems.contains(expected), "not found: {expected}\nin:\n{problems}");
    }
}

#[test]
fn a_server_that_was_put_back_is_as_it_was_and_anything_left_is_found() {
    let sandbox = Sandbox::start(&Options::small());
    let (old, new) = (Snapshot::take(&sandbox.old), Snapshot::take(&sandbox.new));
    assert_eq!(sandbox.source_changes(&old), [""; 0]);
    sandbox.old.systemctl(&["stop", "mastodon-web.service"]);
    fs::write(sandbox.old.live().join("public/500.html.orig"), "left behind").unwrap();
    sandbox.new.postgres.sql("postgres", "CREATE DATABASE mastodon_production");
    let problems = sandbox.source_changes(&old).join("\n");
    assert!(
        problems.contains("mastodon-web.service: active and enabled became inactive"),
        "{problems}"
    );
    assert!(problems.contains("500.html.orig\" appeared"), "{problems}");
    let problems = sandbox.target_changes(&new).join("\n");
    assert!(problems.contains("the databases"), "{problems}");
}

#[test]
fn nothing_outlives_the_sandbox() {
    let sandbox = Sandbox::start(&Options::small());
    let dir = sandbox.dir().to_owned();
    let servers = [sandbox.old.ssh.pid(), sandbox.old.postgres.pid(), sandbox.new.postgres.pid()];
    let services = Sandbox::processes(&dir);
    assert_eq!(services.len(), 4, "web, two Sidekiqs, streaming");
    drop(sandbox);
    for pid in services.into_iter().chain(servers) {
        wait_for("the process being gone", Duration::from_secs(10), || !process::alive(pid));
    }
    assert!(!dir.exists());
}

/// The recipe by hand, first part: no writes any more, and no way back by a reboot.
fn stop_old(sandbox: &Sandbox) {
    let old = &sandbox.old;
    old.systemctl(&[
        "kill",
        "-s",
        "TSTP",
        "mastodon-sidekiq.service",
        "mastodon-sidekiq-pull.service",
    ]);
    let names = old.unit_names();
    for verb in ["stop", "disable", "mask"] {
        let words: Vec<&str> = [verb].into_iter().chain(names.iter().map(String::as_str)).collect();
        // What is masked cannot be a file in the same place: move it away first.
        if verb == "mask" {
            old.shelve_units();
        }
        check(old.systemctl(&words));
    }
    fs::remove_file(old.dir.join("var/spool/cron").join(&old.user)).unwrap();
}

/// The second part: database, media, Redis, settings.
fn copy(sandbox: &Sandbox) {
    let (old, new) = (&sandbox.old, &sandbox.new);
    new.postgres.create_database(DATABASE, "mastodon", "TEMPLATE template0");
    let dump = old.postgres.dump(DATABASE, &["--no-owner"]);
    new.postgres.sql(DATABASE, &format!("SET ROLE mastodon;\n{dump}\n"));
    new.postgres.sql(DATABASE, "ANALYZE");
    run(Command::new("cp").arg("-a").arg(old.media()).arg(new.media()));
    let port = old.redis.port().to_string();
    old.redis.cli(&["CONFIG", "SET", "repl-diskless-sync-delay", "0"]);
    new.redis.cli(&["CONFIG", "SET", "masterauth", old.redis.password().unwrap()]);
    new.redis.cli(&["REPLICAOF", "127.0.0.1", &port]);
    wait_for("Redis being copied", Duration::from_secs(20), || {
        new.redis.cli(&["INFO", "replication"]).contains("master_link_status:up")
    });
    new.redis.cli(&["REPLICAOF", "NO", "ONE"]);
    let overrides = new.overrides();
    let text = fs::read_to_string(old.env_path()).unwrap();
    let line = |line: &str| match line.split_once('=') {
        Some((name, _)) => match overrides.get(name).and_then(|value| value.as_str()) {
            Some(value) => format!("{name}={value}\n"),
            None => format!("{line}\n"),
        },
        None => format!("{line}\n"),
    };
    run(Command::new("cp").arg("-a").arg(old.env_path()).arg(new.env_path()));
    fs::write(new.env_path(), text.lines().map(line).collect::<String>()).unwrap();
    if let Some((uid, gid)) = new.owner {
        media_tree::give(&new.env_path(), uid, gid);
    }
}

/// The third part: the new server opens, the old one passes everything on.
fn open_new(sandbox: &Sandbox) {
    let (old, new) = (&sandbox.old, &sandbox.new);
    new.start_services();
    sandbox.wait_for_services(new);
    let site = String::from_utf8(old.nginx.site()).unwrap();
    let own = format!("server {}:{} ", old.address, old.web_port);
    let other = format!("server {}:{} ", new.address, new.web_port);
    fs::write(old.nginx.site_path(), site.replace(&own, &other)).unwrap();
    let words = old.nginx.reload_words();
    run(Command::new(&words[0]).args(&words[1..]));
}

fn run(command: &mut Command) {
    check(command.output().unwrap());
}

fn check(output: Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
