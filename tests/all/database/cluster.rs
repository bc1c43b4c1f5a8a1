//! Settings of the target's cluster: raised for a copy where that is asked for and allowed, and as
//! they were before in every ending.

use std::process::{Child, Command, Output, Stdio};

use rustix::process::Signal;
use tokio::task::JoinHandle;
use transhume::error::Advice;
use transhume::event::{Event, Recorder};

use super::faults::{Slow, gone, processes, slow_down, speed_up, under_way};
use super::*;
use crate::harness::process::signal;

const TREACLE: &str = "COPY%treacle%";

/// What ALTER SYSTEM has written.
fn written(pair: &Pair) -> String {
    std::fs::read_to_string(pair.target.data_dir().join("postgresql.auto.conf")).unwrap()
}

fn in_force(pair: &Pair) -> (String, String) {
    let show = |name: &str| pair.target.sql("postgres", &format!("SHOW {name}"));
    (show("max_wal_size"), show("checkpoint_timeout"))
}

fn words(max_wal_size: &str, checkpoint_timeout: &str) -> (String, String) {
    (max_wal_size.to_owned(), checkpoint_timeout.to_owned())
}

/// The size depends on the disk that the tests run on.
fn assert_raised(pair: &Pair) {
    let (max_wal_size, checkpoint_timeout) = in_force(pair);
    assert_eq!(checkpoint_timeout, "30min");
    assert_ne!(max_wal_size, "1GB");
    assert!(written(pair).contains("transhume.raised"), "{}", written(pair));
}

/// Ends what a copy that was cut off left at work on the target: a load notices late that nobody
/// sends any more.
async fn calm(pair: &Pair) {
    let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
               WHERE application_name LIKE 'transhume%'";
    gone(|| pair.target.sql("postgres", sql) != "0", "a session on the target").await;
}

/// A destination whose own role may make a database, but not change settings: another one may.
fn with_tuner(pair: &Pair) -> Destination {
    let destination = pair.destination();
    let tuner = Server {
        address: Address::Unix { path: text(&pair.target.socket()) },
        user: "postgres".into(),
        password: None,
        ..destination.server.clone()
    };
    Destination { tuner: Some(tuner), ..destination }
}

fn tuned() -> Options {
    Options { tune_cluster: true, ..Options::default() }
}

fn start(pair: &Pair) -> JoinHandle<DatabaseError> {
    let (source, destination) = (pair.source_server(), with_tuner(pair));
    tokio::spawn(async move { transfer_badly_by(&source, &destination, &tuned()).await })
}

async fn transfer_telling(pair: &Pair, options: &Options) -> (Transferred, Vec<Event>) {
    let recorder = Recorder::default();
    let (source, destination) = (pair.source_server(), with_tuner(pair));
    let replace = Some(DATABASE.to_owned());
    let destination = Destination { replace, ..destination };
    let done = transfer(&source, &destination, "run-2", options, &recorder).await.unwrap();
    (done, recorder.events())
}

fn notes(events: &[Event]) -> Vec<&str> {
    let text = |event: &'_ Event| matches!(event, Event::Note { .. });
    let notes = events.iter().filter(|event| text(event));
    notes
        .filter_map(|event| match event {
            Event::Note { text } => Some(text.as_str()),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn settings_are_raised_for_a_copy_and_put_back_however_it_ends() {
    let pair = Pair::start();
    pair.target.sql("postgres", "ALTER SYSTEM SET checkpoint_timeout = '420s'");
    pair.target.sql("postgres", "SELECT pg_reload_conf()");
    let before = written(&pair);
    slow_down(&pair.source, Slow::Data);

    // It fails.
    let running = start(&pair);
    under_way(&pair.target, "transhume pg_restore", TREACLE).await;
    assert_raised(&pair);
    for pid in processes("pg_restore", pair.target.port()) {
        signal(pid, Signal::KILL);
    }
    running.await.unwrap();
    assert_eq!(written(&pair), before);
    gone(|| in_force(&pair) != words("1GB", "7min"), "what was raised").await;

    calm(&pair).await;

    // It is dropped without a chance to put anything back, and somebody else comes in between.
    let running = start(&pair);
    under_way(&pair.target, "transhume pg_restore", TREACLE).await;
    running.abort();
    assert_raised(&pair);
    calm(&pair).await;
    pair.target.sql("postgres", "ALTER SYSTEM SET checkpoint_timeout = '9min'");

    // The next run puts back what is ours, also if it is not to raise anything.
    speed_up(&pair.source);
    let (done, events) = transfer_telling(&pair, &Options::default()).await;
    gone(|| in_force(&pair) != words("1GB", "9min"), "what was raised").await;
    assert_eq!(written(&pair), before.replace("420s", "9min"));
    assert!(notes(&events)[0].ends_with("max_wal_size"), "{events:?}");
    let [problem] = done.copied.problems.as_slice() else { panic!("{:?}", done.copied.problems) };
    assert!(problem.contains("checkpoint_timeout"), "{problem}");
    assert!(problem.contains("changed to 9min by somebody else"), "{problem}");
    assert!(problem.ends_with("before the copy it was 7min"), "{problem}");

    // It succeeds.
    let before = written(&pair);
    let (done, events) = transfer_telling(&pair, &tuned()).await;
    assert_eq!(done.copied.problems, [""; 0]);
    let [raised, back] = notes(&events)[..] else { panic!("{events:?}") };
    assert!(
        raised.contains("GB instead of 1GB; checkpoint_timeout 30min instead of 9min"),
        "{raised}"
    );
    assert!(back.ends_with("max_wal_size, checkpoint_timeout"), "{back}");
    assert_eq!(written(&pair), before);

    // Nobody asks: nothing is touched, nothing is told.
    let log = pair.target.log().len();
    let (done, events) = transfer_telling(&pair, &Options::default()).await;
    assert_eq!((done.copied.problems, notes(&events)), (Vec::new(), Vec::new()));
    assert_eq!(written(&pair), before);
    assert!(!pair.target.log()[log..].contains("SIGHUP"), "{}", pair.target.log());
}

/// Runs the verb with the password in a file, both ends on this machine.
struct Verb {
    pair: Pair,
    home: TempDir,
}

impl Verb {
    fn command(&self, words: &[&str]) -> Command {
        let url = |cluster: &Postgres| {
            format!("postgresql://mastodon@127.0.0.1:{}/mastodon_production", cluster.port())
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_transhume"));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.home.path());
        command.arg("db").args(words).args([url(&self.pair.source), url(&self.pair.target)]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    async fn until_raised(&self, words: &[&str]) -> Child {
        let child = self.command(words).spawn().unwrap();
        under_way(&self.pair.target, "transhume pg_restore", TREACLE).await;
        assert_raised(&self.pair);
        child
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn a_role_that_may_changes_settings_and_a_kill_is_made_up_for() {
    use std::os::unix::fs::PermissionsExt;
    let verb = Verb { pair: Pair::start(), home: tempfile::tempdir().unwrap() };
    let pair = &verb.pair;
    let path = verb.home.path().join(".pgpass");
    let password = PASSWORD.replace('\\', "\\\\").replace(':', "\\:");
    std::fs::write(&path, format!("127.0.0.1:*:*:mastodon:{password}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let before = written(pair);

    // Without the right nothing is begun; the engine says the same by itself.
    let output = verb.run(&["--tune-cluster"]);
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert!(said(&output).contains("mastodon may not change the settings of the cluster"));
    let error = transfer_badly_by(&pair.source_server(), &pair.destination(), &tuned()).await;
    assert!(matches!(error, DatabaseError::NoTuneRight { .. }), "{error}");
    let databases = "SELECT count(*) FROM pg_database WHERE datname = 'mastodon_production'";
    assert_eq!(pair.target.sql("postgres", databases), "0");
    let hint = error.hint().unwrap();
    let grants = hint.split_once("in the database postgres: ").unwrap().1;
    pair.target.sql("postgres", grants);

    let output = verb.run(&["--tune-cluster", "--dry-run"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(
        said(&output).contains("checkpoint_timeout 30min instead of 5min"),
        "{}",
        said(&output)
    );
    assert_eq!(written(pair), before);

    slow_down(&pair.source, Slow::Data);
    let mut child = verb.until_raised(&["--tune-cluster"]).await;
    child.kill().unwrap();
    child.wait().unwrap();
    calm(pair).await;
    assert_raised(pair);

    // The next run, which is interrupted.
    let child = verb.until_raised(&["--tune-cluster"]).await;
    signal(child.id(), Signal::INT);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", said(&output));
    assert_eq!(said(&output).matches("put back on").count(), 2, "{}", said(&output));
    assert_eq!(written(pair), before);
    gone(|| in_force(pair) != words("1GB", "5min"), "what was raised").await;

    speed_up(&pair.source);
    let output = verb.run(&["--tune-cluster"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(written(pair), before);
}
