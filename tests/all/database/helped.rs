//! With our helper on the other machine: compressed on the way, and through sockets that look at
//! who comes.

use rustix::process::Signal;
use transhume::database::stream::{self, Compression};
use transhume::database::{Access, Mode, check};
use transhume::error::{Advice, Retry, one_line};
use transhume::event::Level;
use transhume::host::helper::{Helper, Reach, install_binary};

use super::copy::portrait;
use super::faults::{Slow, gone, processes, recovers, slow_down, speed_up, under_way};
use super::*;
use crate::harness::postgres::Options as ClusterOptions;
use crate::harness::process::signal;
use crate::harness::proxy::Proxy;

const PROGRAM: &str = env!("CARGO_BIN_EXE_transhume");

pub async fn helper(host: &dyn Host, reach: Reach) -> Helper {
    install_binary(host, reach, Path::new(PROGRAM)).await.unwrap()
}

fn packed(helper: &Helper) -> Options {
    let compression =
        Compression::Helper { helper: helper.clone(), level: stream::Level::Fixed(3) };
    let stream = stream::Options { compression, ..stream::Options::default() };
    Options { mode: Mode::Stream(stream), ..Options::default() }
}

/// Mode `parallel`, packed, with two workers.
pub fn packed_in_parallel(helper: &Helper, part_bytes_min: u64) -> Options {
    let compression =
        Compression::Helper { helper: helper.clone(), level: stream::Level::Fixed(1) };
    let parallel =
        by_workers::Options { compression, jobs: 2, part_bytes_min, ..Default::default() };
    Options { mode: Mode::Parallel(parallel), ..Options::default() }
}

#[tokio::test]
async fn a_packed_copy_is_the_same() {
    let pair = Pair::start();
    let Machine { sshd, cache: _cache } = Machine::start();
    let host = log_in(&sshd, sshd.port()).await;
    let helper = helper(&*host, Reach::Login).await;
    let destination = Destination::new(server(&pair.target, host));
    let options = packed(&helper);
    let done =
        transfer(&pair.source_server(), &destination, "run-1", &options, &Silent).await.unwrap();
    assert!(done.comparison.unwrap().is_equal());
    assert_eq!(portrait(&pair.target, DATABASE), portrait(&pair.source, DATABASE));
}

#[tokio::test]
async fn a_packed_copy_fails_as_clearly_as_a_plain_one() {
    let pair = Pair::start();
    slow_down(&pair.source, Slow::Data);
    let Machine { sshd, cache: _cache } = Machine::start();
    let proxy = Proxy::to(sshd.port());
    let host = log_in(&sshd, proxy.port()).await;
    let helper = helper(&*host, Reach::Login).await;
    let destination = Destination::new(server(&pair.target, host));
    let start = || {
        let (source, destination) = (pair.source_server(), destination.clone());
        let options = packed(&helper);
        tokio::spawn(async move {
            transfer(&source, &destination, "run-1", &options, &Silent).await.unwrap_err()
        })
    };

    let running = start();
    under_way(&pair.target, "transhume pg_restore", "COPY%treacle%").await;
    for pid in processes("pg_restore", pair.target.port()) {
        signal(pid, Signal::KILL);
    }
    let error = running.await.unwrap();
    assert_eq!(error.to_string(), "pg_restore on 127.0.0.1 failed with signal 9: it said nothing");

    // Its backend still chews on what it got; it must not be mistaken for the next one.
    let sessions = "FROM pg_stat_activity WHERE application_name = 'transhume pg_restore'";
    pair.target.sql("postgres", &format!("SELECT pg_terminate_backend(pid) {sessions}"));
    let count = format!("SELECT count(*) {sessions}");
    gone(|| pair.target.sql("postgres", &count) != "0", "the backend").await;
    let running = start();
    under_way(&pair.target, "transhume pg_restore", "COPY%treacle%").await;
    proxy.refuse(true);
    proxy.cut();
    let error = running.await.unwrap();
    assert_eq!(error.retry(), Retry::Unknown, "{}", one_line(&error));
    proxy.refuse(false);

    // Nothing goes on over there, and nothing of it is taken for whole.
    let port = pair.target.port();
    gone(|| !processes("pg_restore", port).is_empty(), "pg_restore").await;
    speed_up(&pair.source);
    recovers(&pair, &destination).await;
}

/// A cluster whose socket lets the operating system's users in as themselves, and nothing else.
fn peers() -> Postgres {
    let options =
        ClusterOptions { hba: vec!["local all all peer".into()], ..ClusterOptions::default() };
    let cluster = Postgres::start_with(&options);
    cluster.sql("postgres", "CREATE ROLE nobody LOGIN");
    cluster
}

#[tokio::test]
async fn peer_logins_work_on_both_sides_for_the_owner_and_the_administrator() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can be several users");
        return;
    }
    let (source_cluster, target_cluster) = (peers(), peers());
    source_cluster.create_database(DATABASE, "nobody", "");
    source_cluster.sql(DATABASE, &format!("SET ROLE nobody; {SCHEMA}"));
    let Machine { sshd, cache: _cache } = Machine::start();
    let host = log_in(&sshd, sshd.port()).await;
    let lib = tempfile::tempdir_in("/var/tmp").unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(lib.path(), open).unwrap();
    let reach = || Reach::Everyone { base: text(&lib.path().join("helper")) };
    let peer = |cluster: &Postgres, host: Arc<dyn Host>, helper: Helper| Server {
        address: Address::Unix { path: text(&cluster.socket()) },
        user: "nobody".into(),
        password: None,
        os_user: RunAs::User("nobody".into()),
        helper: Some(helper),
        ..server(cluster, host)
    };
    let here: Arc<dyn Host> = Arc::new(Local::new());
    let source = peer(&source_cluster, here.clone(), helper(&*here, reach()).await);
    let there = helper(&*host, reach()).await;
    let destination = Destination::new(peer(&target_cluster, host, there.clone()));

    let blind = Server { helper: None, ..source.clone() };
    let error = session::connect(&blind, Access::Read).await.err().unwrap();
    assert!(one_line(&error).contains("Peer authentication failed"), "{}", one_line(&error));
    assert!(error.hint().unwrap().contains("operating system user nobody"), "{:?}", error.hint());

    // `nobody` may not create databases; the administrator is found through the same socket.
    let destination = destination.with_admin("postgres").await;
    assert_eq!(destination.admin.as_ref().unwrap().user, "postgres");
    let found = check(&source, &destination, u64::MAX).await.unwrap();
    assert!(found.iter().all(|finding| finding.level == Level::Ok), "{found:#?}");
    let mut destination = destination;
    destination.replace = Some(DATABASE.into());
    for options in [packed(&there), packed_in_parallel(&there, 1)] {
        transfer_well_by(&source, &destination, &options).await;
        assert_eq!(portrait(&target_cluster, DATABASE), portrait(&source_cluster, DATABASE));
    }
}
