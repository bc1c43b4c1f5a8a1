//! Symlinks: copied as they are, wherever they lead, and never followed.

use super::*;
use crate::media::fixture::deleting;

fn source(tree: &Tree) {
    tree.file("d/a", "x", 0o644)
        .link("within", "d/a")
        .link("to-dir", "d")
        .link("absolute", "/etc/passwd")
        .link("up", "../../outside")
        .link("d/up-and-in", "../d/a")
        .link("dangling", "no/such/thing")
        .link("itself", "itself")
        .link("deep/long", "x/".repeat(1000));
    settle(tree, 1_500_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn links_and_safe_and_unsafe_links_are_copied_as_text() {
    for way in WAYS {
        let target = |tree: &Tree| {
            tree.link("within", "elsewhere").file("absolute", "a file", 0o644).dir("up", 0o755);
        };
        let desk = alike(way, source, target, &["--delete"], &deleting()).await;
        desk.pair.assert_same(way);
    }
}

/// A symlink on the target under a name that the source does not have is removed, not what it
/// leads to.
#[tokio::test(flavor = "multi_thread")]
async fn symlinks_of_the_target_are_never_written_through() {
    for way in WAYS {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("kept"), "kept").unwrap();
        let to = outside.path().to_str().unwrap().to_owned();
        let target = |tree: &Tree| {
            tree.link("d", &to).link("extra", &to).link("deep", &to);
            tree.link("within", format!("{to}/kept"));
        };
        let desk = alike(way, source, target, &["--delete"], &deleting()).await;
        desk.pair.assert_same(way);
        let names: Vec<_> = std::fs::read_dir(outside.path()).unwrap().collect();
        assert_eq!(names.len(), 1, "{way:?}");
        assert_eq!(std::fs::read(outside.path().join("kept")).unwrap(), b"kept");
    }
}
