//! The old server after the move, in front of the new one: two real nginx.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::Duration;

use transhume::host::Address;
use transhume::host::local::Local;
use transhume::instance::nginx::{NginxError, Place};
use transhume::instance::probe::{Front, Sight, Tls, checks};
use transhume::instance::proxy::{self, Onward, OnwardTls};
use transhume::instance::{maintenance, nginx};

use super::backend;
use super::site::{DOMAIN, Running};

const OLD_SERVER: [IpAddr; 1] = [IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)];

fn domains() -> Vec<String> {
    vec![DOMAIN.to_owned()]
}

/// The old server in front of nothing (its Mastodon is stopped), the new one in front of a web
/// server that tells what it was asked.
struct Moved {
    old: Running,
    new: Running,
}

impl Moved {
    fn start() -> Self {
        let stopped = crate::harness::free_port();
        Moved {
            old: Running::start_in_front_of(stopped, "client_max_body_size 1k;"),
            new: Running::start_in_front_of(backend::start(), "client_max_body_size 0;"),
        }
    }

    fn onward(&self, authority: &Running) -> Onward {
        let ca_file = Some(authority.nginx.path("ca.pem").to_string_lossy().into_owned());
        Onward {
            address: format!("127.0.0.1:{}", self.new.https),
            tls: Some(OnwardTls { name: DOMAIN.into(), ca_file }),
        }
    }

    /// Turns the proxy on.
    async fn pass_on(&self, onward: &Onward) -> nginx::Record {
        let (host, config, keep_dir) = (Local::new(), self.old.config(), self.old.keep_dir());
        let place = Place { host: &host, nginx: &config, keep_dir: &keep_dir };
        proxy::on(&place, &domains(), onward).await.unwrap()
    }

    async fn wait(&self, on: bool) -> Sight {
        let authority = std::fs::read(self.old.nginx.path("ca.pem")).unwrap();
        let host = Local::new();
        let front = Front {
            host: &host,
            address: Address::Tcp { host: "127.0.0.1".into(), port: self.old.https },
            tls: Some(Tls::new(Some(&authority)).unwrap()),
            name: DOMAIN.into(),
        };
        proxy::wait_until(&front, on, Duration::from_secs(3)).await.unwrap()
    }
}

#[tokio::test]
async fn requests_reach_the_new_server_with_host_scheme_and_client_address() {
    let moved = Moved::start();
    let (host, config, keep_dir) = (Local::new(), moved.new.config(), moved.new.keep_dir());
    let place = Place { host: &host, nginx: &config, keep_dir: &keep_dir };
    let trust = proxy::trust(&place, &domains(), &OLD_SERVER).await.unwrap();
    assert_eq!(proxy::trust(&place, &domains(), &OLD_SERVER).await.unwrap(), trust);
    moved.pass_on(&moved.onward(&moved.new)).await;
    assert!(moved.wait(true).await.on);

    let from = ["--interface", "127.0.0.9", "-H", "X-Forwarded-For: 6.6.6.6"];
    let seen = moved.old.https("/@alice?page=2", &from);
    assert_eq!(seen.status, 200, "{seen:?}");
    assert!(seen.body.starts_with("GET /@alice?page=2 HTTP/1.0\n"), "{}", seen.body);
    for line in ["Host: social.example", "X-Real-IP: 127.0.0.9", "X-Forwarded-Proto: https"] {
        assert!(seen.body.contains(line), "{line} in {}", seen.body);
    }
    // The onion service of the old server comes along; redirects stay redirects.
    assert_eq!(moved.old.http(moved.old.onion, "abcdef.onion", "/about", &[]).status, 200);
    assert_eq!(moved.old.http(moved.old.http, DOMAIN, "/about", &[]).status, 301);

    let original = moved.new.nginx.site();
    proxy::distrust(&place, &trust).await.unwrap();
    assert_ne!(moved.new.nginx.site(), original);
    assert!(!String::from_utf8(moved.new.nginx.site()).unwrap().contains("real_ip"));
}

#[tokio::test]
async fn bodies_and_statuses_pass_whole() {
    let moved = Moved::start();
    moved.pass_on(&moved.onward(&moved.new)).await;
    assert!(moved.wait(true).await.on);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("upload");
    std::fs::write(&file, vec![b'a'; 5_000_000]).unwrap();
    let upload = format!("@{}", file.display());
    let plain = moved.old.https("/api/v2/media", &["--data-binary", &upload]);
    assert!(plain.body.ends_with("body 5000000 485000000\n"), "{plain:?}");
    let chunked = ["-H", "Transfer-Encoding: chunked", "--http1.1", "--data-binary", &upload];
    let chunked = moved.old.https("/api/v2/media", &chunked);
    assert!(chunked.body.ends_with("body 5000000 485000000\n"), "{}", chunked.head);
    let missing = moved.old.https("/system/none.png", &[]);
    assert_eq!((missing.status, missing.body.as_str()), (404, "the site's own error page"));
    let media = moved.old.https("/system/media_attachments/cat.png", &[]);
    assert_eq!(media.header("x-transhume"), Some("passed-on"));
}

#[tokio::test]
async fn websockets_pass_both_ways() {
    let moved = Moved::start();
    moved.pass_on(&moved.onward(&moved.new)).await;
    assert!(moved.wait(true).await.on);
    let mut stream = TcpStream::connect(("127.0.0.1", moved.old.onion)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let ask = "GET /api/v1/streaming HTTP/1.1\r\nHost: social.example\r\n\
               Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    stream.write_all(ask.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    for text in [b"ping", b"pong"] {
        stream.write_all(text).unwrap();
        let mut echo = [0; 4];
        stream.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, text);
    }
}

#[tokio::test]
async fn the_proxy_takes_the_place_of_maintenance_and_off_restores_the_site() {
    let moved = Moved::start();
    let original = moved.old.nginx.site();
    let (host, config, keep_dir) = (Local::new(), moved.old.config(), moved.old.keep_dir());
    let place = Place { host: &host, nginx: &config, keep_dir: &keep_dir };
    let window = maintenance::on(&place, &domains(), 300).await.unwrap();
    let record = moved.pass_on(&moved.onward(&moved.new)).await;
    assert!(moved.wait(true).await.on);
    // Maintenance ends after the proxy began: that must not take the proxy away.
    maintenance::off(&place, &window).await.unwrap();
    assert!(moved.wait(true).await.on);
    assert_eq!(moved.old.https("/about", &[]).status, 200);
    let challenge = "/.well-known/acme-challenge/token";
    assert_eq!(moved.old.https(challenge, &[]).body, "proof");
    assert_eq!(moved.old.https(challenge, &[]).header("x-transhume"), None);
    proxy::off(&place, &record).await.unwrap();
    assert_eq!(moved.wait(false).await.evidence, "502, answered by itself");
    assert_eq!(moved.old.nginx.site(), original);
    assert!(!std::path::Path::new(&keep_dir).exists());
}

#[tokio::test]
async fn a_new_server_that_cannot_prove_its_name_gets_nothing() {
    let moved = Moved::start();
    // Another authority than the one that signed the new server's certificate.
    moved.pass_on(&moved.onward(&moved.old)).await;
    let sight = moved.wait(true).await;
    assert_eq!(sight.evidence, "502, passed on to the new server");
    assert_eq!(moved.old.https("/about", &[]).status, 502);
    assert!(moved.old.nginx.error_log().contains("certificate verify error"));
}

#[tokio::test]
async fn plain_http_and_the_systems_authorities_work_too() {
    let moved = Moved::start();
    let plain = Onward { address: format!("127.0.0.1:{}", moved.new.onion), tls: None };
    moved.pass_on(&plain).await;
    assert!(moved.wait(true).await.on);
    assert_eq!(moved.old.https("/about", &[]).status, 200);
    let mut onward = moved.onward(&moved.new);
    onward.tls.as_mut().unwrap().ca_file = None;
    let (host, config, keep_dir) = (Local::new(), moved.old.config(), moved.old.keep_dir());
    let place = Place { host: &host, nginx: &config, keep_dir: &keep_dir };
    match proxy::on(&place, &domains(), &onward).await {
        Ok(_) => assert!(
            String::from_utf8(moved.old.nginx.site()).unwrap().contains("proxy_ssl_verify on")
        ),
        Err(error) => assert!(matches!(error, NginxError::NoAuthorities { .. }), "{error}"),
    }
}

#[tokio::test]
async fn probes_tell_what_they_saw() {
    let site = Running::start_in_front_of(
        backend::start(),
        r#"location = /health { return 200 OK; }
           location = /actor { default_type application/activity+json; return 200 '{"id":"https://social.example/actor"}'; }
           location = /users/bob { return 404 "{}"; }
           location = /.well-known/webfinger { return 200 '{"subject":"acct:alice@social.example","links":[{"rel":"self","href":"https://social.example/users/alice"}]}'; }"#,
    );
    let authority = std::fs::read(site.nginx.path("ca.pem")).unwrap();
    let host = Local::new();
    let front = Front {
        host: &host,
        address: Address::Tcp { host: "127.0.0.1".into(), port: site.https },
        tls: Some(Tls::new(Some(&authority)).unwrap()),
        name: DOMAIN.into(),
    };
    assert_eq!(checks::web_health(&front).await.unwrap(), "/health answered 200 OK");
    assert!(
        checks::instance_actor(&front, DOMAIN)
            .await
            .unwrap()
            .ends_with("https://social.example/actor")
    );
    assert_eq!(
        checks::webfinger(&front, "alice", DOMAIN).await.unwrap(),
        "webfinger knows acct:alice@social.example"
    );
    assert_eq!(
        checks::file(&front, "/robots.txt", Some(6)).await.unwrap(),
        "/robots.txt answered 200, 6 bytes"
    );
    assert_eq!(checks::front_page(&front).await.unwrap(), "/ answered 200");
    for (error, part) in [
        (
            checks::actor(&front, "bob", DOMAIN).await.unwrap_err(),
            "should answer 200 with JSON, but answered 404",
        ),
        (
            checks::instance_actor(&front, "other.example").await.unwrap_err(),
            "an actor whose id is under other.example",
        ),
        (checks::streaming_health(&front).await.unwrap_err(), "should answer 200 OK"),
        (checks::file(&front, "/robots.txt", Some(7)).await.unwrap_err(), "200 with 7 bytes"),
    ] {
        assert!(error.to_string().contains(part), "{error}");
    }
    let stranger = Front { name: "other.example".into(), ..front.clone() };
    let error = checks::web_health(&stranger).await.unwrap_err();
    assert!(error.to_string().starts_with("no TLS with https://other.example/health"), "{error}");
}

#[tokio::test]
async fn waiting_ends_when_the_service_answers_or_time_is_up() {
    let port = crate::harness::free_port();
    let host = Local::new();
    let address = Address::Tcp { host: "127.0.0.1".into(), port };
    let front = Front { host: &host, address, tls: None, name: "localhost".into() };
    let short = Duration::from_millis(100);
    let error = checks::wait_healthy(short, || checks::web_health(&front)).await.unwrap_err();
    assert!(error.to_string().starts_with("cannot connect to 127.0.0.1:"), "{error}");
    let late = std::thread::spawn(move || {
        let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
        for answer in [
            "HTTP/1.1 503 Later\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK",
        ] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let long = Duration::from_secs(20);
    let evidence = checks::wait_healthy(long, || checks::web_health(&front)).await.unwrap();
    assert_eq!(evidence, "/health answered 200 OK");
    late.join().unwrap();
}

#[tokio::test]
async fn the_web_process_is_asked_as_nginx_asks_it() {
    let host = Local::new();
    let address = Address::Tcp { host: "127.0.0.1".into(), port: backend::start() };
    let front = Front { host: &host, address, tls: None, name: DOMAIN.into() };
    let seen = front.get("/actor", &[("Accept", "x/y")], Duration::from_secs(20)).await.unwrap();
    let text = seen.text();
    for line in ["host: social.example", "x-forwarded-proto: https", "accept: x/y"] {
        assert!(text.contains(line), "{line} in {text}");
    }
}
