//! Where names lead, asked of small DNS servers on loopback.

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use transhume::event::Level;
use transhume::instance::dns::{
    Addresses, DnsError, Phase, Role, Servers, findings, survey, wait_before_proxy_ends,
};

use crate::harness::dns::Dns;
use crate::harness::free_port;

type Zone<'a> = Vec<(&'a str, u32, &'a str, &'a str)>;

const OLD: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
const NEW: [&str; 2] = ["192.0.2.2", "2001:db8::2"];

fn addresses(texts: [&str; 2]) -> Vec<IpAddr> {
    texts.map(|text| text.parse().unwrap()).to_vec()
}

/// What resolvers and authoritative servers hold alike.
fn zone(a: (&'static str, u32), aaaa: (&'static str, u32)) -> Zone<'static> {
    vec![
        ("social.example", a.1, "A", a.0),
        ("social.example", aaaa.1, "AAAA", aaaa.0),
        ("social.example", 86400, "NS", "ns1.example"),
        ("social.example", 86400, "NS", "ns2.example"),
        ("ns1.example", 86400, "A", "127.0.0.2"),
        ("ns2.example", 86400, "A", "127.0.0.3"),
    ]
}

/// Two authoritative servers and a resolver that remembers.
struct World {
    holders: [Dns; 2],
    resolver: Dns,
    servers: Servers,
}

impl World {
    fn start(held: &Zone<'_>, remembered: &Zone<'_>) -> World {
        let port = free_port();
        let holders = ["127.0.0.2", "127.0.0.3"]
            .map(|ip| Dns::start_on(format!("{ip}:{port}").parse().unwrap(), held));
        let resolver = Dns::start(remembered);
        let resolvers = vec![(Role::Public, resolver.address())];
        World { holders, resolver, servers: Servers { resolvers, authoritative_port: port } }
    }

    async fn told(&self, phase: Phase) -> Vec<(Level, String)> {
        let answers = survey(&["social.example".into()], &self.servers).await.unwrap();
        let (source, target) = (addresses(OLD), addresses(NEW));
        let addresses = Addresses { source: &source, target: &target };
        let resolver = self.resolver.address().to_string();
        findings(&answers, addresses, phase)
            .into_iter()
            .map(|found| (found.level, found.text.replace(&resolver, "RESOLVER")))
            .collect()
    }

    async fn wait(&self, former_ttl: Option<Duration>) -> Option<Duration> {
        let answers = survey(&["social.example".into()], &self.servers).await.unwrap();
        let (source, target) = (addresses(OLD), addresses(NEW));
        wait_before_proxy_ends(&answers, Addresses { source: &source, target: &target }, former_ttl)
    }
}

fn is(level: Level, text: &str) -> (Level, String) {
    (level, text.to_owned())
}

#[tokio::test]
async fn before_the_move_a_long_ttl_is_told() {
    let zone = zone((OLD[0], 86400), (OLD[1], 300));
    let world = World::start(&zone, &zone);
    assert_eq!(
        world.told(Phase::BeforeTheMove).await,
        [
            is(Level::Ok, "A names the old server 192.0.2.1 (TTL 86400)"),
            is(Level::Warning, "the TTL of A is 86400: resolvers remember it for 24 h 0 min"),
            is(Level::Ok, "AAAA names the old server 2001:db8::1 (TTL 300)"),
        ]
    );
}

#[tokio::test]
async fn after_the_move_a_forgotten_aaaa_is_told() {
    let zone = zone((NEW[0], 300), (OLD[1], 300));
    let world = World::start(&zone, &zone);
    assert_eq!(
        world.told(Phase::AfterTheMove).await,
        [
            is(Level::Ok, "A names the new server 192.0.2.2 (TTL 300)"),
            is(Level::Warning, "AAAA still names the old server 2001:db8::1 (TTL 300)"),
        ]
    );
    assert_eq!(world.wait(None).await, None);
}

#[tokio::test]
async fn a_resolver_that_remembers_keeps_the_proxy_needed() {
    let world =
        World::start(&zone((NEW[0], 300), (NEW[1], 300)), &zone((OLD[0], 212), (NEW[1], 300)));
    assert_eq!(
        world.told(Phase::AfterTheMove).await,
        [
            is(Level::Ok, "A names the new server 192.0.2.2 (TTL 300)"),
            is(Level::Ok, "AAAA names the new server 2001:db8::2 (TTL 300)"),
            is(
                Level::Warning,
                "public RESOLVER still remembers 192.0.2.1 (TTL 212) for 3 min 32 s"
            ),
        ]
    );
    assert_eq!(world.wait(None).await, Some(Duration::from_secs(212)));
    world.resolver.change(&zone((NEW[0], 300), (NEW[1], 300)));
    assert_eq!(world.wait(None).await, Some(Duration::ZERO));
    let former = Some(Duration::from_secs(3600));
    assert_eq!(world.wait(former).await, former);
}

#[tokio::test]
async fn servers_that_disagree_and_records_that_are_missing_are_told() {
    let world =
        World::start(&zone((NEW[0], 300), (NEW[1], 300)), &zone((NEW[0], 300), (NEW[1], 300)));
    world.holders[1].change(&[("social.example", 300, "A", "198.51.100.9")]);
    let told = world.told(Phase::AfterTheMove).await;
    let texts: Vec<&str> = told.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "the authoritative servers disagree on A: ns1.example (127.0.0.2) says 192.0.2.2 (TTL 300), \
             ns2.example (127.0.0.3) says 198.51.100.9 (TTL 300)",
            "A names neither server: 198.51.100.9 (TTL 300)",
            "A names the new server 192.0.2.2 (TTL 300)",
            "the authoritative servers disagree on AAAA: ns1.example (127.0.0.2) says 2001:db8::2 (TTL 300), \
             ns2.example (127.0.0.3) says nothing",
            "AAAA names the new server 2001:db8::2 (TTL 300)",
        ]
    );
}

#[tokio::test]
async fn an_alias_is_followed_to_the_servers_that_hold_its_target() {
    let mut remembered = zone((NEW[0], 300), (NEW[1], 300));
    remembered.push(("www.example", 60, "CNAME", "social.example"));
    let world = World::start(&zone((NEW[0], 300), (NEW[1], 300)), &remembered);
    let answers = survey(&["WWW.example.".into()], &world.servers).await.unwrap();
    assert_eq!(answers.len(), 3);
    assert!(answers.iter().all(|answer| answer.canonical.as_deref() == Some("social.example")));
    assert!(answers.iter().all(|answer| answer.name == "www.example"));
    let seen: Vec<&str> = answers.iter().map(|answer| answer.server.as_str()).collect();
    assert_eq!(seen[..2], ["ns1.example (127.0.0.2)", "ns2.example (127.0.0.3)"]);
    assert_eq!(answers[2].a.as_ref().unwrap()[0].ttl_secs, 300);
}

#[tokio::test]
async fn silence_and_unknown_names_are_told() {
    let nobody = Servers::named(&[format!("127.0.0.1:{}", free_port()).parse().unwrap()]);
    let error = survey(&["social.example".into()], &nobody).await.unwrap_err();
    assert!(matches!(error, DnsError::Silent { .. }), "{error}");
    let dns = Dns::start(&[("social.example", 300, "A", NEW[0])]);
    let servers = Servers::named(&[dns.address()]);
    let names = ["social.example".to_owned(), "scoial.example".to_owned()];
    let answers = survey(&names, &servers).await.unwrap();
    assert_eq!(answers[0].aaaa, Ok(Vec::new()));
    assert_eq!(answers[1].a, Err("there is no such name".to_owned()));
}

/// What the program prints and how it exits.
fn transhume(words: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_transhume")).args(words).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_verb_prints_a_table_and_findings() {
    let dns = Dns::start(&[
        ("social.example", 300, "A", NEW[0]),
        ("social.example", 7200, "AAAA", OLD[1]),
    ]);
    let server = dns.address().to_string();
    let (code, out, err) = transhume(&[
        "dns",
        "social.example",
        "--target",
        NEW[0],
        NEW[1],
        "--server",
        &server,
        "--color",
        "never",
    ]);
    assert_eq!((code, err.as_str()), (3, ""));
    assert_eq!(
        out.replace(&server, "SERVER"),
        "social.example
  resolver SERVER  A 192.0.2.2 (TTL 300)   AAAA 2001:db8::1 (TTL 7200)

1 in order
  ✓ social.example  A names the new server 192.0.2.2 (TTL 300)

3 warnings
  ! social.example  no authoritative server answered: what follows is what resolvers remember
  ! social.example  AAAA still names the old server 2001:db8::1 (TTL 7200)
                    → set AAAA of social.example to 2001:db8::2
  ! social.example  the TTL of AAAA is 7200: resolvers remember it for 2 h 0 min
                    → leave the proxy in place for 2 h 0 min after the change

"
    );
    let (code, out, _) = transhume(&["dns", "social.example", "--server", &server, "--json"]);
    assert_eq!(code, 3);
    let lines: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["event"], "note");
    assert!(lines.iter().any(|line| line["event"] == "finding" && line["level"] == "warning"));
}

#[test]
fn the_verb_refuses_what_is_no_name_and_tells_silence() {
    let silent = format!("127.0.0.1:{}", free_port());
    let (code, _, err) = transhume(&["dns", "social.example", "--server", &silent]);
    assert_eq!(code, 1);
    assert!(
        err.starts_with(&format!("transhume: no DNS server answered; asked were {silent}\n")),
        "{err}"
    );
    for words in [
        &["dns", "a..b", "--server", &silent][..],
        &["dns"],
        &["dns", "a.b", "--target", "x"],
        &["dns", "a.b", "--server", "x"],
    ] {
        assert_eq!(transhume(words).0, 2, "{words:?}");
    }
}
