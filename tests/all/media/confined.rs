//! The real helper, once it has opened its root, has put up the kernel's wall around it.

use std::process::Stdio;

use futures_util::{SinkExt, StreamExt};
use tokio::process::Command;
use tokio_util::codec::{FramedRead, FramedWrite};
use transhume::wire::hello::Hello;
use transhume::wire::message::{Manner, Open, Reply, Request, Side};
use transhume::wire::stream::{FrameQueue, ReplyDecoder};
use transhume::wire::tree::RunId;
use transhume::wire::{Blob, Frame, Frames};

use super::fixture::bytes;

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
    let mut output = FramedWrite::new(helper.stdin.take().unwrap(), Frames);
    let mut input = FramedRead::new(helper.stdout.take().unwrap(), Frames);
    output.send(Hello::ours().frame()).await.unwrap();
    Hello::accept(&input.next().await.unwrap().unwrap()).unwrap();
    assert_eq!(bound_threads(pid), 0);

    let root = dir.path().join("root");
    let open = Open {
        root: Blob(bytes(&root)),
        side: Side::Target,
        create: true,
        run: RunId(1),
        lane: 0,
        manner: Manner::default(),
        gentle: false,
    };
    let mut queue = FrameQueue::default();
    queue.request(Request::Open(open)).unwrap();
    for frame in queue.take(true) {
        output.feed(frame).await.unwrap();
    }
    SinkExt::<Frame>::flush(&mut output).await.unwrap();
    let mut opened = false;
    let frame = input.next().await.unwrap().unwrap();
    let see = &mut |reply| opened = matches!(reply, Reply::Opened(Ok(_)));
    ReplyDecoder::default().push(frame, see).unwrap();
    assert!(opened && root.is_dir());
    assert!(bound_threads(pid) > 0);
}
