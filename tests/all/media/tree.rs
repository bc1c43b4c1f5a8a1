//! Trees for the tests: a small builder, and a comparison that is stricter than the engine's.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

/// Everything that should be equal about one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub kind: char,
    pub mode: u32,
    pub secs: i64,
    pub nanos: i64,
    pub owner: (u32, u32),
    /// A file's content, a symlink's text.
    pub content: Vec<u8>,
}

/// What is in a directory, by path relative to it; the directory itself is the empty path.
pub fn read(root: &Path) -> BTreeMap<Vec<u8>, Item> {
    let mut items = BTreeMap::new();
    add(root, root, &mut items);
    items
}

fn there<T>(result: std::io::Result<T>) -> Option<T> {
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        result => Some(result.unwrap()),
    }
}

fn add(root: &Path, path: &Path, items: &mut BTreeMap<Vec<u8>, Item>) {
    // What goes away while we look, such as the temporary file of a pass that ends, is not there.
    let Some(stat) = there(fs::symlink_metadata(path)) else { return };
    let kind = match stat.mode() & 0o170_000 {
        0o100_000 => 'f',
        0o040_000 => 'd',
        0o120_000 => 'l',
        _ => 's',
    };
    let content = match kind {
        'f' => match there(fs::read(path)) {
            Some(content) => content,
            None => return,
        },
        'l' => fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec(),
        _ => Vec::new(),
    };
    let item = Item {
        kind,
        mode: if kind == 'l' { 0 } else { stat.mode() & 0o7777 },
        secs: stat.mtime(),
        nanos: stat.mtime_nsec(),
        owner: (stat.uid(), stat.gid()),
        content,
    };
    let relative = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
    items.insert(relative, item);
    if kind == 'd' {
        for entry in there(fs::read_dir(path)).into_iter().flatten() {
            add(root, &entry.unwrap().path(), items);
        }
    }
}

/// How exactly times are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exact {
    Nanos,
    Secs,
}

/// Panics with the first difference.
pub fn assert_same(source: &Path, target: &Path, exact: Exact) {
    let (source, target) = (read(source), read(target));
    for (path, item) in &source {
        let name = path.escape_ascii().to_string();
        let mut found = target.get(path).unwrap_or_else(|| panic!("{name} is missing")).clone();
        let mut wanted = item.clone();
        if exact == Exact::Secs {
            (found.nanos, wanted.nanos) = (0, 0);
        }
        if found.content != wanted.content {
            let (is, should) = (found.content.len(), wanted.content.len());
            panic!("{name} has other content: {is} bytes, should be {should}");
        }
        (found.content, wanted.content) = (Vec::new(), Vec::new());
        assert_eq!(found, wanted, "{name}");
    }
    let extra: Vec<String> = target
        .keys()
        .filter(|path| !source.contains_key(*path))
        .map(|path| path.escape_ascii().to_string())
        .collect();
    assert!(extra.is_empty(), "only on the target: {extra:?}");
}

/// A directory under construction.
pub struct Tree(pub PathBuf);

impl Tree {
    pub fn at(path: &Path) -> Self {
        fs::create_dir_all(path).unwrap();
        Tree(path.to_owned())
    }

    pub fn path(&self, name: impl AsRef<[u8]>) -> PathBuf {
        self.0.join(OsStr::from_bytes(name.as_ref()))
    }

    pub fn file(&self, name: impl AsRef<[u8]>, content: impl AsRef<[u8]>, mode: u32) -> &Self {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        self
    }

    pub fn dir(&self, name: impl AsRef<[u8]>, mode: u32) -> &Self {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        self
    }

    pub fn link(&self, name: impl AsRef<[u8]>, text: impl AsRef<[u8]>) -> &Self {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(OsStr::from_bytes(text.as_ref()), path).unwrap();
        self
    }

    /// Sets the modification time; a symlink's own.
    pub fn time(&self, name: impl AsRef<[u8]>, secs: i64, nanos: i64) -> &Self {
        let times = Timestamps {
            last_access: Timespec { tv_sec: secs, tv_nsec: nanos },
            last_modification: Timespec { tv_sec: secs, tv_nsec: nanos },
        };
        rustix::fs::utimensat(CWD, self.path(name), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        self
    }
}

/// Bytes that do not compress and differ by seed.
pub fn noise(length: usize, seed: u8) -> Vec<u8> {
    let mut state = u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A tree with everything that must come out exactly.
pub fn fill(root: &Path) -> Tree {
    let tree = Tree::at(root);
    let odd: [&[u8]; 6] =
        [b"new\nline", b"\xff\xfe not utf8", b" blank ", b"quote'\"$(x)", b"-dash", b"*?[glob]"];
    for (number, name) in odd.iter().enumerate() {
        tree.file([b"odd/", *name].concat(), format!("odd {number}"), 0o644);
    }
    tree.file([b"odd/", &[b'n'; 255][..]].concat(), "long name", 0o644)
        .dir([b"odd/dir-", &b"\xc3\x28\n"[..]].concat(), 0o755)
        .file("empty", "", 0o644)
        .file("suspended/private.png", noise(20_000, 1), 0o600)
        .file("media/001/002/original/a.png", noise(30_000, 2), 0o644)
        .file("media/001/002/small/a.png", noise(3_000, 3), 0o644)
        .file("media/001/003/original/b.mp4", noise(3_000_000, 4), 0o644)
        .file("media/exactly-128k", noise(128 * 1024, 5), 0o644)
        .file("media/128k-and-one", noise(128 * 1024 + 1, 6), 0o640)
        .file("media/script", "#!/bin/sh\n", 0o755)
        .file("media/setuid", "x", 0o4755)
        .file("media/read-only", "x", 0o444)
        .link("media/link", "001/002/original/a.png")
        .link("media/dangling", "no/such/thing")
        .link("media/outside", "/etc/passwd")
        .link([b"odd/link-", &b"\xff\n"[..]].concat(), b"\xfe\ntext")
        .dir("no/files/here", 0o755)
        .dir("closed", 0o700)
        .dir("shared", 0o2775)
        .dir("sticky", 0o1777);
    for number in 0..300 {
        tree.file(format!("many/{number:04}"), noise(number * 7, number as u8), 0o644);
    }
    tree.time("empty", 1_000_000_000, 123_456_789)
        .time("media/script", 0, 1)
        .time("media/link", 1_234_567_890, 987_654_321)
        .time("no/files/here", 999_999_999, 999_999_999)
        .time("media", 1_500_000_000, 500_000_000)
        .time("", 1_600_000_000, 600_000_001);
    tree
}
