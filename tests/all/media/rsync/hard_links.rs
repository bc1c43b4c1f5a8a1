//! `-H`: which names are of one file.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;
use crate::media::fixture::{deleting, itemizing};
use crate::media::tree::noise;

/// Out of an SFTP server they cannot be had.
const TELLING: [Way; 4] = [Way::Local, Way::PushHelper, Way::PullHelper, Way::PushSftp];

fn keeping(options: Options) -> Options {
    Options { hard_links: true, ..options }
}

fn link(tree: &Tree, first: &str, name: &str) {
    fs::create_dir_all(tree.path(name).parent().unwrap()).unwrap();
    fs::hard_link(tree.path(first), tree.path(name)).unwrap();
}

/// The names of each file that has several.
fn groups(root: &Path) -> Vec<Vec<String>> {
    let mut all: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for (path, item) in tree::read(root) {
        let path = String::from_utf8(path).unwrap();
        if item.kind == 'f' {
            all.entry(fs::metadata(root.join(&path)).unwrap().ino()).or_default().push(path);
        }
    }
    let mut groups: Vec<_> = all.into_values().filter(|names| names.len() > 1).collect();
    groups.sort();
    groups
}

fn settle_dirs(tree: &Tree) {
    for path in tree::read(&tree.0).into_keys() {
        if tree.path(&path).is_dir() {
            tree.time(path, 1_500_000_000, 5);
        }
    }
}

fn source(tree: &Tree) {
    tree.file("a", "one", 0o640).file("d/b", noise(300_000, 1), 0o644).file("single", "x", 0o644);
    link(tree, "a", "a2");
    link(tree, "a", "d/e/a3");
    link(tree, "d/b", "z/b2");
    link(tree, "single", "../outside");
    settle_dirs(tree);
}

async fn nothing_to_do(desk: &Desk, way: Way) {
    let (options, lines) = itemizing(keeping(deleting()));
    let settled = desk.pair.sync_well(way, &options).await;
    let stats = &settled.stats;
    assert_eq!((stats.transferred_files, stats.changed_entries), (0, 0), "{way:?}");
    assert_eq!(lines.lock().unwrap()[..], [""; 0], "{way:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hardlinks_are_kept_and_a_second_pass_sees_them_unchanged() {
    for way in TELLING {
        let desk = Desk::new(source, |_| ());
        assert_eq!(desk.rsync(&["-H"], b""), 0);
        let (options, lines) = itemizing(keeping(Options::default()));
        let first = desk.pair.sync_well(way, &options).await;
        desk.assert_same(way, "first");
        assert_eq!(groups(&desk.pair.target), groups(&desk.expected), "{way:?}");
        assert_eq!(groups(&desk.pair.target), [&["a", "a2", "d/e/a3"][..], &["d/b", "z/b2"]]);
        assert_eq!(first.stats.transferred_files, 3);
        let lines = std::mem::take(&mut *lines.lock().unwrap());
        assert!(lines.iter().any(|line| line == "hf+++++++++ d/b => z/b2"), "{lines:?}");
        nothing_to_do(&desk, way).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hardlinks_without_the_option_become_files() {
    let desk = Desk::new(source, |_| ());
    desk.pair.sync_well(Way::PushHelper, &Options::default()).await;
    assert_eq!(groups(&desk.pair.target), [[""; 0]; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn hardlinks_follow_what_becomes_of_them_on_the_source() {
    for way in TELLING {
        let desk = Desk::new(source, |_| ());
        let tree = desk.pair.source();
        let options = keeping(deleting());
        desk.pair.sync_well(way, &options).await;

        // All names get another content, mode or time.
        fs::write(tree.path("a"), "another").unwrap();
        tree.time("a", 1_600_000_000, 0);
        fs::set_permissions(tree.path("d/b"), fs::Permissions::from_mode(0o600)).unwrap();
        desk.pair.sync_well(way, &options).await;
        assert_eq!(groups(&desk.pair.target), groups(&tree.0), "{way:?}");
        desk.pair.assert_same(way);
        nothing_to_do(&desk, way).await;

        // One name is parted from the others, equal in all else; another is linked.
        let time = |name: &str| fs::metadata(tree.path(name)).unwrap().modified().unwrap();
        let before = time("a2");
        fs::remove_file(tree.path("a2")).unwrap();
        tree.file("a2", "another", 0o640);
        fs::File::options()
            .write(true)
            .open(tree.path("a2"))
            .unwrap()
            .set_modified(before)
            .unwrap();
        fs::remove_file(tree.path("single")).unwrap();
        link(&tree, "d/b", "single");
        settle_dirs(&tree);
        desk.pair.sync_well(way, &options).await;
        desk.pair.assert_same(way);
        let expected = [&["a", "d/e/a3"][..], &["d/b", "single", "z/b2"]];
        assert_eq!(groups(&desk.pair.target), expected, "{way:?}");
        nothing_to_do(&desk, way).await;

        // The first name goes, and with it the one that all others are links to.
        fs::remove_file(tree.path("a")).unwrap();
        fs::remove_dir_all(tree.path("d/e")).unwrap();
        fs::remove_file(tree.path("d/b")).unwrap();
        settle_dirs(&tree);
        desk.pair.sync_well(way, &options).await;
        desk.pair.assert_same(way);
        assert_eq!(groups(&desk.pair.target), [["single", "z/b2"]], "{way:?}");
        nothing_to_do(&desk, way).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hardlinks_take_the_place_of_whatever_is_there() {
    for way in TELLING {
        let desk = Desk::new(source, |tree| {
            tree.file("a2", "a file", 0o600).link("z/b2", "elsewhere").dir("d/e/a3", 0o755);
            tree.file("x", "linked", 0o644);
            link(tree, "x", "a");
            link(tree, "x", "d/b");
        });
        desk.pair.sync_well(way, &keeping(deleting())).await;
        desk.pair.assert_same(way);
        assert_eq!(groups(&desk.pair.target), groups(&desk.pair.source), "{way:?}");
        nothing_to_do(&desk, way).await;
    }
}

/// A directory that nothing can be made in once it has its mode.
#[tokio::test(flavor = "multi_thread")]
async fn hardlinks_are_made_in_closed_directories() {
    for way in TELLING {
        let closed = |tree: &Tree| {
            tree.file("a", "x", 0o644).file("closed/b", "y", 0o644);
            link(tree, "a", "closed/a");
            tree.time("closed", 1_500_000_000, 5).dir("closed", 0o555);
        };
        let desk = Desk::new(closed, |_| ());
        desk.pair.sync_well(way, &keeping(Options::default())).await;
        desk.pair.assert_same(way);
        assert_eq!(groups(&desk.pair.target), [["a", "closed/a"]]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hardlinks_deep_and_many_of_one_file() {
    for way in TELLING {
        let many = |tree: &Tree| {
            tree.file("0/first", noise(2000, 3), 0o644);
            for number in 0..400 {
                link(tree, "0/first", &format!("{}/{}/{number}", number % 7, number % 13));
            }
            settle_dirs(tree);
        };
        let desk = Desk::new(many, |_| ());
        assert_eq!(desk.rsync(&["-H"], b""), 0);
        let outcome = desk.pair.sync_well(way, &keeping(Options::default())).await;
        desk.assert_same(way, "many");
        assert_eq!(groups(&desk.pair.target), groups(&desk.expected));
        assert_eq!((groups(&desk.pair.target)[0].len(), outcome.stats.transferred_files), (401, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hardlinks_among_listed_names() {
    use transhume::media::filter::Filter;
    for way in TELLING {
        let desk = Desk::new(source, |_| ());
        let list = b"a2\nd/e/a3\nd/\nz/b2\n";
        assert_eq!(desk.rsync(&["-H", "--files-from=-"], list), 0);
        let listed = Listed::read(&list[..], false, false, &Filter::default()).unwrap();
        let options = keeping(Options { listed: Some(listed), ..Options::default() });
        desk.pair.sync_well(way, &options).await;
        desk.assert_same(way, "listed");
        assert_eq!(groups(&desk.pair.target), [["a2", "d/e/a3"], ["d/b", "z/b2"]], "{way:?}");
        let again = desk.pair.sync_well(way, &options).await;
        assert_eq!((again.stats.transferred_files, again.stats.changed_entries), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hardlinks_out_of_an_sftp_server_are_refused() {
    let desk = Desk::new(source, |_| ());
    let error = desk.pair.sync(Way::PullSftp, &keeping(Options::default())).await.unwrap_err();
    assert!(error.to_string().contains("does not tell which files"), "{error}");
}
