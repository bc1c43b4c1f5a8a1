//! Moves that are disturbed, and go through or put the old server back by themselves.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::{assert_exit, command, told, transhume};
use crate::harness::sandbox::{Options, Sandbox, Snapshot};

/// Killed with -9 whenever the journal has grown by a record, and started again, until it is done.
#[test]
fn killed_at_every_record_the_move_still_completes() {
    let sandbox = Sandbox::start(&Options::small());
    let journal = sandbox.state_dir().join("journal.jsonl");
    let records = || fs::read(&journal).unwrap_or_default().iter().filter(|b| **b == b'\n').count();
    let deadline = Instant::now() + Duration::from_secs(240);
    let mut kills = 0;
    loop {
        let late = Instant::now() > deadline;
        assert!(!late, "still not done after {kills} kills: {}", failures(&sandbox));
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
                assert_eq!(status.code(), Some(0), "after {kills} kills: {}", failures(&sandbox));
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

/// The journal's lines that tell of failures.
fn failures(sandbox: &Sandbox) -> String {
    let text = fs::read_to_string(sandbox.state_dir().join("journal.jsonl")).unwrap_or_default();
    let tells = |line: &&str| line.contains("fail") || line.contains("unwind");
    text.lines().filter(tells).collect::<Vec<_>>().join("\n")
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

/// A failure in the window: the old server comes back by itself.
#[test]
fn a_failure_in_the_window_unwinds_by_itself() {
    let sandbox = Sandbox::start(&Options::small());
    let old = Snapshot::take(&sandbox.old);
    // The new web process will not start: its port is taken.
    let place = (sandbox.new.address.as_str(), sandbox.new.web_port);
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
