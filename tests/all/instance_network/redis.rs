//! Moving Redis, on two real ones.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use redis::{Commands, Connection, Value, cmd};
use transhume::event::{Event, Recorder, Silent};
use transhume::host::Address;
use transhume::host::local::Local;
use transhume::instance::probe::Tls;
use transhume::instance::redis::copy::{Options, copy};
use transhume::instance::redis::{
    Copied, Flavour, Link, Proof, RedisError, by_type, clear, compatible, forget, inspect, prove,
    verify,
};
use transhume::instance::stores::RedisAddress;
use transhume::secret::Secret;

use crate::harness::free_port;
use crate::harness::nginx::Certificate;
use crate::harness::redis::Redis;

const OPTIONS: Options<'static> = Options { run: "run-1", namespace: None };

fn client(redis: &Redis) -> Connection {
    redis::Client::open(redis.url()).unwrap().get_connection().unwrap()
}

async fn link(redis: &Redis) -> Link {
    let address = RedisAddress::from_url(&Secret::new(redis.url())).unwrap();
    Link::connect(&Local::new(), &address, None).await.unwrap()
}

/// A bit of everything that Redis can hold, among it what Mastodon does.
fn fill(redis: &mut Connection) {
    let raw = |words: &[&[u8]], redis: &mut Connection| {
        let mut command = cmd(std::str::from_utf8(words[0]).unwrap());
        words[1..].iter().for_each(|word| {
            command.arg(*word);
        });
        command.query::<Value>(redis).unwrap();
    };
    let lines: &[&[&[u8]]] = &[
        &[b"SET", b"stat:processed", b"12345"],
        &[b"SET", b"binary\0key\xff\r\n", b"\0\x01\r\n\xfe"],
        &[b"SET", b"empty", b""],
        &[b"SET", b"soon", b"gone", b"PX", b"86400000"],
        &[b"PFADD", b"activity:logins:42", b"a", b"b"],
        &[b"RPUSH", b"queue:default", b"{\"jid\":1}", b"{\"jid\":2}", b"{\"jid\":2}", b"\xff"],
        &[b"SADD", b"queues", b"default", b"push"],
        &[b"SADD", b"numbers", b"1", b"2", b"3"],
        &[b"ZADD", b"feed:home:1", b"109", b"109", b"-inf", b"low", b"0.1", b"tenth"],
        &[b"ZADD", b"retry", b"1764000000.123456", b"{\"jid\":3}"],
        &[b"HSET", b"session", b"a", b"1", b"\0", b"\xff"],
        &[b"XADD", b"stream", b"5-1", b"field", b"value"],
        &[b"XADD", b"stream", b"5-2", b"field", b"other"],
        &[b"XGROUP", b"CREATE", b"stream", b"readers", b"5-1"],
        // What stays behind.
        &[b"SADD", b"processes", b"old:1:0123456789ab"],
        &[b"HSET", b"old:1:0123456789ab", b"busy", b"0"],
        &[b"HSET", b"old:1:0123456789ab:work", b"tid", b"{}"],
        &[b"SET", b"cache:views", b"x"],
    ];
    lines.iter().for_each(|words| raw(words, redis));
    for i in 0..2000 {
        let (member, score) = (format!("status-{i}"), f64::from(i) * 1.1);
        let _: () = redis.zadd("feed:home:big", &member, score).unwrap();
        let _: () = redis.hset("hash:big", &member, i).unwrap();
        let _: () = redis.sadd("set:big", &member).unwrap();
    }
}

const TRAVELLING: u64 = 15;
const LEFT_BEHIND: u64 = 4;

#[tokio::test]
async fn every_type_arrives_with_its_expiry_and_the_old_processes_do_not() {
    let (old, new) = (Redis::start(), Redis::start());
    fill(&mut client(&old));
    let (source, target) = (link(&old).await, link(&new).await);
    let events = Recorder::default();
    let copied = copy(&source, &target, &OPTIONS, &events).await.unwrap();
    assert_eq!((copied.keys, copied.excluded, copied.by_type), (TRAVELLING, LEFT_BEHIND, 0));
    assert!(events.events().iter().all(|event| matches!(event, Event::Progress(_))));

    let mut seen = client(&new);
    assert_eq!(
        seen.lrange::<_, Vec<Vec<u8>>>("queue:default", 0, -1).unwrap(),
        [&b"{\"jid\":1}"[..], b"{\"jid\":2}", b"{\"jid\":2}", b"\xff"]
    );
    assert_eq!(seen.get::<_, Vec<u8>>(&b"binary\0key\xff\r\n"[..]).unwrap(), b"\0\x01\r\n\xfe");
    assert_eq!(seen.zscore::<_, _, f64>("retry", "{\"jid\":3}").unwrap(), 1764000000.123456);
    assert_eq!(seen.pfcount::<_, u64>("activity:logins:42").unwrap(), 2);
    let ttl: i64 = seen.pttl("soon").unwrap();
    assert!((86_300_000..=86_400_000).contains(&ttl), "{ttl}");
    assert_eq!(seen.ttl::<_, i64>("queue:default").unwrap(), -1);
    assert!(!seen.exists::<_, bool>("processes").unwrap());

    let verified = verify(&source, &target, None).await.unwrap();
    assert_eq!((verified.keys, verified.differences), (TRAVELLING, 0), "{verified:?}");
    forget(&target, "run-1").await.unwrap();
    forget(&target, "run-1").await.unwrap();
    assert_eq!(cmd("DBSIZE").query::<u64>(&mut seen).unwrap(), TRAVELLING);
}

#[tokio::test]
async fn by_type_gives_the_same_as_by_dump() {
    let (old, new) = (Redis::start(), Redis::start());
    fill(&mut client(&old));
    let (source, target) = (link(&old).await, link(&new).await);
    let keys: Vec<Vec<u8>> = cmd("KEYS").arg("*").query(&mut client(&old)).unwrap();
    for key in &keys {
        let first = by_type::copy_key(&source, &target, key).await.unwrap().unwrap();
        let again = by_type::copy_key(&source, &target, key).await.unwrap().unwrap();
        assert_eq!(first, again);
    }
    let verified = verify(&source, &target, None).await.unwrap();
    assert_eq!((verified.keys, verified.differences), (TRAVELLING, 0), "{verified:?}");
    let groups: Value = cmd("XINFO").arg("GROUPS").arg("stream").query(&mut client(&new)).unwrap();
    assert!(format!("{groups:?}").contains("readers"));
    assert_eq!(by_type::copy_key(&source, &target, b"no such key").await.unwrap(), None);
}

#[tokio::test]
async fn keys_too_large_for_one_dump_go_and_are_compared_in_windows() {
    let (old, new) = (Redis::start(), Redis::start());
    let script = "local big = string.rep(redis.sha1hex('x'), 25)
        for i = 1, 12000 do
            redis.call('RPUSH', 'queue:push', i .. big)
            redis.call('SADD', 'set', i .. big)
            redis.call('HSET', 'hash', i, big)
            redis.call('ZADD', 'zset', i / 3, i .. big)
            redis.call('XADD', 'stream', '1-' .. i, 'f', big)
        end
        redis.call('SET', 'string', string.rep(big, 12000))";
    cmd("EVAL").arg(script).arg(0).query::<Value>(&mut client(&old)).unwrap();
    let (source, target) = (link(&old).await, link(&new).await);
    let copied = copy(&source, &target, &OPTIONS, &Silent).await.unwrap();
    assert_eq!((copied.keys, copied.by_type), (6, 6));
    let verified = verify(&source, &target, None).await.unwrap();
    assert_eq!((verified.keys, verified.differences), (6, 0), "{verified:?}");
    let mut spoilt = client(&new);
    let _: () = spoilt.lset("queue:push", 7000, "other").unwrap();
    let _: () = spoilt
        .zincr("zset", format!("7000{}", "11f6ad8ec52a2984abaafd7c3b516503785c2072".repeat(25)), 1)
        .unwrap();
    let _: () = spoilt.hset("hash", 7000, "other").unwrap();
    let _: () = spoilt.setrange("string", 5_000_000, "X").unwrap();
    let verified = verify(&source, &target, None).await.unwrap();
    assert_eq!((verified.keys, verified.differences), (2, 4), "{verified:?}");
}

#[tokio::test]
async fn a_dump_that_is_refused_goes_by_type() {
    let (old, new) = (Redis::start(), Redis::start());
    let _: () = client(&old).rpush("queue:default", &["first", "POISON", "last"]).unwrap();
    let _: () = client(&old).set("other", "fine").unwrap();
    let port = spoil_once(new.port(), b"POISON");
    let address =
        RedisAddress::from_url(&Secret::new(format!("redis://127.0.0.1:{port}"))).unwrap();
    let source = link(&old).await;
    let target = Link::connect(&Local::new(), &address, None).await.unwrap();
    let copied = copy(&source, &target, &OPTIONS, &Silent).await.unwrap();
    assert_eq!((copied.keys, copied.by_type), (2, 1));
    let list: Vec<String> = client(&new).lrange("queue:default", 0, -1).unwrap();
    assert_eq!(list, ["first", "POISON", "last"]);
}

/// Passes a connection on to `port`, but changes the last byte of the first `word` that comes by,
/// so that the checksum of a dump is wrong.
fn spoil_once(port: u16, word: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut server = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        let mut buffer = vec![0; 1 << 16];
        let mut spoilt = false;
        while let Ok(count @ 1..) = client.read(&mut buffer) {
            let part = &mut buffer[..count];
            if let Some(at) =
                part.windows(word.len()).position(|window| window == word).filter(|_| !spoilt)
            {
                part[at + word.len() - 1] ^= 1;
                spoilt = true;
            }
            if server.write_all(part).is_err() {
                return;
            }
        }
    });
    own
}

#[tokio::test]
async fn a_target_that_holds_something_is_refused_and_stays_as_it_is() {
    let (old, new) = (Redis::start(), Redis::start());
    fill(&mut client(&old));
    let _: () = client(&new).set("theirs", "precious").unwrap();
    let (source, target) = (link(&old).await, link(&new).await);
    let error = copy(&source, &target, &OPTIONS, &Silent).await.unwrap_err();
    assert!(matches!(error, RedisError::NotEmpty { keys: 1, db: 0, .. }), "{error}");
    assert_eq!(clear(&target, &OPTIONS).await.unwrap(), 0);
    assert_eq!(cmd("DBSIZE").query::<u64>(&mut client(&new)).unwrap(), 1);
}

#[tokio::test]
async fn another_run_and_a_working_sidekiq_are_not_cleared() {
    let (old, new) = (Redis::start(), Redis::start());
    fill(&mut client(&old));
    let (source, target) = (link(&old).await, link(&new).await);
    copy(&source, &target, &OPTIONS, &Silent).await.unwrap();
    let other = Options { run: "run-2", namespace: None };
    for error in [
        copy(&source, &target, &other, &Silent).await.unwrap_err(),
        clear(&target, &other).await.unwrap_err(),
    ] {
        assert!(matches!(&error, RedisError::OtherRun { run, .. } if run == "run-1"), "{error}");
    }
    let _: () = client(&new).sadd("processes", "new:1:0123456789ab").unwrap();
    for error in [
        copy(&source, &target, &OPTIONS, &Silent).await.unwrap_err(),
        clear(&target, &OPTIONS).await.unwrap_err(),
    ] {
        assert!(matches!(error, RedisError::InUse { processes: 1, .. }), "{error}");
    }
    let _: () = client(&new).del("processes").unwrap();
    assert_eq!(clear(&target, &OPTIONS).await.unwrap(), TRAVELLING);
    assert_eq!(clear(&target, &OPTIONS).await.unwrap(), 0);
    assert_eq!(cmd("DBSIZE").query::<u64>(&mut client(&new)).unwrap(), 0);
}

#[tokio::test]
async fn a_hundred_thousand_keys_in_bounded_memory_also_after_a_cut() {
    let (old, new) = (Redis::start(), Redis::start());
    let script = "for i = 1, 100000 do
            local parts = {}
            for j = 1, 12 do parts[j] = redis.sha1hex(i .. ':' .. j) end
            redis.call('SET', 'key:' .. i, table.concat(parts) .. table.concat(parts))
        end";
    cmd("EVAL").arg(script).arg(0).query::<Value>(&mut client(&old)).unwrap();
    let (source, target) = (link(&old).await, link(&new).await);
    let mut seen = client(&new);
    let before = peak_memory_bytes();
    let mut size = || cmd("DBSIZE").query::<u64>(&mut seen).unwrap();
    // Cut as soon as something has arrived.
    let cut = tokio::select! {
        copied = copy(&source, &target, &OPTIONS, &Silent) => Some(copied),
        () = async { while size() < 2 { tokio::task::yield_now().await } } => None,
    };
    assert!(cut.is_none(), "the copy was done before it could be cut");
    drop(target);
    let target = link(&new).await;
    let copied: Copied = copy(&source, &target, &OPTIONS, &Silent).await.unwrap();
    assert_eq!(copied.keys, 100_000);
    let verified = verify(&source, &target, None).await.unwrap();
    assert_eq!((verified.keys, verified.differences), (100_000, 0));
    let grown = peak_memory_bytes() - before;
    assert!(grown < 64 << 20, "96 MB of values took {grown} bytes of memory");
}

fn peak_memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn verification_names_what_differs() {
    let (old, new) = (Redis::start(), Redis::start());
    fill(&mut client(&old));
    let (source, target) = (link(&old).await, link(&new).await);
    copy(&source, &target, &OPTIONS, &Silent).await.unwrap();
    let mut spoilt = client(&new);
    let _: () = spoilt.rpush("queue:default", "{\"jid\":1}").unwrap();
    let _: () = spoilt.del("retry").unwrap();
    let _: () = spoilt.persist("soon").unwrap();
    let _: () = spoilt.set("extra", "1").unwrap();
    let _: () = spoilt.hset("session", "a", "2").unwrap();
    let _: () = spoilt.srem("numbers", "3").unwrap();
    let _: () = spoilt.sadd("numbers", "4").unwrap();
    let _: () = spoilt.del("empty").unwrap();
    let _: () = spoilt.sadd("empty", "4").unwrap();
    let mut verified = verify(&source, &target, None).await.unwrap();
    verified.told.sort();
    assert_eq!(verified.differences, 7);
    let told: Vec<&str> = verified.told.iter().map(String::as_str).collect();
    assert_eq!(
        told[..6],
        [
            "empty: a string on the old server, a set on the new one",
            "extra: only on the new server",
            "numbers: another value on the new server",
            "queue:default: another value on the new server",
            "retry: not on the new server",
            "session: another value on the new server",
        ]
    );
    assert!(told[6].starts_with("soon: expires in 8639"), "{}", told[6]);
}

#[tokio::test]
async fn two_servers_that_store_a_value_differently_hold_the_same() {
    let old = Redis::start_with(
        None,
        "set-max-intset-entries 0\nzset-max-listpack-entries 0\nhash-max-listpack-entries 0\n",
    );
    let new = Redis::start();
    fill(&mut client(&old));
    let (source, target) = (link(&old).await, link(&new).await);
    copy(&source, &target, &OPTIONS, &Silent).await.unwrap();
    let verified = verify(&source, &target, None).await.unwrap();
    assert_eq!((verified.keys, verified.differences), (TRAVELLING, 0), "{verified:?}");
}

#[tokio::test]
async fn looking_and_proving() {
    let (old, new) = (Redis::start(), Redis::start());
    let (source, target) = (link(&old).await, link(&new).await);
    assert_eq!(prove(&source, &target).await.unwrap(), Proof::NothingToTry);
    fill(&mut client(&old));
    let (ours, theirs) =
        (inspect(&source, None).await.unwrap(), inspect(&target, None).await.unwrap());
    assert_eq!(
        (ours.flavour, ours.rdb_version, ours.role.as_str()),
        (Flavour::Redis, Some(10), "master")
    );
    assert_eq!(
        (ours.keys, ours.databases[&0], ours.sidekiq_processes),
        (TRAVELLING + LEFT_BEHIND, TRAVELLING + LEFT_BEHIND, 1)
    );
    assert_eq!((theirs.keys, &theirs.filled_by), (0, &None));
    assert!(compatible(&ours, &theirs).unwrap().ends_with(" on both sides"));
    assert_eq!(prove(&source, &target).await.unwrap(), Proof::Accepted);
    assert_eq!(cmd("DBSIZE").query::<u64>(&mut client(&new)).unwrap(), 0);
    copy(&source, &target, &OPTIONS, &Silent).await.unwrap();
    assert_eq!(inspect(&target, None).await.unwrap().filled_by.as_deref(), Some("run-1"));
}

#[tokio::test]
async fn logins_sockets_and_databases() {
    let users = "user alice on >wonder&land ~* &* +@all";
    let redis = Redis::start_with(Some("hunter2"), users);
    let try_url = async |url: String| {
        let address = RedisAddress::from_url(&Secret::new(url)).unwrap();
        let host = Local::new();
        match Link::connect(&host, &address, None).await {
            Ok(link) => link.ask::<String>(&cmd("PING")).await,
            Err(error) => Err(error),
        }
    };
    let port = redis.port();
    assert_eq!(try_url(redis.url()).await.unwrap(), "PONG");
    assert_eq!(
        try_url(format!("redis://alice:wonder%26land@localhost:{port}/3")).await.unwrap(),
        "PONG"
    );
    assert_eq!(
        try_url(format!("unix://:hunter2@{}?db=1", redis.socket().display())).await.unwrap(),
        "PONG"
    );
    for url in [
        format!("redis://127.0.0.1:{port}"),
        format!("redis://:wrongpass@127.0.0.1:{port}"),
        format!("redis://:hunter2@127.0.0.1:{port}/99"),
    ] {
        let error = try_url(url.clone()).await.unwrap_err();
        assert!(matches!(error, RedisError::Login { .. }), "{url}: {error:?}");
        let text = format!("{error} {error:?}");
        assert!(!text.contains("wrongpass") && !text.contains("hunter2"), "{text}");
    }
    let nobody = RedisAddress {
        namespace: None,
        address: Address::Tcp { host: "127.0.0.1".into(), port: crate::harness::free_port() },
        tls_name: None,
        user: None,
        password: None,
        db: 0,
    };
    let error = Link::connect(&Local::new(), &nobody, None).await.unwrap_err();
    assert!(error.to_string().starts_with("cannot connect to 127.0.0.1:"), "{error}");
}

#[tokio::test]
async fn a_refused_command_does_not_repeat_what_was_sent() {
    let redis = Redis::start_with(None, "rename-command RESTORE \"\"");
    let old = Redis::start();
    let _: () = client(&old).rpush("queue:mailers", "hunter2").unwrap();
    let (source, target) = (link(&old).await, link(&redis).await);
    let error = copy(&source, &target, &OPTIONS, &Silent).await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(text.contains("unknown command"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn tls_is_proved_against_the_authority_that_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let pair = Certificate::make(dir.path(), &["redis.example", "localhost"]);
    let port = free_port();
    let conf = format!(
        "tls-port {port}\ntls-cert-file {}\ntls-key-file {}\ntls-auth-clients no",
        pair.certificate.display(),
        pair.key.display()
    );
    let _redis = Redis::start_with(Some("hunter2"), &conf);
    let authority = Tls::new(Some(&std::fs::read(&pair.authority).unwrap())).unwrap();
    let url = Secret::new(format!("rediss://:hunter2@localhost:{port}"));
    let address = RedisAddress::from_url(&url).unwrap();
    let link = Link::connect(&Local::new(), &address, Some(&authority)).await.unwrap();
    assert_eq!(link.ask::<String>(&cmd("PING")).await.unwrap(), "PONG");
    let error = Link::connect(&Local::new(), &address, None).await.unwrap_err();
    assert!(matches!(error, RedisError::TlsHandshake { .. }), "{error}");
}
