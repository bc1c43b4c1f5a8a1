//! Random changes of a tree, mirrored after each round: the law is that the target is the source.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use super::fixture::{Pair, Way, deleting};
use super::tree::noise;

#[derive(Clone, Debug)]
enum Edit {
    Write { path: Vec<u8>, length: usize, seed: u8 },
    Append { path: Vec<u8>, length: usize },
    Truncate { path: Vec<u8> },
    Rename { from: Vec<u8>, to: Vec<u8> },
    Remove { path: Vec<u8> },
    Chmod { path: Vec<u8>, mode: u32 },
    Link { path: Vec<u8>, text: Vec<u8> },
    MakeDir { path: Vec<u8> },
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    let names: Vec<&[u8]> = vec![b"a", b"a-b", b"b\n", b"\xff", b"c d"];
    prop::collection::vec(prop::sample::select(names), 1..4).prop_map(|names| names.join(&b'/'))
}

fn edit() -> impl Strategy<Value = Edit> {
    let modes = prop::sample::select(vec![0o600, 0o644, 0o755, 0o700, 0o444, 0o2775]);
    let length = prop_oneof![0_usize..2000, 127_000_usize..135_000, 1_048_000_usize..1_200_000];
    prop_oneof![
        4 => (path(), length, any::<u8>()).prop_map(|(path, length, seed)| Edit::Write { path, length, seed }),
        1 => (path(), 1_usize..3000).prop_map(|(path, length)| Edit::Append { path, length }),
        1 => path().prop_map(|path| Edit::Truncate { path }),
        2 => (path(), path()).prop_map(|(from, to)| Edit::Rename { from, to }),
        2 => path().prop_map(|path| Edit::Remove { path }),
        1 => (path(), modes).prop_map(|(path, mode)| Edit::Chmod { path, mode }),
        1 => (path(), path()).prop_map(|(path, text)| Edit::Link { path, text }),
        1 => path().prop_map(|path| Edit::MakeDir { path }),
    ]
}

fn remove(path: &Path) {
    let removed = match fs::symlink_metadata(path) {
        Ok(stat) if stat.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    };
    removed.unwrap();
}

/// Makes `path` free and its parents directories.
fn clear(root: &Path, path: &[u8]) -> PathBuf {
    let mut at = root.to_owned();
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    for (number, part) in parts.iter().enumerate() {
        at.push(OsStr::from_bytes(part));
        let is_dir = fs::symlink_metadata(&at).is_ok_and(|stat| stat.is_dir());
        if !is_dir || number + 1 == parts.len() {
            remove(&at);
        }
        if number + 1 < parts.len() {
            fs::create_dir_all(&at).unwrap();
        }
    }
    at
}

/// Applies an edit where it makes sense. `now` is a time that was never used before.
fn apply(root: &Path, edit: &Edit, now: i64) {
    let at = |path: &[u8]| root.join(OsStr::from_bytes(path));
    let is_file = |path: &Path| fs::symlink_metadata(path).is_ok_and(|stat| stat.is_file());
    let touch = |path: &Path| {
        let time = Timespec { tv_sec: now, tv_nsec: 5 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    };
    match edit {
        Edit::Write { path, length, seed } => {
            let path = clear(root, path);
            fs::write(&path, noise(*length, *seed)).unwrap();
            touch(&path);
        }
        Edit::Append { path, length } if is_file(&at(path)) => {
            let mut content = fs::read(at(path)).unwrap();
            content.extend(noise(*length, 9));
            fs::write(at(path), content).unwrap();
            touch(&at(path));
        }
        Edit::Truncate { path } if is_file(&at(path)) => {
            let content = fs::read(at(path)).unwrap();
            fs::write(at(path), &content[..content.len() / 2]).unwrap();
            touch(&at(path));
        }
        Edit::Rename { from, to }
            if fs::symlink_metadata(at(from)).is_ok()
                && !to.starts_with(from)
                && !from.starts_with(to) =>
        {
            let to = clear(root, to);
            // What was to be moved may have been cleared away.
            if fs::symlink_metadata(at(from)).is_ok() {
                fs::rename(at(from), to).unwrap();
            }
        }
        Edit::Remove { path } => remove(&at(path)),
        Edit::Chmod { path, mode }
            if fs::symlink_metadata(at(path)).is_ok_and(|stat| !stat.is_symlink()) =>
        {
            fs::set_permissions(at(path), Permissions::from_mode(*mode)).unwrap();
        }
        Edit::Link { path, text } => {
            let path = clear(root, path);
            symlink(OsStr::from_bytes(text), &path).unwrap();
            touch(&path);
        }
        Edit::MakeDir { path } if fs::symlink_metadata(at(path)).is_err() => {
            fs::create_dir_all(clear(root, path)).unwrap();
        }
        Edit::Append { .. }
        | Edit::Truncate { .. }
        | Edit::Rename { .. }
        | Edit::Chmod { .. }
        | Edit::MakeDir { .. } => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn the_target_is_the_source_after_any_changes(
        rounds in prop::collection::vec(prop::collection::vec(edit(), 1..12), 1..4),
        way in prop::sample::select(vec![Way::Local, Way::PushHelper, Way::PullHelper, Way::PushSftp, Way::PullSftp]),
        remembering in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let pair = if remembering { Pair::near_remembering() } else { Pair::near() };
        let mut now = 1_600_000_000;
        // Without a single file deletions are refused, which is tested elsewhere.
        pair.source().file("always", "there", 0o644);
        for edits in &rounds {
            for edit in edits {
                now += 1;
                apply(&pair.source, edit, now);
            }
            runtime.block_on(pair.sync_well(way, &deleting()));
            pair.assert_same(way);
        }
        let settled = runtime.block_on(pair.sync_well(way, &deleting()));
        prop_assert_eq!(settled.stats.changed_entries + settled.stats.transferred_files, 0);
    }
}
