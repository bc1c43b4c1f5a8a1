//! Which entries come, which go, and what is told of them.

use std::fs;

use transhume::media::DeleteLimit;

use super::*;
use crate::media::fixture::{deleting, itemizing};
use crate::media::tree::noise;

fn everything(tree: &Tree) {
    crate::media::tree::fill(&tree.0);
    settle(tree, 1_500_000_000);
}

fn old(tree: &Tree) {
    tree.file("odd/old", "o", 0o644)
        .file("old/deep/er/file", "o", 0o600)
        .file("media/script", "other", 0o600)
        .file("empty", "no more", 0o644)
        .file("no/files/here/but/this", "x", 0o644)
        .dir("many/0007", 0o700)
        .link("many/0008", "/etc/passwd")
        .file("media/link", "was a file", 0o644);
}

#[tokio::test(flavor = "multi_thread")]
async fn hands_a_tree_is_copied_as_by_rsync() {
    for way in WAYS {
        let desk = alike(way, everything, |_| (), &[], &Options::default()).await;
        desk.pair.assert_same(way);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_and_delete_deep_leave_what_rsync_leaves() {
    for way in WAYS {
        let desk = alike(way, everything, old, &["--delete"], &deleting()).await;
        desk.pair.assert_same(way);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_delete_nothing_goes() {
    for way in WAYS {
        let kept = |tree: &Tree| {
            tree.file("odd/old", "o", 0o644).file("old/deep/er/file", "o", 0o600);
        };
        alike(way, everything, kept, &[], &Options::default()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn max_delete_stops_before_the_first_where_rsync_stops_at_the_limit() {
    for way in WAYS {
        let desk = Desk::new(everything, old);
        assert_eq!(desk.rsync(&["--delete", "--max-delete=2"], b""), 25);
        let options = Options { max_delete: Some(DeleteLimit::Count(2)), ..deleting() };
        let error = desk.pair.sync(way, &options).await.unwrap_err();
        assert!(error.to_string().contains("nothing was deleted"), "{error}");
        assert!(desk.pair.target.join("old/deep/er/file").exists());
    }
}

/// Directories that nothing is in, wide ones and long names.
#[tokio::test(flavor = "multi_thread")]
async fn dirs_and_longdir_and_deep_path() {
    for way in WAYS {
        let source = |tree: &Tree| {
            let long = "n".repeat(255);
            tree.dir("a/b/c", 0o750).dir("empty", 0o711).file(&long, "x", 0o644);
            tree.file(format!("{}/{long}", "d".repeat(255)), "x", 0o644);
            // More than 64 names, and nearly as long as a path may be.
            let deep: Vec<String> = (0..100).map(|number| format!("{number:030}")).collect();
            tree.file(format!("{}/leaf", deep.join("/")), "x", 0o644);
            for number in 0..1500 {
                tree.file(format!("wide/{number}"), "", 0o644);
            }
            settle(tree, 1_500_000_000);
        };
        let desk = alike(way, source, |_| (), &["--delete"], &deleting()).await;
        desk.pair.assert_same(way);
    }
}

/// A symlink on the target where the source has a directory is replaced, and not followed.
#[tokio::test(flavor = "multi_thread")]
async fn dest_symlinked_dir_is_replaced() {
    for way in WAYS {
        let source = |tree: &Tree| {
            tree.file("d/a", "x", 0o644).file("e/f/b", "x", 0o644);
            settle(tree, 1_500_000_000);
        };
        let target = |tree: &Tree| {
            tree.file("elsewhere/kept", "x", 0o644).link("d", "elsewhere").link("e", "/etc");
        };
        let desk = alike(way, source, target, &[], &Options::default()).await;
        assert!(!desk.pair.target.join("d").is_symlink());
        assert!(!desk.pair.target.join("elsewhere/a").exists());
    }
}

/// What makes a file be copied: size or time, or with --checksum content alone.
#[tokio::test(flavor = "multi_thread")]
async fn compare_by_size_and_time_or_by_content() {
    for way in WAYS {
        for checksum in [false, true] {
            let source = |tree: &Tree| {
                tree.file("same", "same", 0o644).file("hidden", "new!", 0o644);
                tree.file("size", "longer", 0o644)
                    .file("older", "x", 0o644)
                    .file("mode", "m", 0o600);
                settle(tree, 1_500_000_000);
            };
            let flags: &[&str] = if checksum { &["--checksum"] } else { &[] };
            let desk = Desk::new(source, |tree| {
                tree.file("same", "same", 0o644).file("hidden", "old!", 0o644);
                tree.file("size", "long", 0o644).file("older", "y", 0o644).file("mode", "m", 0o644);
            });
            // Equal in size and time, and newer than on the source.
            for root in [&desk.pair.target, &desk.expected] {
                let stat = fs::metadata(desk.pair.source.join("hidden")).unwrap();
                let file = fs::File::options().write(true).open(root.join("hidden")).unwrap();
                file.set_modified(stat.modified().unwrap()).unwrap();
                Tree(root.clone()).time("older", 1_600_000_000, 0);
            }
            assert_eq!(desk.rsync(flags, b""), 0);
            let options = Options { checksum, ..Options::default() };
            desk.pair.sync_well(way, &options).await;
            desk.assert_same(way, &format!("{checksum}"));
            let hidden = fs::read(desk.pair.target.join("hidden")).unwrap();
            assert_eq!(hidden, if checksum { b"new!" } else { b"old!" });
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn itemize_tells_what_rsync_tells() {
    for way in [Way::Local, Way::PushHelper, Way::PullHelper] {
        let source = |tree: &Tree| {
            tree.file("new/file", "x", 0o644)
                .file("content", "another", 0o644)
                .file("mode", "m", 0o600)
                .file("time", "t", 0o644)
                .link("link", "new")
                .link("changed", "new")
                .dir("dir-mode", 0o700)
                .file("becomes-file", "f", 0o644)
                .file("becomes-dir/in", "d", 0o644);
            settle(tree, 1_500_000_000);
        };
        let target = |tree: &Tree| {
            tree.file("content", "one", 0o644)
                .file("mode", "m", 0o644)
                .file("time", "t", 0o644)
                .link("changed", "old")
                .dir("dir-mode", 0o755)
                .link("becomes-file", "x")
                .file("becomes-dir", "d", 0o644)
                .file("gone/deep", "x", 0o644);
        };
        let desk = Desk::new(source, target);
        let told = Command::new("/usr/bin/rsync")
            .args(["-a", "-n", "-i", "--delete"])
            .args([
                format!("{}/", desk.pair.source.display()),
                format!("{}/", desk.expected.display()),
            ])
            .output()
            .unwrap();
        let mut theirs: Vec<String> =
            String::from_utf8(told.stdout).unwrap().lines().map(str::to_owned).collect();
        let (options, lines) = itemizing(Options { dry_run: true, ..deleting() });
        desk.pair.sync_well(way, &options).await;
        let mut ours = std::mem::take(&mut *lines.lock().unwrap());
        theirs.sort();
        ours.sort();
        assert_eq!(ours, theirs, "{way:?}");
    }
}

/// Patterns, each alone, over names that they should or should not meet.
#[tokio::test(flavor = "multi_thread")]
async fn exclude_and_wildmatch_as_in_rsync() {
    let patterns = [
        "*.tmp", "/top", "top", "d/", "/d/", "d/e", "/d/e", "e/*.c", "**/deep", "**/top", "**/d",
        "**/d/", "***/a.c", "**/e/*", "d/**", "d/***", "**.c", "[ab].c", "[!ab].c", "[^a-c]*",
        "?.c", "d?e", "\\*", "*", "*/", "/*/*", "a**c", "[[]x", "[]x]y", "*.[ch]", "**/e/**", "e/",
        "x**/",
    ];
    let source = |tree: &Tree| {
        let names = [
            "a.c",
            "b.c",
            "c.c",
            "a.h",
            "top",
            "d/top",
            "d/e/a.c",
            "d/e/deep",
            "d/f.tmp",
            "d/e/f/g",
            "*",
            "d/*",
            "[x",
            "xy",
            "]y",
            "e/deep/a.c",
            "e/x",
            "abc",
            "a/b/c",
            "xx/yy/z",
        ];
        for name in names {
            tree.file(name, "x", 0o644);
        }
        settle(tree, 1_500_000_000);
    };
    for pattern in patterns {
        for delete in [false, true] {
            let target = |tree: &Tree| {
                tree.file("old.tmp", "x", 0o644).file("d/old.c", "x", 0o644);
            };
            let exclude = format!("--exclude={pattern}");
            let flags: Vec<&str> =
                [exclude.as_str()].into_iter().chain(delete.then_some("--delete")).collect();
            let exclude = vec![pattern.as_bytes().to_vec()];
            let desk = Desk::new(source, target);
            assert_eq!(desk.rsync(&flags, b""), 0);
            let options = Options { delete, exclude, ..Options::default() };
            // With nothing left to copy, deleting is refused.
            if pattern != "*" || !delete {
                desk.pair.sync_well(Way::Local, &options).await;
                desk.assert_same(Way::Local, &format!("{flags:?}"));
            }
        }
    }
}

/// What is excluded protects the directory that it is in.
#[tokio::test(flavor = "multi_thread")]
async fn exclude_keeps_directories_that_hold_what_is_excluded() {
    for way in WAYS {
        let source = |tree: &Tree| {
            tree.file("a", "x", 0o644);
            settle(tree, 1_500_000_000);
        };
        let target = |tree: &Tree| {
            tree.file("gone/kept.tmp", "x", 0o644).file("gone/away", "x", 0o644);
        };
        let exclude = vec![b"*.tmp".to_vec()];
        let desk = Desk::new(source, target);
        assert_eq!(desk.rsync(&["--delete", "--exclude=*.tmp"], b""), 0);
        desk.pair.sync_well(way, &Options { exclude, ..deleting() }).await;
        assert!(desk.pair.target.join("gone/kept.tmp").exists());
        assert!(!desk.pair.target.join("gone/away").exists());
        assert!(desk.expected.join("gone/kept.tmp").exists());
    }
}

/// A delta must not be fooled by blocks that are all the same.
#[tokio::test(flavor = "multi_thread")]
async fn checksum_zero_blocks_and_hash_chains() {
    for way in [Way::PushHelper, Way::PullHelper] {
        let source = |tree: &Tree| {
            let mut dull = vec![0; 4 << 20];
            dull[1 << 20..][..9].copy_from_slice(b"different");
            tree.file("dull", dull, 0o644).file("noise", noise(3 << 20, 1), 0o644);
            settle(tree, 1_500_000_000);
        };
        let target = |tree: &Tree| {
            tree.file("dull", vec![0; 5 << 20], 0o644).file("noise", vec![0; 3 << 20], 0o644);
        };
        alike(way, source, target, &["--no-whole-file"], &Options::default()).await;
    }
}
