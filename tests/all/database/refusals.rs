//! Bad input: each is told for what it is, with a remedy, and nothing is touched.

use transhume::database::target::Existing;
use transhume::database::{Access, check, session};
use transhume::error::{Advice, one_line};
use transhume::event::Level;

use super::copy::portrait;
use super::*;
use crate::harness::pgbouncer::PgBouncer;
use crate::harness::postgres::Options as ClusterOptions;
use crate::harness::process::free_port;

async fn refused(server: &Server) -> DatabaseError {
    match session::connect(server, Access::Read).await {
        Ok(session) => panic!("{} let us in", session.server()),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_login_that_cannot_work_is_told_apart() {
    let cluster = Postgres::start();
    add_role(&cluster);
    cluster.create_database(DATABASE, OWNER, "");
    let good = server(&cluster, Arc::new(Local::new()));
    let at = format!("127.0.0.1:{} (this server)", cluster.port());

    let wrong = Server { password: Some(Secret::new("hunter2")), ..good.clone() };
    let error = refused(&wrong).await;
    assert_eq!(
        one_line(&error),
        format!(
            "{at} does not accept the login as mastodon: password authentication failed for user \"mastodon\""
        )
    );
    assert_eq!(
        error.hint().unwrap(),
        "check the password of mastodon: DB_PASS in .env.production or under `[target.env]`, \
         ~/.pgpass for `transhume db`"
    );

    let error = refused(&good.with_database("nowhere")).await;
    assert_eq!(one_line(&error), format!("there is no database nowhere on {at}"));

    let nobody = Server {
        address: Address::Tcp { host: "127.0.0.1".into(), port: free_port() },
        ..good.clone()
    };
    let error = refused(&nobody).await;
    assert!(matches!(error, DatabaseError::Unreachable { .. }), "{error}");
    assert!(one_line(&error).contains("refused"), "{}", one_line(&error));

    let missing =
        Server { address: Address::Unix { path: "/nowhere/.s.PGSQL.5432".into() }, ..good };
    assert!(matches!(refused(&missing).await, DatabaseError::Unreachable { .. }));
}

#[tokio::test]
async fn a_pooler_is_recognised_whatever_it_ignores() {
    let cluster = Postgres::start();
    add_role(&cluster);
    cluster.create_database(DATABASE, OWNER, "");
    let strict = PgBouncer::start(&cluster, &[]);
    let lenient =
        PgBouncer::start(&cluster, &["ignore_startup_parameters = extra_float_digits, options"]);
    for bouncer in [&strict, &lenient] {
        let through = Server {
            address: Address::Tcp { host: "127.0.0.1".into(), port: bouncer.port() },
            ..server(&cluster, Arc::new(Local::new()))
        };
        let error = refused(&through).await;
        assert_eq!(
            error.to_string(),
            format!(
                "127.0.0.1:{} (this server) is a connection pooler, not PostgreSQL itself",
                bouncer.port()
            )
        );
        assert!(error.hint().unwrap().contains("/etc/pgbouncer/pgbouncer.ini"));
    }
}

#[tokio::test]
async fn a_database_that_is_not_empty_is_left_alone_unless_it_is_named() {
    let pair = Pair::start();
    pair.target.create_database(DATABASE, OWNER, "");
    pair.target.sql(DATABASE, "CREATE TABLE precious (id int); INSERT INTO precious VALUES (1)");
    let before = portrait(&pair.target, DATABASE);

    let mut destination = pair.destination();
    let error = transfer_badly(&pair.source_server(), &destination).await;
    assert!(one_line(&error).ends_with("is not empty: it holds 1 table (precious, …)"), "{error}");
    assert!(error.hint().unwrap().contains("--replace mastodon_production"));
    destination.replace = Some("another".into());
    let error = transfer_badly(&pair.source_server(), &destination).await;
    assert!(matches!(error, DatabaseError::NotEmpty { .. }), "{error}");
    assert_eq!(portrait(&pair.target, DATABASE), before);

    destination.replace = Some(DATABASE.into());
    transfer_well(&pair.source_server(), &destination).await;
    assert_eq!(portrait(&pair.target, DATABASE), portrait(&pair.source, DATABASE));
}

#[tokio::test]
async fn a_view_a_function_or_a_schema_is_not_nothing() {
    let pair = Pair::start();
    for (plant, undo) in [
        ("CREATE VIEW v AS SELECT 1 AS one", "DROP VIEW v"),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "DROP FUNCTION f"),
        ("CREATE SCHEMA s", "DROP SCHEMA s"),
        ("SELECT lo_create(77)", "SELECT lo_unlink(77)"),
    ] {
        if pair.target.sql(
            "postgres",
            "SELECT count(*) FROM pg_database WHERE datname = 'mastodon_production'",
        ) == "0"
        {
            pair.target.create_database(DATABASE, OWNER, "");
        }
        pair.target.sql(DATABASE, plant);
        let error = transfer_badly(&pair.source_server(), &pair.destination()).await;
        assert!(matches!(error, DatabaseError::NotEmpty { .. }), "{plant}: {error}");
        pair.target.sql(DATABASE, undo);
    }
    // Empty again, and like the source: it is used.
    transfer_well(&pair.source_server(), &pair.destination()).await;
}

#[tokio::test]
async fn an_empty_database_of_another_locale_or_owner_is_not_used() {
    let pair = Pair::start();
    pair.target.create_database(DATABASE, OWNER, "TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'");
    let error = transfer_badly(&pair.source_server(), &pair.destination()).await;
    let text = one_line(&error);
    assert!(
        text.contains(
            "collate C, ctype C and belongs to mastodon; wanted is UTF8, collate C.UTF-8"
        ),
        "{text}"
    );
    pair.target.sql("postgres", "DROP DATABASE mastodon_production WITH (FORCE)");
    pair.target.create_database(DATABASE, "postgres", "");
    let error = transfer_badly(&pair.source_server(), &pair.destination()).await;
    assert!(matches!(error, DatabaseError::Unfit { .. }), "{error}");
}

#[tokio::test]
async fn a_role_that_may_not_create_the_database_is_told_so() {
    let pair = Pair::start();
    pair.target.sql("postgres", "ALTER ROLE mastodon NOCREATEDB");
    let error = transfer_badly(&pair.source_server(), &pair.destination()).await;
    assert_eq!(
        error.to_string(),
        format!(
            "mastodon may not create the database mastodon_production on 127.0.0.1:{} (this server)",
            pair.target.port()
        )
    );
    let found = check(&pair.source_server(), &pair.destination(), u64::MAX).await.unwrap();
    assert_eq!(found[0].level, Level::Refusal);
    assert_eq!(found[0].text, "mastodon may not create mastodon_production");
}

const INDEXES: &str =
    "('index_tags_on_name_lower_btree'::regclass, 'index_preview_cards_on_url'::regclass)";

#[tokio::test]
async fn check_names_what_would_go_wrong_and_changes_nothing() {
    let pair = Pair::start();
    let quiet = check(&pair.source_server(), &pair.destination(), u64::MAX).await.unwrap();
    assert!(quiet.iter().all(|finding| finding.level == Level::Ok), "{quiet:#?}");

    // A unique index that a changed collation broke: the rows are there, the index does not know.
    pair.source.sql(
        DATABASE,
        &format!("UPDATE pg_index SET indisready = false WHERE indexrelid IN {INDEXES}"),
    );
    pair.source.sql(
        DATABASE,
        "INSERT INTO tags (name) VALUES ('tAG7');
         INSERT INTO preview_cards (url)
             SELECT string_agg(md5(i::text), '') FROM generate_series(1, 100) i",
    );
    pair.source.sql(
        DATABASE,
        &format!("UPDATE pg_index SET indisready = true WHERE indexrelid IN {INDEXES}"),
    );
    pair.source.sql(
        DATABASE,
        "CREATE ROLE grafana; GRANT SELECT ON statuses TO grafana;
         ALTER DATABASE mastodon_production SET work_mem = '64MB'",
    );
    let before = portrait(&pair.source, DATABASE);
    let found = check(&pair.source_server(), &pair.destination(), u64::MAX).await.unwrap();
    let told: Vec<String> = found
        .iter()
        .filter(|finding| finding.level != Level::Ok)
        .map(|finding| format!("{:?} {}: {}", finding.level, finding.subject, finding.text))
        .collect();
    assert_eq!(
        told,
        [
            "Refusal preview_cards.url: 1 row with a url too long for index_preview_cards_on_url: the index \
             would not build",
            "Refusal \"public\".\"index_tags_on_name_lower_btree\": 1 value in \"public\".\"tags\" more than \
             once: the index is corrupt and would not build on the target",
            "Warning grants: rights given to grafana are not copied",
            "Warning database settings: not copied: work_mem=64MB",
        ]
    );
    assert_eq!(portrait(&pair.source, DATABASE), before);
    assert_eq!(
        pair.target.sql(
            "postgres",
            "SELECT count(*) FROM pg_database WHERE datname = 'mastodon_production'"
        ),
        "0"
    );

    // And the copy itself stops at it, by name.
    pair.source.sql(DATABASE, "DELETE FROM preview_cards WHERE length(url) > 2000");
    let error = transfer_badly(&pair.source_server(), &pair.destination()).await;
    assert_eq!(
        error.to_string(),
        "a value occurs twice under the unique index index_tags_on_name_lower_btree of the source"
    );
    assert!(error.hint().unwrap().contains("REINDEX INDEX index_tags_on_name_lower_btree"));
}

#[tokio::test]
async fn a_locale_that_the_target_lacks_is_told_with_the_way_to_get_it() {
    use transhume::database::inspect;
    use transhume::database::target;

    let pair = Pair::start();
    let source = session::connect(&pair.source_server(), Access::Read).await.unwrap();
    let mut facts = inspect::inspect_database(&source).await.unwrap();
    facts.locale.collate = "tlh_QO.UTF-8".into();
    facts.locale.ctype = "tlh_QO.UTF-8".into();
    let error = match target::prepare(&pair.destination(), &facts, "run-1").await {
        Ok(_) => panic!("there is no such locale"),
        Err(error) => error,
    };
    assert!(error.to_string().ends_with("does not have the locale tlh_QO.UTF-8"), "{error}");
    assert!(error.hint().unwrap().contains("locale-gen"));
}

#[tokio::test]
async fn the_states_of_a_target_are_told_apart() {
    use transhume::database::target::{Mark, MarkState, discard, existing, set_mark};

    let pair = Pair::start();
    let destination = pair.destination();
    let admin = destination.admin_session(Access::Read).await.unwrap();
    assert_eq!(existing(&destination, &admin).await.unwrap(), Existing::Absent);
    pair.target.create_database(DATABASE, OWNER, "");
    assert!(matches!(existing(&destination, &admin).await.unwrap(), Existing::Empty(_)));
    assert!(!discard(&destination, None).await.unwrap());

    for (state, droppable) in
        [(MarkState::Copying, true), (MarkState::Failed, true), (MarkState::Complete, false)]
    {
        set_mark(&destination, &Mark::new("run-1", state)).await.unwrap();
        assert!(!discard(&destination, Some("run-2")).await.unwrap());
        assert_eq!(discard(&destination, Some("run-1")).await.unwrap(), droppable, "{state:?}");
        if droppable {
            assert_eq!(existing(&destination, &admin).await.unwrap(), Existing::Absent);
            pair.target.create_database(DATABASE, OWNER, "");
        }
    }
    assert!(matches!(existing(&destination, &admin).await.unwrap(), Existing::Complete(..)));
}

#[tokio::test]
async fn a_cluster_of_latin1_is_copied_as_it_is() {
    let latin = ClusterOptions {
        locale: "C".into(),
        encoding: "LATIN1".into(),
        ..ClusterOptions::default()
    };
    let (source, target) = (Postgres::start_with(&latin), Postgres::start());
    add_role(&source);
    add_role(&target);
    source.create_database(DATABASE, OWNER, "");
    source.sql(
        DATABASE,
        "SET ROLE mastodon; CREATE TABLE t (x text); INSERT INTO t VALUES (chr(233))",
    );
    let destination = Destination::new(server(&target, Arc::new(Local::new())));
    let source_server = server(&source, Arc::new(Local::new()));
    let found = check(&source_server, &destination, u64::MAX).await.unwrap();
    assert!(found.iter().any(|finding| finding.text.contains("LATIN1")), "{found:#?}");
    transfer_well(&source_server, &destination).await;
    let what = "SELECT pg_encoding_to_char(encoding), datcollate, (SELECT ascii(x) FROM t) \
                FROM pg_database WHERE datname = current_database()";
    assert_eq!(target.sql(DATABASE, what), "LATIN1|C|233");
}
