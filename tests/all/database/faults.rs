//! Whatever breaks while it runs: a clear error, the source as it was, a target that is known to
//! be half-done, and a second try that works.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use tokio::task::JoinHandle;
use transhume::database::stream::{self, Snapshot};
use transhume::database::target::{self, Existing};
use transhume::database::{Access, inspect};
use transhume::error::{Advice, Retry, one_line};

use super::copy::portrait;
use super::*;
use crate::harness::process::signal;
use crate::harness::proxy::Proxy;

/// When the slow part of a database is slow.
#[derive(Clone, Copy)]
pub enum Slow {
    /// While its rows are loaded.
    Data,
    /// While an index is built.
    Index,
}

/// Adds a table that takes minutes to restore, so that something can happen meanwhile.
pub fn slow_down(cluster: &Postgres, slow: Slow) {
    let part = match slow {
        Slow::Data => "CREATE TABLE treacle (id int CHECK (snail(id) = id))",
        Slow::Index => {
            "CREATE TABLE treacle (id int); CREATE INDEX index_on_treacle ON treacle (snail(id))"
        }
    };
    // On the source it is as fast as anything.
    let port = cluster.port();
    cluster.sql(
        DATABASE,
        &format!(
            "SET ROLE mastodon;
             CREATE FUNCTION snail(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
                 IF current_setting('port') <> '{port}' THEN PERFORM pg_sleep(0.1); END IF;
                 RETURN i; END $$;
             {part}; INSERT INTO treacle SELECT generate_series(1, 1000)"
        ),
    );
}

/// Makes the treacle thin, so that a second try ends.
pub fn speed_up(cluster: &Postgres) {
    cluster.sql(DATABASE, "DELETE FROM treacle");
}

/// Waits until a session named `application` has `query` under way on `cluster`.
pub async fn under_way(cluster: &Postgres, application: &str, query: &str) {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = '{application}'
         AND state = 'active' AND query LIKE '{query}'"
    );
    for _ in 0..600 {
        if cluster.sql("postgres", &sql) != "0" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let at = "SELECT application_name, state, wait_event, left(query, 100) FROM pg_stat_activity
              WHERE backend_type = 'client backend'";
    panic!("{application} never came to {query}:\n{}", cluster.sql("postgres", at));
}

/// Processes of `program` that were told to connect to `port`.
pub fn processes(program: &str, port: u16) -> Vec<u32> {
    let wanted = format!("port={port} ");
    let is_one = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<String> = line
            .split(|byte| *byte == 0)
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        words[0].ends_with(program) && words.iter().any(|word| word.contains(&wanted))
    };
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_one).collect()
}

pub async fn gone(mut is_there: impl FnMut() -> bool, what: &str) {
    for _ in 0..600 {
        if !is_there() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what} is still there");
}

fn start(pair: &Pair, destination: &Destination) -> JoinHandle<DatabaseError> {
    let (source, destination) = (pair.source_server(), destination.clone());
    tokio::spawn(async move { transfer_badly(&source, &destination).await })
}

/// The target must be known to be half-done; a second try must work and be complete.
pub async fn recovers(pair: &Pair, destination: &Destination) {
    recovers_by(pair, destination, &Options::default()).await;
}

pub async fn recovers_by(pair: &Pair, destination: &Destination, options: &Options) {
    let admin = destination.admin_session(Access::Read).await.unwrap();
    let existing = target::existing(destination, &admin).await.unwrap();
    assert!(matches!(&existing, Existing::HalfDone(mark) if mark.run == "run-1"), "{existing:?}");
    transfer_well_by(&pair.source_server(), destination, options).await;
    assert_eq!(portrait(&pair.target, DATABASE), portrait(&pair.source, DATABASE));
}

#[tokio::test]
async fn a_killed_pg_restore_is_the_cause_that_is_told() {
    let pair = Pair::start();
    slow_down(&pair.source, Slow::Data);
    let before = portrait(&pair.source, DATABASE);
    let running = start(&pair, &pair.destination());
    under_way(&pair.target, "transhume pg_restore", "COPY%treacle%").await;
    for pid in processes("pg_restore", pair.target.port()) {
        signal(pid, Signal::KILL);
    }
    let error = running.await.unwrap();
    assert_eq!(
        error.to_string(),
        "pg_restore on this server failed with killed by SIGKILL: it said nothing"
    );
    assert_eq!(portrait(&pair.source, DATABASE), before);
    speed_up(&pair.source);
    recovers(&pair, &pair.destination()).await;
}

#[tokio::test]
async fn a_killed_pg_dump_is_the_cause_that_is_told() {
    let pair = Pair::start();
    slow_down(&pair.source, Slow::Data);
    // More than all the buffers between the two hold, so that the dump is not done yet.
    pair.source.sql(
        DATABASE,
        "SET ROLE mastodon; CREATE TABLE zz_later AS SELECT repeat(md5(i::text), 30) AS x FROM generate_series(1, 20000) i",
    );
    let running = start(&pair, &pair.destination());
    under_way(&pair.target, "transhume pg_restore", "COPY%treacle%").await;
    for pid in processes("pg_dump", pair.source.port()) {
        signal(pid, Signal::KILL);
    }
    // What had arrived is restored first; make that quick.
    for pid in processes("pg_restore", pair.target.port()) {
        signal(pid, Signal::TERM);
    }
    let error = running.await.unwrap();
    assert_eq!(error.to_string(), "pg_dump on this server failed with signal 9: Killed");
    speed_up(&pair.source);
    recovers(&pair, &pair.destination()).await;
}

#[tokio::test]
async fn a_backend_that_dies_during_an_index_build_is_told_and_recovered_from() {
    let pair = Pair::start();
    slow_down(&pair.source, Slow::Index);
    let running = start(&pair, &pair.destination());
    under_way(&pair.target, "transhume pg_restore", "CREATE INDEX%treacle%").await;
    pair.target.sql(
        "postgres",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX%treacle%'",
    );
    let error = running.await.unwrap();
    let text = one_line(&error);
    assert!(text.contains("terminating connection due to administrator command"), "{text}");
    speed_up(&pair.source);
    recovers(&pair, &pair.destination()).await;
}

#[tokio::test]
async fn a_dropped_copy_leaves_nothing_running() {
    for slow in [Slow::Data, Slow::Index] {
        let pair = Pair::start();
        slow_down(&pair.source, slow);
        let running = start(&pair, &pair.destination());
        let query = match slow {
            Slow::Data => "COPY%treacle%",
            Slow::Index => "CREATE INDEX%treacle%",
        };
        under_way(&pair.target, "transhume pg_restore", query).await;
        running.abort();
        let (source, target) = (pair.source.port(), pair.target.port());
        gone(|| !processes("pg_dump", source).is_empty(), "pg_dump").await;
        gone(|| !processes("pg_restore", target).is_empty(), "pg_restore").await;
        let sessions =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = 'mastodon_production'";
        gone(|| pair.source.sql("postgres", sessions) != "0", "a session on the source").await;
        speed_up(&pair.source);
        recovers(&pair, &pair.destination()).await;
    }
}

#[tokio::test]
async fn a_cut_link_is_told_as_lost_and_the_next_run_starts_over() {
    for slow in [Slow::Data, Slow::Index] {
        let pair = Pair::start();
        slow_down(&pair.source, slow);
        let before = portrait(&pair.source, DATABASE);
        let sshd = Sshd::start();
        let proxy = Proxy::to(sshd.port());
        let destination = Destination::new(server(&pair.target, log_in(&sshd, proxy.port()).await));
        let running = start(&pair, &destination);
        let query = match slow {
            Slow::Data => "COPY%treacle%",
            Slow::Index => "CREATE INDEX%treacle%",
        };
        under_way(&pair.target, "transhume pg_restore", query).await;
        proxy.refuse(true);
        proxy.cut();
        let error = running.await.unwrap();
        assert_eq!(error.retry(), Retry::Unknown, "{}", one_line(&error));
        assert!(one_line(&error).contains("was lost while"), "{}", one_line(&error));
        assert_eq!(portrait(&pair.source, DATABASE), before);
        proxy.refuse(false);
        speed_up(&pair.source);
        recovers(&pair, &destination).await;
    }
}

#[tokio::test]
async fn a_lock_on_the_source_does_not_hold_the_copy_up_for_ever() {
    let pair = Pair::start();
    let (source, destination) = (pair.source_server(), pair.destination());
    let reader = session::connect(&source, Access::Read).await.unwrap();
    let facts = inspect::inspect_database(&reader).await.unwrap();
    let prepared = target::prepare(&destination, &facts, "run-1").await.unwrap();
    let snapshot = Snapshot::take(&source).await.unwrap();
    let holder = session::connect(&source, Access::Write).await.unwrap();
    holder.execute("lock", "BEGIN; LOCK TABLE public.tags IN ACCESS EXCLUSIVE MODE").await.unwrap();

    let wait = Duration::from_millis(300);
    let options = stream::Options { lock_wait: wait, ..stream::Options::default() };
    let copy = stream::copy(&source, &destination, &snapshot, &prepared, &options, &Silent);
    let error = copy.await.unwrap_err();
    assert!(
        one_line(&error).contains("LOCK TABLE public.tags IN ACCESS SHARE MODE"),
        "{}",
        one_line(&error)
    );
    assert!(error.hint().unwrap().contains("pg_locks"), "{:?}", error.hint());
    drop((holder, snapshot, prepared));
    recovers(&pair, &destination).await;
}

/// Every command line and environment on the machine, as any user could have seen it.
fn watch_for(canary: &'static str, done: Arc<AtomicBool>) -> std::thread::JoinHandle<Vec<String>> {
    std::thread::spawn(move || {
        let mut seen = Vec::new();
        while !done.load(Ordering::SeqCst) {
            for entry in std::fs::read_dir("/proc").unwrap().flatten() {
                for file in ["cmdline", "environ"] {
                    let text = std::fs::read(entry.path().join(file)).unwrap_or_default();
                    if String::from_utf8_lossy(&text).contains(canary) {
                        seen.push(format!(
                            "{}: {}",
                            entry.path().join(file).display(),
                            String::from_utf8_lossy(&text)
                        ));
                    }
                }
            }
        }
        seen
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_is_seen_in_no_process_list_no_log_and_no_file_left_behind() {
    const CANARY: &str = "kanarienvogel-4711";
    let pair = Pair::start();
    for cluster in [&pair.source, &pair.target] {
        cluster.sql(
            "postgres",
            &format!("ALTER ROLE mastodon PASSWORD '{CANARY}'; ALTER SYSTEM SET log_statement = 'all'; SELECT pg_reload_conf()"),
        );
    }
    let logged_by_us = (pair.source.log().len(), pair.target.log().len());
    let sshd = Sshd::start();
    let host = log_in(&sshd, sshd.port()).await;
    let with = |server: Server| Server { password: Some(Secret::new(CANARY)), ..server };
    let source = with(pair.source_server());
    let mut destination = Destination::new(with(server(&pair.target, host)));
    // Also a role that has yet to be made, with that password.
    destination.owner = "mastodon".into();
    destination.admin = Some(Server {
        user: "postgres".into(),
        address: Address::Unix { path: text(&pair.target.socket()) },
        password: None,
        ..destination.server.clone()
    });
    destination.create_role = true;
    pair.target.sql("postgres", "DROP ROLE mastodon");

    let done = Arc::new(AtomicBool::new(false));
    let watching = watch_for(CANARY, done.clone());
    let transferred = transfer_well(&source, &destination).await;
    done.store(true, Ordering::SeqCst);
    assert_eq!(watching.join().unwrap(), Vec::<String>::new());
    assert!(!format!("{transferred:?} {source:?} {destination:?}").contains(CANARY));
    let (source_log, target_log) = (pair.source.log(), pair.target.log());
    assert!(target_log[logged_by_us.1..].contains("COMMENT ON DATABASE"), "statements are logged");
    assert!(!source_log[logged_by_us.0..].contains(CANARY));
    assert!(!target_log[logged_by_us.1..].contains(CANARY));
    assert!(!sshd.log().contains(CANARY));
    for entry in std::fs::read_dir("/tmp").unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("transhume.") {
            let text = std::fs::read(entry.path()).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&text).contains(CANARY), "{:?}", entry.path());
        }
    }
}

/// A small file system that is gone when this is.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` where mounting is not allowed.
    fn mount(bytes: u64) -> Option<SmallDisk> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={bytes}");
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "transhume-test"])
            .arg(dir.path())
            .output();
        mounted.is_ok_and(|output| output.status.success()).then_some(SmallDisk(dir))
    }
}

impl SmallDisk {
    /// Makes room.
    fn grow(&self, bytes: u64) {
        let size = format!("remount,size={bytes}");
        let grown =
            std::process::Command::new("mount").args(["-o", &size]).arg(self.0.path()).status();
        assert!(grown.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

/// Puts new databases of the target on a small disk, which takes the place of nothing else.
fn squeeze(pair: &Pair, disk: &SmallDisk) {
    let path = text(disk.0.path());
    if let Some((uid, gid)) = crate::harness::postgres::postgres_user() {
        std::os::unix::fs::chown(&path, Some(uid), Some(gid)).unwrap();
    }
    pair.target.sql("postgres", &format!("CREATE TABLESPACE small LOCATION '{path}'"));
    // New databases are put where their template is.
    pair.target.sql("postgres", "ALTER DATABASE template0 SET TABLESPACE small");
}

/// A transfer by `options` finds the disk full, says so, and works when there is room.
async fn fills_the_disk(pair: &Pair, disk: &SmallDisk, options: &Options) {
    let before = portrait(&pair.source, DATABASE);
    let error = transfer_badly_by(&pair.source_server(), &pair.destination(), options).await;
    assert_eq!(
        error.to_string(),
        format!("the disk of 127.0.0.1:{} (this server) is full", pair.target.port())
    );
    assert!(matches!(error, DatabaseError::DiskFull { .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("df -h"), "{:?}", error.hint());
    assert_eq!(portrait(&pair.source, DATABASE), before);
    disk.grow(400 << 20);
    let left = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'mastodon_production'";
    gone(|| pair.target.sql("postgres", left) != "0", "a session on the target").await;
    recovers_by(pair, &pair.destination(), options).await;
}

#[tokio::test]
async fn a_full_disk_is_told_and_with_more_room_it_works() {
    let Some(disk) = SmallDisk::mount(40 << 20) else {
        eprintln!("skipped: no right to mount a file system");
        return;
    };
    let pair = Pair::start();
    squeeze(&pair, &disk);
    pair.source.sql(
        DATABASE,
        "SET ROLE mastodon; CREATE TABLE treacle AS SELECT i AS id, repeat(md5(i::text), 30) AS x FROM generate_series(1, 30000) i",
    );
    fills_the_disk(&pair, &disk, &Options::default()).await;
    drop(pair);
    drop(disk);
}

/// While rows come in, at one go and in parts; and while an index is built, when they are in.
#[tokio::test]
async fn workers_that_fill_the_disk_tell_so_and_with_more_room_it_works() {
    let rows = "CREATE TABLE treacle AS SELECT i AS id, repeat(md5(i::text), 30) AS x FROM generate_series(1, 30000) i";
    let index = "CREATE TABLE treacle AS SELECT i AS id, i AS x FROM generate_series(1, 300000) i;
                 CREATE INDEX ON treacle (lpad(x::text, 300))";
    for (sql, parts) in [(rows, u64::MAX), (rows, 64 << 10), (index, u64::MAX)] {
        let Some(disk) = SmallDisk::mount(40 << 20) else {
            eprintln!("skipped: no right to mount a file system");
            return;
        };
        let pair = Pair::start();
        squeeze(&pair, &disk);
        pair.source.sql(DATABASE, &format!("SET ROLE mastodon; {sql}"));
        fills_the_disk(&pair, &disk, &in_parallel(parts)).await;
        drop(pair);
        drop(disk);
    }
}

#[tokio::test]
async fn two_at_once_do_not_spoil_each_other() {
    let pair = Pair::start();
    slow_down(&pair.source, Slow::Data);
    let first = start(&pair, &pair.destination());
    under_way(&pair.target, "transhume pg_restore", "COPY%treacle%").await;
    let error = transfer_badly(&pair.source_server(), &pair.destination()).await;
    assert!(error.to_string().contains("another transhume"), "{error}");
    assert!(!first.is_finished());
    first.abort();
}

#[tokio::test]
async fn progress_names_the_table_and_counts_the_bytes() {
    use transhume::event::{Event, Recorder};

    let pair = Pair::start();
    slow_down(&pair.source, Slow::Data);
    pair.source.sql(DATABASE, "DELETE FROM treacle WHERE id > 15");
    let recorder = Recorder::default();
    let options = Options::default();
    let (source, destination) = (pair.source_server(), pair.destination());
    let done = transfer(&source, &destination, "run-1", &options, &recorder).await.unwrap();
    let progress: Vec<_> = recorder
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Event::Progress(progress) => Some(progress),
            _ => None,
        })
        .collect();
    let of = |activity: &str| {
        progress.iter().filter(|one| one.activity == activity).cloned().collect::<Vec<_>>()
    };
    assert_eq!(of("database").last().unwrap().bytes_done, done.copied.bytes);
    let counted = of("compare").pop().unwrap();
    assert_eq!(Some(counted.items_done), counted.items_total);
    let analyzed = of("analyze").pop().unwrap();
    assert_eq!(Some(analyzed.items_done), analyzed.items_total);
}
