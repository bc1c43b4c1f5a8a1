//! Long files that several runs write one after the other: a run that breaks off leaves what came, under
//! a name that the next one knows, and that one sends only the rest.

use std::fs::File;

use rustix::fs::Mode;

use super::temp_file::{CREATE, TempFile, remove_temp};
use super::{Output, Storer, corrupt};
use crate::media::delta::{self, Patcher};
use crate::media::failure::failure;
use crate::media::read::regular;
use crate::media::root::{StatKind, stat_at};
use crate::media::temp::partial_names;
use crate::wire::message::FileHead;
use crate::wire::path::{Name, RelPath};
use crate::wire::tree::Failure;

/// What an earlier run left of a file.
pub(super) struct Partial {
    pub(super) number: usize,
    pub(super) bytes: u64,
    pub(super) name: Name,
}

impl Storer {
    /// The names that a partial file has which is going to be this one. None if it is short, or if there is an old file,
    /// which is the better basis.
    pub(super) fn partial_names(
        &mut self,
        path: &RelPath,
        head: &FileHead,
    ) -> Result<Option<[Name; 2]>, Failure> {
        let (dir, name) = self.dirs.parent(path)?;
        let old = stat_at(&dir, name.as_bytes());
        let old =
            old.is_ok_and(|old| old.kind == StatKind::File && old.size >= delta::FILE_BYTES_MIN);
        Ok(if old { None } else { partial_names(&name, head.size, head.meta.mtime) })
    }

    /// Begins a file that another run may go on with. A delta is one against what is there of it.
    pub(super) fn begin_partial(
        &mut self,
        path: &RelPath,
        head: &FileHead,
        names: [Name; 2],
    ) -> Result<Output, Failure> {
        let (dir, name) = self.dirs.parent(path)?;
        let opened = if head.delta { Some(self.open_partial(path, &names)?) } else { None };
        let (outgrown, basis) = opened.unzip();
        let used = outgrown.as_ref().map(|part| part.number);
        // Whatever else has such a name is of no use, not even to the run that left it.
        let free = [0, 1].into_iter().filter(|number| Some(*number) != used);
        let free: Vec<&[u8]> = free.map(|number| names[number].as_bytes()).collect();
        free.iter().for_each(|name| remove_temp(&dir, name));
        let temp = free[0].to_vec();
        let fd = rustix::fs::openat(&dir, &temp, CREATE, Mode::from_raw_mode(0o600))
            .map_err(|error| failure("make a file beside it", error))?;
        let temp = TempFile::new(dir, temp, name, true);
        let (sparse, patcher) = (self.sparse(0, false), basis.map(Patcher::new));
        Ok(Output { file: File::from(fd), temp, sparse, patcher, outgrown })
    }

    fn open_partial(
        &mut self,
        path: &RelPath,
        names: &[Name; 2],
    ) -> Result<(Partial, File), Failure> {
        let (dir, _) = path.split().ok_or_else(corrupt)?;
        let mut opened = Err(corrupt());
        for (number, name) in names.iter().enumerate() {
            let part = dir.join(name).map_err(|_| corrupt())?;
            opened = self.dirs.open_file(&part).and_then(|file| {
                let bytes = regular(&file)?.size;
                Ok((Partial { number, bytes, name: name.clone() }, file))
            });
            if opened.is_ok() {
                break;
            }
        }
        opened
    }
}
