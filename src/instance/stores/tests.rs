use std::collections::BTreeMap;

use super::*;
use crate::host::Address;
use proptest::prelude::*;

fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, Secret> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), Secret::new(*value))).collect()
}

fn url(text: &str) -> Result<RedisAddress, RedisAddressError> {
    RedisAddress::from_url(&Secret::new(text))
}

#[test]
fn redis_without_variables_is_local() {
    let stores = redis_stores(&variables(&[])).unwrap();
    assert_eq!(stores.base.to_string(), "localhost:6379");
    assert_eq!(stores.sidekiq, stores.base);
    assert_eq!(stores.cache.namespace.as_deref(), Some("cache"));
    assert_eq!(stores.worth_moving(), [&stores.base]);
}

#[test]
fn roles_of_their_own_inherit_nothing_and_others_everything() {
    let stores = redis_stores(&variables(&[
        ("REDIS_HOST", "redis.internal"),
        ("REDIS_PORT", "6380"),
        ("REDIS_PASSWORD", "hunter2"),
        ("REDIS_DB", "3"),
        ("SIDEKIQ_REDIS_HOST", "jobs.internal"),
        // Without a host, a database alone is passed over by Mastodon.
        ("CACHE_REDIS_DB", "9"),
    ]))
    .unwrap();
    assert_eq!(stores.base.to_string(), "redis.internal:6380/3");
    assert_eq!(stores.sidekiq.to_string(), "jobs.internal:6379");
    assert_eq!(stores.sidekiq.password, None);
    assert_eq!(stores.cache.to_string(), "redis.internal:6380/3");
    assert_eq!(stores.worth_moving(), [&stores.base, &stores.sidekiq]);
    assert!(!format!("{stores:?}").contains("hunter2"));
}

#[test]
fn a_url_wins_over_host_and_sentinels() {
    let stores = redis_stores(&variables(&[
        ("REDIS_URL", "redis://:p%40ss@[::1]:6381/2"),
        ("REDIS_HOST", "elsewhere"),
        ("REDIS_SENTINEL_MASTER", "mymaster"),
        ("REDIS_SENTINELS", "a,b:26380"),
        ("SIDEKIQ_REDIS_URL", "unix:///run/redis.sock?db=5"),
        ("REDIS_NAMESPACE", "masto"),
    ]))
    .unwrap();
    assert_eq!(stores.base.to_string(), "[::1]:6381/2");
    assert_eq!(stores.base.password, Some(Secret::new("p@ss")));
    assert_eq!(stores.base.namespace.as_deref(), Some("masto"));
    assert_eq!(stores.cache.namespace.as_deref(), Some("masto_cache"));
    assert_eq!(stores.sidekiq.to_string(), "/run/redis.sock", "Ruby's client knows no ?db=");
}

#[test]
fn sentinels_are_recognised_where_mastodon_would_use_them() {
    let both = [("SIDEKIQ_REDIS_SENTINEL_MASTER", "m"), ("SIDEKIQ_REDIS_SENTINELS", "a:1")];
    let error = redis_stores(&variables(&both)).unwrap_err();
    assert_eq!(error, RedisAddressError::Sentinel { key: "SIDEKIQ_REDIS_SENTINELS".into() });
    assert!(redis_stores(&variables(&both[1..])).is_ok());
}

#[test]
fn redis_urls() {
    for (text, shown, tls, user, password) in [
        ("redis://localhost", "localhost:6379", None, None, None),
        ("rediss://u:p@h:1/7", "h:1/7", Some("h"), Some("u"), Some("p")),
        ("redis://secret@h", "h:6379", None, None, Some("secret")),
        ("redis://:@h/", "h:6379", None, None, None),
        ("unix:///run/r.sock?db=3", "/run/r.sock/3", None, None, None),
        ("/run/r.sock", "/run/r.sock", None, None, None),
    ] {
        let address = url(text).unwrap();
        assert_eq!(address.to_string(), shown);
        assert_eq!(address.tls_name.as_deref(), tls, "{text}");
        assert_eq!(address.user.as_deref(), user, "{text}");
        assert_eq!(address.password, password.map(Secret::new), "{text}");
    }
    for text in ["hunter2", "http://:hunter2@h", "redis://:hunter2@h:x", "redis://h/hunter2", ""] {
        let error = url(text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}

#[test]
fn a_bad_number_is_told_with_its_variable() {
    let error = redis_stores(&variables(&[("REDIS_PORT", "many")])).unwrap_err();
    assert_eq!(error.to_string(), "REDIS_PORT cannot be understood: it is no port");
}

#[test]
fn uploads_are_remote_only_if_the_variable_is_true() {
    let remote = |pairs: &[(&str, &str)]| media_store(&variables(pairs));
    assert_eq!(remote(&[]), MediaStore::Local);
    assert_eq!(remote(&[("S3_ENABLED", "TRUE"), ("S3_BUCKET", "b")]), MediaStore::Local);
    assert_eq!(
        remote(&[("S3_ENABLED", "true"), ("S3_BUCKET", "b"), ("SWIFT_ENABLED", "true")]),
        MediaStore::Remote { kind: RemoteKind::S3, bucket: Some("b".into()) }
    );
    assert_eq!(
        remote(&[("AZURE_ENABLED", "true")]),
        MediaStore::Remote { kind: RemoteKind::Azure, bucket: None }
    );
}

#[test]
fn search_only_if_it_is_enabled() {
    assert_eq!(elasticsearch(&variables(&[("ES_HOST", "h")])), None);
    let found = elasticsearch(&variables(&[("ES_ENABLED", "true"), ("ES_PASS", "x")])).unwrap();
    assert_eq!((found.host.as_str(), found.port.as_str()), ("localhost", "9200"));
    assert!(format!("{found:?}").contains("[secret]"));
}

#[test]
fn domains_begin_with_the_one_that_serves() {
    assert_eq!(domains(&variables(&[("WEB_DOMAIN", "x")])), None);
    let found = domains(&variables(&[
        ("LOCAL_DOMAIN", "Example.com"),
        ("WEB_DOMAIN", "social.example.com"),
        ("ALTERNATE_DOMAINS", "a.example , b.example,,example.com"),
    ]))
    .unwrap();
    assert_eq!(found.all(), ["social.example.com", "example.com", "a.example", "b.example"]);
    let one = domains(&variables(&[("LOCAL_DOMAIN", "example.com"), ("WEB_DOMAIN", "")])).unwrap();
    assert_eq!(one.all(), ["example.com"]);
}

#[test]
fn secrets_by_version() {
    let some = variables(&[("SECRET_KEY_BASE", "x"), ("VAPID_PRIVATE_KEY", " ")]);
    let version = |minor| Version { major: 4, minor, patch: 0, prerelease: None };
    assert_eq!(
        missing_secrets(&some, Some(&version(2))),
        ["VAPID_PRIVATE_KEY", "VAPID_PUBLIC_KEY", "OTP_SECRET"]
    );
    let new = missing_secrets(&some, Some(&version(3)));
    assert_eq!(new, missing_secrets(&some, None));
    assert_eq!(new.len(), 5);
    assert!(new.contains(&"ACTIVE_RECORD_ENCRYPTION_PRIMARY_KEY"));
}

proptest! {
    /// The law: a password comes back from its percent-encoding.
    #[test]
    fn a_password_comes_back(password in "[^\0]{1,20}") {
        let encoded: String = password.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let address = url(&format!("redis://:{encoded}@h:1/2")).unwrap();
        prop_assert_eq!(address.password, Some(Secret::new(password)));
        prop_assert_eq!(address.address, Address::Tcp { host: "h".into(), port: 1 });
    }

    #[test]
    fn never_panics(text in "(redis|unix|rediss)?:?/?/?[%:@/?a-z0-9\\[\\]é]{0,30}") {
        let _ = url(&text);
        let _ = redis_stores(&variables(&[("REDIS_URL", &text), ("SIDEKIQ_REDIS_HOST", &text)]));
    }
}
