//! Whether two trees are equal, seen by walking both: kinds, modes, times to the second (a plain
//! SFTP server keeps no more), sizes, link targets, and a digest of all content.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// One line for each path below a directory.
#[derive(PartialEq, Eq)]
pub struct Census(BTreeMap<Vec<u8>, String>);

impl Census {
    pub fn take(root: &Path) -> Census {
        let mut lines = BTreeMap::new();
        descend(root, root, &mut lines);
        Census(lines)
    }

    /// Files, directories.
    pub fn counts(&self) -> (usize, usize) {
        let dirs = self.0.values().filter(|line| line.starts_with("dir")).count();
        (self.0.len() - dirs, dirs)
    }

    /// The first paths that differ; nothing if the trees are equal.
    pub fn differences(&self, other: &Census) -> Vec<String> {
        let all = self.0.keys().chain(other.0.keys().filter(|path| !self.0.contains_key(*path)));
        let differ = all.filter(|path| self.0.get(*path) != other.0.get(*path));
        let tell = |path: &Vec<u8>| {
            let line = |census: &Census| census.0.get(path).cloned().unwrap_or("absent".into());
            format!("{}: {} / {}", String::from_utf8_lossy(path), line(self), line(other))
        };
        differ.take(5).map(tell).collect()
    }
}

fn descend(root: &Path, dir: &Path, lines: &mut BTreeMap<Vec<u8>, String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        let line = if found.is_dir() {
            descend(root, &path, lines);
            format!("dir {:o}", found.mode())
        } else if found.is_symlink() {
            format!("link {}", fs::read_link(&path).unwrap_or_default().display())
        } else {
            let digest = digest(&path, found.len());
            format!("file {:o} {} {} {digest}", found.mode(), found.len(), found.mtime())
        };
        let relative = path.strip_prefix(root).unwrap_or(&path);
        lines.insert(relative.as_os_str().as_bytes().to_vec(), line);
    }
}

fn digest(path: &Path, bytes: u64) -> String {
    let mut hasher = blake3::Hasher::new();
    let read = match bytes {
        0..1_000_000 => fs::read(path).map(|content| {
            hasher.update(&content);
        }),
        _ => fs::File::open(path).and_then(|file| hasher.update_reader(file).map(drop)),
    };
    match read {
        Ok(()) => hasher.finalize().to_hex()[..16].to_owned(),
        Err(error) => error.to_string(),
    }
}
