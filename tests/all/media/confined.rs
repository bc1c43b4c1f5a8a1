//! The real helper, once it has opened its root, has put up the kernel's wall around it.

use std::process::Stdio;

use tokio::process::Command;

use super::asker::Asker;

/// Threads of `pid` that can gain no rights any more, which is what comes with Landlock.
fn bound_threads(pid: u32) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let bound = |task: std::io::Result<std::fs::DirEntry>| {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        status.lines().any(|line| line == "NoNewPrivs:\t1")
    };
    tasks.map(bound).filter(|bound| *bound).count()
}

#[tokio::test]
async fn the_helper_is_bound_once_it_has_opened_its_root_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut helper = Command::new(env!("CARGO_BIN_EXE_transhume"))
        .args(["helper", "files"])
        .env("XDG_CACHE_HOME", dir.path().join("cache"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let pid = helper.id().unwrap();
    let (stdin, stdout) = (helper.stdin.take().unwrap(), helper.stdout.take().unwrap());
    let mut asker = Asker::greet(Box::pin(stdin), Box::pin(stdout)).await;
    assert_eq!(bound_threads(pid), 0);

    let root = dir.path().join("root");
    asker.open(&root, true).await;
    assert!(root.is_dir());
    assert!(bound_threads(pid) > 0);
}
