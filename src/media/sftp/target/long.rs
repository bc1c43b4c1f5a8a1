//! A long file on its way out, in chunks: as it is, or as a delta against the file of that name that
//! lies there, whose blocks the server copies itself. Nothing else is opened on the channel until it
//! is closed.

use std::io;

use bytes::Bytes;

use super::file::{Basis, File};
use crate::media::apply::secret_seed;
use crate::media::delta::{Commands, Sink, Summing, Sums};
use crate::media::sftp::client::{Burst, Client};
use crate::media::sftp::known::{self, Blocks};
use crate::media::sftp::session::Tree;
use crate::wire::sftp::{Attrs, COPY_STEP_BYTES, Request, open_flags};
use crate::wire::tree::Digest;

/// What is copied by one request, so that the server says something now and then.
const COPY_BYTES_MAX: u64 = 1024 * COPY_STEP_BYTES;

pub(super) struct Long {
    file: File,
    offset: u64,
    hasher: blake3::Hasher,
    /// How its blocks are summed, if they are to be remembered.
    summing: Option<Summing>,
    patch: Option<Patch>,
    /// The delta makes no sense, or nothing is known of what it is against.
    bad: bool,
}

struct Patch {
    commands: Commands,
    old: Sums,
}

impl Long {
    /// Posts what opens it.
    pub async fn begin(tree: &Tree, mut file: File, delta: bool) -> Self {
        let blocks = if delta { known(tree, &file).await } else { None };
        let patch = blocks.and_then(|blocks| {
            let old = Sums::new(blocks.signature.clone()).ok()?;
            Some((Patch { commands: Commands::default(), old }, blocks))
        });
        let bad = delta && patch.is_none();
        let summing = match &patch {
            Some((patch, _)) => patch.old.summing(file.size),
            None => Summing::new(file.size, secret_seed()),
        };
        let wanted = tree.known.is_some() && file.size >= known::FILE_BYTES_MIN;
        let (patch, blocks) = patch.unzip();
        let replies = tree.client.burst(|burst| {
            file.post_open(burst);
            if let Some(known) = blocks {
                let (path, flags) = (tree.full(&file.path), open_flags::READ);
                let open = Request::Open { path, flags, attrs: Attrs::default() };
                let handle = burst.open(&open);
                burst.post(&Request::Fstat { handle: handle.clone() });
                file.basis = Some(Basis { handle, known });
            }
        });
        file.replies.push_back(replies);
        let hasher = blake3::Hasher::new();
        let summing = summing.filter(|_| wanted);
        Long { file, offset: 0, hasher, summing, patch, bad }
    }

    /// Takes a chunk, and posts what follows from it if it is of any use.
    pub fn chunk(&mut self, client: &Client, bytes: Bytes, useful: bool) {
        let Long { file, offset, hasher, summing, patch, bad } = self;
        file.hear();
        let useful = useful && !*bad && !file.is_hopeless();
        let Some(Patch { commands, old }) = patch else {
            hasher.update(&bytes);
            let length = bytes.len() as u64;
            if let Some(summing) = summing {
                summing.push(&bytes);
            }
            if useful {
                let replies = client.burst(|burst| file.post_writes(burst, *offset, bytes));
                file.replies.push_back(replies);
            }
            *offset += length;
            return;
        };
        if !useful {
            return;
        }
        let replies = client.burst(|burst| {
            let mut sink = Posting { file, burst, offset, summing, old };
            *bad = commands.push(&bytes, &mut sink).is_err();
        });
        file.replies.push_back(replies);
    }

    /// Whether everything came as it was announced. Of a delta there is no hash to compare: most of
    /// what the file consists of was never here.
    pub fn is_whole(&self, digest: &Digest) -> bool {
        let as_read = match &self.patch {
            Some(patch) => patch.commands.finish().is_ok(),
            None => self.hasher.finalize().as_bytes() == &digest.0,
        };
        !self.bad && as_read && self.offset == self.file.size
    }

    /// Posts what completes it, if it is to be completed; else what closes it.
    pub fn end(self, client: &Client, complete: bool) -> File {
        let Long { mut file, summing, .. } = self;
        let replies = client.burst(|burst| match complete {
            true => file.post_end(burst),
            false => file.post_close(burst),
        });
        file.replies.push_back(replies);
        file.blocks = Some(summing);
        file
    }
}

async fn known(tree: &Tree, file: &File) -> Option<Blocks> {
    let (known, path) = (tree.known.clone()?, file.path.clone());
    tokio::task::spawn_blocking(move || known.get(&path)).await.ok()?
}

/// Posts what a delta consists of.
struct Posting<'a, 'b> {
    file: &'a File,
    burst: &'a mut Burst<'b>,
    offset: &'a mut u64,
    summing: &'a mut Option<Summing>,
    old: &'a Sums,
}

impl Posting<'_, '_> {
    fn grow(&mut self, bytes: u64) -> io::Result<u64> {
        let at = *self.offset;
        *self.offset =
            at.checked_add(bytes).filter(|end| *end <= self.file.size).ok_or_else(bad)?;
        Ok(at)
    }
}

impl Sink for Posting<'_, '_> {
    fn literal(&mut self, bytes: &[u8]) -> io::Result<()> {
        let at = self.grow(bytes.len() as u64)?;
        if let Some(summing) = self.summing {
            summing.push(bytes);
        }
        self.file.post_writes(self.burst, at, Bytes::copy_from_slice(bytes));
        Ok(())
    }

    fn copy(&mut self, offset: u64, length: u64) -> io::Result<()> {
        let (block, end) = (self.old.block_bytes(), offset.checked_add(length).ok_or_else(bad)?);
        let aligned = offset.is_multiple_of(block) && length.is_multiple_of(block);
        if !aligned || end > self.old.end() {
            return Err(bad());
        }
        let at = self.grow(length)?;
        let old = self.old;
        if !self.summing.as_mut().is_some_and(|summing| summing.copy(old, offset, length)) {
            *self.summing = None;
        }
        let basis = self.file.basis.as_ref().ok_or_else(bad)?;
        for done in (0..length).step_by(COPY_BYTES_MAX as usize) {
            self.burst.post(&Request::CopyData {
                from: basis.handle.clone(),
                offset: offset + done,
                // A byte more, for the server to lie about.
                length: COPY_BYTES_MAX.min(length - done) + 1,
                into: self.file.handle.clone(),
                at: at + done,
            });
        }
        Ok(())
    }
}

fn bad() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the delta does not fit the file")
}
