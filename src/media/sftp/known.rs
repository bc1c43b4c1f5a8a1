//! What is known of long files on a server: the sums of the blocks of what was sent there, each file
//! in one of its own beside the manifests, readable for their owner only. It is used only for a file
//! that has the size and time that it was given. Nothing here has to be durable: what is damaged,
//! missing or of another file means that the whole file is sent. Blocking.

use std::fs::{DirBuilder, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{AtFlags, Mode, OFlags};

use super::meta::meta_of;
use crate::media::delta::Sums;
use crate::media::manifest::{ENDING_BLOCKS, open_own};
use crate::wire::message::SIGNATURE_BYTES_MAX;
use crate::wire::path::RelPath;
use crate::wire::sftp::Attrs;

/// Shorter files are sent whole.
pub(super) const FILE_BYTES_MIN: u64 = 4 << 20;
const MAGIC: [u8; 8] = *b"tsblock1";
pub(super) const HASH_BYTES: usize = 32;
const HEAD_BYTES: usize = MAGIC.len() + 2 * HASH_BYTES + 8 + 8;

/// A directory of what is known, of one tree on one server.
#[derive(Clone)]
pub(super) struct Known {
    dir: Arc<OwnedFd>,
    tree: [u8; HASH_BYTES],
}

/// What is known of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blocks {
    pub size: u64,
    pub mtime_secs: i64,
    pub signature: Bytes,
}

impl Blocks {
    /// Whether a file has the size and time that it was given.
    pub fn is_of(&self, attrs: &Attrs) -> bool {
        attrs.size == Some(self.size) && meta_of(attrs).mtime.secs == self.mtime_secs
    }
}

impl Known {
    /// `None` where nothing can be kept.
    pub fn open(dir: &Path, host: &str, root: &[u8]) -> Option<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).ok()?;
        let tree = *blake3::hash(&[host.as_bytes(), b"\0", root].concat()).as_bytes();
        Some(Known { dir: Arc::new(open_own(dir)?), tree })
    }

    pub(super) fn key(&self, path: &RelPath) -> [u8; HASH_BYTES] {
        *blake3::keyed_hash(&self.tree, path.as_bytes()).as_bytes()
    }

    fn name(&self, path: &RelPath) -> String {
        self.name_of(path, ENDING_BLOCKS)
    }

    /// What is known of `path` in another way has another ending.
    pub(super) fn name_of(&self, path: &RelPath, ending: &str) -> String {
        let hex = blake3::Hash::from_bytes(self.key(path)).to_hex();
        format!("{}{ending}", &hex[..32])
    }

    pub(super) fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    pub fn get(&self, path: &RelPath) -> Option<Blocks> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.dir, self.name(path), flags, Mode::empty()).ok()?;
        let mut bytes = Vec::new();
        let bytes_max = SIGNATURE_BYTES_MAX + HEAD_BYTES as u64;
        File::from(opened).take(bytes_max).read_to_end(&mut bytes).ok()?;
        decode(&self.key(path), bytes.into())
    }

    /// Replaces what is known of a file; with nothing it is forgotten.
    pub fn put(&self, path: &RelPath, blocks: Option<&Blocks>) {
        let name = self.name(path);
        // What is not up to date any more is of no use; the next pass would find that out too.
        let _ = rustix::fs::unlinkat(&self.dir, &name, AtFlags::empty());
        let Some(blocks) = blocks else { return };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        if let Ok(file) = rustix::fs::openat(&self.dir, &name, flags, mode)
            && File::from(file).write_all(&encode(&self.key(path), blocks)).is_err()
        {
            let _ = rustix::fs::unlinkat(&self.dir, &name, AtFlags::empty());
        }
    }
}

fn encode(key: &[u8; HASH_BYTES], blocks: &Blocks) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&[0; HASH_BYTES]);
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(&blocks.size.to_be_bytes());
    bytes.extend_from_slice(&blocks.mtime_secs.to_be_bytes());
    bytes.extend_from_slice(&blocks.signature);
    let (head, rest) = bytes.split_at_mut(MAGIC.len() + HASH_BYTES);
    head[MAGIC.len()..].copy_from_slice(blake3::hash(rest).as_bytes());
    bytes
}

fn decode(key: &[u8; HASH_BYTES], mut bytes: Bytes) -> Option<Blocks> {
    if bytes.len() < HEAD_BYTES {
        return None;
    }
    let magic = bytes.split_to(MAGIC.len());
    let hash = bytes.split_to(HASH_BYTES);
    let whole = magic == MAGIC[..] && hash == blake3::hash(&bytes).as_bytes()[..];
    if !whole || bytes.split_to(HASH_BYTES) != key[..] {
        return None;
    }
    let size = u64::from_be_bytes(*bytes.split_to(8).first_chunk()?);
    let mtime_secs = i64::from_be_bytes(*bytes.split_to(8).first_chunk()?);
    Sums::new(bytes.clone()).ok()?;
    Some(Blocks { size, mtime_secs, signature: bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::delta::Summing;

    #[test]
    fn what_is_damaged_or_of_another_file_is_not_known() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("cache");
        let known = Known::open(&place, "new.example", b"/srv").unwrap();
        let path = |name: &str| RelPath::new(name.as_bytes()).unwrap();
        let mut summing = Summing::new(300_000, 5).unwrap();
        summing.push(&[7; 300_000]);
        let signature = summing.finish().unwrap();
        let blocks = Blocks { size: 300_000, mtime_secs: 1_700_000_000, signature };
        known.put(&path("a/dump"), Some(&blocks));
        assert_eq!(known.get(&path("a/dump")), Some(blocks.clone()));
        assert_eq!(known.get(&path("a/other")), None);
        let elsewhere = Known::open(&place, "other.example", b"/srv").unwrap();
        assert_eq!(elsewhere.get(&path("a/dump")), None);
        let file = place.join(known.name(&path("a/dump")));
        std::fs::copy(&file, place.join(known.name(&path("a/other")))).unwrap();
        assert_eq!(known.get(&path("a/other")), None);
        let good = std::fs::read(&file).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(decode(&known.key(&path("a/dump")), bad.into()), None, "{at}");
        }
        for length in 0..good.len() {
            let short = Bytes::copy_from_slice(&good[..length]);
            assert_eq!(decode(&known.key(&path("a/dump")), short), None, "{length}");
        }
        known.put(&path("a/dump"), None);
        assert_eq!(known.get(&path("a/dump")), None);
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Known::open(dir.path(), "new.example", b"/srv").is_none());
    }
}
