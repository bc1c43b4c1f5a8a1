use super::*;
use proptest::prelude::*;

const INI: &str = r#"
;; database name = connect string
[databases]
# plain
mastodon_production = host=10.0.0.7 port=5433 dbname=masto user=owner password='it''s; a #secret' pool_size=50
over_socket =
"odd ""name""" = host = /run/pg	port=5432
* = host=fallback.internal

[users]
someone = pool_mode=session

[pgbouncer]
listen_addr = localhost, 10.0.0.5
listen_port = 6432
unix_socket_dir = /var/run/postgresql
server_tls_sslmode = require
"#;

fn tcp(host: &str, port: u16) -> Address {
    Address::Tcp { host: host.into(), port }
}

#[test]
fn entries_lead_where_they_say() {
    let ini = PgBouncer::parse(INI, "ini").unwrap();
    let entry = ini.entry("mastodon_production").unwrap();
    assert_eq!(entry.host.as_deref(), Some("10.0.0.7"));
    assert_eq!((entry.port, entry.dbname.as_deref()), (Some(5433), Some("masto")));
    assert_eq!(entry.user.as_deref(), Some("owner"));
    assert_eq!(entry.password, Some(Secret::new("it's; a #secret")));
    assert_eq!(ini.entry("over_socket"), Some(&Entry::default()));
    assert_eq!(ini.entry("odd \"name\"").unwrap().host.as_deref(), Some("/run/pg"));
    assert_eq!(ini.entry("other").unwrap().host.as_deref(), Some("fallback.internal"));
    assert_eq!(ini.server_tls_sslmode.as_deref(), Some("require"));
    assert!(!format!("{ini:?}").contains("a #secret"), "{ini:?}");
}

#[test]
fn it_knows_its_own_addresses() {
    let ini = PgBouncer::parse(INI, "ini").unwrap();
    let yes = |address: &Address| ini.listens_on(address, &[]);
    assert!(yes(&tcp("localhost", 6432)) && yes(&tcp("127.0.0.1", 6432)) && yes(&tcp("::1", 6432)));
    assert!(yes(&tcp("10.0.0.5", 6432)));
    assert!(!yes(&tcp("localhost", 5432)) && !yes(&tcp("10.0.0.9", 6432)));
    let socket = |path: &str| Address::Unix { path: path.into() };
    assert!(yes(&socket("/run/postgresql/.s.PGSQL.6432")));
    assert!(yes(&socket("/var/run/postgresql/.s.PGSQL.6432")));
    assert!(!yes(&socket("/var/run/postgresql/.s.PGSQL.5432")));
}

#[test]
fn a_star_is_every_address_of_this_machine_and_no_other() {
    let ini = PgBouncer::parse("[pgbouncer]\nlisten_addr=*\nunix_socket_dir=\n", "ini").unwrap();
    assert_eq!((ini.listen_port, &ini.unix_socket_dir), (6432, &None));
    assert!(ini.listens_on(&tcp("127.0.0.1", 6432), &[]));
    assert!(ini.listens_on(&tcp("db.example", 6432), &["db.example".into()]));
    assert!(!ini.listens_on(&tcp("db.example", 6432), &["web.example".into()]));
    let silent = PgBouncer::parse("[pgbouncer]\n", "ini").unwrap();
    assert!(!silent.listens_on(&tcp("localhost", 6432), &[]));
    assert!(silent.listens_on(&Address::Unix { path: "/tmp/.s.PGSQL.6432".into() }, &[]));
}

#[test]
fn what_is_wrong_is_told_with_its_line_and_without_the_line() {
    for (text, told) in [
        ("[databases]\na = password=hunter2 port=x", "ini, line 2: a port is not a port"),
        ("[databases]\n\na = password='hunter2", "ini, line 3: a quoted value is not closed"),
        ("[databases", "ini, line 1: a section name is not closed"),
        ("hunter2", "ini, line 1: there is no = after the name"),
        ("\"hunter2 = 1", "ini, line 1: a quoted name is not closed"),
        ("[databases]\na = hunter2", "ini, line 2: a parameter has no ="),
    ] {
        let error = PgBouncer::parse(text, "ini").unwrap_err();
        assert_eq!(error.to_string(), told);
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

proptest! {
    /// The law: a quoted password comes back, whatever is in it (a line has no line breaks).
    #[test]
    fn a_quoted_password_comes_back(password in "[^\r\n]{1,20}") {
        let text = format!("[databases]\nd = host=h password={} port=1\n", quoted(&password));
        let ini = PgBouncer::parse(&text, "ini").unwrap();
        let entry = ini.entry("d").unwrap();
        prop_assert_eq!(&entry.password, &Some(Secret::new(password)));
        prop_assert_eq!(entry.port, Some(1));
    }

    #[test]
    fn never_panics(text in "(\\[databases\\]|\n|=|'|\"|a|%include | |port|é|;){0,40}") {
        let _ = PgBouncer::parse(&text, "ini");
    }
}
