//! Redis on either side.

use super::{EnvFile, configure, refused, small};
use crate::harness::free_port;
use crate::harness::newer_redis::NewerRedis;
use crate::migrate::{assert_exit, told, transhume};

#[test]
fn newer_than_the_one_of_the_new_server() {
    let sandbox = small();
    let redis = &sandbox.old.redis;
    let door = NewerRedis::of(redis.port());
    let url = format!("redis://:{}@127.0.0.1:{}/0", redis.password().unwrap(), door.port());
    configure(&sandbox, &["source", "redis_url"], url.clone());
    let words = [
        "on the new server cannot read what Redis 99.0.1 (Redis) writes",
        "dump format 999 is newer than",
        "install the same or a newer Redis on the new server",
        "`redis.mode = \"skip\"`",
    ];
    refused(&sandbox, "a newer Redis", 4, &words);

    // The other way out, at its price.
    let mut config = sandbox.config();
    config["source"].as_table_mut().unwrap().insert("redis_url".into(), url.into());
    config.insert(
        "redis".into(),
        toml::Table::from_iter([("mode".to_owned(), "skip".into())]).into(),
    );
    sandbox.write_config(&config);
    let output = transhume(&sandbox, &["check"]);
    assert_exit(&output, 3);
    assert!(told(&output).contains("queued jobs are lost"), "{}", told(&output));
}

#[test]
fn not_there_or_closed_to_us() {
    let sandbox = small();
    let env = EnvFile::of(&sandbox.old);
    let port = free_port();
    env.set("REDIS_PORT", Some(&port.to_string()));
    let nobody = format!("cannot connect to 127.0.0.1:{port}");
    refused(&sandbox, "nobody listens", 4, &["Redis on the source", &nobody, "REDIS_PORT"]);

    env.set("REDIS_PASSWORD", Some("wrong"));
    let words = ["did not accept the login", "check REDIS_PASSWORD in .env.production"];
    refused(&sandbox, "a wrong password", 4, &words);
}
