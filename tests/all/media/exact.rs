//! What is mirrored is exact, whichever way it goes, and a second pass has nothing to do.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use transhume::media::{Options, Outcome};

use super::fixture::{Pair, WAYS, Way, deleting, itemizing};
use super::tree::{fill, noise};

fn nothing_done(outcome: &Outcome) {
    let stats = &outcome.stats;
    assert_eq!((stats.transferred_files, stats.changed_entries, stats.deleted_entries), (0, 0, 0));
}

async fn first_and_second_pass(pair: Pair, way: Way) {
    fill(&pair.source);
    let first = pair.sync_well(way, &Options::default()).await;
    pair.assert_same(way);
    assert!(first.stats.transferred_files > 300);
    let (options, lines) = itemizing(deleting());
    let second = pair.sync_well(way, &options).await;
    assert_eq!(lines.lock().unwrap()[..], [""; 0]);
    nothing_done(&second);
    assert_eq!(second.stats.source_files, first.stats.source_files);
    assert_eq!(second.stats.source_bytes, first.stats.source_bytes);
    pair.assert_same(way);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_is_exact_and_settles() {
    for way in WAYS {
        first_and_second_pass(Pair::near(), way).await;
    }
}

/// So many directories that what is in the outer ones comes in several batches, on several lanes.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_keeps_its_time_although_later_batches_put_more_into_it() {
    for way in [Way::Local, Way::PushHelper, Way::PullHelper, Way::PushSftp] {
        let pair = Pair::near();
        let source = pair.source();
        for number in 0..1200 {
            source.file(format!("a/{}/{number}/original/file", number / 100), "x", 0o644);
        }
        pair.sync_well(way, &Options::default()).await;
        pair.assert_same(way);
        for number in (0..1200).step_by(7) {
            source.file(format!("a/{}/{number}/small/file", number / 100), "y", 0o644);
        }
        let more = pair.sync_well(way, &Options::default()).await;
        assert_eq!(more.stats.transferred_files, 172);
        pair.assert_same(way);
        nothing_done(&pair.sync_well(way, &Options::default()).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_is_exact_over_real_ssh() {
    for way in [Way::PushHelper, Way::PullHelper, Way::PushSftp, Way::PullSftp] {
        first_and_second_pass(Pair::over_ssh().await, way).await;
    }
}

/// Every kind of change between two passes.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_pass_follows_every_kind_of_change() {
    for way in WAYS {
        let pair = Pair::near();
        let source = pair.source();
        source
            .file("rewritten", "before", 0o644)
            .file("appended", noise(200_000, 1), 0o644)
            .file("truncated", noise(200_000, 2), 0o644)
            .file("renamed/old", "same", 0o644)
            .file("deleted/a/b", "gone", 0o644)
            .file("chmod", "mode", 0o644)
            .file("becomes-dir", "file", 0o644)
            .file("becomes-link", "file", 0o644)
            .file("dir-becomes-file/x/y", "deep", 0o644)
            .file("dir-becomes-link/x", "deep", 0o644)
            .link("link-becomes-file", "renamed")
            .link("link-becomes-dir", "renamed")
            .link("link-changes", "one")
            .dir("dir-mode", 0o755)
            .file("untouched", "same", 0o644);
        pair.sync_well(way, &Options::default()).await;
        pair.assert_same(way);

        let at = |name: &str| source.path(name);
        source.file("rewritten", "after!", 0o644).time("rewritten", 1_700_000_000, 0);
        source.file("appended", noise(300_000, 1), 0o644);
        source.file("truncated", noise(100, 2), 0o644);
        std::fs::rename(at("renamed/old"), at("renamed/new")).unwrap();
        std::fs::remove_dir_all(at("deleted")).unwrap();
        std::fs::set_permissions(at("chmod"), Permissions::from_mode(0o600)).unwrap();
        for name in
            ["becomes-dir", "becomes-link", "link-becomes-file", "link-becomes-dir", "link-changes"]
        {
            std::fs::remove_file(at(name)).unwrap();
        }
        for name in ["dir-becomes-file", "dir-becomes-link"] {
            std::fs::remove_dir_all(at(name)).unwrap();
        }
        source
            .file("becomes-dir/inside", "x", 0o644)
            .link("becomes-link", "untouched")
            .file("dir-becomes-file", "now a file", 0o644)
            .link("dir-becomes-link", "untouched")
            .file("link-becomes-file", "now a file", 0o644)
            .file("link-becomes-dir/inside", "x", 0o644)
            .link("link-changes", "two")
            .dir("dir-mode", 0o700);
        let (options, lines) = itemizing(deleting());
        pair.sync_well(way, &options).await;
        pair.assert_same(way);
        let lines = lines.lock().unwrap();
        for expected in [
            "*deleting   deleted/a/b",
            "*deleting   renamed/old",
            ">f+++++++++ renamed/new",
            ".f...p..... chmod",
            "cL+++++++++ becomes-link -> untouched",
            "cd+++++++++ becomes-dir/",
        ] {
            assert!(lines.iter().any(|line| line == expected), "{way:?}: {expected} in {lines:#?}");
        }
        assert!(!lines.iter().any(|line| line.contains("untouched") && line.starts_with('>')));
    }
}
