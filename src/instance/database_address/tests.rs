use std::collections::BTreeMap;

use super::*;
use crate::host::fake::{Reply, Scripted};
use proptest::prelude::*;

fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, Secret> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), Secret::new(*value))).collect()
}

fn found(pairs: &[(&str, &str)]) -> DatabaseAddress {
    from_variables(&variables(pairs), "mastodon").unwrap()
}

fn url(text: &str) -> Result<DatabaseAddress, DatabaseAddressError> {
    from_url(&Secret::new(text), "operator")
}

#[test]
fn variables_as_config_database_yml_takes_them() {
    let default = found(&[]);
    assert_eq!(default.to_string(), "mastodon_production at localhost:5432");
    assert_eq!((default.user.as_str(), default.tls), ("mastodon", SslMode::Prefer));
    assert_eq!(default.password, None);
    for (pairs, shown) in [
        (&[("DB_HOST", "")][..], "mastodon_production at /var/run/postgresql/.s.PGSQL.5432"),
        (
            &[("DB_HOST", "/run/pg/"), ("DB_PORT", "5433")],
            "mastodon_production at /run/pg/.s.PGSQL.5433",
        ),
        (&[("DB_HOST", "db"), ("DB_PORT", ""), ("DB_NAME", "m")], "m at db:5432"),
        (&[("DB_NAME", ""), ("DB_USER", "u")], "u at localhost:5432"),
    ] {
        assert_eq!(found(pairs).to_string(), shown);
    }
    let tls = found(&[("DB_SSLMODE", "require"), ("DB_PASS", "hunter2")]);
    assert!(tls.tls.is_required());
    assert!(format!("{tls:?}").contains("[secret]") && !format!("{tls:?}").contains("hunter2"));
}

#[test]
fn database_url_wins_and_leaves_the_rest_to_the_others() {
    let pairs = [
        ("DATABASE_URL", "postgres://u%40x:p%2Fw@db.internal/prod?sslmode=verify-full"),
        ("DB_HOST", "elsewhere"),
        ("DB_PORT", "5444"),
        ("DB_PASS", "other"),
    ];
    let address = found(&pairs);
    assert_eq!(address.to_string(), "prod at db.internal:5444");
    assert_eq!((address.user.as_str(), address.tls), ("u@x", SslMode::VerifyFull));
    assert_eq!(address.password, Some(Secret::new("p/w")));
    let socket = found(&[("DATABASE_URL", "postgresql:///prod?host=/run/pg&port=7")]);
    assert_eq!(socket.to_string(), "prod at /run/pg/.s.PGSQL.7");
    let encoded = found(&[("DATABASE_URL", "postgres://%2Frun%2Fpg/prod")]);
    assert_eq!(encoded.to_string(), "prod at /run/pg/.s.PGSQL.5432");
}

#[test]
fn the_operators_url_is_a_uri_or_keywords() {
    for (text, shown) in [
        ("postgres://mastodon@localhost:5432/prod", "prod at localhost:5432"),
        ("postgres://", "operator at /var/run/postgresql/.s.PGSQL.5432"),
        ("host=/tmp port=5433 dbname=prod", "prod at /tmp/.s.PGSQL.5433"),
        ("dbname = 'a b' user='it\\'s' password=x://y", "a b at /var/run/postgresql/.s.PGSQL.5432"),
        ("host=h user=u connect_timeout=3", "u at h:5432"),
    ] {
        assert_eq!(url(text).unwrap().to_string(), shown, "{text}");
    }
    let keywords = url("dbname=d user='it\\'s' password=x://y").unwrap();
    assert_eq!(keywords.user, "it's");
    assert_eq!(keywords.password, Some(Secret::new("x://y")));
}

#[test]
fn a_bad_text_is_not_repeated() {
    for text in [
        "",
        "hunter2",
        "mysql://u:hunter2@h/d",
        "postgres://u:hunter2@h:x/d",
        "postgres://u:hunter2@a,b/d",
        "host=a,b password=hunter2",
        "password='hunter2",
        "sslmode=hunter2",
    ] {
        let error = url(text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        assert!(error.hint().is_some());
    }
}

const INI: &str = "[databases]\nmastodon_production = host=10.0.0.7 port=5433 dbname=masto\n\
                   over_socket = user=owner password=own\npool = port=6432 host=p\n\
                   many = host=a,b\n[pgbouncer]\nlisten_addr=*\nunix_socket_dir=/run/postgresql\n";

/// A machine whose /etc/pgbouncer holds `ini`.
fn machine(ini: &str) -> Scripted {
    Scripted::new("old")
        .on("find . -mindepth 1", [Reply::ok("./pgbouncer.ini\0")])
        .on("exec cat", [Reply::ok(ini)])
        .on("uname -n", [Reply::ok("web\nweb.internal\n10.0.0.5 \n")])
}

async fn resolved(
    host: &Scripted,
    pairs: &[(&str, &str)],
) -> Result<DatabaseAddress, DatabaseAddressError> {
    resolve(host, &variables(pairs), "mastodon", pgbouncer::INI_DEFAULT).await
}

#[tokio::test]
async fn pgbouncer_is_followed_to_the_server_behind_it() {
    let pooled = [("DB_PORT", "6432"), ("DB_PASS", "pw"), ("PREPARED_STATEMENTS", "false")];
    let address = resolved(&machine(INI), &pooled).await.unwrap();
    assert_eq!(address.to_string(), "masto at 10.0.0.7:5433");
    assert_eq!((address.user.as_str(), address.password), ("mastodon", Some(Secret::new("pw"))));
    let through = address.through.unwrap();
    assert_eq!(through.address, Address::Tcp { host: "localhost".into(), port: 6432 });

    let own_name = [("DB_PORT", "6432"), ("DB_HOST", "10.0.0.5"), ("DB_NAME", "over_socket")];
    let address = resolved(&machine(INI), &own_name).await.unwrap();
    assert_eq!(address.to_string(), "over_socket at /run/postgresql/.s.PGSQL.5432");
    assert_eq!((address.user.as_str(), address.password), ("owner", Some(Secret::new("own"))));
}

#[tokio::test]
async fn a_server_beside_pgbouncer_is_left_alone() {
    let leftover = [("PREPARED_STATEMENTS", "false")];
    for host in [&machine(INI), &Scripted::new("old").on("find .", [Reply::ok("")])] {
        let address = resolved(host, &leftover).await.unwrap();
        assert_eq!(address.to_string(), "mastodon_production at localhost:5432");
        assert_eq!(address.through, None);
    }
    let forbidden =
        Scripted::new("old").on("find .", [Reply::fail(1, "sudo: a password is required")]);
    assert_eq!(resolved(&forbidden, &[]).await.unwrap().through, None);
}

#[tokio::test]
async fn a_pooler_that_cannot_be_followed_is_refused_with_the_remedy() {
    let none = || Scripted::new("old").on("find .", [Reply::ok("")]);
    let forbidden = || Scripted::new("old").on("find .", [Reply::fail(1, "Permission denied")]);
    let port = ("DB_PORT", "6432");
    for (host, pairs, told) in [
        (none(), &[port][..], "localhost:6432 looks like PgBouncer"),
        (none(), &[("DB_HOST", "db"), ("PREPARED_STATEMENTS", "false")], "db:5432 looks like"),
        (machine(INI), &[port, ("DB_HOST", "db")], "db:6432 looks like PgBouncer"),
        (forbidden(), &[port], "cannot tell whether localhost:6432 is PgBouncer"),
        (forbidden(), &[("PREPARED_STATEMENTS", "false")], "cannot tell whether localhost:5432"),
        (machine(INI), &[port, ("DB_NAME", "other")], "does not say where the database other is"),
        (machine(INI), &[port, ("DB_NAME", "pool")], "port 6432 is another pooler"),
        (machine(INI), &[port, ("DB_NAME", "many")], "it names several hosts"),
    ] {
        let error = resolved(&host, pairs).await.unwrap_err();
        assert!(error.to_string().contains(told), "{told}: {error}");
        assert!(
            error.hint().is_some_and(|hint| hint.contains("`database.url` of that side")),
            "{told}"
        );
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

proptest! {
    /// The law: a password comes back, from a URI and from keywords.
    #[test]
    fn a_password_comes_back(password in any::<String>().prop_filter("some", |it| !it.is_empty())) {
        let encoded: String = password.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let uri = url(&format!("postgres://u:{encoded}@h/d?sslmode=disable")).unwrap();
        let keywords = url(&format!("host=h password={} dbname=d", quoted(&password))).unwrap();
        let password = Some(Secret::new(password));
        prop_assert_eq!(&uri.password, &password);
        prop_assert_eq!(&keywords.password, &password);
        prop_assert_eq!(keywords.database, "d");
    }

    #[test]
    fn never_panics(text in "(postgres|host|port|=|://|:|'|\\\\|%|@|/|\\?| |1|é|,){0,25}") {
        let _ = url(&text);
        let _ = from_variables(&variables(&[("DATABASE_URL", &text)]), "mastodon");
    }
}
