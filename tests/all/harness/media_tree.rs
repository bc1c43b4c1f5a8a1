//! A media directory as Mastodon lays it out: writing one, and describing one so that two can be
//! compared byte by byte without the library under test.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, FileTimes, Permissions};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::random;

/// One file to write.
#[derive(Clone, Debug)]
pub struct NewFile {
    /// Relative to the root; bytes, not necessarily UTF-8.
    pub path: OsString,
    pub bytes: usize,
    pub mode: u32,
    pub mtime_secs: u64,
}

/// What a rewrite, an old version of Mastodon or a strange file system leaves behind: names that
/// are not ASCII or not even UTF-8, a link inside the tree, a directory that is empty.
pub fn oddities() -> Vec<NewFile> {
    let names: [&[u8]; 3] = [
        "accounts/avatars/000/000/001/original/Söhne & Töchter's \"cat\".png".as_bytes(),
        b"imports/data/000/000/001/original/d\xe9j\xe0 vu.csv",
        b"accounts/headers/000/000/001/original/two\nlines $HOME `id`.jpg",
    ];
    let odd = |(index, name): (usize, &[u8])| NewFile {
        path: OsStr::from_bytes(name).to_owned(),
        bytes: [9_000, 0, 70_000][index],
        mode: [0o644, 0o600, 0o664][index],
        mtime_secs: 1_500_000_000 + index as u64,
    };
    names.into_iter().enumerate().map(odd).collect()
}

/// Writes `files` below `root`, with random bytes that follow from each path, and gives everything
/// to `owner` (uid and gid). Also a symlink and an empty directory.
pub fn write(root: &Path, files: &[NewFile], owner: Option<(u32, u32)>) {
    let mut buffer = Vec::new();
    for file in files {
        let path = root.join(&file.path);
        fs::create_dir_all(path.parent().expect("a file has a parent")).expect("make directories");
        buffer.resize(file.bytes, 0);
        random::fill(&path.to_string_lossy(), &mut buffer);
        let mut out = File::create(&path).expect("create a media file");
        out.write_all(&buffer).expect("write a media file");
        out.set_permissions(Permissions::from_mode(file.mode)).expect("chmod");
        // Nanoseconds too: a copy that drops them is not the same.
        let nanos = file.bytes as u64 * 7919 % 1_000_000_000;
        let mtime = SystemTime::UNIX_EPOCH
            + Duration::from_secs(file.mtime_secs)
            + Duration::from_nanos(nanos);
        out.set_times(FileTimes::new().set_modified(mtime)).expect("utimes");
    }
    fs::create_dir_all(root.join("media_attachments/files/113/000")).expect("make a directory");
    fs::create_dir_all(root.join("site_uploads/files")).expect("make a directory");
    symlink("files", root.join("site_uploads/current")).expect("make a symlink");
    if let Some((uid, gid)) = owner {
        give(root, uid, gid);
    }
}

/// Changes the owner of everything below `path`, and of itself.
pub fn give(path: &Path, uid: u32, gid: u32) {
    lchown(path, Some(uid), Some(gid)).expect("chown");
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).expect("list a directory") {
            give(&entry.expect("an entry").path(), uid, gid);
        }
    }
}

/// Everything below a directory that a copy has to keep, by path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree(BTreeMap<Vec<u8>, Entry>);

/// What lies at one path. Directories have no time: theirs changes with every file in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Dir { mode: u32, owner: (u32, u32) },
    File { mode: u32, owner: (u32, u32), mtime: (i64, i64), bytes: u64, digest: String },
    Link { target: Vec<u8> },
    Other { mode: u32 },
}

impl Tree {
    /// Reads everything below `root`.
    pub fn read(root: &Path) -> Tree {
        let mut entries = BTreeMap::new();
        descend(root, root, &|_| false, &mut entries);
        Tree(entries)
    }

    /// The same without the paths (relative to `root`) that `skip` names.
    pub fn read_except(root: &Path, skip: impl Fn(&Path) -> bool) -> Tree {
        let mut entries = BTreeMap::new();
        descend(root, root, &skip, &mut entries);
        Tree(entries)
    }

    pub fn files(&self) -> usize {
        self.0.values().filter(|entry| matches!(entry, Entry::File { .. })).count()
    }

    pub fn bytes(&self) -> u64 {
        let size = |entry: &Entry| if let Entry::File { bytes, .. } = entry { *bytes } else { 0 };
        self.0.values().map(size).sum()
    }

    /// Files that only their owner may read: the media of suspended accounts.
    pub fn hidden(&self) -> usize {
        let hidden = |entry: &&Entry| matches!(entry, Entry::File { mode: 0o600, .. });
        self.0.values().filter(hidden).count()
    }

    /// What differs in `other`, a line for each path, at most twenty.
    pub fn differences(&self, other: &Tree) -> Vec<String> {
        let paths = self.0.keys().chain(other.0.keys().filter(|path| !self.0.contains_key(*path)));
        let differing = paths.filter_map(|path| {
            let text = OsString::from_vec(path.clone());
            match (self.0.get(path), other.0.get(path)) {
                (Some(was), Some(is)) if was == is => None,
                (Some(was), Some(is)) => Some(format!("{text:?}: {was:?} became {is:?}")),
                (Some(_), None) => Some(format!("{text:?} is missing")),
                (None, _) => Some(format!("{text:?} appeared")),
            }
        });
        differing.take(20).collect()
    }
}

fn descend(
    root: &Path,
    dir: &Path,
    skip: &dyn Fn(&Path) -> bool,
    entries: &mut BTreeMap<Vec<u8>, Entry>,
) {
    // A directory that vanishes meanwhile counts as absent.
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let relative = path.strip_prefix(root).expect("below the root").to_owned();
        if skip(&relative) {
            continue;
        }
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        if found.is_dir() {
            descend(root, &path, skip, entries);
        }
        entries.insert(relative.into_os_string().into_vec(), describe(&path, &found));
    }
}

fn describe(path: &Path, found: &fs::Metadata) -> Entry {
    let mode = found.mode() & 0o7777;
    let owner = (found.uid(), found.gid());
    if found.is_dir() {
        Entry::Dir { mode, owner }
    } else if found.is_symlink() {
        let target = fs::read_link(path).unwrap_or_default();
        Entry::Link { target: target.into_os_string().into_vec() }
    } else if found.is_file() {
        let content = fs::read(path).unwrap_or_default();
        Entry::File {
            mode,
            owner,
            mtime: (found.mtime(), found.mtime_nsec()),
            bytes: found.len(),
            digest: blake3::hash(&content).to_hex().to_string(),
        }
    } else {
        Entry::Other { mode }
    }
}
