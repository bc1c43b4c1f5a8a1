//! Moves that go through.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{assert_exit, command, told, transhume};
use crate::harness::random::CANARY;
use crate::harness::sandbox::{Login, Options, Sandbox};

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

/// Without a password: PostgreSQL takes the operating system's word, as the install guide has it.
#[test]
fn a_move_with_peer_logins_is_whole() {
    let sandbox = Sandbox::start(&Options { login: Login::Peer, ..Options::small() });
    let output = transhume(&sandbox, &["migrate", "--yes"]);
    assert_exit(&output, 0);
    assert_eq!(sandbox.verify_moved().problems, [""; 0], "{}", told(&output));
}
