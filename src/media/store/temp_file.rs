//! A file while it is written: under a temporary name, that of a partial file, or its own. What was not
//! completed goes when it is dropped; what is written in place cannot, and is marked.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, OFlags};

use super::{Ready, corrupt};
use crate::media::failure::failure;
use crate::wire::path::Name;
use crate::wire::tree::Failure;

/// For a new file, and nothing else.
pub(super) const CREATE: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// A temporary file; removed when dropped, unless it is kept.
pub(super) struct TempFile {
    pub(super) dir: Arc<OwnedFd>,
    pub(super) temp: Vec<u8>,
    pub(super) name: Name,
    pub(super) kept: bool,
    /// Its name is that of a partial file, which other runs know too.
    pub(super) partial: bool,
    /// It is the file itself, and has no other name.
    pub(super) in_place: bool,
    /// Something was written to it.
    pub(super) touched: bool,
}

impl TempFile {
    pub(super) fn new(dir: Arc<OwnedFd>, temp: Vec<u8>, name: Name, partial: bool) -> Self {
        TempFile { dir, temp, name, kept: false, partial, in_place: false, touched: false }
    }

    /// Gives a partial file that became whole a name of its own, so that no other run can put something
    /// else in its place before it is published.
    pub(super) fn claim(&mut self, file: &File, temp: Vec<u8>) -> Result<(), Failure> {
        let said = |error| failure("put it aside", error);
        rustix::fs::renameat(&self.dir, &self.temp, &self.dir, &temp).map_err(said)?;
        (self.temp, self.partial) = (temp, false);
        let named = rustix::fs::statat(&self.dir, &self.temp, AtFlags::SYMLINK_NOFOLLOW);
        let (named, open) = (named.map_err(said)?, rustix::fs::fstat(file).map_err(said)?);
        let same = (named.st_dev, named.st_ino) == (open.st_dev, open.st_ino);
        if same { Ok(()) } else { Err(corrupt()) }
    }

    pub(super) fn ready(mut self, ticket: u64) -> Ready {
        self.kept = true;
        Ready {
            ticket,
            dir: self.dir.clone(),
            temp: std::mem::take(&mut self.temp),
            name: self.name.clone(),
        }
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        match (self.kept, self.in_place) {
            (true, _) => {}
            (false, true) => self.spoil(),
            (false, false) => remove_temp(&self.dir, &self.temp),
        }
    }
}

pub(super) fn remove_temp(dir: &OwnedFd, temp: &[u8]) {
    if !temp.is_empty() {
        // One that stays is swept by the next pass.
        let _ = rustix::fs::unlinkat(dir, temp, AtFlags::empty());
    }
}
