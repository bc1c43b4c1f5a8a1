//! What is refused, before anything is touched.

use std::fs;

use super::{assert_exit, told, transhume};
use crate::harness::sandbox::{DATABASE, Options, Sandbox, Snapshot};

/// One refusal each: the exit code, the words, and an old server that was not touched.
#[test]
fn bad_input_is_refused_with_a_remedy_and_touches_nothing() {
    let sandbox = Sandbox::start(&Options::small());
    let old = Snapshot::take(&sandbox.old);
    let good = sandbox.config();
    let refused = |what: &str, code: i32, words: &[&str]| {
        let output = transhume(&sandbox, &["migrate", "--yes"]);
        let text = told(&output);
        assert_eq!(output.status.code(), Some(code), "{what}: {text}");
        for word in words {
            assert!(text.contains(word), "{what}: no {word:?} in\n{text}");
        }
        assert_eq!(sandbox.source_changes(&old), [""; 0], "{what}");
    };

    let mut config = good.clone();
    config.insert("medai".into(), toml::Table::new().into());
    sandbox.write_config(&config);
    refused("a key that is none", 2, &["unknown field `medai`", "docs/config.md"]);

    let mut config = good.clone();
    let known = sandbox.dir().join("nobody-known");
    fs::write(&known, "").unwrap();
    let options = config["target"]["ssh_options"].as_table_mut().unwrap();
    options.insert("UserKnownHostsFile".into(), known.display().to_string().into());
    sandbox.write_config(&config);
    refused("an unknown host key", 1, &["SHA256:", "hint"]);

    let mut config = good.clone();
    let wrong = sandbox.old.ssh.client_key().display().to_string();
    config["target"].as_table_mut().unwrap().insert("identity".into(), wrong.into());
    sandbox.write_config(&config);
    refused("a wrong key", 1, &["did not accept the login", "hint"]);

    let mut config = good.clone();
    config["target"]["env"].as_table_mut().unwrap().insert("DB_PORT".into(), "1".into());
    sandbox.write_config(&config);
    refused("no database there", 4, &["refusal", "database"]);
    sandbox.write_config(&good);

    sandbox.new.postgres.sql("postgres", &format!("CREATE DATABASE {DATABASE}"));
    sandbox.new.postgres.sql(DATABASE, "CREATE TABLE precious (id int)");
    refused("a target that is not empty", 4, &["is not empty", "precious"]);
    sandbox.new.postgres.sql("postgres", &format!("DROP DATABASE {DATABASE}"));

    sandbox.new.redis.cli(&["SET", "precious", "1"]);
    refused("a Redis that is not empty", 4, &["holds 1 key already", "FLUSHDB"]);
    sandbox.new.redis.cli(&["DEL", "precious"]);

    let version = sandbox.new.live().join("lib/mastodon/version.rb");
    let text = fs::read_to_string(&version).unwrap();
    fs::write(&version, text.replacen('4', "5", 1)).unwrap();
    refused("another version", 4, &["Mastodon's version", "never during it"]);
    fs::write(&version, text).unwrap();

    sandbox.new.systemctl(&["start", "mastodon-media-remove.timer"]);
    refused("a new server that runs", 4, &["running already", "systemctl stop"]);
    sandbox.new.systemctl(&["stop", "mastodon-media-remove.timer"]);

    let output = transhume(&sandbox, &["migrate"]);
    assert_exit(&output, 2);
    assert!(told(&output).contains("there is no terminal to ask on"), "{}", told(&output));
}
