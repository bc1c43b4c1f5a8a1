//! Passes that remember what the last one found.

use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use transhume::media::Options;

use super::fixture::{Pair, Way, deleting};
use super::tree::fill;
use crate::harness::process::wait_until;

const WAYS: [Way; 3] = [Way::Local, Way::PushHelper, Way::PullHelper];

/// What lies there when every scan has put its own in place: a pass does not wait for that.
fn manifests(pair: &Pair) -> Vec<std::path::PathBuf> {
    let list = || -> Vec<std::path::PathBuf> {
        let dir = fs::read_dir(pair.manifests.as_ref().unwrap()).unwrap();
        dir.map(|entry| entry.unwrap().path()).collect()
    };
    let complete = || list().iter().all(|path| path.extension().unwrap() == "manifest");
    assert!(wait_until(complete), "a manifest was left incomplete: {:?}", list());
    list()
}

/// Waits until nothing in the trees changed just now, as it is for most of a tree in real life.
/// A directory that did would be listed anyway.
fn age() {
    std::thread::sleep(Duration::from_millis(2100));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_between_passes_is_found_on_both_sides() {
    for way in WAYS {
        let pair = Pair::near_remembering();
        fill(&pair.source);
        pair.sync_well(way, &deleting()).await;
        age();
        pair.sync_well(way, &deleting()).await;
        assert_eq!(manifests(&pair).len(), 2, "{way:?}: one for each side");
        let before = manifests(&pair).len();

        // A rewrite of the same length under the old time; a mode; new, moved and deleted names;
        // on both sides.
        let disguised = pair.source.join("disguised");
        pair.source().file("disguised", "one", 0o644);
        pair.source().file("some/where/deep/file", "deep", 0o600);
        pair.sync_well(way, &deleting()).await;
        age();
        pair.sync_well(way, &deleting()).await;
        let old = fs::metadata(&disguised).unwrap().modified().unwrap();
        fs::write(&disguised, "two, longer").unwrap();
        File::options()
            .write(true)
            .open(&disguised)
            .unwrap()
            .set_times(FileTimes::new().set_modified(old))
            .unwrap();
        fs::set_permissions(
            pair.source.join("some/where/deep/file"),
            Permissions::from_mode(0o644),
        )
        .unwrap();
        fs::write(pair.target.join("some/where/stray"), "of nobody").unwrap();
        fs::rename(pair.source.join("some/where"), pair.source.join("some/other")).unwrap();
        symlink("other", pair.source.join("some/where")).unwrap();
        pair.sync_well(way, &deleting()).await;
        pair.assert_same(way);
        assert_eq!(manifests(&pair).len(), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_manifest_costs_time_and_nothing_else() {
    let pair = Pair::near_remembering();
    fill(&pair.source);
    pair.sync_well(Way::PushHelper, &deleting()).await;
    age();
    pair.sync_well(Way::PushHelper, &deleting()).await;
    for path in manifests(&pair) {
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    pair.source().file("new", "x", 0o644);
    let outcome = pair.sync_well(Way::PushHelper, &deleting()).await;
    assert_eq!(outcome.stats.transferred_files, 1);
    pair.assert_same(Way::PushHelper);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quick_pass_believes_old_files_and_the_next_one_does_not() {
    let pair = Pair::near_remembering();
    pair.source().file("a/file", "one", 0o644);
    pair.sync_well(Way::PushHelper, &deleting()).await;
    age();
    let quick = Options { quiet: Some(Duration::ZERO), ..deleting() };
    pair.sync_well(Way::PushHelper, &quick).await;
    age();
    fs::write(pair.source.join("a/file"), "another").unwrap();
    let outcome = pair.sync_well(Way::PushHelper, &quick).await;
    assert_eq!(outcome.stats.transferred_files, 0, "an in-place rewrite is not seen");
    fs::write(pair.source.join("a/new"), "x").unwrap();
    let outcome = pair.sync_well(Way::PushHelper, &quick).await;
    assert_eq!(outcome.stats.transferred_files, 2, "a new name is, and what is beside it");
    fs::set_permissions(pair.source.join("a/file"), Permissions::from_mode(0o600)).unwrap();
    pair.sync_well(Way::PushHelper, &deleting()).await;
    pair.assert_same(Way::PushHelper);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quick_pass_sees_what_a_pass_set_in_its_place() {
    let pair = Pair::near_remembering();
    pair.source().file("a/file", "one", 0o644);
    pair.sync_well(Way::PushHelper, &deleting()).await;
    age();
    let quick = Options { quiet: Some(Duration::ZERO), ..deleting() };
    pair.sync_well(Way::PushHelper, &quick).await;
    let chmod = |mode| {
        fs::set_permissions(pair.source.join("a/file"), Permissions::from_mode(mode)).unwrap();
    };
    chmod(0o600);
    pair.sync_well(Way::PushHelper, &deleting()).await;
    // On the source the file is not old; on the target, what is remembered of it is.
    chmod(0o644);
    pair.sync_well(Way::PushHelper, &quick).await;
    pair.assert_same(Way::PushHelper);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_with_nothing_to_do_tells_little_of_many_directories() {
    let pair = Pair::near_remembering();
    for number in 0..12_000 {
        let dir = pair.source.join(format!("{}/{}/{number}", number % 10, number % 300));
        fs::create_dir_all(&dir).unwrap();
    }
    pair.source().file("0/0/0/file", "x", 0o644);
    // The first pass may leave the time of a directory to the second one.
    pair.sync_well(Way::PushHelper, &deleting()).await;
    pair.sync_well(Way::PushHelper, &deleting()).await;
    let idle = pair.sync_well(Way::PushHelper, &deleting()).await.stats;
    assert_eq!(idle.changed_entries + idle.transferred_files, 0);
    // A head of some 100 bytes for each 8,192 directories, and what every pass tells.
    let bytes = idle.sent_bytes + idle.received_bytes;
    assert!(bytes < 4_000, "{bytes} bytes");
    pair.source().file("3/3/3/file", "x", 0o644);
    let one = pair.sync_well(Way::PushHelper, &deleting()).await.stats;
    let bytes = one.sent_bytes + one.received_bytes;
    assert!(bytes < 60_000, "{bytes} bytes for one new file");
    pair.assert_same(Way::PushHelper);
}

#[tokio::test]
async fn contents_are_read_and_not_remembered() {
    let pair = Pair::near_remembering();
    pair.source().file("a/file", "one", 0o644);
    pair.sync_well(Way::PushHelper, &deleting()).await;
    let (from, to) = (pair.source.join("a/file"), pair.target.join("a/file"));
    fs::write(&to, "two").unwrap();
    let time =
        SystemTime::UNIX_EPOCH + Duration::from_secs(fs::metadata(&from).unwrap().mtime() as u64);
    for path in [&from, &to] {
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_times(FileTimes::new().set_modified(time))
            .unwrap();
    }
    let options = Options { checksum: true, ..deleting() };
    let outcome = pair.sync_well(Way::PushHelper, &options).await;
    assert_eq!(outcome.stats.transferred_files, 1);
    pair.assert_same(Way::PushHelper);
}
