//! Files that are written into what is there, as with rsync's `--inplace`: no room for a second
//! copy, and what did not change is not written. Readers see a file that is neither the old nor the
//! new one, and after an interruption it stays so until the next pass. So that this pass sees it,
//! whatever its clock says, a file that was begun and not ended gets a time that no file has.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};

use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::sparse::Sparse;
use super::temp_file::{CREATE, TempFile};
use super::{Output, Storer};
use crate::media::delta::Patcher;
use crate::media::failure::failure;
use crate::media::read::regular;
use crate::media::root::{StatKind, stat_at};
use crate::wire::message::FileHead;
use crate::wire::path::RelPath;
use crate::wire::tree::{Failure, FailureKind};

const OPEN: OFlags = OFlags::WRONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

impl Storer {
    pub(super) fn begin_in_place(
        &mut self,
        path: &RelPath,
        head: &FileHead,
    ) -> Result<Output, Failure> {
        let basis = if head.delta { Some(self.dirs.open_file(path)?) } else { None };
        let (file, temp) = self.open_in_place(path)?;
        let (sparse, patcher) = (self.sparse(0, true), basis.map(Patcher::new));
        Ok(Output { file, temp, sparse, patcher, outgrown: None })
    }

    /// The file at `path`, or a new one; what is no file makes room for it.
    pub(super) fn open_in_place(&mut self, path: &RelPath) -> Result<(File, TempFile), Failure> {
        let (dir, name) = self.dirs.parent(path)?;
        let flags = match stat_at(&dir, name.as_bytes()).map(|stat| stat.kind) {
            Ok(StatKind::File) => OPEN,
            Ok(StatKind::Dir) => {
                return Err(Failure::new(FailureKind::NotEmpty, "a directory is in the way"));
            }
            Ok(StatKind::Link | StatKind::Special) => {
                rustix::fs::unlinkat(&dir, name.as_bytes(), AtFlags::empty())
                    .map_err(|error| failure("make room for it", error))?;
                CREATE
            }
            Err(Errno::NOENT) => CREATE,
            Err(error) => return Err(failure("look at it", error)),
        };
        let opened = rustix::fs::openat(&dir, name.as_bytes(), flags, Mode::from_raw_mode(0o600));
        let file = File::from(opened.map_err(|error| failure("write into it", error))?);
        regular(&file)?;
        let (temp, touched) = (Vec::new(), flags == CREATE);
        let temp =
            TempFile { dir, temp, name, kept: false, partial: false, in_place: true, touched };
        Ok((file, temp))
    }
}

impl TempFile {
    /// Marks what was begun and not ended: it is as good as any other file that differs.
    pub(super) fn spoil(&self) {
        if self.touched {
            let never = Timespec { tv_sec: 0, tv_nsec: 0 };
            let omit = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
            let times = Timestamps { last_access: omit, last_modification: never };
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            // Without it the file has the time of its last change, which is rarely another file's.
            let _ = rustix::fs::utimensat(&self.dir, self.name.as_bytes(), &times, flags);
        }
    }
}

/// Leaves what is in its place already.
pub(super) fn pass(file: &mut File, sparse: &mut Option<Sparse>, bytes: usize) -> io::Result<()> {
    if let Some(sparse) = sparse {
        sparse.pass(bytes);
    }
    file.seek(SeekFrom::Current(bytes as i64)).map(drop)
}
