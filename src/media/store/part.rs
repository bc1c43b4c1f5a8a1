//! Parts of a large file, which lanes write side by side to one temporary file. Whichever comes
//! first makes it. A part is checked against the chaining value of its subtree, which depends on
//! its place: a file whose parts are all in order is the file whose tree they are of. A part that
//! fails takes the temporary file with it, because the file has failed then. What a run that breaks
//! off has written of a file is a partial file like others: the next run goes on with it.

use std::fs::File;
use std::io::{Seek, SeekFrom};

use blake3::hazmat::HasherExt;
use rustix::fs::{Mode, OFlags};

use super::temp_file::{TempFile, remove_temp};
use super::{Output, Storer, Writing, corrupt};
use crate::media::apply::set_open;
use crate::media::failure::failure;
use crate::media::read::regular;
use crate::media::temp::partial_names;
use crate::wire::message::{Ack, FileHead, Parted, Told, part_place};
use crate::wire::tree::{Digest, Failure, FailureKind, Meta};

impl Storer {
    pub(super) fn begin_part(&mut self, ticket: u64, file: &Parted, index: u32) {
        let mut hasher = blake3::Hasher::new();
        // A part that cannot be is refused when it ends, as any other.
        let (at, length) = part_place(index, file.size).unwrap_or_default();
        hasher.set_input_offset(at);
        let output = self.open_shared(file, OFlags::CREATE).and_then(|(mut file, temp)| {
            file.seek(SeekFrom::Start(at)).map_err(|error| failure("write it", error))?;
            // What an earlier run left of the file may be in its place.
            let sparse = self.sparse(at, true);
            Ok(Output { file, temp, sparse, patcher: None, outgrown: None })
        });
        let head = FileHead { meta: Meta::default(), size: length, delta: false };
        self.writing = Some(Writing { ticket, head, hasher, written: 0, part: true, output });
    }

    pub(super) fn end_part(&mut self, writing: Writing, digest: Digest) {
        let Writing { ticket, head, hasher, written, output, .. } = writing;
        let result = output.and_then(|Output { file, mut temp, sparse, .. }| {
            let whole = written == head.size && written > 0;
            if !whole || hasher.finalize_non_root() != digest.0 {
                return Err(corrupt());
            }
            if let Some(sparse) = sparse {
                sparse.finish_part(&file).map_err(|error| failure("write it", error))?;
            }
            // Nothing of ours writes any more when the file gets its time.
            drop(file);
            temp.kept = true;
            Ok(())
        });
        self.told.push_back(Told::Ack(Ack { ticket, result }));
    }

    /// Makes the file ready to be published.
    pub(super) fn join(&mut self, parted: &Parted, meta: Meta) -> Result<TempFile, Failure> {
        let (file, mut temp) = self.open_shared(parted, OFlags::empty())?;
        if regular(&file)?.size != parted.size {
            return Err(corrupt());
        }
        temp.claim(&file, self.names.next())?;
        set_open(&file, meta)?;
        Ok(temp)
    }

    pub(super) fn drop_parts(&mut self, file: &Parted) {
        if let Ok((dir, name)) = self.dirs.parent(&file.path)
            && let Some([temp, _]) = partial_names(&name, file.size, file.mtime)
        {
            remove_temp(&dir, temp.as_bytes());
        }
    }

    fn open_shared(&mut self, file: &Parted, flags: OFlags) -> Result<(File, TempFile), Failure> {
        let (dir, name) = self.dirs.parent(&file.path)?;
        let names = partial_names(&name, file.size, file.mtime);
        // Nobody cuts a file that is so short.
        let [temp, _] = names.ok_or_else(corrupt)?;
        let temp = temp.as_bytes().to_vec();
        let flags = flags | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&dir, &temp, flags, Mode::from_raw_mode(0o600))
            .map_err(|error| failure("make a file beside it", error))?;
        let file = File::from(fd);
        let stat = regular(&file)?;
        // Whoever knows the file knows this name, and may have put something there.
        if stat.links > 1 || stat.meta.uid != rustix::process::geteuid().as_raw() {
            let text = "its temporary file was replaced";
            return Err(Failure::new(FailureKind::Confined, text));
        }
        Ok((file, TempFile::new(dir, temp, name, true)))
    }
}
