//! The directory, the machine, the space and the media.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::Duration;

use transhume::error::Advice as _;
use transhume::host::RunAs;
use transhume::host::fake::{Reply, Scripted};
use transhume::host::local::Local;
use transhume::instance::layout::{
    ErrorPage, Inodes, LayoutError, MediaSize, Obstacle, look, machine, media_root, media_size,
    space,
};
use transhume::secret::Secret;

use super::{Tree, me, set_mode};

/// Long enough for any machine.
const LONG: Duration = Duration::from_secs(60);

fn git(tree: &Tree, words: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=T", "-c", "user.email=t@example.com", "-C"])
        .arg(tree.root())
        .args(words)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_mastodon_is_described() {
    let tree = Tree::mastodon();
    tree.write("public/assets/500.html", "sorry");
    symlink("assets/500.html", tree.root().join("public/500.html")).unwrap();
    git(&tree, &["init", "-q"]);
    git(&tree, &["add", "."]);
    git(&tree, &["commit", "-q", "-m", "One"]);
    tree.write(".nvmrc", "22\n");
    tree.write("untracked", "");
    let index = std::fs::read(tree.path(".git/index")).unwrap();

    let layout = look(&Local::new(), &tree.side()).await.unwrap();

    assert_eq!(layout.version.unwrap().to_string(), "4.6.5");
    let commit = layout.commit.unwrap();
    assert_eq!((commit.id, commit.modified), (git(&tree, &["rev-parse", "HEAD"]), 1));
    assert_eq!((layout.owner, layout.mode), (me(), 0o755));
    assert_eq!((layout.ruby.as_deref(), layout.node.as_deref()), (Some("4.0.5"), Some("22")));
    assert_eq!(layout.error_page, ErrorPage::Symlink { target: "assets/500.html".into() });
    assert_eq!(std::fs::read(tree.path(".git/index")).unwrap(), index, "looking writes nothing");
}

#[tokio::test]
async fn a_mastodon_without_git_and_behind_a_symlink_is_described_too() {
    let tree = Tree::mastodon();
    tree.write("public/500.html", "sorry");
    let link = tree.dir.path().join("it's a link");
    symlink(tree.root(), &link).unwrap();
    let mut side = tree.side();
    side.root = link.to_str().unwrap().into();
    let layout = look(&Local::new(), &side).await.unwrap();
    assert_eq!((layout.commit, layout.error_page), (None, ErrorPage::File));
    assert_eq!(layout.root, tree.root().canonicalize().unwrap().to_str().unwrap());
}

#[tokio::test]
async fn a_directory_that_the_web_server_cannot_enter_is_named() {
    let tree = Tree::mastodon();
    set_mode(&tree.root(), 0o750);
    let layout = look(&Local::new(), &tree.side()).await.unwrap();
    if layout.web_user.is_some() {
        assert_eq!(layout.closed_to_web, [tree.path("").trim_end_matches('/')]);
    }
    set_mode(&tree.root(), 0o751);
    assert_eq!(look(&Local::new(), &tree.side()).await.unwrap().closed_to_web, [""; 0]);
}

#[tokio::test]
async fn what_is_no_mastodon_is_told_with_the_remedy() {
    let empty = Tree::new();
    let error = look(&Local::new(), &empty.side()).await.unwrap_err();
    assert!(matches!(error, LayoutError::NotMastodon { .. }), "{error}");
    assert!(error.hint().unwrap().contains("`root` in transhume.toml"));

    let mut side = empty.side();
    side.root = empty.path("no/such");
    let error = look(&Local::new(), &side).await.unwrap_err();
    assert_eq!(error.to_string(), format!("there is no directory {} on this server", side.root));

    for stderr in ["runuser: user ghost does not exist", "sudo: unknown user ghost"] {
        let host = Scripted::new("old").on("", [Reply::fail(1, stderr)]);
        let error = look(&host, &empty.side()).await.unwrap_err();
        assert!(matches!(error, LayoutError::NoUser { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_root_behind_a_closed_door_is_not_called_missing() {
    if me() != "root" {
        return;
    }
    let tree = Tree::mastodon();
    set_mode(tree.dir.path(), 0o700);
    let mut side = tree.side();
    side.user = "nobody".into();
    let error = look(&Local::new(), &side).await.unwrap_err();
    assert!(matches!(error, LayoutError::Closed { .. }), "{error}");
    assert!(error.hint().unwrap().contains("namei -l"));
}

#[tokio::test]
async fn this_machine_is_described() {
    let facts = machine(&Local::new()).await.unwrap();
    assert_eq!((facts.login, facts.arch), (me(), std::env::consts::ARCH.to_owned()));
    assert!(facts.cores >= 1 && facts.memory_bytes > 1 << 27 && !facts.hostname.is_empty());
    assert!(facts.can_be_root || me() != "root");
    assert_eq!(facts.clock.surely_off_secs(&facts.clock), 0.0);
    assert!(facts.clock.ahead_secs.abs() < 30.0, "{:?}", facts.clock);
}

#[tokio::test]
async fn room_is_told_for_a_path_that_is_yet_to_be_made() {
    let tree = Tree::new();
    let asked = tree.path("not/yet/there");
    let facts = space(&Local::new(), &RunAs::Login, &asked).await.unwrap();
    assert_eq!(facts.asked, tree.root().to_str().unwrap());
    assert!(facts.free_bytes > 0 && facts.free_bytes <= facts.total_bytes);
    assert!(facts.mounted_on.starts_with('/'));
}

#[tokio::test]
async fn a_file_system_without_a_fixed_number_of_inodes_tells_none() {
    let df = |row: &str| {
        let head = "     1B-blocks         Avail Inodes IFree Type  Mounted on\n";
        Scripted::new("old").on("df -B1", [Reply::ok(format!("asked=/x\0df={head}{row}\0"))])
    };
    let btrfs = df("1099511627776 549755813888      -     - btrfs /my data");
    let facts = space(&btrfs, &RunAs::Login, "/x").await.unwrap();
    assert_eq!((facts.inodes, facts.mounted_on.as_str()), (None, "/my data"));
    let zero = df("100 50 0 0 fuse /");
    assert_eq!(space(&zero, &RunAs::Login, "/x").await.unwrap().inodes, None);
    let ext4 = df("100 50 1000 7 ext4 /");
    let inodes = space(&ext4, &RunAs::Login, "/x").await.unwrap().inodes;
    assert_eq!(inodes, Some(Inodes { total: 1000, free: 7 }));
    assert!(space(&df("nonsense"), &RunAs::Login, "/x").await.is_err());
}

#[tokio::test]
async fn the_media_root_is_followed_to_where_it_is() {
    let (tree, host, none) = (Tree::mastodon(), Local::new(), BTreeMap::new());
    let root = tree.root().to_str().unwrap().to_owned();
    let missing = media_root(&host, &RunAs::Login, &none, &root).await.unwrap();
    assert_eq!((missing.path, missing.there), (tree.path("public/system"), None));
    assert_eq!(missing.obstacle, None);

    let disk = tree.dir.path().join("disk");
    symlink(&disk, tree.path("public/system")).unwrap();
    let found = media_root(&host, &RunAs::Login, &none, &root).await.unwrap();
    let target = disk.to_str().unwrap().to_owned();
    assert_eq!((found.there, found.obstacle), (None, Some(Obstacle::Dangling { target })));
    std::fs::write(&disk, "").unwrap();
    let found = media_root(&host, &RunAs::Login, &none, &root).await.unwrap();
    assert_eq!((found.there, found.obstacle), (None, Some(Obstacle::NotDirectory)));
    std::fs::remove_file(&disk).unwrap();
    std::fs::remove_file(tree.path("public/system")).unwrap();

    std::fs::create_dir(&disk).unwrap();
    set_mode(&disk, 0o710);
    symlink(&disk, tree.path("public/system")).unwrap();
    let found = media_root(&host, &RunAs::Login, &none, &root).await.unwrap().there.unwrap();
    assert_eq!(found.real, disk.canonicalize().unwrap().to_str().unwrap());
    assert!(found.through_symlink && !found.mounted);
    assert_eq!((found.empty, found.owner, found.mode), (Some(true), me(), 0o710));

    std::fs::write(disk.join("file"), "").unwrap();
    let told = Secret::new(format!("{}/../disk", ":rails_root"));
    let variables = BTreeMap::from([("PAPERCLIP_ROOT_PATH".to_owned(), told)]);
    let found = media_root(&host, &RunAs::Login, &variables, &root).await.unwrap().there.unwrap();
    assert_eq!(found.empty, Some(false));
}

#[tokio::test]
async fn a_mounted_media_root_is_recognised() {
    let proc = BTreeMap::from([("PAPERCLIP_ROOT_PATH".to_owned(), Secret::new("/proc"))]);
    let found = media_root(&Local::new(), &RunAs::Login, &proc, "/srv").await.unwrap();
    let there = found.there.unwrap();
    assert!(there.mounted && !there.through_symlink, "{there:?}");
}

#[tokio::test]
async fn media_are_counted() {
    let tree = Tree::new();
    tree.write("a/b/odd\nname", "12345");
    tree.write("a/big", &"x".repeat(10_000));
    symlink("big", tree.path("a/link")).unwrap();
    let link = tree.dir.path().join("link");
    symlink(tree.root(), &link).unwrap();
    let link = link.to_str().unwrap();
    let size = media_size(&Local::new(), &RunAs::Login, link, LONG).await.unwrap();
    assert_eq!(size, MediaSize { files: 2, dirs: 2, bytes: 10_005, unreadable: 0, complete: true });
}

#[tokio::test]
async fn what_cannot_be_read_is_counted_and_the_rest_too() {
    if me() != "root" {
        return;
    }
    let tree = Tree::new();
    tree.write("open/file", "123");
    tree.write("closed/file", "123");
    set_mode(&tree.root().join("closed"), 0o700);
    let nobody = RunAs::User("nobody".into());
    let root = tree.path("");
    let size = media_size(&Local::new(), &nobody, &root, LONG).await.unwrap();
    assert_eq!(size, MediaSize { files: 1, dirs: 2, bytes: 3, unreadable: 1, complete: true });
}

#[tokio::test]
async fn a_count_that_takes_too_long_gives_what_it_saw() {
    let size = media_size(&Local::new(), &RunAs::Login, "/", Duration::from_millis(1)).await;
    assert!(!size.unwrap().complete);
}
