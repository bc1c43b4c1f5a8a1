//! Watches: what happens on the source is on the target soon.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use transhume::event::Silent;
use transhume::media::{
    Changes, DeleteLimit, Endpoint, Hints, Look, MediaError, Options, Rhythm, Said, WatchOptions,
    listen, watch,
};
use transhume::wire::path::RelPath;

use super::cli::transhume;
use super::fixture::{Pair, Way, deleting};
use super::tree::{self, Exact, Tree};
use crate::harness::process::{signal, wait_until};

/// How long something may take that takes a second or two on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a watch learns of changes.
#[derive(Clone)]
enum How {
    /// From the kernel, where that tells.
    Kernel,
    /// It looks often, and asks nobody.
    Looking,
    /// From these; it looks by itself when no test waits any more.
    Told(Changes),
}

impl How {
    fn options(&self, source: &Endpoint, options: &Options) -> WatchOptions {
        let rhythm = Rhythm::DEFAULT;
        let (often, never) = (Duration::from_millis(100), Duration::from_secs(1_000_000));
        match self {
            How::Kernel => {
                let hints = listen(source, options).map_or(Hints::None, Hints::Kernel);
                WatchOptions { hints, rhythm }
            }
            How::Looking => WatchOptions {
                hints: Hints::None,
                rhythm: Rhythm { quick_min: often, quick_max: often, ..rhythm },
            },
            How::Told(changes) => WatchOptions {
                hints: Hints::Told(changes.clone()),
                rhythm: Rhythm { quick_min: never, quick_max: never, whole: never, ..rhythm },
            },
        }
    }
}

/// What a watch has told.
#[derive(Default)]
struct Log {
    by_kernel: bool,
    looks: Vec<Look>,
    failures: usize,
}

type Shared = Arc<Mutex<Log>>;

/// Runs `act` beside a watch, which must outlive it.
async fn beside<T>(
    pair: &Pair,
    way: Way,
    options: &Options,
    how: How,
    act: impl AsyncFnOnce(&Shared) -> T,
) -> (T, Log) {
    let log = Shared::default();
    let result = tokio::select! {
        ended = watched(pair, way, options, how, &log) => {
            panic!("{way:?}: it ended: {}", transhume::error::one_line(&ended));
        }
        result = act(&log) => result,
    };
    (result, std::mem::take(&mut *log.lock().unwrap()))
}

async fn watched(pair: &Pair, way: Way, options: &Options, how: How, log: &Shared) -> MediaError {
    let manifests = pair.manifests.as_deref();
    let (source, target) =
        way.ends(&pair.host, &pair.command, &pair.source, &pair.target, manifests);
    let tell = |said: Said<'_>| {
        let mut log = log.lock().unwrap();
        match said {
            Said::Passed { look, .. } => log.looks.push(look),
            Said::Failed { .. } => log.failures += 1,
            Said::Behind(_) => {}
        }
    };
    let how = how.options(&source, options);
    log.lock().unwrap().by_kernel = matches!(how.hints, Hints::Kernel(_));
    match watch(&source, &target, options, how, &Silent, tell).await {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

/// Waits until `done`, which must come.
async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn same(pair: &Pair, way: Way, what: &str) {
    let read = |root: &Path| {
        let mut items = tree::read(root);
        if way.exact() == Exact::Secs {
            // No times of symlinks either.
            for item in items.values_mut() {
                item.nanos = 0;
                item.secs = if item.kind == 'l' { 0 } else { item.secs };
            }
        }
        items
    };
    until(&format!("{way:?}: {what}"), || read(&pair.source) == read(&pair.target)).await;
}

/// Everything that an instance and its admin do, each step seen on the target before the next.
async fn live(pair: &Pair, way: Way) {
    let source = pair.source();
    same(pair, way, "the first pass").await;
    source.file("accounts/avatars/1/a.png", "an avatar", 0o644);
    same(pair, way, "a new file").await;
    fs::set_permissions(source.path("accounts/avatars/1/a.png"), Permissions::from_mode(0o600))
        .unwrap();
    same(pair, way, "a suspended account").await;
    fs::write(source.path("accounts/avatars/1/a.png"), "rewritten in its place").unwrap();
    same(pair, way, "a file that was rewritten").await;
    // Each directory is filled at once, before anybody can have looked at it.
    for number in 0..200 {
        let path = format!("media/{}/{}/{number}/original/file.png", number % 3, number % 7);
        source.file(path, format!("{number}"), 0o644);
    }
    same(pair, way, "directories that were made and filled").await;
    fs::rename(source.path("media/1"), source.path("moved")).unwrap();
    fs::create_dir(source.path("media/1")).unwrap();
    same(pair, way, "a directory that was renamed").await;
    // Whoever knew the directory by its old name is wrong.
    source.file("moved/1/1/original/late.png", "late", 0o644);
    same(pair, way, "a file in a directory that was renamed").await;
    symlink("moved", source.path("link")).unwrap();
    fs::set_permissions(source.path("moved"), Permissions::from_mode(0o750)).unwrap();
    same(pair, way, "a symlink, and the mode of a directory").await;
    fs::remove_file(source.path("accounts/avatars/1/a.png")).unwrap();
    fs::remove_dir_all(source.path("media/2")).unwrap();
    same(pair, way, "what was deleted").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_kernel_tells_is_on_the_target_soon() {
    for way in [Way::Local, Way::PushHelper, Way::PushSftp] {
        let pair = Pair::near();
        pair.source().file("old", "there before", 0o644);
        let ((), log) =
            beside(&pair, way, &deleting(), How::Kernel, async |_| live(&pair, way).await).await;
        if log.by_kernel {
            assert_eq!(log.looks[0], Look::Whole, "{way:?}");
            // Others on this machine may fill the kernel's queue, which costs a look at everything.
            let later = &log.looks[1..];
            let told = later.contains(&Look::Changed) && !later.contains(&Look::Whole);
            assert!(told, "{way:?}: {:?}", log.looks);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_tells_it_is_found_by_looking() {
    for way in [Way::Local, Way::PullHelper, Way::PullSftp] {
        let pair = Pair::near_remembering();
        pair.source().file("old", "there before", 0o644);
        let ((), log) =
            beside(&pair, way, &deleting(), How::Looking, async |_| live(&pair, way).await).await;
        assert!(!log.by_kernel && log.looks[1..].iter().all(|look| *look == Look::Quick));
    }
}

/// Somebody who knows of new files, as the database does, and of nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn where_it_is_told_of_a_place_that_place_is_looked_at_alone_and_nothing_is_deleted() {
    for way in [Way::Local, Way::PushHelper, Way::PullSftp] {
        let (pair, changes) = (Pair::near(), Changes::default());
        let source = pair.source();
        source.file("accounts/avatars/1/old.png", "before", 0o644).file("other/a", "x", 0o644);
        let how = How::Told(changes.clone());
        let ((), log) = beside(&pair, way, &deleting(), how, async |log| {
            same(&pair, way, "the first pass").await;
            until("its end", || !log.lock().unwrap().looks.is_empty()).await;
            source.file("accounts/avatars/1/new.png", "after", 0o644);
            fs::remove_file(source.path("accounts/avatars/1/old.png")).unwrap();
            source.file("media/2/original/b.png", "uploaded", 0o644).file("other/b", "x", 0o644);
            for place in ["accounts/avatars/1", "media/2", "media/3"] {
                changes.add(RelPath::new(place.as_bytes()).unwrap());
            }
            let there = |path: &str| pair.target.join(path).exists();
            until("a file in a directory that was there", || there("accounts/avatars/1/new.png"))
                .await;
            until("one in a new directory", || there("media/2/original/b.png")).await;
            until("the end of the pass", || log.lock().unwrap().looks.len() > 1).await;
            // Whether what is not there went away, or is still to come, was not told.
            assert!(there("accounts/avatars/1/old.png") && !there("other/b"), "{way:?}");
        })
        .await;
        assert!(log.looks[1..].iter().all(|look| *look == Look::Changed), "{:?}", log.looks);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_can_be_named_is_found_by_looking_at_everything() {
    let (pair, way) = (Pair::near_remembering(), Way::PushHelper);
    fs::create_dir(pair.source.join("wide")).unwrap();
    let ((), log) = beside(&pair, way, &deleting(), How::Kernel, async |log| {
        same(&pair, way, "the first pass").await;
        let by_kernel = log.lock().unwrap().by_kernel;
        for number in 0..5000 {
            fs::write(pair.source.join(format!("wide/{number}")), "x").unwrap();
        }
        same(&pair, way, "many files").await;
        // And from then on it listens as before.
        let passes = log.lock().unwrap().looks.len();
        pair.source().file("one/more", "x", 0o644);
        same(&pair, way, "one more").await;
        until("another pass", || log.lock().unwrap().looks.len() > passes).await;
        assert!(!by_kernel || log.lock().unwrap().looks.contains(&Look::Changed));
    })
    .await;
    assert!(!log.by_kernel || log.looks.contains(&Look::Quick), "{:?}", log.looks);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_part_of_the_tree_wakes_nobody() {
    let (pair, way) = (Pair::near(), Way::Local);
    pair.source().file("cache/busy", "x", 0o644).file("local", "x", 0o644);
    let options = Options { exclude: vec![b"/cache/".to_vec()], ..deleting() };
    let ((), log) = beside(&pair, way, &options, How::Kernel, async |log| {
        until("the first pass", || !log.lock().unwrap().looks.is_empty()).await;
        for number in 0..20 {
            fs::write(pair.source.join("cache/busy"), format!("{number}")).unwrap();
            fs::write(pair.dir.path().join("beside"), format!("{number}")).unwrap();
        }
        fs::write(pair.source.join("local"), "changed").unwrap();
        let there = || fs::read(pair.target.join("local")).is_ok_and(|text| text == b"changed");
        until("what belongs to it", there).await;
    })
    .await;
    assert!(!log.by_kernel || log.looks.len() <= 3, "{:?}", log.looks);
    assert!(!pair.target.join("cache").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn deletions_are_limited_over_all_passes_together() {
    let (pair, way) = (Pair::near(), Way::PushHelper);
    for number in 0..50 {
        pair.source().file(format!("{number:02}"), "x", 0o644);
    }
    let limit = Some(DeleteLimit::Percent(20));
    let options = Options { max_delete: limit, ..deleting() };
    let log = Shared::default();
    let ended = tokio::select! {
        ended = watched(&pair, way, &options, How::Kernel, &log) => ended,
        () = async {
            for number in 0..50 {
                same(&pair, way, "so far").await;
                fs::remove_file(pair.source.join(format!("{number:02}"))).unwrap();
            }
            std::future::pending().await
        } => unreachable!(),
    };
    assert!(matches!(ended, MediaError::TooManyDeletions { .. }), "{ended}");
    let left = fs::read_dir(&pair.target).unwrap().count();
    // Of 51 entries a fifth, rounded up.
    assert_eq!(left, 50 - 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_emptied_meanwhile_deletes_nothing() {
    let (pair, way) = (Pair::near(), Way::PushHelper);
    pair.source().file("a", "x", 0o644).file("b", "x", 0o644);
    let (log, options) = (Shared::default(), deleting());
    let ended = tokio::select! {
        ended = watched(&pair, way, &options, How::Kernel, &log) => ended,
        () = async {
            same(&pair, way, "the first pass").await;
            fs::rename(pair.source.join("a"), pair.dir.path().join("a")).unwrap();
            fs::rename(pair.source.join("b"), pair.dir.path().join("b")).unwrap();
            std::future::pending().await
        } => unreachable!(),
    };
    assert!(matches!(ended, MediaError::SourceEmpty), "{ended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_opened_again() {
    let pair = Pair::over_ssh().await;
    pair.source().file("before", "x", 0o644);
    for way in [Way::PushHelper, Way::PushSftp] {
        let ((), _) = beside(&pair, way, &deleting(), How::Kernel, async |_| {
            same(&pair, way, "the first pass").await;
            pair.killer()();
            pair.source().file(format!("{way:?}"), "x", 0o644);
            same(&pair, way, "what came after the cut").await;
        })
        .await;
    }
}

fn start(dir: &Path, arguments: &[&str]) -> std::process::Child {
    let mut command = transhume();
    command.env("XDG_CACHE_HOME", dir.join("cache-home")).current_dir(dir);
    command.args(["files", "--watch", "--delete"]).args(arguments).args(["source", "target"]);
    command.stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn killed_and_started_again_it_catches_up_and_ctrl_c_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let source = Tree::at(&dir.path().join("source"));
    let target = dir.path().join("target");
    source.file("a/first", "x", 0o644).file("b/gone", "x", 0o644);
    let there = |name: &str| target.join(name).exists();
    let mut first = start(dir.path(), &[]);
    assert!(wait_until(|| there("b/gone")));
    source.file("a/second", "x", 0o644);
    assert!(wait_until(|| there("a/second")));
    signal(first.id(), Signal::KILL);
    first.wait().unwrap();
    source.file("c/new", "while nobody looked", 0o644);
    fs::remove_file(source.path("b/gone")).unwrap();
    fs::rename(source.path("a/first"), source.path("a/renamed")).unwrap();
    let again = start(dir.path(), &[]);
    assert!(wait_until(|| there("c/new") && there("a/renamed") && !there("a/first")));
    assert!(wait_until(|| !there("b/gone")));
    // A pass is told of when it has ended, which is before the next one begins.
    for name in ["c/third", "c/fourth"] {
        source.file(name, "x", 0o644);
        assert!(wait_until(|| there(name)));
    }
    // The times of directories come last.
    assert!(wait_until(|| tree::read(&source.0) == tree::read(&target)));
    signal(again.id(), Signal::INT);
    let output = again.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{told}");
    assert!(told.contains("watching"), "{told}");
    assert!(told.contains("1 file copied, 1 B"), "{told}");
}
