//! Sources that change, helpers that die, links that are cut, disks that are full.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use transhume::error::{Advice, Retry};
use transhume::host::{Address, Command, Host, HostError, Process, Stream};
use transhume::media::{MediaError, Options};

use super::fixture::{
    After, Near, Pair, WAYS, Way, connect_through, deleting, leftovers, real_helper, when_told,
};
use super::tree::{noise, read};
use crate::harness::process::wait_until;
use crate::harness::proxy::Proxy;
use crate::harness::sshd::Sshd;

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_vanishes_is_listed_and_the_rest_arrives() {
    for way in WAYS {
        let pair = Pair::near();
        pair.source().file("a", "x", 0o644).file("b/gone", "x", 0o644).file("c", "x", 0o644);
        let gone = pair.source.join("b/gone");
        let vanish = move || drop(std::fs::remove_file(&gone));
        let options = when_told("b/gone", vanish, Options::default());
        let outcome = pair.sync(way, &options).await.unwrap();
        assert_eq!(outcome.problems_total, 1, "{way:?}: {:?}", outcome.problems);
        assert_eq!(outcome.problems[0].path.to_string(), "b/gone");
        assert!(pair.target.join("a").exists() && pair.target.join("c").exists());
        pair.sync_well(way, &deleting()).await;
        pair.assert_same(way);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_grows_while_it_is_read_is_never_published_half() {
    for way in WAYS {
        let pair = Pair::near();
        pair.source().file("calm", noise(500_000, 1), 0o644).file("log", "", 0o644);
        // More than all that can be read ahead, so that the throttle is felt where it is read.
        let log = std::fs::OpenOptions::new().write(true).open(pair.source.join("log")).unwrap();
        log.set_len(24 << 20).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (log, growing) = (pair.source.join("log"), stop.clone());
        let grow = move || {
            let (log, growing) = (log.clone(), growing.clone());
            std::thread::spawn(move || {
                while !growing.load(Ordering::Relaxed) {
                    let mut file = std::fs::OpenOptions::new().append(true).open(&log).unwrap();
                    std::io::Write::write_all(&mut file, b"another line\n").unwrap();
                    // Slow enough for the disk, far quicker than the throttled transfer.
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
            });
        };
        let slow = Options { bwlimit: Some(100 << 20), ..Options::default() };
        let outcome = pair.sync(way, &when_told("log", grow, slow)).await.unwrap();
        stop.store(true, Ordering::Relaxed);
        let problems: Vec<String> = outcome.problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems, ["log: it changed while it was read"], "{way:?}");
        assert!(!pair.target.join("log").exists());
        assert_eq!(leftovers(&pair.target), [""; 0], "{way:?}");
        assert!(pair.target.join("calm").exists());
    }
}

/// Nothing under a final name that is not whole.
pub(super) fn nothing_half(source: &Path, target: &Path) {
    let source = read(source);
    for (path, item) in read(target) {
        let name = path.escape_ascii().to_string();
        if item.kind == 'f' && !name.contains(".transhume-") {
            assert!(source[&path].content == item.content, "{name} is not whole");
            assert_eq!(source[&path].mode, item.mode, "{name}");
        }
    }
}

fn a_lot(pair: &Pair) {
    let source = pair.source();
    for number in 0..600 {
        source.file(format!("{:02}/{number}", number % 40), noise(20_000, number as u8), 0o600);
    }
    source.file("large", noise(8 << 20, 1), 0o644);
}

async fn interrupted(pair: &Pair, way: Way, files: u64, act: impl FnOnce() + Send) {
    a_lot(pair);
    // Slow enough to be caught in the middle.
    let slow = Options { bwlimit: Some(15 << 20), ..Options::default() };
    let error = pair.watched(way, &slow, &After::files(files, act)).await.unwrap_err();
    assert_eq!(error.retry(), Retry::Unknown, "{way:?}: {error:?}");
    assert!(error.hint().is_some());
    assert!(wait_until(|| pair.session_count() == 0), "sessions stay");
    nothing_half(&pair.source, &pair.target);
    pair.sync_well(way, &deleting()).await;
    pair.assert_same(way);
    assert_eq!(leftovers(&pair.target), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_sessions_leave_nothing_half_and_the_next_pass_completes() {
    for way in [Way::PushHelper, Way::PullHelper, Way::PushSftp, Way::PullSftp] {
        let pair = Pair::over_ssh().await;
        let sessions = pair.killer();
        interrupted(&pair, way, 40, sessions).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_link_leaves_nothing_half_and_the_next_pass_completes() {
    for way in [Way::PushHelper, Way::PullHelper, Way::PushSftp, Way::PullSftp] {
        let sshd = Sshd::start();
        let proxy = Arc::new(Proxy::to(sshd.port()));
        let host = connect_through(&sshd, proxy.port()).await;
        let pair = Pair::over(host, real_helper(), Some(sshd));
        let cut = proxy.clone();
        interrupted(&pair, way, 40, move || cut.cut()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_that_is_dropped_ends_by_itself_and_clears_up() {
    for way in WAYS {
        let pair = Pair::near();
        a_lot(&pair);
        let (enough, told) = tokio::sync::oneshot::channel();
        let monitor = After::files(40, move || enough.send(()).unwrap());
        let slow = Options { bwlimit: Some(15 << 20), ..Options::default() };
        tokio::select! {
            ended = pair.watched(way, &slow, &monitor) => panic!("{way:?}: {ended:?}"),
            _ = told => {}
        }
        assert!(wait_until(|| leftovers(&pair.target).is_empty()), "{way:?}");
        nothing_half(&pair.source, &pair.target);
    }
}

/// A near machine that takes no connection besides the first.
#[derive(Debug)]
struct Single;

#[async_trait]
impl Host for Single {
    fn name(&self) -> &str {
        "single.example"
    }

    async fn spawn(&self, command: &Command) -> Result<Process, HostError> {
        Near(None).spawn(command).await
    }

    async fn connect(&self, address: &Address) -> Result<Stream, HostError> {
        Near(None).connect(address).await
    }

    async fn subsystem(&self, name: &str) -> Result<Stream, HostError> {
        Near(None).subsystem(name).await
    }

    async fn dedicated(&self) -> Result<Arc<dyn Host>, HostError> {
        let source = std::io::ErrorKind::ConnectionReset.into();
        Err(HostError::Unreachable { host: self.name().to_owned(), source, hint: None })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_gone_in_the_middle_is_no_proof_that_nothing_happened() {
    let way = Way::PullHelper;
    let pair = Pair::over(Arc::new(Single), Command::new(["helper"]), None);
    // More than what goes over the connection that is there.
    let source = pair.source();
    for number in 0..100 {
        source.file(format!("dir/{number}"), "x", 0o644);
    }
    let error = pair.sync(way, &Options::default()).await.unwrap_err();
    assert!(matches!(error, MediaError::BrokenOff { .. }), "{way:?}: {error:?}");
    assert_eq!(error.retry(), Retry::Unknown);
    assert!(error.hint().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_refuses_further_connections_gets_its_files_over_the_first() {
    for way in [Way::PushHelper, Way::PushSftp, Way::PullSftp] {
        let pair = Pair::over(Arc::new(Single), Command::new(["helper"]), None);
        a_lot(&pair);
        pair.sync_well(way, &Options::default()).await;
        pair.assert_same(way);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_the_pass_and_publishes_nothing_half() {
    for way in WAYS {
        let pair = Pair::near();
        let Some(disk) = small_disk(&pair.target, "2m") else { return };
        let source = pair.source();
        for number in 0..40 {
            source.file(format!("{number}"), noise(200_000, number as u8), 0o644);
        }
        let error = pair.sync(way, &Options::default()).await.unwrap_err();
        assert!(matches!(error, MediaError::TargetFull { .. }), "{way:?}: {error:?}");
        assert!(error.hint().unwrap().contains("make room"));
        assert_eq!(leftovers(&pair.target), [""; 0], "{way:?}");
        nothing_half(&pair.source, &pair.target);
        disk.grow();
        pair.sync_well(way, &deleting()).await;
        pair.assert_same(way);
    }
}

/// A small file system of its own.
pub(super) struct Disk<'a>(&'a Path);

pub(super) fn small_disk<'a>(at: &'a Path, size: &str) -> Option<Disk<'a>> {
    std::fs::create_dir_all(at).unwrap();
    if mount(&["-t", "tmpfs", "-o", &format!("size={size},mode=755"), "tmpfs"], at) {
        Some(Disk(at))
    } else {
        eprintln!("skipped: a test of a full disk needs to mount");
        None
    }
}

fn mount(arguments: &[&str], at: &Path) -> bool {
    let mut command = std::process::Command::new("mount");
    let output = command.args(arguments).arg(at).output();
    output.is_ok_and(|output| output.status.success())
}

impl Disk<'_> {
    pub(super) fn grow(&self) {
        assert!(mount(&["-o", "remount,size=64m"], self.0));
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0).status();
    }
}
