//! Changes of a local target that need no content: directories, symlinks, modes and times,
//! removals. Each is relative to a directory handle and follows no symlink. Each is idempotent:
//! what is already so is fine. Blocking.

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::delta;
use super::failure::failure;
use super::read::regular;
use super::root::{Dirs, StatKind, stat_at, stat_open};
use super::temp::{self, TempNames};
use crate::wire::message::{Answer, Call, Op, Results};
use crate::wire::path::{Name, RelPath};
use crate::wire::tree::{Failure, FailureKind, Meta, Mtime, OWNER_UNCHANGED};

/// What the owner of a directory needs to work in it.
const USABLE: u32 = 0o700;

/// Works with the handles and names of the thread that it is on.
pub(crate) struct Changer<'a> {
    pub dirs: &'a mut Dirs,
    pub names: &'a mut TempNames,
}

impl Changer<'_> {
    pub fn answer(&mut self, call: Call) -> Answer {
        match call {
            Call::Apply(ops) => Answer::Applied(self.apply_all(&ops.0)),
            Call::Signature(path) => Answer::Signature(self.signature(&path)),
            Call::Sync => Answer::Synced(self.dirs.root().sync()),
        }
    }

    /// What came of each, in order.
    pub fn apply_all(&mut self, ops: &[Op]) -> Results {
        ops.iter().map(|op| self.apply(op)).collect()
    }

    fn signature(&mut self, path: &RelPath) -> Result<bytes::Bytes, Failure> {
        let file = self.dirs.open_file(path)?;
        let size = regular(&file)?.size;
        delta::signature(&file, size, secret_seed()).map_err(|error| failure("read it", error))
    }

    fn apply(&mut self, op: &Op) -> Result<(), Failure> {
        match op {
            Op::MakeDir { path, meta } => self.make_dir(path, *meta),
            Op::Link { path, meta, text } => self.link(path, *meta, &text.0),
            Op::SetFile { path, meta } => self.set_file(path, *meta),
            Op::SetLink { path, meta } => {
                let (dir, name) = self.dirs.parent(path)?;
                set_link(&dir, name.as_bytes(), *meta).inspect(|()| stir(&dir))
            }
            Op::SetDir { path, meta } => self.set_dir(path, *meta),
            Op::SetDirTime { path, mtime } => self.set_dir_time(path, *mtime),
            Op::Remove { path } => self.remove(path, AtFlags::empty()),
            Op::RemoveDir { path } => {
                self.dirs.forget(path);
                self.remove(path, AtFlags::REMOVEDIR)
            }
            Op::Sweep { path, name } => self.sweep(path, name),
            Op::HardLink { path, first } => self.hard_link(path, first),
        }
    }

    fn make_dir(&mut self, path: &RelPath, meta: Meta) -> Result<(), Failure> {
        if path.is_root() {
            // It was opened; there is nothing to make.
            return Ok(());
        }
        let (dir, name) = self.dirs.parent(path)?;
        let wanted = Meta { mode: meta.mode | USABLE, mtime: Mtime::default(), ..meta };
        let new = match rustix::fs::mkdirat(&dir, name.as_bytes(), Mode::from_raw_mode(wanted.mode))
        {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(failure("make the directory", error)),
        };
        if new && self.dirs.comes_as_wanted(path, wanted) {
            return Ok(());
        }
        let stat = stat_at(&dir, name.as_bytes()).map_err(|error| failure("look at it", error))?;
        if stat.kind != StatKind::Dir {
            return Err(Failure::new(FailureKind::Confined, "something else is in the way"));
        }
        let came_so = self.own_dir(path, stat.meta, wanted)?;
        if new && came_so {
            self.dirs.came_as_wanted(path, wanted);
        }
        Ok(())
    }

    /// Gives a directory what the process's umask, or its parent's group or default rights, made
    /// different from what is wanted; whether that was nothing, as it mostly is.
    fn own_dir(&mut self, path: &RelPath, made: Meta, wanted: Meta) -> Result<bool, Failure> {
        let (uid, gid) = owner(wanted);
        let owned = uid.is_none_or(|uid| uid.as_raw() == made.uid)
            && gid.is_none_or(|gid| gid.as_raw() == made.gid);
        if owned && made.mode == wanted.mode {
            return Ok(true);
        }
        let handle = self.dirs.dir(path)?;
        if !owned {
            rustix::fs::chownat(&handle, c".", uid, gid, AtFlags::empty())
                .map_err(|error| failure("change its owner", error))?;
        }
        // Also if only the owner differed: changing it clears bits of the mode.
        chmod_dir(&handle, wanted.mode)?;
        Ok(false)
    }

    fn link(&mut self, path: &RelPath, meta: Meta, text: &[u8]) -> Result<(), Failure> {
        let (dir, name) = self.dirs.parent(path)?;
        let temp = loop {
            let temp = self.names.next();
            match rustix::fs::symlinkat(text, &dir, &temp) {
                Ok(()) => break temp,
                Err(Errno::EXIST) => {}
                Err(error) => return Err(failure("make the symlink", error)),
            }
        };
        let done = set_link(&dir, &temp, meta).and_then(|()| {
            rustix::fs::renameat(&dir, &temp, &dir, name.as_bytes())
                .map_err(|error| failure("put it in place", error))
        });
        if done.is_err() {
            // One that stays is swept by the next pass.
            let _ = rustix::fs::unlinkat(&dir, &temp, AtFlags::empty());
        }
        done
    }

    fn hard_link(&mut self, path: &RelPath, first: &RelPath) -> Result<(), Failure> {
        let (from, first) = self.dirs.parent(first)?;
        let (dir, name) = self.dirs.parent(path)?;
        let stat = stat_at(&from, first.as_bytes());
        let stat = stat.map_err(|error| failure("find the file it is a name of", error))?;
        if stat.kind != StatKind::File {
            let text = "what it should be a name of is no regular file";
            return Err(Failure::new(FailureKind::Confined, text));
        }
        let temp = loop {
            let temp = self.names.next();
            match rustix::fs::linkat(&from, first.as_bytes(), &dir, &temp, AtFlags::empty()) {
                Ok(()) => break temp,
                Err(Errno::EXIST) => {}
                Err(error) => return Err(failure("link it", error)),
            }
        };
        let placed = rustix::fs::renameat(&dir, &temp, &dir, name.as_bytes());
        // If it is a name of that file already, renaming leaves both.
        let _ = rustix::fs::unlinkat(&dir, &temp, AtFlags::empty());
        placed.map_err(|error| failure("put it in place", error))
    }

    fn set_file(&mut self, path: &RelPath, meta: Meta) -> Result<(), Failure> {
        let (dir, name) = self.dirs.parent(path)?;
        // A handle needs no right to read, and what it stands for cannot be swapped any more.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(&dir, name.as_bytes(), flags, Mode::empty())
            .map_err(|error| failure("open it", error))?;
        let stat = stat_open(&handle).map_err(|error| failure("look at it", error))?;
        if stat.kind != StatKind::File {
            return Err(Failure::new(FailureKind::Confined, "it is no longer a regular file"));
        }
        let (uid, gid) = owner(meta);
        if uid.is_some() || gid.is_some() {
            rustix::fs::chownat(&handle, c"", uid, gid, AtFlags::EMPTY_PATH)
                .map_err(|error| failure("change its owner", error))?;
        }
        // chmod(2) takes no such handle, but the name that /proc gives it.
        let by_handle = format!("/proc/self/fd/{}", handle.as_raw_fd());
        rustix::fs::chmod(&by_handle, Mode::from_raw_mode(meta.mode))
            .map_err(|error| failure("change its mode", error))?;
        rustix::fs::utimensat(&dir, name.as_bytes(), &times(meta.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| failure("set its time", error))?;
        stir(&dir);
        Ok(())
    }

    fn set_dir(&mut self, path: &RelPath, meta: Meta) -> Result<(), Failure> {
        let handle = self.dirs.dir(path)?;
        let (uid, gid) = owner(meta);
        if uid.is_some() || gid.is_some() {
            rustix::fs::chownat(&handle, c".", uid, gid, AtFlags::empty())
                .map_err(|error| failure("change its owner", error))?;
        }
        // The mode comes last: it may take away the right to do any of this.
        rustix::fs::utimensat(&handle, c".", &times(meta.mtime), AtFlags::empty())
            .map_err(|error| failure("set its time", error))?;
        chmod_dir(&handle, meta.mode)
    }

    fn set_dir_time(&mut self, path: &RelPath, mtime: Mtime) -> Result<(), Failure> {
        if path.is_root() {
            let root = self.dirs.dir(path)?;
            return rustix::fs::utimensat(&root, c".", &times(mtime), AtFlags::empty())
                .map_err(|error| failure("set its time", error));
        }
        let (dir, name) = self.dirs.parent(path)?;
        rustix::fs::utimensat(&dir, name.as_bytes(), &times(mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| failure("set its time", error))
    }

    fn remove(&mut self, path: &RelPath, flags: AtFlags) -> Result<(), Failure> {
        let (dir, name) = self.dirs.parent(path)?;
        match rustix::fs::unlinkat(&dir, name.as_bytes(), flags) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(failure("remove it", error)),
        }
    }

    fn sweep(&mut self, path: &RelPath, name: &Name) -> Result<(), Failure> {
        if !temp::is_ours(name.as_bytes()) {
            return Err(Failure::new(FailureKind::Other, "it is no temporary file of ours"));
        }
        let dir = self.dirs.dir(path)?;
        match rustix::fs::unlinkat(&dir, name.as_bytes(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(failure("remove a leftover", error)),
        }
    }
}

/// A seed that nobody who made the file could know.
pub(crate) fn secret_seed() -> u64 {
    // Its keys come from the system's random numbers.
    RandomState::new().build_hasher().finish()
}

/// Gives an open file its owner, mode and time, in this order: changing the owner clears setuid.
pub(crate) fn set_open(file: &File, meta: Meta) -> Result<(), Failure> {
    let (uid, gid) = owner(meta);
    if uid.is_some() || gid.is_some() {
        rustix::fs::fchown(file, uid, gid).map_err(|error| failure("change its owner", error))?;
    }
    rustix::fs::fchmod(file, Mode::from_raw_mode(meta.mode))
        .map_err(|error| failure("change its mode", error))?;
    rustix::fs::futimens(file, &times(meta.mtime)).map_err(|error| failure("set its time", error))
}

fn set_link(dir: impl AsFd, name: &[u8], meta: Meta) -> Result<(), Failure> {
    let (uid, gid) = owner(meta);
    if uid.is_some() || gid.is_some() {
        rustix::fs::chownat(&dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| failure("change its owner", error))?;
    }
    rustix::fs::utimensat(&dir, name, &times(meta.mtime), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| failure("set its time", error))
}

/// Changes the change time of a directory in which we changed an inode in its place: a scan that
/// believes what is remembered of old files would not see it. Whoever does not own the directory
/// cannot; such a scan then sees it late, as it does what others changed in place.
fn stir(dir: impl AsFd) {
    if let Ok(stat) = stat_open(&dir) {
        let _ = chmod_dir(&dir, stat.meta.mode);
    }
}

fn chmod_dir(handle: impl AsFd, mode: u32) -> Result<(), Failure> {
    rustix::fs::chmodat(handle, c".", Mode::from_raw_mode(mode), AtFlags::empty())
        .map_err(|error| failure("change its mode", error))
}

fn owner(meta: Meta) -> (Option<Uid>, Option<Gid>) {
    let uid = (meta.uid != OWNER_UNCHANGED).then(|| Uid::from_raw(meta.uid));
    (uid, (meta.gid != OWNER_UNCHANGED).then(|| Gid::from_raw(meta.gid)))
}

fn times(mtime: Mtime) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        last_modification: Timespec {
            tv_sec: mtime.secs,
            // A peer's nonsense must not become the special values for "now" and "omit".
            tv_nsec: mtime.nanos.min(999_999_999).into(),
        },
    }
}
