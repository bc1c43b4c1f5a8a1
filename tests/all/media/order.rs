//! Parts of a tree, and what comes first.

use transhume::media::Options;
use transhume::migration::steps::media::Class;

use super::fixture::{Pair, WAYS, deleting, itemizing};
use super::tree::Tree;

/// Media as Mastodon lays them out, some older, some newer.
fn fill(tree: &Tree) {
    for (id, name) in [("109/001", "old"), ("113/982", "new"), ("113/002", "newer")] {
        tree.file(format!("media_attachments/files/{id}/original/{name}.png"), name, 0o644);
        tree.file(format!("cache/media_attachments/files/{id}/original/{name}.png"), name, 0o644);
    }
    tree.file("accounts/avatars/000/001/original/a.png", "avatar", 0o644);
    tree.file("site_uploads/files/000/001/original/logo.png", "logo", 0o644);
    // Neither is in `cache/`.
    tree.file("cached", "a file", 0o644).file("x/cache/file", "elsewhere", 0o644);
}

fn of_class(class: Class, options: Options) -> Options {
    Options { walks: class.walks(false), ..options }
}

#[tokio::test]
async fn local_media_come_before_the_cache_and_the_latest_first() {
    for way in WAYS {
        let pair = Pair::near();
        fill(&pair.source());
        let (options, lines) = itemizing(of_class(Class::All, deleting()));
        let outcome = pair.sync_well(way, &options).await;
        pair.assert_same(way);
        let lines = std::mem::take(&mut *lines.lock().unwrap());
        let files: Vec<&str> =
            lines.iter().filter_map(|line| line.strip_prefix(">f+++++++++ ")).collect();
        let attachments = "media_attachments/files";
        let expected = [
            "cached",
            "x/cache/file",
            "site_uploads/files/000/001/original/logo.png",
            &format!("{attachments}/113/982/original/new.png"),
            &format!("{attachments}/113/002/original/newer.png"),
            &format!("{attachments}/109/001/original/old.png"),
            "accounts/avatars/000/001/original/a.png",
            &format!("cache/{attachments}/113/982/original/new.png"),
            &format!("cache/{attachments}/113/002/original/newer.png"),
            &format!("cache/{attachments}/109/001/original/old.png"),
        ];
        assert_eq!(files, expected, "{way:?}");
        // Together the two are the whole tree.
        let whole = Options { dry_run: true, ..Options::default() };
        let stats = pair.sync_well(way, &whole).await.stats;
        assert_eq!(stats.differing(), 0, "{way:?}");
        assert_eq!(
            (outcome.stats.source_files, outcome.stats.source_dirs),
            (stats.source_files, stats.source_dirs),
            "{way:?}"
        );
        let again = pair.sync_well(way, &of_class(Class::All, deleting())).await.stats;
        assert_eq!((again.transferred_files, again.changed_entries), (0, 0), "{way:?}");
    }
}

#[tokio::test]
async fn what_is_of_the_other_class_is_neither_copied_nor_deleted() {
    for way in WAYS {
        let pair = Pair::near_remembering();
        fill(&pair.source());
        let target = pair.target();
        target.file("cache/gone.png", "of the cache", 0o644);
        target.file("accounts/gone.png", "local", 0o644);
        pair.sync_well(way, &of_class(Class::Local, deleting())).await;
        let there = |path: &str| target.path(path).exists();
        assert!(there("accounts/avatars/000/001/original/a.png") && there("cached"), "{way:?}");
        assert!(!there("accounts/gone.png") && there("cache/gone.png"), "{way:?}");
        assert!(!there("cache/media_attachments"), "{way:?}");
        target.file("accounts/gone.png", "local", 0o644);
        pair.sync_well(way, &of_class(Class::Cache, deleting())).await;
        assert!(there("cache/media_attachments/files/109/001/original/old.png"), "{way:?}");
        assert!(!there("cache/gone.png") && there("accounts/gone.png"), "{way:?}");
        pair.sync_well(way, &of_class(Class::All, deleting())).await;
        pair.assert_same(way);
    }
}

#[tokio::test]
async fn a_source_that_lost_its_cache_alone_is_no_empty_source() {
    let pair = Pair::near();
    fill(&pair.source());
    let way = super::fixture::Way::PushHelper;
    let options = of_class(Class::All, deleting());
    pair.sync_well(way, &options).await;
    std::fs::remove_dir_all(pair.source().path("cache")).unwrap();
    pair.sync_well(way, &options).await;
    pair.assert_same(way);
}
