use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::super::gather;
use super::*;
use crate::host::fake::{Fault, Faulty};
use crate::host::local::Local;

/// Everything below `dir`: kind, mode, content.
fn tree(dir: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(dir) = waiting.pop() {
        for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            let stat = path.symlink_metadata().unwrap();
            let text = if stat.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else if stat.is_dir() {
                waiting.push(path.clone());
                "directory".into()
            } else {
                format!(
                    "{:o} {}",
                    stat.permissions().mode() & 0o7777,
                    fs::read_to_string(&path).unwrap()
                )
            };
            found.insert(path.to_string_lossy().into_owned(), text);
        }
    }
    found
}

fn write(path: &Path, mode: u32, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// What a source would give: a site, a certificate behind a link, its key, readable by a group.
async fn files_for(target: &Path) -> Vec<ConfigFile> {
    let source = tempfile::tempdir().unwrap();
    write(&source.path().join("nginx/site"), 0o644, "server {}\n");
    write(&source.path().join("archive/cert1.pem"), 0o644, "certificate");
    let key = "-----BEGIN PRIVATE KEY-----\nx";
    write(&source.path().join("archive/key1.pem"), 0o640, key);
    fs::create_dir(source.path().join("live")).unwrap();
    symlink("../archive/cert1.pem", source.path().join("live/cert.pem")).unwrap();
    symlink("../archive/key1.pem", source.path().join("live/key.pem")).unwrap();
    let paths = ["nginx/site", "live", "none"].map(|path| text(&source.path().join(path)));
    let gathered = gather(&Local::new(), &paths).await.unwrap();
    assert_eq!(gathered.missing, [paths[2].clone()]);
    let base = text(source.path());
    let moved =
        |file: ConfigFile| ConfigFile { path: file.path.replace(&base, &text(target)), ..file };
    let mut files: Vec<ConfigFile> = gathered.files.into_iter().map(moved).collect();
    files.sort_by(|left, right| left.path.cmp(&right.path));
    files
}

/// A target on which one of them is already, otherwise, and one as a link.
async fn target() -> (tempfile::TempDir, Vec<ConfigFile>, String) {
    let dir = tempfile::tempdir().unwrap();
    let etc = dir.path().join("etc");
    write(&etc.join("nginx/site"), 0o600, "the distribution's\n");
    write(&etc.join("live/old.pem"), 0o644, "old");
    symlink("old.pem", etc.join("live/cert.pem")).unwrap();
    let files = files_for(&etc).await;
    let keep = text(&dir.path().join("keep"));
    (dir, files, keep)
}

#[tokio::test]
async fn files_arrive_with_their_modes_keys_closed_and_go_again_without_a_trace() {
    let (dir, files, keep) = target().await;
    let etc = dir.path().join("etc");
    let (before, beside) = (tree(dir.path()), tree(&etc).len());
    for _ in 0..2 {
        let installed = install(&Local::new(), &files, &keep).await.unwrap();
        let changes: Vec<FileChange> = installed.files.iter().map(|file| file.change).collect();
        assert_eq!(changes, [FileChange::Replaced, FileChange::Created, FileChange::Replaced]);
        let now = tree(&etc);
        assert_eq!(now[&text(&etc.join("live/cert.pem"))], "644 certificate");
        assert!(now[&text(&etc.join("live/key.pem"))].starts_with("600 "));
        assert_eq!(now[&text(&etc.join("nginx/site"))], "644 server {}\n");
        assert_eq!(
            now[&text(&etc.join("live/old.pem"))],
            "644 old",
            "not written through the link"
        );
        assert_eq!(now.len(), beside + 1, "nothing else lies beside them");
    }
    let paths: Vec<String> = files.iter().map(|file| file.path.clone()).collect();
    for _ in 0..2 {
        undo(&Local::new(), &keep, &paths).await.unwrap();
        assert_eq!(tree(dir.path()), before);
    }
}

#[tokio::test]
async fn what_is_there_already_is_left_alone_also_by_the_undo() {
    let (dir, files, _) = target().await;
    let keep = |name: &str| text(&dir.path().join(name));
    install(&Local::new(), &files, &keep("first")).await.unwrap();
    let installed = install(&Local::new(), &files, &keep("second")).await.unwrap();
    assert!(installed.files.iter().all(|file| file.change == FileChange::Same));
    let before = tree(dir.path());
    let paths: Vec<String> = files.iter().map(|file| file.path.clone()).collect();
    undo(&Local::new(), &keep("second"), &paths).await.unwrap();
    assert_eq!(tree(dir.path()), before);
}

#[tokio::test]
async fn an_owner_that_the_target_does_not_know_is_told() {
    let (_dir, mut files, keep) = target().await;
    files[0].owner = "no-such-user".into();
    let installed = install(&Local::new(), &files[..1], &keep).await.unwrap();
    assert!(installed.files[0].unknown_owner.as_ref().unwrap().starts_with("no-such-user:"));
}

#[tokio::test]
async fn cut_off_anywhere_it_can_go_on_or_back() {
    for fault in [Fault::LostAfter, Fault::LostBefore] {
        for spoilt in 0..3 {
            let (dir, files, keep) = target().await;
            let before = tree(dir.path());
            let count = Arc::new(AtomicUsize::new(0));
            let faulty = Faulty::new(Arc::new(Local::new()), spoilt, fault, count);
            install(&faulty, &files, &keep).await.unwrap_err();
            let paths: Vec<String> = files.iter().map(|file| file.path.clone()).collect();
            undo(&Local::new(), &keep, &paths).await.unwrap();
            assert_eq!(tree(dir.path()), before, "{fault:?} at {spoilt}");
        }
    }
}

#[tokio::test]
async fn a_path_that_is_no_configuration_is_refused() {
    let error = gather(&Local::new(), &["etc/x".to_owned()]).await.unwrap_err();
    assert_eq!(error.to_string(), "etc/x is not an absolute path");
    let dir = tempfile::tempdir().unwrap();
    let file = fs::File::create(dir.path().join("large")).unwrap();
    file.set_len(1 << 30).unwrap();
    let error = gather(&Local::new(), &[text(dir.path())]).await.unwrap_err();
    assert!(matches!(error, ConfigFilesError::TooLarge { .. }), "{error}");
}
