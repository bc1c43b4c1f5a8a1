//! Small commands that share a shell.

use std::path::Path;
use std::time::Duration;

use transhume::host::{Command, Exit, HostError, run};

use super::logged_in_to;
use crate::harness::sshd::Sshd;

/// How many sessions a login shell was started for, as a start-up file of it counts them.
fn starts(dir: &Path) -> usize {
    std::fs::read_to_string(dir.join("starts")).map_or(0, |text| text.lines().count())
}

#[tokio::test(flavor = "multi_thread")]
async fn small_commands_share_a_session_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    // Runs what is asked for, and counts.
    let force = format!(
        "ForceCommand echo x >> {0}/starts; exec sh -c \"$SSH_ORIGINAL_COMMAND\"",
        dir.path().display()
    );
    let (_sshd, host) = logged_in_to(Sshd::builder().config(&force).start()).await;
    let said = |script: &str| {
        let (host, command) = (host.clone(), Command::script(script, &[]));
        async move { run(&*host, &command).await.unwrap() }
    };
    let binary = said("printf 'a\\0b\\n\\n'; echo oops >&2; cd /; exit 7").await;
    assert_eq!((binary.exit, binary.stdout), (Exit::Code(7), b"a\0b\n\n".to_vec()));
    assert_eq!(binary.stderr_tail.trim(), "oops");
    assert_eq!(said("read line || echo nothing to read").await.text(), "nothing to read");
    said("exit 3").await;
    said("kill -9 $$").await;
    assert_ne!(said("pwd").await.text(), "/", "each starts where the login does");
    let large = said("head -c 3000000 /dev/zero; head -c 100000 /dev/zero | tr '\\0' e >&2").await;
    assert_eq!((large.stdout.len(), large.stderr_tail.len()), (3_000_000, 16 * 1024));
    assert_eq!(starts(dir.path()), 1);

    // One that was left in the middle is not used again, and the others do not wait for it.
    let slow = Command::new(["sleep", "30"]).deadline(Duration::from_millis(200));
    assert!(matches!(run(&*host, &slow).await, Err(HostError::TimedOut { .. })));
    assert_eq!(said("echo on").await.text(), "on");
    assert_eq!(starts(dir.path()), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_login_starts_no_shell_commands_have_sessions_of_their_own() {
    let force = "ForceCommand [ \"$SSH_ORIGINAL_COMMAND\" = 'exec sh' ] || \
                 exec sh -c \"$SSH_ORIGINAL_COMMAND\"";
    let (_sshd, host) = logged_in_to(Sshd::builder().config(force).start()).await;
    for word in ["one", "two"] {
        let output = run(&*host, &Command::new(["echo", word])).await.unwrap();
        assert_eq!(output.text(), word);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_shell_makes_room_on_a_server_of_one_session() {
    let (_sshd, host) = logged_in_to(Sshd::builder().config("MaxSessions 1").start()).await;
    assert_eq!(run(&*host, &Command::new(["echo", "x"])).await.unwrap().text(), "x");
    let fed = Command::new(["cat"]).stdin(b"fed".to_vec());
    assert_eq!(run(&*host, &fed).await.unwrap().text(), "fed");
    assert_eq!(run(&*host, &Command::new(["echo", "y"])).await.unwrap().text(), "y");
}

/// What runs twice because its answer was not understood may do harm.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_greets_is_a_shell_all_the_same_and_each_command_runs_once() {
    let dir = tempfile::tempdir().unwrap();
    let force =
        "ForceCommand echo Welcome; printf 'no line end'; exec sh -c \"$SSH_ORIGINAL_COMMAND\"";
    let (_sshd, host) = logged_in_to(Sshd::builder().config(force).start()).await;
    let ran = dir.path().join("ran").display().to_string();
    for number in 1..=3 {
        let command = Command::script("echo x >> \"$1\"; wc -l < \"$1\"", &[&ran]);
        let output = run(&*host, &command).await.unwrap();
        assert_eq!(output.text().trim(), number.to_string());
    }
}

/// It is no shell, and repeats what it is told.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_repeats_everything_is_not_believed() {
    let (_sshd, host) = logged_in_to(Sshd::builder().config("ForceCommand cat").start()).await;
    let command = Command::new(["true"]).deadline(Duration::from_millis(500));
    assert!(matches!(run(&*host, &command).await, Err(HostError::TimedOut { .. })));
}
