//! A directory that nothing leads out of: every path is resolved below its handle, and a symlink
//! in a path is an error, whoever put it there and when. The only code that opens files of a tree.

use std::collections::HashMap;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;
use rustix::path::Arg;
use rustix::process::Resource;

use super::failure::failure;
use crate::wire::path::{Name, RelPath};
use crate::wire::tree::{Failure, FailureKind, Meta, Mtime};

/// ext2 to ext4, XFS, Btrfs, tmpfs, ZFS, F2FS, bcachefs, overlayfs.
const TIMELY: [u64; 8] = [
    0xef53,
    0x5846_5342,
    0x9123_683e,
    0x0102_1994,
    0x2fc1_2fc1,
    0xf2f5_2010,
    0xca45_1a4e,
    0x794c_7630,
];

/// Directory handles kept open by one thread: a share of the files that the process may have open.
const CACHED_DIRS_MIN: usize = 128;
const CACHED_DIRS_MAX: usize = 4096;
const CACHED_DIRS_SHARE: usize = 8;

/// The root of a tree.
#[derive(Debug)]
pub(crate) struct Root {
    fd: OwnedFd,
    /// Its canonical path, for messages and for telling two roots apart.
    path: Vec<u8>,
    /// The kernel has openat2(2).
    beneath: bool,
}

impl Root {
    /// Opens the directory at `path`, following symlinks there: it is the operator's word. With
    /// `create` it is made if only it is missing. `None` if there is none.
    pub fn open(path: &Path, create: bool) -> io::Result<Option<Self>> {
        if create {
            match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let path = path.canonicalize()?.as_os_str().as_bytes().to_vec();
        Ok(Some(Root { beneath: has_openat2(&fd), fd, path }))
    }

    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Makes all that was written to its file system durable.
    pub fn sync(&self) -> Result<(), Failure> {
        rustix::fs::syncfs(&self.fd).map_err(|error| failure("write to the disk", error))
    }

    pub fn stat(&self) -> rustix::io::Result<Stat> {
        stat_open(&self.fd)
    }

    /// Whether its file system is one of this machine that keeps the times of directories exactly
    /// and by this machine's clock.
    pub fn keeps_times(&self) -> bool {
        let kind = rustix::fs::fstatfs(&self.fd).map(|stat| stat.f_type as u64 & 0xffff_ffff);
        kind.is_ok_and(|kind| TIMELY.contains(&kind))
    }

    /// The status of what is at `path`, without opening anything. A symlink at the end is not
    /// followed, one that was put into the way just now may be: only for comparing with what is
    /// remembered of a path, as `manifest` does.
    pub fn peek(&self, path: &CStr) -> rustix::io::Result<Stat> {
        let path = if path.is_empty() { c"." } else { path };
        statx(&self.fd, path, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// The directory at `path`, opened for reading.
    pub fn open_dir(&self, path: &RelPath) -> rustix::io::Result<OwnedFd> {
        self.resolve(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC)
    }

    /// A handle of the directory at `path` to work relative to; needs no right to list it.
    fn handle(&self, path: &RelPath) -> rustix::io::Result<OwnedFd> {
        self.resolve(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC)
    }

    fn resolve(&self, path: &RelPath, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        if path.is_root() {
            return rustix::fs::openat(&self.fd, c".", flags, Mode::empty());
        }
        if !self.beneath {
            return self.resolve_by_parts(path, flags);
        }
        let rules = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        loop {
            // AGAIN: something was renamed meanwhile, and the kernel could not be sure.
            match rustix::fs::openat2(&self.fd, path.as_bytes(), flags, Mode::empty(), rules) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return result,
            }
        }
    }

    /// For kernels before 5.6 and containers that hide openat2(2).
    fn resolve_by_parts(&self, path: &RelPath, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut at = rustix::fs::openat(&self.fd, c".", step, Mode::empty())?;
        for part in path.parts() {
            at = rustix::fs::openat(&at, part, step, Mode::empty())?;
        }
        rustix::fs::openat(&at, c".", flags, Mode::empty())
    }
}

/// For [`super::confine`], which needs the directory itself.
impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A handle of the directory `name` in `parent`.
fn step(parent: impl AsFd, name: &Name) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name.as_bytes(), flags, Mode::empty())
}

fn has_openat2(fd: &OwnedFd) -> bool {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::openat2(fd, c".", flags, Mode::empty(), ResolveFlags::BENEATH).is_ok()
}

/// Handles of directories used lately, for one thread.
#[derive(Debug)]
pub(crate) struct Dirs {
    root: Arc<Root>,
    open: HashMap<RelPath, Arc<OwnedFd>>,
    open_max: usize,
    /// The directory of the file that was opened last.
    last: Option<RelPath>,
    /// The latest new directory that was looked at and had what was asked for.
    sample: Option<(RelPath, Meta)>,
}

fn no_name() -> Failure {
    Failure::new(FailureKind::Confined, "the root stays as it is")
}

impl Dirs {
    pub fn new(root: Arc<Root>) -> Self {
        let limit = rustix::process::getrlimit(Resource::Nofile).current;
        let share = limit.map_or(CACHED_DIRS_MAX, |limit| limit as usize / CACHED_DIRS_SHARE);
        let open_max = share.clamp(CACHED_DIRS_MIN, CACHED_DIRS_MAX);
        Dirs { root, open: HashMap::new(), open_max, last: None, sample: None }
    }

    /// A directory at `path` that was just made with `wanted` was found to be so.
    pub fn came_as_wanted(&mut self, path: &RelPath, wanted: Meta) {
        self.sample = Some((path.clone(), wanted));
    }

    /// Whether a directory that was just made at `path` needs no look. What could make it differ
    /// from `wanted` (the umask, a group or default rights of the directory it is in) is handed
    /// down from directory to directory: it would have shown in a new one further up.
    pub fn comes_as_wanted(&self, path: &RelPath, wanted: Meta) -> bool {
        self.sample.as_ref().is_some_and(|(top, seen)| *seen == wanted && path.is_within(top))
    }

    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The directory that `path` is in, and its name there. The root itself is in none.
    pub fn parent(&mut self, path: &RelPath) -> Result<(Arc<OwnedFd>, Name), Failure> {
        let (dir, name) = path.split().ok_or_else(no_name)?;
        Ok((self.dir(&dir)?, name))
    }

    /// A handle of the directory at `path`.
    pub fn dir(&mut self, path: &RelPath) -> Result<Arc<OwnedFd>, Failure> {
        if let Some(fd) = self.open.get(path) {
            return Ok(fd.clone());
        }
        if self.open.len() >= self.open_max {
            self.open.clear();
        }
        let opened = match path.split().and_then(|(dir, name)| Some((self.open.get(&dir)?, name))) {
            // One step from a handle is cheaper than the whole way, and as safe.
            Some((parent, name)) => step(parent, &name),
            None => self.root.handle(path),
        };
        let fd = Arc::new(opened.map_err(|error| failure("open its directory", error))?);
        self.open.insert(path.clone(), fd.clone());
        Ok(fd)
    }

    /// Forgets the handles of `path` and what is below: it was removed or replaced.
    pub fn forget(&mut self, path: &RelPath) {
        self.open.retain(|dir, _| !dir.is_within(path));
    }

    /// The regular file at `path`, opened for reading; never a pipe that would block.
    pub fn open_file(&mut self, path: &RelPath) -> Result<File, Failure> {
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let Some((dir, name)) = path.split() else { return Err(no_name()) };
        // A directory of one file is not worth a handle.
        let opened = if self.root.beneath && self.last.as_ref() != Some(&dir) {
            let opened = self.root.resolve(path, flags);
            self.last = Some(dir);
            opened
        } else {
            let dir = self.dir(&dir)?;
            rustix::fs::openat(&dir, name.as_bytes(), flags, Mode::empty())
        };
        Ok(File::from(opened.map_err(|error| failure("open it", error))?))
    }
}

/// What statx(2) tells about one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub kind: StatKind,
    pub size: u64,
    pub meta: Meta,
    /// Seconds and nanoseconds of the last change of the inode.
    pub changed: (i64, u32),
    /// The number of its file system, and its own there.
    pub device: u64,
    pub inode: u64,
    pub links: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatKind {
    File,
    Dir,
    Link,
    Special,
}

/// The status of `name` in `dir`; a symlink is not followed.
pub(crate) fn stat_at(dir: impl AsFd, name: &[u8]) -> rustix::io::Result<Stat> {
    statx(dir, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// The status of an open file.
pub(crate) fn stat_open(file: impl AsFd) -> rustix::io::Result<Stat> {
    statx(file, c"", AtFlags::EMPTY_PATH)
}

fn statx(dir: impl AsFd, name: impl Arg, flags: AtFlags) -> rustix::io::Result<Stat> {
    let flags = flags | AtFlags::STATX_DONT_SYNC;
    let stat = rustix::fs::statx(dir, name, flags, StatxFlags::BASIC_STATS)?;
    let mode = u32::from(stat.stx_mode);
    let kind = match mode & 0o170_000 {
        0o100_000 => StatKind::File,
        0o040_000 => StatKind::Dir,
        0o120_000 => StatKind::Link,
        _ => StatKind::Special,
    };
    let mtime = Mtime { secs: stat.stx_mtime.tv_sec, nanos: stat.stx_mtime.tv_nsec };
    Ok(Stat {
        kind,
        size: stat.stx_size,
        meta: Meta { mode: mode & 0o7777, mtime, uid: stat.stx_uid, gid: stat.stx_gid },
        changed: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
        device: u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor),
        inode: stat.stx_ino,
        links: stat.stx_nlink,
    })
}

/// Opens the root's own path from bytes.
pub(crate) fn native(path: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(path))
}

/// Opens a scratch handle to `path` relative to the working directory; used by tests of the
/// fallback.
#[cfg(test)]
fn without_openat2(path: &Path) -> Root {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty()).unwrap();
    Root { fd, path: Vec::new(), beneath: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_symlink_in_the_path_is_never_followed_with_or_without_openat2() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        symlink(outside.path(), dir.path().join("out")).unwrap();
        symlink("a", dir.path().join("within")).unwrap();
        let roots = [Root::open(dir.path(), false).unwrap().unwrap(), without_openat2(dir.path())];
        for root in roots {
            assert!(root.handle(&path("a/b")).is_ok());
            assert!(root.open_dir(&path("a/b")).is_ok());
            for link in ["out", "within", "within/b"] {
                let error = root.handle(&path(link)).unwrap_err();
                assert!(matches!(error, Errno::LOOP | Errno::NOTDIR), "{link}: {error}");
            }
        }
    }

    #[test]
    fn a_missing_root_is_made_but_not_its_parents() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Root::open(&dir.path().join("new"), false).unwrap().is_none());
        assert!(Root::open(&dir.path().join("new"), true).unwrap().is_some());
        assert!(Root::open(&dir.path().join("no/parent"), true).is_err());
    }
}
