//! Mode `parallel`: the same copy as any other, by several workers, also when some of them lose
//! their connections.

use std::time::Duration;

use rustix::process::Signal;
use tokio::task::JoinHandle;
use transhume::database::{Access, Snapshot, inspect, target};
use transhume::error::{Advice, Retry, one_line};
use transhume::host::helper::Reach;

use super::copy::portrait;
use super::faults::{gone, recovers, under_way};
use super::helped::{helper, packed_in_parallel};
use super::kinds::{KINDS, clusters};
use super::*;
use crate::harness::process::signal;
use crate::harness::proxy::Proxy;

const TORTURE: &str = include_str!("torture.sql");
/// Parts of this size make many of a small table.
const SMALL_PARTS: u64 = 64 * 1024;

/// How many transactions put rows into a table.
fn parts(cluster: &Postgres, table: &str) -> usize {
    let sql = format!("SELECT count(DISTINCT xmin::text) FROM {table}");
    cluster.sql(DATABASE, &sql).parse().unwrap()
}

#[tokio::test]
async fn a_copy_by_workers_is_the_same() {
    let pair = Pair::start();
    let before = portrait(&pair.source, DATABASE);
    let (source, destination) = (pair.source_server(), pair.destination());
    let done = transfer_well_by(&source, &destination, &in_parallel(SMALL_PARTS)).await;
    assert_eq!(portrait(&pair.target, DATABASE), before);
    assert_eq!(portrait(&pair.source, DATABASE), before);
    assert_eq!(done.copied.problems, Vec::<String>::new());
    let unowned = "SELECT count(*) FROM pg_class WHERE relowner <> 'mastodon'::regrole
                   AND oid >= 16384 AND relnamespace = 'public'::regnamespace";
    assert_eq!(pair.target.sql(DATABASE, unowned), "0");
    let without_statistics = "SELECT relname FROM pg_stat_user_tables WHERE last_analyze IS NULL";
    assert_eq!(pair.target.sql(DATABASE, without_statistics), "");
}

#[tokio::test]
async fn both_modes_carry_over_whatever_a_database_can_hold() {
    let pair = clusters("");
    pair.source.sql(DATABASE, TORTURE);
    let before = portrait(&pair.source, DATABASE);
    let (source, mut destination) = (pair.source_server(), pair.destination());
    destination.replace = Some(DATABASE.into());
    for options in [in_parallel(SMALL_PARTS), in_parallel(u64::MAX), Options::default()] {
        transfer_well_by(&source, &destination, &options).await;
        assert_eq!(portrait(&pair.target, DATABASE), before, "{options:?}");
        match options.mode {
            Mode::Parallel(ref parallel) if parallel.part_bytes_min == SMALL_PARTS => {
                assert!(parts(&pair.target, "many_parts") > 3);
                let unmarked = "SELECT relname FROM pg_class WHERE relname = 'many_parts'
                                AND relallvisible < relpages";
                assert_eq!(pair.target.sql(DATABASE, unmarked), "", "foreign keys would be slow");
            }
            Mode::Parallel(_) => assert_eq!(parts(&pair.target, "many_parts"), 1),
            Mode::Stream(_) => {}
        }
    }
    assert_eq!(portrait(&pair.source, DATABASE), before);
}

#[tokio::test]
async fn rows_cross_in_the_binary_format_where_every_type_allows() {
    let pair = clusters("");
    pair.source.sql(DATABASE, TORTURE);
    pair.source.sql(DATABASE, "ALTER ROLE mastodon SET log_statement = 'all'");
    transfer_well_by(&pair.source_server(), &pair.destination(), &in_parallel(u64::MAX)).await;
    let log = pair.source.log();
    let read = |table: &str| {
        let start = format!("COPY \"public\".\"{table}\"");
        let line = log.lines().find(|line| line.contains(&start));
        line.unwrap_or_else(|| panic!("{table} was not read")).to_owned()
    };
    assert!(read("binary_types").ends_with("WITH (FORMAT binary)"), "{}", read("binary_types"));
    // Types of the operator's own have other numbers on the target.
    assert!(read("typed").ends_with("WITH (ENCODING E'UTF8')"), "{}", read("typed"));
}

#[tokio::test]
async fn objects_of_every_kind_are_copied_by_workers() {
    let pair = clusters("");
    pair.source.sql(DATABASE, KINDS);
    transfer_well_by(&pair.source_server(), &pair.destination(), &in_parallel(1)).await;
    assert_eq!(portrait(&pair.target, DATABASE), portrait(&pair.source, DATABASE));
}

#[tokio::test]
async fn bytes_that_are_no_text_are_carried_over_as_they_are() {
    let pair = clusters("TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'");
    pair.source.sql(
        DATABASE,
        r"SET ROLE mastodon; CREATE TABLE t (x text); INSERT INTO t VALUES (E'\xff\xfe'), (E'ü')",
    );
    transfer_well_by(&pair.source_server(), &pair.destination(), &in_parallel(1)).await;
    let bytes = "SELECT encode(x::bytea, 'hex') FROM t ORDER BY 1";
    assert_eq!(pair.target.sql(DATABASE, bytes), pair.source.sql(DATABASE, bytes));
}

#[tokio::test]
async fn a_packed_copy_by_workers_is_the_same() {
    let pair = clusters("");
    pair.source.sql(DATABASE, TORTURE);
    let Machine { sshd, cache: _cache } = Machine::start();
    let host = log_in(&sshd, sshd.port()).await;
    let helper = helper(&*host, Reach::Login).await;
    let destination = Destination::new(server(&pair.target, host));
    let options = packed_in_parallel(&helper, SMALL_PARTS);
    transfer_well_by(&pair.source_server(), &destination, &options).await;
    assert_eq!(portrait(&pair.target, DATABASE), portrait(&pair.source, DATABASE));
}

#[tokio::test]
async fn a_superuser_copies_for_the_owner_by_workers() {
    let pair = Pair::start();
    let admin = Server {
        address: Address::Unix { path: text(&pair.target.socket()) },
        user: "postgres".into(),
        password: None,
        ..pair.destination().server
    };
    let mut destination = Destination::new(admin);
    destination.owner = OWNER.into();
    transfer_well_by(&pair.source_server(), &destination, &in_parallel(1)).await;
    let others = "SELECT count(*) FROM pg_class WHERE relowner <> 'mastodon'::regrole
                  AND oid >= 16384 AND relnamespace = 'public'::regnamespace";
    assert_eq!(pair.target.sql(DATABASE, others), "0");
}

/// Adds a table whose rows no target takes before [`open_gate`], and others around it.
fn shut_gate(cluster: &Postgres) {
    let port = cluster.port();
    cluster.sql(
        DATABASE,
        &format!(
            "SET ROLE mastodon;
             CREATE FUNCTION gate() RETURNS bool VOLATILE LANGUAGE plpgsql AS $$ BEGIN
                 WHILE current_setting('port') <> '{port}'
                     AND NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'open')
                 LOOP PERFORM pg_sleep(0.02); END LOOP;
                 RETURN true; END $$;
             CREATE TABLE gated (id int PRIMARY KEY, CHECK (gate()));
             INSERT INTO gated SELECT generate_series(1, 1000);
             CREATE TABLE plenty (id int PRIMARY KEY, x text);
             INSERT INTO plenty SELECT i, repeat(md5(i::text), 9) FROM generate_series(1, 20000) i;
             CREATE INDEX ON plenty (x);
             CREATE TABLE pointing (id int REFERENCES plenty, x text);
             INSERT INTO pointing SELECT * FROM plenty;
             CREATE UNLOGGED TABLE fleeting (x int); INSERT INTO fleeting VALUES (1), (2)"
        ),
    );
}

/// Lets the rows through, as soon as the cluster can be told so.
async fn open_gate(cluster: &Postgres) {
    gone(|| cluster.try_sql("postgres", "CREATE ROLE open").is_err(), "the recovery").await;
}

fn start(
    pair: &Pair,
    destination: &Destination,
    options: Options,
) -> JoinHandle<Result<Transferred, DatabaseError>> {
    let (source, destination) = (pair.source_server(), destination.clone());
    tokio::spawn(async move { transfer(&source, &destination, "run-1", &options, &Silent).await })
}

const AT_THE_GATE: &str = "COPY \"public\".\"gated\"%";

fn must_be_equal(pair: &Pair, done: Result<Transferred, DatabaseError>) {
    let done = done.unwrap_or_else(|error| panic!("{}", one_line(&error)));
    assert_eq!(done.comparison.unwrap().differences, []);
    assert_eq!(portrait(&pair.target, DATABASE), portrait(&pair.source, DATABASE));
}

#[tokio::test]
async fn a_killed_backend_costs_only_what_was_under_way() {
    let pair = Pair::start();
    shut_gate(&pair.source);
    let running = start(&pair, &pair.destination(), in_parallel(SMALL_PARTS));
    under_way(&pair.target, "transhume", AT_THE_GATE).await;
    let pid = format!(
        "SELECT pid FROM pg_stat_activity WHERE query LIKE '{AT_THE_GATE}'
                       AND application_name = 'transhume' LIMIT 1"
    );
    // The whole cluster recovers from this, and everybody's session ends.
    signal(pair.target.sql("postgres", &pid).parse().unwrap(), Signal::KILL);
    open_gate(&pair.target).await;
    must_be_equal(&pair, running.await.unwrap());
}

#[tokio::test]
async fn an_ended_session_on_either_side_is_replaced() {
    let pair = Pair::start();
    shut_gate(&pair.source);
    let running = start(&pair, &pair.destination(), in_parallel(SMALL_PARTS));
    under_way(&pair.target, "transhume", AT_THE_GATE).await;
    let end = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                       WHERE application_name = 'transhume' AND query LIKE '{AT_THE_GATE}'"
    );
    assert_ne!(pair.source.sql("postgres", &end), "0");
    under_way(&pair.target, "transhume", AT_THE_GATE).await;
    assert_ne!(pair.target.sql("postgres", &end), "0");
    under_way(&pair.target, "transhume", AT_THE_GATE).await;
    open_gate(&pair.target).await;
    must_be_equal(&pair, running.await.unwrap());
}

#[tokio::test]
async fn links_that_are_cut_again_and_again_cost_only_what_was_under_way() {
    const CUTS: usize = 5;
    let pair = Pair::start();
    shut_gate(&pair.source);
    let Machine { sshd, cache: _cache } = Machine::start();
    let proxy = Proxy::to(sshd.port());
    let host = log_in(&sshd, proxy.port()).await;
    let helper = helper(&*host, Reach::Login).await;
    let destination = Destination::new(server(&pair.target, host));
    let running = start(&pair, &destination, packed_in_parallel(&helper, SMALL_PARTS));
    for cut in 0..CUTS {
        under_way(&pair.target, "transhume", AT_THE_GATE).await;
        tokio::time::sleep(Duration::from_millis(70 * cut as u64)).await;
        proxy.cut();
        let left = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '{AT_THE_GATE}'
                            AND application_name = 'transhume'"
        );
        let _ = pair.target.sql("postgres", &left);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    under_way(&pair.target, "transhume", AT_THE_GATE).await;
    open_gate(&pair.target).await;
    must_be_equal(&pair, running.await.unwrap());
}

#[tokio::test]
async fn a_link_that_stays_away_is_told_and_the_next_run_starts_over() {
    let pair = Pair::start();
    shut_gate(&pair.source);
    let sshd = Sshd::start();
    let proxy = Proxy::to(sshd.port());
    let destination = Destination::new(server(&pair.target, log_in(&sshd, proxy.port()).await));
    let parallel = by_workers::Options {
        jobs: 2,
        patience: Duration::from_secs(2),
        ..by_workers::Options::default()
    };
    let options = Options { mode: Mode::Parallel(parallel), ..Options::default() };
    let running = start(&pair, &destination, options);
    under_way(&pair.target, "transhume", AT_THE_GATE).await;
    proxy.refuse(true);
    proxy.cut();
    let error = running.await.unwrap().unwrap_err();
    assert_ne!(error.retry(), Retry::Never, "{}", one_line(&error));
    proxy.refuse(false);
    open_gate(&pair.target).await;
    recovers(&pair, &destination).await;
}

#[tokio::test]
async fn a_lost_snapshot_is_told_as_that() {
    let pair = Pair::start();
    shut_gate(&pair.source);
    let running = start(&pair, &pair.destination(), in_parallel(SMALL_PARTS));
    under_way(&pair.target, "transhume", AT_THE_GATE).await;
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
               WHERE application_name = 'transhume' AND query LIKE '%pg_largeobject_metadata%'";
    assert_eq!(pair.source.sql("postgres", end), "1");
    let error = running.await.unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the session on 127.0.0.1:{} (this server) that held the snapshot was lost: the copy \
             cannot go on",
            pair.source.port()
        )
    );
    assert!(error.hint().unwrap().contains("new snapshot"), "{:?}", error.hint());
    open_gate(&pair.target).await;
    recovers(&pair, &pair.destination()).await;
}

#[tokio::test]
async fn a_dropped_copy_by_workers_leaves_nothing_running() {
    let pair = Pair::start();
    shut_gate(&pair.source);
    let running = start(&pair, &pair.destination(), in_parallel(SMALL_PARTS));
    under_way(&pair.target, "transhume", AT_THE_GATE).await;
    running.abort();
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'mastodon_production'";
    gone(|| pair.source.sql("postgres", sessions) != "0", "a session on the source").await;
    open_gate(&pair.target).await;
    gone(|| pair.target.sql("postgres", sessions) != "0", "a session on the target").await;
    recovers(&pair, &pair.destination()).await;
}

#[tokio::test]
async fn a_duplicate_under_a_corrupt_index_stops_the_workers_by_name() {
    const INDEX: &str = "'index_tags_on_name_lower_btree'::regclass";
    let pair = Pair::start();
    let ready = |ready: bool| {
        format!("UPDATE pg_index SET indisready = {ready} WHERE indexrelid = {INDEX}")
    };
    pair.source.sql(DATABASE, &ready(false));
    pair.source.sql(DATABASE, "INSERT INTO tags (name) VALUES ('tAG7')");
    pair.source.sql(DATABASE, &ready(true));
    let error = start(&pair, &pair.destination(), in_parallel(1)).await.unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        "a value occurs twice under the unique index index_tags_on_name_lower_btree of the source"
    );
    assert!(error.hint().unwrap().contains("REINDEX INDEX index_tags_on_name_lower_btree"));
}

#[tokio::test]
async fn a_lock_on_the_source_does_not_hold_the_workers_up_for_ever() {
    let pair = Pair::start();
    let (source, destination) = (pair.source_server(), pair.destination());
    let reader = session::connect(&source, Access::Read).await.unwrap();
    let facts = inspect::inspect_database(&reader).await.unwrap();
    let prepared = target::prepare(&destination, &facts, "run-1").await.unwrap();
    let snapshot = Snapshot::take(&source).await.unwrap();
    let holder = session::connect(&source, Access::Write).await.unwrap();
    holder.execute("lock", "BEGIN; LOCK TABLE public.tags IN ACCESS EXCLUSIVE MODE").await.unwrap();

    let lock_wait = Duration::from_millis(300);
    let options = by_workers::Options { lock_wait, ..by_workers::Options::default() };
    let copy = by_workers::copy(&source, &destination, &snapshot, &prepared, &options, &Silent);
    let error = copy.await.unwrap_err();
    assert!(one_line(&error).contains("lock timeout"), "{}", one_line(&error));
    assert!(error.hint().unwrap().contains("pg_locks"), "{:?}", error.hint());
    drop((holder, snapshot, prepared));
    recovers(&pair, &destination).await;
}

#[tokio::test]
async fn rows_and_sequences_that_an_extension_keeps_for_the_operator_come_along() {
    let pair = clusters("");
    let made = "SET ROLE mastodon; CREATE EXTENSION hstore;
        CREATE TABLE setting (id serial PRIMARY KEY, x text);
        RESET ROLE; ALTER EXTENSION hstore ADD TABLE setting;
        ALTER EXTENSION hstore ADD SEQUENCE setting_id_seq;
        INSERT INTO setting (x) SELECT 'of the extension' FROM generate_series(1, 5)";
    pair.source.sql(DATABASE, made);
    pair.source.sql(
        DATABASE,
        "UPDATE pg_extension SET extcondition = ARRAY['WHERE id > 5', ''],
             extconfig = ARRAY['setting'::regclass::oid, 'setting_id_seq'::regclass::oid]
             WHERE extname = 'hstore';
         INSERT INTO setting (x) SELECT 'ours' FROM generate_series(1, 20)",
    );
    let (source, destination) = (pair.source_server(), pair.destination());
    let reader = session::connect(&source, Access::Read).await.unwrap();
    let facts = inspect::inspect_database(&reader).await.unwrap();
    let prepared = target::prepare(&destination, &facts, "run-1").await.unwrap();
    pair.target.sql(DATABASE, made);
    let snapshot = Snapshot::take(&source).await.unwrap();
    let options = by_workers::Options::default();
    by_workers::copy(&source, &destination, &snapshot, &prepared, &options, &Silent).await.unwrap();
    let rows =
        "SELECT string_agg(id || x, ',' ORDER BY id), nextval('setting_id_seq') FROM setting";
    assert_eq!(pair.target.sql(DATABASE, rows), pair.source.sql(DATABASE, rows));
}

/// Makes the gated table the largest, so that all workers stand at the gate and nothing else is
/// under way.
fn gate_first(cluster: &Postgres) {
    cluster.sql(
        DATABASE,
        "ALTER TABLE gated ADD COLUMN pad text;
         ALTER TABLE gated ALTER COLUMN pad SET STORAGE EXTERNAL;
         UPDATE gated SET pad = repeat(md5(id::text), 400)",
    );
}

/// A commit waits for a standby that is not there: it has happened, and nobody was told.
#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_not_done_again() {
    for options in [in_parallel(SMALL_PARTS), in_parallel(u64::MAX)] {
        let pair = Pair::start();
        shut_gate(&pair.source);
        gate_first(&pair.source);
        let running = start(&pair, &pair.destination(), options);
        under_way(&pair.target, "transhume", AT_THE_GATE).await;
        let standby = |name: &str| {
            let set = format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'");
            pair.target.sql("postgres", &set);
            pair.target.sql("postgres", "SELECT pg_reload_conf()");
        };
        standby("nobody");
        open_gate(&pair.target).await;
        let waiting = "FROM pg_stat_activity WHERE application_name = 'transhume'
                       AND query = 'COMMIT' AND wait_event = 'SyncRep'";
        let count = format!("SELECT count(*) {waiting}");
        gone(|| pair.target.sql("postgres", &count) == "0", "the way before the commit").await;
        let end = format!("SELECT count(pg_terminate_backend(pid)) {waiting}");
        assert_ne!(pair.target.sql("postgres", &end), "0");
        standby("");
        must_be_equal(&pair, running.await.unwrap());
    }
}

#[tokio::test]
async fn an_index_whose_builder_was_ended_is_built_again() {
    let pair = Pair::start();
    shut_gate(&pair.source);
    gate_first(&pair.source);
    let running = start(&pair, &pair.destination(), in_parallel(SMALL_PARTS));
    under_way(&pair.target, "transhume", AT_THE_GATE).await;
    let holder = session::connect(&pair.destination().server, Access::Write).await.unwrap();
    holder.execute("lock", "BEGIN; LOCK TABLE public.plenty IN ROW EXCLUSIVE MODE").await.unwrap();
    open_gate(&pair.target).await;
    let building = "CREATE%INDEX%plenty%";
    under_way(&pair.target, "transhume", building).await;
    let end = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                       WHERE application_name = 'transhume' AND query LIKE '{building}'"
    );
    assert_ne!(pair.target.sql("postgres", &end), "0");
    under_way(&pair.target, "transhume", building).await;
    drop(holder);
    must_be_equal(&pair, running.await.unwrap());
}

#[tokio::test]
async fn foreign_keys_whose_builder_was_ended_are_made_and_checked_again() {
    let pair = Pair::start();
    shut_gate(&pair.source);
    gate_first(&pair.source);
    let running = start(&pair, &pair.destination(), in_parallel(SMALL_PARTS));
    under_way(&pair.target, "transhume", AT_THE_GATE).await;
    let server = pair.destination().server;
    let first = session::connect(&server, Access::Write).await.unwrap();
    first.execute("lock", "BEGIN; LOCK TABLE public.pointing IN ROW EXCLUSIVE MODE").await.unwrap();
    open_gate(&pair.target).await;
    let end_one_that = async |is_at: &str| {
        under_way(&pair.target, "transhume", is_at).await;
        let end = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE application_name = 'transhume' AND query LIKE '{is_at}'"
        );
        assert_eq!(pair.target.sql("postgres", &end), "1", "{is_at}");
        under_way(&pair.target, "transhume", is_at).await;
    };
    end_one_that("ALTER TABLE%ADD CONSTRAINT%FOREIGN KEY%NOT VALID%").await;
    // Its turn is after the one that adds and before the one that checks.
    let second = session::connect(&server, Access::Write).await.unwrap();
    let lock = "BEGIN; LOCK TABLE public.pointing IN SHARE UPDATE EXCLUSIVE MODE";
    let locked = tokio::spawn(async move {
        second.execute("lock", lock).await.unwrap();
        second
    });
    let waits = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE query = '{lock}' AND wait_event_type = 'Lock'"
    );
    gone(|| pair.target.sql("postgres", &waits) == "0", "the way before the lock").await;
    drop(first);
    let second = locked.await.unwrap();
    end_one_that("ALTER TABLE%pointing%VALIDATE CONSTRAINT%").await;
    drop(second);
    must_be_equal(&pair, running.await.unwrap());
}

#[tokio::test]
async fn rows_that_point_to_nothing_stop_the_workers_by_name() {
    let pair = Pair::start();
    pair.source.sql(
        DATABASE,
        "SET session_replication_role = replica;
         UPDATE media_attachments SET status_id = -7
         WHERE id = (SELECT max(id) FROM media_attachments)",
    );
    let error = start(&pair, &pair.destination(), in_parallel(1)).await.unwrap().unwrap_err();
    let told = error.to_string();
    assert!(told.starts_with("rows of the source point to nothing, although its"), "{told}");
    assert!(error.hint().unwrap().contains("(status_id)=(-7) is not present"), "{error:?}");
    pair.source.sql(DATABASE, "DELETE FROM media_attachments WHERE status_id = -7");
    recovers(&pair, &pair.destination()).await;
}

#[tokio::test]
async fn progress_of_workers_names_tables_and_counts_indexes() {
    use transhume::event::{Event, Recorder};

    let pair = Pair::start();
    let recorder = Recorder::default();
    let (source, destination) = (pair.source_server(), pair.destination());
    let done = transfer(&source, &destination, "run-1", &in_parallel(1), &recorder).await.unwrap();
    let told = recorder.events().into_iter().filter_map(|event| match event {
        Event::Progress(progress) => Some(progress),
        _ => None,
    });
    let rows = told.clone().rfind(|progress| progress.activity == "database").unwrap();
    assert_eq!(rows.bytes_done, done.copied.bytes);
    assert!(rows.bytes_done > 100_000, "{rows:?}");
    let built: Vec<u64> =
        told.filter(|one| one.activity == "indexes").map(|one| one.items_done).collect();
    assert!(built.len() > 5, "{built:?}");
}
