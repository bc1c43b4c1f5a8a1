//! `--files-from`: the same lists, and what comes of them.

use super::*;
use transhume::media::filter::Filter;

fn source(tree: &Tree) {
    tree.file("d/a", "a", 0o640)
        .file("d/e/b", "b", 0o600)
        .file("d/e/f/deep", "deep", 0o644)
        .file("d/t.tmp", "t", 0o644)
        .file("x/x", "x", 0o755)
        .file("x/y/z/a", "a", 0o644)
        .file("top", "top", 0o644)
        .file("-dash", "dash", 0o644)
        .file(&b"odd\xff"[..], "odd", 0o644)
        .link("link", "d")
        .link("d/to-file", "a")
        .dir("empty", 0o711)
        .dir("d", 0o710);
    for (number, path) in tree::read(&tree.0).into_keys().enumerate() {
        tree.time(path, 1_500_000_000 + number as i64, 5);
    }
}

fn old(tree: &Tree) {
    tree.file("d/old/deep", "o", 0o644)
        .file("d/old-file", "o", 0o644)
        .file("d/e/old", "o", 0o644)
        .file("x/old", "o", 0o644)
        .file("old-top", "o", 0o644);
}

fn listed(list: &[u8], nul: bool, recursive: bool) -> Options {
    Options {
        listed: Some(Listed::read(list, nul, recursive, &Filter::default()).unwrap()),
        ..Options::default()
    }
}

/// Lists of which everything is there.
const LISTS: [&[u8]; 14] = [
    b"d/a\n",
    b"d/e/b\nx/y/z/a\ntop\n",
    b"d\n",
    b"d/\n",
    b"d/e/\nd/t.tmp\n",
    b"empty\n-dash\nodd\xff\n",
    b"link\nd/to-file\n",
    b"/d/a\r\n\n# comment\n;x/x\nd//e/../t.tmp\n../../x/x\n",
    b"d/a\nd/a\nd\nd/a\n",
    b".\n",
    b"x/y/z/a\nx\nx/\n",
    b"x/y/..\n",
    b"top\nd/e/f/deep\nd/e/f\n",
    b"",
];

#[tokio::test(flavor = "multi_thread")]
async fn files_from_copies_what_is_listed_and_what_leads_to_it() {
    for way in WAYS {
        for list in LISTS {
            for recursive in [false, true] {
                let desk = Desk::new(source, old);
                let flags: &[&str] = if recursive { &["-r"] } else { &[] };
                assert_eq!(desk.rsync(&[&["--files-from=-"], flags].concat(), list), 0);
                let options = listed(list, false, recursive);
                let what = format!("{} {recursive}", list.escape_ascii());
                let first = desk.pair.sync_well(way, &options).await;
                desk.assert_same(way, &what);
                let second = desk.pair.sync_well(way, &options).await;
                let stats = &second.stats;
                assert_eq!((stats.transferred_files, stats.changed_entries), (0, 0), "{what}");
                assert_eq!(stats.source_files, first.stats.source_files, "{what}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_from_deletes_only_in_what_is_listed_with_its_content() {
    for way in WAYS {
        let lists: [(&[u8], bool); 8] = [
            (b"d/a\n", false),
            (b"d\n", false),
            (b"d/e/\n", false),
            (b"x/\n", false),
            (b"d/a\n", true),
            (b"d\n", true),
            (b"x/y\nd/e\n", true),
            (b".\n", true),
        ];
        for (list, recursive) in lists {
            let desk = Desk::new(source, old);
            let flags: &[&str] = if recursive { &["-r"] } else { &[] };
            assert_eq!(desk.rsync(&[&["--files-from=-", "--delete"], flags].concat(), list), 0);
            let options = Options { delete: true, ..listed(list, false, recursive) };
            desk.pair.sync_well(way, &options).await;
            desk.assert_same(way, &format!("{} {recursive}", list.escape_ascii()));
        }
    }
}

/// Where rsync would look into a directory that is on the target alone, although nobody asked for
/// what is in directories, we leave it.
#[tokio::test(flavor = "multi_thread")]
async fn files_from_without_recursion_leaves_a_full_directory_and_says_so() {
    for way in WAYS {
        let desk = Desk::new(source, old);
        let options = Options { delete: true, ..listed(b"d/\n", false, false) };
        let outcome = desk.pair.sync(way, &options).await.unwrap();
        assert_eq!(problems(&outcome), ["d/old"], "{way:?}");
        assert!(desk.pair.target.join("d/old/deep").exists());
        assert!(!desk.pair.target.join("d/old-file").exists());
    }
}

fn problems(outcome: &Outcome) -> Vec<String> {
    outcome.problems.iter().map(|problem| problem.path.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_from_tells_what_is_missing_and_copies_the_rest() {
    for way in WAYS {
        let desk = Desk::new(source, old);
        let list = b"nope\nd/old-file\nd/a\nno/such/dir\nno/such\nd/a/inside\n../../etc/passwd\n";
        assert_eq!(desk.rsync(&["--files-from=-", "--delete", "-r"], list), 23);
        let options = Options { delete: true, ..listed(list, false, true) };
        let outcome = desk.pair.sync(way, &options).await.unwrap();
        let mut found = problems(&outcome);
        found.sort();
        let missing = ["d/a/inside", "d/old-file", "etc/passwd", "no/such", "no/such/dir", "nope"];
        assert_eq!(found, missing, "{way:?}");
        desk.assert_same(way, "missing");
    }
}

/// rsync goes through a symlink that is on a listed path; here it might lead out of the source.
#[tokio::test(flavor = "multi_thread")]
async fn files_from_does_not_go_through_a_symlink() {
    for way in WAYS {
        let desk = Desk::new(source, |_| ());
        std::os::unix::fs::symlink("/etc", desk.pair.source.join("out")).unwrap();
        let options = listed(b"link/a\nlink/\nout/passwd\nout\n", false, true);
        let outcome = desk.pair.sync(way, &options).await.unwrap();
        assert_eq!(problems(&outcome), ["link/a", "out/passwd"], "{way:?}");
        assert!(outcome.problems[0].failure.text.contains("symlink"));
        assert!(desk.pair.target.join("link").is_symlink(), "it is on the list itself");
        assert!(desk.pair.target.join("out").is_symlink());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_from_applies_patterns_to_what_is_listed_and_not_to_what_leads_to_it() {
    for way in WAYS {
        for exclude in ["*.tmp", "y", "/d", "d/", "/d/", "x/", "[dt]*"] {
            let desk = Desk::new(source, old);
            let list = b"d/t.tmp\nd/a\nx/\ntop\n";
            assert_eq!(desk.rsync(&["--files-from=-", "--exclude", exclude], list), 0);
            let exclude = vec![exclude.as_bytes().to_vec()];
            let filter = Filter::new(&exclude).unwrap();
            let listed = Some(Listed::read(&list[..], false, false, &filter).unwrap());
            let options = Options { listed, exclude, ..Options::default() };
            desk.pair.sync_well(way, &options).await;
            desk.assert_same(way, &format!("{options:?}", options = options.exclude));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_from_ended_by_nul_may_hold_line_feeds() {
    for way in WAYS {
        let more = |tree: &Tree| {
            source(tree);
            tree.file("d/line\nfeed", "x", 0o644).time("d", 1_500_000_001, 0);
        };
        let desk = Desk::new(more, old);
        let list = b"d/line\nfeed\0# comment\0top";
        assert_eq!(desk.rsync(&["--files-from=-", "--from0"], list), 0);
        desk.pair.sync_well(way, &listed(list, true, false)).await;
        desk.assert_same(way, "from0");
    }
}

/// The list crosses the wire in pieces, and what is not on it costs nothing.
#[tokio::test(flavor = "multi_thread")]
async fn files_from_takes_a_long_list() {
    for way in WAYS {
        let desk = Desk::new(source, old);
        let mut list = Vec::new();
        for number in 0..60_000 {
            let dir = number / 100;
            list.extend_from_slice(
                format!("not/there/{dir}/a-name-that-is-long-{number}\n").as_bytes(),
            );
        }
        list.extend_from_slice(b"d/a\n");
        let outcome = desk.pair.sync(way, &listed(&list, false, false)).await.unwrap();
        assert_eq!(outcome.problems_total, 1001, "{way:?}");
        let last = &outcome.problems.last().unwrap();
        assert_eq!(outcome.stats.transferred_files, 1);
        assert!(last.path.to_string().starts_with("not/there"), "{last}");
        assert!(desk.pair.target.join("d/a").exists());
    }
}
