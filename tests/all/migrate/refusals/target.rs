//! A new server that is not what it has to be: empty, idle, and the same code.

use std::fs;

use super::{refused, small};
use crate::harness::sandbox::DATABASE;

#[test]
fn that_holds_data_already() {
    let sandbox = small();
    let postgres = &sandbox.new.postgres;
    postgres.sql("postgres", &format!("CREATE DATABASE {DATABASE}"));
    postgres.sql(DATABASE, "CREATE TABLE precious (id int)");
    let words = ["is not empty", "precious", "`database.replace_target = \"mastodon_production\"`"];
    refused(&sandbox, "a database that is not empty", 4, &words);
    postgres.sql("postgres", &format!("DROP DATABASE {DATABASE}"));

    sandbox.new.redis.cli(&["SET", "precious", "1"]);
    let words = ["holds 1 key already", "FLUSHDB"];
    refused(&sandbox, "a Redis that is not empty", 4, &words);
    assert_eq!(sandbox.new.redis.cli(&["GET", "precious"]), "1");
}

#[test]
fn that_is_another_mastodon_or_at_work() {
    let sandbox = small();
    let version = sandbox.new.live().join("lib/mastodon/version.rb");
    let text = fs::read_to_string(&version).unwrap();
    fs::write(&version, text.replacen('4', "5", 1)).unwrap();
    let words = ["Mastodon's version", "check out the source's commit", "never during it"];
    refused(&sandbox, "another version", 4, &words);
    fs::write(&version, text).unwrap();

    sandbox.new.systemctl(&["start", "mastodon-media-remove.timer"]);
    let words = ["running already: mastodon-media-remove.timer", "systemctl stop"];
    refused(&sandbox, "a new server that runs", 4, &words);
}
