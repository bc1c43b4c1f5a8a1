//! The whole move on the sandbox: undisturbed, killed, refused, rolled back.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::harness::random::CANARY;
use crate::harness::sandbox::{DATABASE, Login, Options, Sandbox, Snapshot};

const PROGRAM: &str = env!("CARGO_BIN_EXE_transhume");

fn command(sandbox: &Sandbox, words: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("--config").arg(sandbox.config_path()).args(words).stdin(Stdio::null());
    command
}

fn transhume(sandbox: &Sandbox, words: &[&str]) -> Output {
    command(sandbox, words).output().expect("run transhume")
}

fn told(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[track_caller]
fn assert_exit(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", told(output));
}

/// Every argv and environment of every process that can be read, while `child` runs.
fn watch_processes(child: &mut Child) -> Vec<String> {
    let mut seen = Vec::new();
    while child.try_wait().expect("wait").is_none() {
        for entry in fs::read_dir("/proc").expect("/proc").flatten() {
            let argv = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let argv = String::from_utf8_lossy(&argv).into_owned();
            if argv.contains(CANARY) {
                seen.push(argv);
            }
        }
    }
    seen
}

fn files_that_hold_the_canary(dir: &Path) -> Vec<String> {
    let output = Command::new("grep").args(["-rl", CANARY]).arg(dir).output().expect("run grep");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn a_move_is_whole_by_other_means_and_leaks_no_secret() {
    let sandbox = Sandbox::start(&Options::small());
    let mut child = command(&sandbox, &["--json", "migrate", "--yes"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run transhume");
    let in_argv = watch_processes(&mut child);
    let output = child.wait_with_output().expect("wait");
    assert_exit(&output, 0);
    let verdict = sandbox.verify_moved();
    assert_eq!(verdict.problems, [""; 0]);

    assert_eq!(in_argv, [""; 0], "a secret in a command line");
    assert!(!told(&output).contains(CANARY), "a secret in the output");
    assert_eq!(files_that_hold_the_canary(&sandbox.state_dir()), [""; 0]);
    let report = transhume(&sandbox, &["report"]);
    assert_exit(&report, 0);
    assert!(!told(&report).contains(CANARY));

    let status = transhume(&sandbox, &["--json", "status"]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).expect("JSON");
    assert_eq!(status["phase"], "finished");
    assert!(status["downtime_millis"].as_u64().is_some_and(|millis| millis > 0), "{status}");
    assert_exit(&transhume(&sandbox, &["rollback", "--yes"]), 2);
}

/// Killed with -9 whenever the journal has grown by a record, and started again, until it is done.
#[test]
fn killed_at_every_record_the_move_still_completes() {
    let sandbox = Sandbox::start(&Options::small());
    let journal = sandbox.state_dir().join("journal.jsonl");
    let records = || fs::read(&journal).unwrap_or_default().iter().filter(|b| **b == b'\n').count();
    let deadline = Instant::now() + Duration::from_secs(240);
    let mut kills = 0;
    loop {
        assert!(Instant::now() < deadline, "still not done after {kills} kills");
        let resumed = records();
        // A resumed run writes that it was resumed; one more is progress.
        let wanted = resumed + if resumed == 0 { 1 } else { 2 };
        let mut child = command(&sandbox, &["-q", "migrate", "--yes"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("run transhume");
        let ended = loop {
            if let Some(status) = child.try_wait().expect("wait") {
                break Some(status);
            }
            if records() >= wanted {
                break None;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        match ended {
            Some(status) => {
                assert_eq!(status.code(), Some(0), "after {kills} kills");
                break;
            }
            None => {
                child.kill().expect("kill");
                child.wait().expect("wait");
                kills += 1;
            }
        }
    }
    assert!(kills > 15, "only {kills} kills");
    assert_eq!(sandbox.verify_moved().problems, [""; 0]);
}

#[test]
fn rollback_from_each_step_puts_the_old_server_back() {
    let sandbox = Sandbox::start(&Options { login: Login::Password, ..Options::small() });
    let (old, new) = (Snapshot::take(&sandbox.old), databases_and_keys(&sandbox));
    for step in ["lock", "media", "maintenance", "quiet", "fence", "database", "dark-probe"] {
        assert_exit(&transhume(&sandbox, &["migrate", "--yes", "--until", step]), 0);
        let output = transhume(&sandbox, &["rollback", "--yes"]);
        assert_exit(&output, 0);
        sandbox.wait_for_services(&sandbox.old);
        assert_eq!(sandbox.source_changes(&old), [""; 0], "after {step}: {}", told(&output));
        assert_eq!(databases_and_keys(&sandbox), new, "after {step}");
        assert!(!sandbox.new.env_path().exists(), "after {step}");
    }
}

/// Other keys than the database was written with: found before anybody notices.
#[test]
fn wrong_encryption_keys_are_found_in_the_dark() {
    let sandbox = Sandbox::start(&Options::small());
    let old = Snapshot::take(&sandbox.old);
    let mut config = sandbox.config();
    let env = config["target"]["env"].as_table_mut().unwrap();
    env.insert("ACTIVE_RECORD_ENCRYPTION_PRIMARY_KEY".into(), "another".into());
    sandbox.write_config(&config);
    let output = transhume(&sandbox, &["migrate", "--yes"]);
    assert_exit(&output, 1);
    for word in ["step `dark-probe` failed", "cannot decrypt", "ACTIVE_RECORD_ENCRYPTION_*"] {
        assert!(told(&output).contains(word), "{}", told(&output));
    }
    sandbox.wait_for_services(&sandbox.old);
    sandbox.write_config(&sandbox.config());
    assert_eq!(sandbox.source_changes(&old), [""; 0]);
}

/// Without a password: PostgreSQL takes the operating system's word, as the install guide has it.
#[test]
fn a_move_with_peer_logins_is_whole() {
    let sandbox = Sandbox::start(&Options { login: Login::Peer, ..Options::small() });
    let output = transhume(&sandbox, &["migrate", "--yes"]);
    assert_exit(&output, 0);
    assert_eq!(sandbox.verify_moved().problems, [""; 0], "{}", told(&output));
}

/// The new server dies in the window: the old one is put back without it.
#[test]
fn a_dead_target_does_not_keep_the_old_server_down() {
    let sandbox = Sandbox::start(&Options::small());
    let old = Snapshot::take(&sandbox.old);
    assert_exit(&transhume(&sandbox, &["migrate", "--yes", "--until", "database"]), 0);
    let mut config = sandbox.config();
    let nowhere = format!("ssh://{}@127.0.0.1:1", sandbox.new.ssh.user());
    config["target"].as_table_mut().unwrap().insert("host".into(), nowhere.into());
    sandbox.write_config(&config);
    let resumed = transhume(&sandbox, &["migrate", "--yes"]);
    assert_exit(&resumed, 1);
    assert!(told(&resumed).contains("transhume rollback"), "{}", told(&resumed));
    let output = transhume(&sandbox, &["rollback", "--yes"]);
    assert_exit(&output, 6);
    sandbox.wait_for_services(&sandbox.old);
    let changes = sandbox.source_changes(&old);
    let lock = |change: &&String| !change.contains("var/lib/transhume");
    assert_eq!(changes.iter().filter(lock).collect::<Vec<_>>(), [""; 0], "{}", told(&output));
    // It is back: the same command clears it.
    sandbox.write_config(&sandbox.config());
    assert_exit(&transhume(&sandbox, &["rollback", "--yes"]), 0);
    assert_eq!(sandbox.source_changes(&old), [""; 0]);
    assert!(!sandbox.new.env_path().exists());
}

/// What a rollback must take from the target again. Media may stay.
fn databases_and_keys(sandbox: &Sandbox) -> (String, String) {
    let names = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database";
    (sandbox.new.postgres.sql("postgres", names), sandbox.new.redis.cli(&["DBSIZE"]))
}

/// A failure in the window: the old server comes back by itself.
#[test]
fn a_failure_in_the_window_unwinds_by_itself() {
    let sandbox = Sandbox::start(&Options::small());
    let old = Snapshot::take(&sandbox.old);
    // The new web process will not start: its port is taken.
    let place = (sandbox.new.address, sandbox.new.web_port);
    let _squatter = std::net::TcpListener::bind(place).expect("take the port");
    let config = sandbox.config();
    let mut impatient = config.clone();
    let cutover = toml::Table::from_iter([("start_secs_max".to_owned(), 3.into())]);
    impatient.insert("cutover".into(), cutover.into());
    sandbox.write_config(&impatient);
    let output = transhume(&sandbox, &["migrate", "--yes"]);
    assert_exit(&output, 1);
    assert!(told(&output).contains("step `dark-probe` failed; the old server serves as before"));
    sandbox.wait_for_services(&sandbox.old);
    sandbox.write_config(&config);
    let changes: Vec<String> = sandbox.source_changes(&old);
    assert_eq!(changes, [""; 0]);
}

/// One refusal each: the exit code, the words, and an old server that was not touched.
#[test]
fn bad_input_is_refused_with_a_remedy_and_touches_nothing() {
    let sandbox = Sandbox::start(&Options::small());
    let old = Snapshot::take(&sandbox.old);
    let good = sandbox.config();
    let refused = |what: &str, code: i32, words: &[&str]| {
        let output = transhume(&sandbox, &["migrate", "--yes"]);
        let text = told(&output);
        assert_eq!(output.status.code(), Some(code), "{what}: {text}");
        for word in words {
            assert!(text.contains(word), "{what}: no {word:?} in\n{text}");
        }
        assert_eq!(sandbox.source_changes(&old), [""; 0], "{what}");
    };

    let mut config = good.clone();
    config.insert("medai".into(), toml::Table::new().into());
    sandbox.write_config(&config);
    refused("a key that is none", 2, &["unknown field `medai`", "docs/config.md"]);

    let mut config = good.clone();
    let known = sandbox.dir().join("nobody-known");
    fs::write(&known, "").unwrap();
    let options = config["target"]["ssh_options"].as_table_mut().unwrap();
    options.insert("UserKnownHostsFile".into(), known.display().to_string().into());
    sandbox.write_config(&config);
    refused("an unknown host key", 1, &["SHA256:", "hint"]);

    let mut config = good.clone();
    let wrong = sandbox.old.ssh.client_key().display().to_string();
    config["target"].as_table_mut().unwrap().insert("identity".into(), wrong.into());
    sandbox.write_config(&config);
    refused("a wrong key", 1, &["did not accept the login", "hint"]);

    let mut config = good.clone();
    config["target"]["env"].as_table_mut().unwrap().insert("DB_PORT".into(), "1".into());
    sandbox.write_config(&config);
    refused("no database there", 4, &["refusal", "database"]);
    sandbox.write_config(&good);

    sandbox.new.postgres.sql("postgres", &format!("CREATE DATABASE {DATABASE}"));
    sandbox.new.postgres.sql(DATABASE, "CREATE TABLE precious (id int)");
    refused("a target that is not empty", 4, &["is not empty", "precious"]);
    sandbox.new.postgres.sql("postgres", &format!("DROP DATABASE {DATABASE}"));

    sandbox.new.redis.cli(&["SET", "precious", "1"]);
    refused("a Redis that is not empty", 4, &["holds 1 key already", "FLUSHDB"]);
    sandbox.new.redis.cli(&["DEL", "precious"]);

    let version = sandbox.new.live().join("lib/mastodon/version.rb");
    let text = fs::read_to_string(&version).unwrap();
    fs::write(&version, text.replacen('4', "5", 1)).unwrap();
    refused("another version", 4, &["Mastodon's version", "never during it"]);
    fs::write(&version, text).unwrap();

    sandbox.new.systemctl(&["start", "mastodon-media-remove.timer"]);
    refused("a new server that runs", 4, &["running already", "systemctl stop"]);
    sandbox.new.systemctl(&["stop", "mastodon-media-remove.timer"]);

    let output = transhume(&sandbox, &["migrate"]);
    assert_exit(&output, 2);
    assert!(told(&output).contains("there is no terminal to ask on"), "{}", told(&output));
}

/// Read-only verbs and a pass, on a live server.
#[test]
fn check_plan_sync_and_status_leave_the_old_server_alone() {
    let sandbox = Sandbox::start(&Options::small());
    let old = Snapshot::take(&sandbox.old);
    assert_exit(&transhume(&sandbox, &["check"]), 0);
    let plan = transhume(&sandbox, &["plan"]);
    assert_exit(&plan, 0);
    assert!(told(&plan).contains("point of no return"), "{}", told(&plan));
    assert_exit(&transhume(&sandbox, &["sync"]), 0);
    let (source, target) = sandbox.media();
    assert_eq!(source.files(), target.files());
    // What we did not put there goes only if the operator said so.
    let mut cautious = sandbox.config();
    cautious.remove("media");
    sandbox.write_config(&cautious);
    let stray = sandbox.new.media().join("stray");
    fs::write(&stray, "precious").unwrap();
    assert_exit(&transhume(&sandbox, &["sync"]), 0);
    assert!(stray.exists());
    let warned = transhume(&sandbox, &["check"]);
    assert_exit(&warned, 3);
    assert!(told(&warned).contains("media.delete = true"), "{}", told(&warned));
    sandbox.write_config(&sandbox.config());
    assert_exit(&transhume(&sandbox, &["sync"]), 0);
    assert!(!stray.exists());
    assert_exit(&transhume(&sandbox, &["status"]), 0);
    assert_exit(&transhume(&sandbox, &["rollback", "--yes"]), 2);
    assert_eq!(sandbox.source_changes(&old), [""; 0]);
}
