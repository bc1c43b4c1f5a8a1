//! Modes, owners and times, at every depth.

use std::os::unix::fs::{chown, lchown};

use super::*;

/// Every mode that a file and a directory may have and still be copied by its owner.
#[tokio::test(flavor = "multi_thread")]
async fn chmod_and_metadata_depth_and_executability() {
    for way in WAYS {
        let source = |tree: &Tree| {
            for mode in [0o600, 0o644, 0o755, 0o711, 0o444, 0o4755, 0o2755, 0o6711, 0o1644, 0o666] {
                tree.file(format!("files/{mode:o}"), "x", mode);
                tree.file(format!("d/e/e/p/{mode:o}/file"), "x", mode);
            }
            for mode in [0o700, 0o755, 0o2775, 0o1777, 0o3770, 0o711] {
                tree.dir(format!("dirs/{mode:o}/inner"), mode).dir(format!("dirs/{mode:o}"), mode);
            }
            settle(tree, 1_400_000_000);
        };
        // The same with other modes.
        let target = |tree: &Tree| {
            for mode in [0o600, 0o644, 0o755, 0o4755] {
                tree.file(format!("files/{mode:o}"), "x", 0o640);
            }
            tree.dir("dirs/2775", 0o700).dir("dirs/700", 0o2777);
        };
        let desk = alike(way, source, target, &[], &Options::default()).await;
        desk.pair.assert_same(way);
    }
}

/// A set-group-ID directory on the target does not leave its mark on what is made in it.
#[tokio::test(flavor = "multi_thread")]
async fn dir_sgid_of_the_target_is_not_inherited() {
    for way in WAYS {
        let source = |tree: &Tree| {
            tree.file("d/new/file", "x", 0o644).dir("d/new", 0o755).dir("d", 0o755);
            settle(tree, 1_400_000_000);
        };
        let target = |tree: &Tree| {
            tree.dir("d", 0o2775);
        };
        let desk = alike(way, source, target, &[], &Options::default()).await;
        desk.pair.assert_same(way);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chown_and_ownership_depth() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: chown_and_ownership_depth needs root");
        return;
    }
    for way in WAYS {
        let source = |tree: &Tree| {
            tree.file("a/b/c/file", "x", 0o644).link("a/b/link", "c").dir("a/empty", 0o750);
            settle(tree, 1_400_000_000);
            for (number, path) in ["a", "a/b", "a/b/c", "a/b/c/file", "a/empty"].iter().enumerate()
            {
                let number = number as u32 + 3000;
                chown(tree.path(path), Some(number), Some(number + 100)).unwrap();
            }
            lchown(tree.path("a/b/link"), Some(4000), Some(4001)).unwrap();
        };
        let target = |tree: &Tree| {
            tree.file("a/b/c/file", "x", 0o644).link("a/b/link", "c");
        };
        let desk = alike(way, source, target, &[], &Options::default()).await;
        desk.pair.assert_same(way);
    }
}
