//! The old server during the window.

use std::sync::Arc;
use std::time::Duration;

use transhume::config;
use transhume::host::Address;
use transhume::host::fake::{Fault, Faulty};
use transhume::host::local::Local;
use transhume::instance::maintenance::{self, is_on, off, on, wait_until};
use transhume::instance::nginx::{self, NginxError, Place};
use transhume::instance::probe::{Front, Tls};

use super::site::{DOMAIN, Running};

const WAIT: Duration = Duration::from_secs(20);

fn domains() -> Vec<String> {
    vec![DOMAIN.to_owned()]
}

fn front<'a>(site: &Running, host: &'a Local) -> Front<'a> {
    let authority = std::fs::read(site.nginx.path("ca.pem")).unwrap();
    Front {
        host,
        address: Address::Tcp { host: "127.0.0.1".into(), port: site.https },
        tls: Some(Tls::new(Some(&authority)).unwrap()),
        name: DOMAIN.into(),
    }
}

/// Turns it on as the move does, and waits until it is seen.
async fn turned_on(site: &Running, config: &config::Nginx) -> nginx::Record {
    let host = Local::new();
    let place = Place { host: &host, nginx: config, keep_dir: &site.keep_dir() };
    let record = on(&place, &domains(), 300).await.unwrap();
    assert!(wait_until(&front(site, &host), true, WAIT).await.unwrap().on);
    record
}

#[tokio::test]
async fn everything_of_the_site_is_503_and_nothing_is_4xx() {
    let site = Running::start();
    assert_eq!(site.https("/", &[]).status, 200);
    let config = site.config();
    turned_on(&site, &config).await;

    let big = "x".repeat(100_000);
    let requests: [(&str, &[&str]); 12] = [
        ("/", &[]),
        ("/health", &[]),
        ("/robots.txt", &[]),
        ("/no/such/page", &["-I"]),
        ("/inbox", &["-X", "POST", "-d", "{}"]),
        ("/inbox", &[]),
        ("/users/alice/inbox", &["-X", "POST", "--data-binary", &big]),
        (
            "/api/v1/streaming",
            &["--http1.1", "-H", "Upgrade: websocket", "-H", "Connection: Upgrade"],
        ),
        ("/api/v1/statuses/1", &["-X", "DELETE"]),
        ("/system/media_attachments/no-such-file.png", &[]),
        ("/system/media_attachments/cat.png", &["-X", "POST", "-d", "x"]),
        ("/assets/../system/%2e%2e/robots.txt", &[]),
    ];
    for (path, options) in requests {
        let answer = site.https(path, options);
        assert_eq!(answer.status, 503, "{path} {options:?}: {answer:?}");
        assert_eq!(answer.header("retry-after"), Some("300"), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
    }
    for (port, name) in [(site.http, DOMAIN), (site.onion, "abcdef.onion")] {
        let answer = site.http(port, name, "/about", &[]);
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("300")), "{name}");
    }
}

#[tokio::test]
async fn people_get_a_page_and_servers_get_text() {
    let site = Running::start();
    let config = site.config();
    turned_on(&site, &config).await;
    for path in ["/@alice", "/packs/logo.png"] {
        let page = site.https(path, &["-H", "Accept: text/html,application/xhtml+xml,*/*;q=0.8"]);
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
        assert!(page.body.starts_with("<!doctype html>") && page.body.ends_with("</html>\n"));
    }
    for accept in ["*/*", "application/activity+json, application/ld+json, text/html;q=0.1"] {
        let text = site.https("/users/alice", &["-H", &format!("Accept: {accept}")]);
        assert_eq!(text.header("content-type"), Some("text/plain; charset=utf-8"), "{accept}");
        assert_eq!(text.body, "This server is moving to a new machine and will be back soon.\n");
    }
}

#[tokio::test]
async fn challenges_media_and_neighbours_are_served_as_before() {
    let site = Running::start();
    let config = site.config();
    turned_on(&site, &config).await;
    let challenge = "/.well-known/acme-challenge/token";
    assert_eq!(site.http(site.http, DOMAIN, challenge, &[]).body, "proof");
    assert_eq!(site.https(challenge, &[]).body, "proof");
    let media = site.https("/system/media_attachments/cat.png", &[]);
    assert_eq!((media.status, media.body.as_str()), (200, "a cat"));
    assert_eq!(site.https("/system/media_attachments/cat.png", &["-I"]).status, 200);
    assert_eq!(site.http(site.neighbour, "blog.example", "/", &[]).body, "the neighbour");
}

#[tokio::test]
async fn off_gives_back_the_file_byte_for_byte_and_leaves_nothing() {
    let site = Running::start();
    let original = site.nginx.site();
    let (host, config, keep_dir) = (Local::new(), site.config(), site.keep_dir());
    let place = Place { host: &host, nginx: &config, keep_dir: &keep_dir };
    let record = turned_on(&site, &config).await;
    assert_ne!(site.nginx.site(), original);
    assert_eq!(std::fs::read(&record.backup).unwrap(), original);
    // Twice each: a run that was cut starts the step again.
    assert_eq!(on(&place, &domains(), 300).await.unwrap(), record);
    let json = serde_json::to_string(&record).unwrap();
    let record: nginx::Record = serde_json::from_str(&json).unwrap();
    off(&place, &record).await.unwrap();
    off(&place, &record).await.unwrap();
    assert_eq!(site.nginx.site(), original);
    assert!(!std::path::Path::new(&keep_dir).exists());
    assert!(!wait_until(&front(&site, &host), false, WAIT).await.unwrap().on);
    assert_eq!(site.https("/about", &[]).status, 200);
    assert_eq!(site.http(site.http, DOMAIN, "/", &[]).status, 301);
}

#[tokio::test]
async fn what_the_operator_edits_meanwhile_is_kept() {
    let site = Running::start();
    let original = String::from_utf8(site.nginx.site()).unwrap();
    let (host, config, keep_dir) = (Local::new(), site.config(), site.keep_dir());
    let place = Place { host: &host, nginx: &config, keep_dir: &keep_dir };
    let record = turned_on(&site, &config).await;
    let edited = String::from_utf8(site.nginx.site()).unwrap().replace("gzip on;", "gzip off;");
    std::fs::write(site.nginx.site_path(), edited).unwrap();
    off(&place, &record).await.unwrap();
    assert_eq!(site.nginx.site(), original.replace("gzip on;", "gzip off;").into_bytes());
}

#[tokio::test]
async fn a_passage_damaged_by_hand_is_told_not_guessed_at() {
    let site = Running::start();
    let (host, config, keep_dir) = (Local::new(), site.config(), site.keep_dir());
    let place = Place { host: &host, nginx: &config, keep_dir: &keep_dir };
    let record = turned_on(&site, &config).await;
    let damaged = String::from_utf8(site.nginx.site()).unwrap();
    let damaged = damaged.replacen("# transhume maintenance ends\n", "", 1);
    std::fs::write(site.nginx.site_path(), &damaged).unwrap();
    let error = off(&place, &record).await.unwrap_err();
    assert!(matches!(error, NginxError::Damaged { .. }), "{error}");
    assert_eq!(site.nginx.site(), damaged.into_bytes());
}

#[tokio::test]
async fn an_nginx_that_is_broken_already_is_not_touched() {
    let site = Running::start();
    let (host, config, keep_dir) = (Local::new(), site.config(), site.keep_dir());
    let place = Place { host: &host, nginx: &config, keep_dir: &keep_dir };
    let broken = [site.nginx.site(), b"no_such_directive on;\n".to_vec()].concat();
    std::fs::write(site.nginx.site_path(), &broken).unwrap();
    let error = on(&place, &domains(), 300).await.unwrap_err();
    assert!(
        matches!(&error, NginxError::AlreadyBroken { output, .. } if output.contains("no_such_directive")),
        "{error}"
    );
    assert_eq!(site.nginx.site(), broken);
    assert!(!std::path::Path::new(&keep_dir).exists());
}

#[tokio::test]
async fn a_change_that_nginx_refuses_is_taken_back() {
    let site = Running::start();
    let original = site.nginx.site();
    let (host, keep_dir) = (Local::new(), site.keep_dir());
    let picky = r#"! grep transhume "$0" >&2"#;
    let test = ["sh", "-c", picky, &site.config().site].map(str::to_owned).to_vec();
    let config = config::Nginx { test, ..site.config() };
    let place = Place { host: &host, nginx: &config, keep_dir: &keep_dir };
    let error = on(&place, &domains(), 300).await.unwrap_err();
    assert!(
        matches!(&error, NginxError::Rejected { output, .. } if output.contains("transhume maintenance begins")),
        "{error}"
    );
    assert_eq!(site.nginx.site(), original);
}

#[tokio::test]
async fn a_reload_that_fails_takes_the_change_back() {
    let site = Running::start();
    let original = site.nginx.site();
    let (host, keep_dir) = (Local::new(), site.keep_dir());
    let config = config::Nginx { reload: vec!["false".into()], ..site.config() };
    let place = Place { host: &host, nginx: &config, keep_dir: &keep_dir };
    let error = on(&place, &domains(), 300).await.unwrap_err();
    assert!(matches!(error, NginxError::Reload { .. }), "{error}");
    assert_eq!(site.nginx.site(), original);
}

#[tokio::test]
async fn the_mode_of_the_site_file_and_a_symlink_to_it_stay() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let site = Running::start();
    let link = site.nginx.path("enabled.link");
    symlink(site.nginx.site_path(), &link).unwrap();
    let mode = std::fs::Permissions::from_mode(0o640);
    std::fs::set_permissions(site.nginx.site_path(), mode).unwrap();
    let config = config::Nginx { site: link.to_string_lossy().into_owned(), ..site.config() };
    turned_on(&site, &config).await;
    assert!(link.is_symlink());
    let mode = std::fs::metadata(&link).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    assert!(maintenance::is_on(&front(&site, &Local::new())).await.unwrap().on);
}

#[tokio::test]
async fn without_a_site_file_there_is_nothing_to_manage() {
    let site = Running::start();
    let host = Local::new();
    let config = config::Nginx { site: "/no/such/site".into(), ..site.config() };
    assert!(nginx::read_site(&host, &config).await.unwrap().is_none());
    let found = nginx::read_site(&host, &site.config()).await.unwrap().unwrap();
    assert_eq!(found.servers.len(), 4);
    let sight = is_on(&front(&site, &host)).await.unwrap();
    assert_eq!((sight.on, sight.evidence.as_str()), (false, "200 without Retry-After"));
}

/// Each operation in turn is spoilt in each way; the same step run again must lead to the same
/// end, and the undo to the same beginning.
#[tokio::test]
async fn cut_at_any_operation_it_is_put_right_by_running_it_again() {
    let site = Running::start();
    let original = site.nginx.site();
    let (config, keep_dir) = (site.config(), site.keep_dir());
    let clean = Local::new();
    let sound = Place { host: &clean, nginx: &config, keep_dir: &keep_dir };
    let record = on(&sound, &domains(), 300).await.unwrap();
    let edited = site.nginx.site();
    off(&sound, &record).await.unwrap();
    for fault in [Fault::Refused, Fault::LostBefore, Fault::LostAfter] {
        for spoilt in 0.. {
            let host = Faulty::new(Arc::new(Local::new()), spoilt, fault, Arc::default());
            let shaky = Place { host: &host, ..sound };
            let first = on(&shaky, &domains(), 300).await;
            assert_eq!(on(&sound, &domains(), 300).await.unwrap(), record);
            assert_eq!(site.nginx.site(), edited, "{fault:?} at {spoilt}");
            let host = Faulty::new(Arc::new(Local::new()), spoilt, fault, Arc::default());
            let second = off(&Place { host: &host, ..sound }, &record).await;
            off(&sound, &record).await.unwrap();
            assert_eq!(site.nginx.site(), original, "{fault:?} at {spoilt}");
            assert!(!std::path::Path::new(&keep_dir).exists(), "{fault:?} at {spoilt}");
            if first.is_ok() && second.is_ok() {
                assert!(spoilt > 8, "the faults were not injected");
                break;
            }
        }
    }
}
