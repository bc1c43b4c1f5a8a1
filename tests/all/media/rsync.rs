//! What users of rsync expect, with rsync itself as the oracle: it mirrors the same source into a
//! target of its own, and the two targets must be equal. `docs/rsync.md` tells where they are meant
//! to differ; what is asserted without the oracle is one of these places, or what rsync would only
//! say and not do.

mod data;
mod files_from;
mod hard_links;
mod links;
mod moving;
mod rights;
mod trees;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use transhume::media::{Listed, Options, Outcome};

use super::fixture::{Pair, WAYS, Way};
use super::tree::{self, Exact, Item, Tree};

/// Mirrors like `rsync -a` with `options`; how it ended.
fn rsync(options: &[&str], input: &[u8], source: &Path, target: &Path) -> i32 {
    use std::io::Write;
    let slash = |path: &Path| format!("{}/", path.display());
    let mut child = Command::new("/usr/bin/rsync")
        .args(["-a", "--numeric-ids"])
        .args(options)
        .args([slash(source), slash(target)])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("rsync is installed (tools/install-servers)");
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait().unwrap().code().unwrap()
}

/// A source, a target that we mirror to, and one that rsync mirrors to, which begins equal.
struct Desk {
    pair: Pair,
    expected: PathBuf,
}

impl Desk {
    fn new(source: impl Fn(&Tree), target: impl Fn(&Tree)) -> Self {
        let pair = Pair::near();
        let expected = pair.dir.path().join("expected");
        source(&pair.source());
        for root in [&pair.target, &expected] {
            let tree = Tree::at(root);
            target(&tree);
            for path in tree::read(root).into_keys() {
                tree.time(path, 1_400_000_000, 7);
            }
        }
        Desk { pair, expected }
    }

    fn rsync(&self, options: &[&str], input: &[u8]) -> i32 {
        rsync(options, input, &self.pair.source, &self.expected)
    }

    /// Whether our target is rsync's, but for the times that making it gave its root.
    fn assert_same(&self, way: Way, what: &str) {
        let (ours, theirs) = (comparable(&self.pair.target, way), comparable(&self.expected, way));
        for (path, item) in &theirs {
            let found = ours.get(path);
            let name = path.escape_ascii();
            assert_eq!(found, Some(item), "{way:?}, {what}: {name}");
        }
        let extra: Vec<_> = ours.keys().filter(|path| !theirs.contains_key(*path)).collect();
        assert!(extra.is_empty(), "{way:?}, {what}: only ours: {extra:?}");
    }
}

/// Mirrors both ways, with the options of each, and again, when there must be nothing to do.
async fn alike(
    way: Way,
    source: impl Fn(&Tree),
    target: impl Fn(&Tree),
    flags: &[&str],
    options: &Options,
) -> Desk {
    let desk = Desk::new(source, target);
    assert_eq!(desk.rsync(flags, b""), 0, "{flags:?}");
    desk.pair.sync_well(way, options).await;
    desk.assert_same(way, &format!("{flags:?}"));
    let again = desk.pair.sync_well(way, options).await;
    let stats = again.stats;
    let done = (stats.transferred_files, stats.changed_entries, stats.deleted_entries);
    assert_eq!(done, (0, 0, 0), "{way:?} {flags:?}");
    desk
}

/// Gives everything a time of its own: rsync compares whole seconds.
fn settle(tree: &Tree, secs: i64) {
    for (number, path) in tree::read(&tree.0).into_keys().enumerate() {
        tree.time(path, secs + number as i64, 5);
    }
}

fn comparable(root: &Path, way: Way) -> std::collections::BTreeMap<Vec<u8>, Item> {
    let mut items = tree::read(root);
    for (path, item) in &mut items {
        if way.exact() == Exact::Secs {
            item.nanos = 0;
        }
        if path.is_empty() {
            (item.secs, item.nanos) = (0, 0);
        }
    }
    items
}
