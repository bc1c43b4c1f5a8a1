//! What must not be deleted, overwritten or touched.

use std::os::unix::net::UnixListener;

use transhume::event::{Event, Recorder};
use transhume::media::{DeleteLimit, Endpoint, MediaError, Options, sync};

use super::fixture::{Pair, WAYS, Way, deleting, itemizing, leftovers};
use super::tree::{fill, read};

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_tells_what_the_real_one_does_and_touches_nothing() {
    for way in WAYS {
        let pair = Pair::near();
        fill(&pair.source);
        pair.target().file("extra/file", "x", 0o644).file("empty/not", "in the way", 0o644);
        let before = read(&pair.target);
        let (options, told) = itemizing(Options { dry_run: true, ..deleting() });
        let dry = pair.sync_well(way, &options).await;
        assert_eq!(read(&pair.target), before, "{way:?}");
        assert_eq!(dry.stats.transferred_files, 0);
        assert!(dry.stats.differing_files > 0, "a dry run tells how much differs");
        let (options, done) = itemizing(deleting());
        pair.sync_well(way, &options).await;
        pair.assert_same(way);
        let sorted = |lines: &std::sync::Mutex<Vec<String>>| {
            let mut lines = lines.lock().unwrap().clone();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&told), sorted(&done), "{way:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_does_not_even_make_the_target() {
    for way in WAYS {
        let pair = Pair::near();
        pair.source().file("a", "x", 0o644);
        let (options, told) = itemizing(Options { dry_run: true, ..Options::default() });
        pair.sync_well(way, &options).await;
        assert_eq!(told.lock().unwrap()[..], [">f+++++++++ a"]);
        assert!(!pair.target.exists(), "{way:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_delete_what_is_too_much_stays() {
    let pair = Pair::near();
    pair.source().file("a", "x", 0o644);
    pair.target().file("b", "y", 0o644).file("c/d", "z", 0o644);
    let outcome = pair.sync_well(Way::PushHelper, &Options::default()).await;
    assert_eq!(outcome.stats.deleted_entries, 0);
    assert!(pair.target.join("b").exists() && pair.target.join("c/d").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_source_deletes_nothing() {
    for way in WAYS {
        let pair = Pair::near();
        // The mount point is there, what was mounted is not.
        pair.source().dir("media_attachments/files", 0o755);
        pair.target().file("media_attachments/files/1.png", "x", 0o644);
        let error = pair.sync(way, &deleting()).await.unwrap_err();
        assert!(matches!(error, MediaError::SourceEmpty), "{way:?}: {error}");
        assert!(pair.target.join("media_attachments/files/1.png").exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_source_is_an_error_and_the_target_is_not_made() {
    for way in WAYS {
        let pair = Pair::near();
        std::fs::remove_dir(&pair.source).unwrap();
        let error = pair.sync(way, &deleting()).await.unwrap_err();
        assert!(matches!(error, MediaError::NoSource { .. }), "{way:?}: {error}");
        assert!(!pair.target.exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_or_target_that_is_no_directory_is_an_error() {
    for way in WAYS {
        let pair = Pair::near();
        std::fs::write(&pair.target, "a file").unwrap();
        let error = pair.sync(way, &Options::default()).await.unwrap_err();
        assert!(matches!(error, MediaError::Root { role: "target", .. }), "{way:?}: {error}");
        std::fs::remove_file(&pair.target).unwrap();
        std::fs::remove_dir(&pair.source).unwrap();
        std::fs::write(&pair.source, "a file").unwrap();
        let error = pair.sync(way, &Options::default()).await.unwrap_err();
        assert!(matches!(error, MediaError::Root { role: "source", .. }), "{way:?}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trees_that_lie_in_each_other_are_refused() {
    let pair = Pair::near();
    pair.source().file("inner/a", "x", 0o644);
    let inner = pair.source.join("inner");
    let fresh = pair.source.join("fresh");
    let cases = [
        (&pair.source, &inner),
        (&inner, &pair.source),
        (&pair.source, &pair.source),
        (&pair.source, &fresh),
    ];
    for (source, target) in cases {
        let (source, target) = (Endpoint::local(source), Endpoint::local(target));
        let error = sync(&source, &target, &deleting(), &Recorder::default()).await.unwrap_err();
        assert!(matches!(error, MediaError::Overlap { .. }), "{error}");
    }
    assert!(inner.join("a").exists() && !fresh.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn more_deletions_than_allowed_stop_before_the_first() {
    for way in WAYS {
        let pair = Pair::near();
        pair.source().file("keep", "x", 0o644);
        let target = pair.target();
        for number in 0..10 {
            target.file(format!("old/{number}"), "x", 0o644);
        }
        // 10 files and a directory go; the target holds 2 directories and 10 files.
        for limit in [DeleteLimit::Count(10), DeleteLimit::Percent(50)] {
            let options = Options { max_delete: Some(limit), ..deleting() };
            let error = pair.sync(way, &options).await.unwrap_err();
            assert!(matches!(error, MediaError::TooManyDeletions { planned: 11, .. }), "{error}");
            assert!(pair.target.join("old/0").exists());
        }
        let options = Options { max_delete: Some(DeleteLimit::Count(11)), ..deleting() };
        let outcome = pair.sync_well(way, &options).await;
        assert_eq!(outcome.stats.deleted_entries, 11);
        pair.assert_same(way);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_excluded_is_neither_copied_nor_deleted() {
    for way in WAYS {
        let pair = Pair::near();
        pair.source()
            .file("cache/a", "x", 0o644)
            .file("local/cache/b", "x", 0o644)
            .file("local/c.tmp", "x", 0o644)
            .file("local/d", "x", 0o644);
        pair.target()
            .file("cache/target-only", "x", 0o644)
            .file("gone/e.tmp", "x", 0o644)
            .file("gone/f", "x", 0o644);
        let exclude = vec![b"/cache".to_vec(), b"*.tmp".to_vec()];
        pair.sync_well(way, &Options { exclude, ..deleting() }).await;
        let paths: Vec<String> =
            read(&pair.target).into_keys().map(|path| String::from_utf8(path).unwrap()).collect();
        assert_eq!(
            paths,
            [
                "",
                "cache",
                "cache/target-only",
                "gone",
                "gone/e.tmp",
                "local",
                "local/cache",
                "local/cache/b",
                "local/d"
            ],
            "{way:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_directory_in_the_way_of_a_file_needs_delete() {
    for way in WAYS {
        let pair = Pair::near();
        pair.source().file("a", "file", 0o644).file("b", "file", 0o644);
        pair.target().file("a/inside", "x", 0o644).dir("b", 0o755);
        let outcome = pair.sync(way, &Options::default()).await.unwrap();
        let problems: Vec<String> = outcome.problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            ["a: a directory with something in it is in the way; --delete removes it"],
            "{way:?}"
        );
        assert!(pair.target.join("a/inside").exists() && pair.target.join("b").is_file());
        pair.sync_well(way, &deleting()).await;
        pair.assert_same(way);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn special_files_are_listed_and_left_alone_on_both_sides() {
    for way in WAYS {
        let pair = Pair::near();
        pair.source().file("a", "x", 0o644);
        let _socket = UnixListener::bind(pair.source.join("socket")).unwrap();
        pair.target().file("socket", "something of that name", 0o644);
        let outcome = pair.sync(way, &deleting()).await.unwrap();
        let problems: Vec<String> = outcome.problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems, ["socket: neither file nor symlink: skipped"], "{way:?}");
        assert!(pair.target.join("socket").exists() && pair.target.join("a").exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leftovers_of_a_killed_run_are_swept_and_lookalikes_are_not() {
    for way in WAYS {
        let pair = Pair::near();
        pair.source().file("a/b", "x", 0o644).file(".transhume-notes", "mine", 0o644);
        pair.source().file("a/.transhume-0123456789abcdef-0.2", "never copied", 0o644);
        pair.target().file("a/.transhume-0123456789abcdef-0.1", "half a fi", 0o600);
        pair.sync_well(way, &Options::default()).await;
        assert_eq!(leftovers(&pair.target), [".transhume-notes"], "{way:?}");
        let again = pair.sync_well(way, &Options::default()).await;
        assert_eq!(again.stats.changed_entries, 0, "{way:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_helper_that_does_not_run_is_replaced_by_sftp_with_a_note() {
    use transhume::config::Transport;
    use transhume::host::{Command, RunAs};
    let pair = Pair::over_ssh().await;
    pair.source().file("a", "x", 0o644);
    let broken = Command::new(["/no/such/helper"]);
    let root = super::fixture::bytes(&pair.target);
    let end = |transport, helper| {
        Endpoint::remote(pair.host.clone(), root.clone(), transport, helper, RunAs::Login, 2)
    };
    let target = end(Transport::Auto, Some(broken.clone())).unwrap();
    let recorder = Recorder::default();
    let source = Endpoint::local(&pair.source);
    sync(&source, &target, &Options::default(), &recorder).await.unwrap();
    pair.assert_same(Way::PushSftp);
    let notes: Vec<String> = recorder
        .events()
        .into_iter()
        .filter_map(|event| if let Event::Note { text } = event { Some(text) } else { None })
        .collect();
    assert!(
        notes[0].contains("files go by SFTP") && notes[0].contains("exit code 127"),
        "{notes:?}"
    );
    // Whoever asked for the helper gets no other.
    let target = end(Transport::Helper, Some(broken)).unwrap();
    assert!(sync(&source, &target, &Options::default(), &recorder).await.is_err());
    assert!(matches!(end(Transport::Helper, None), Err(MediaError::NoHelper { .. })));
}
