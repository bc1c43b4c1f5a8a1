//! A file that goes out in one burst, and what the server says of it.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{WRITE_BYTES, create};
use crate::media::delta::Summing;
use crate::media::sftp::client::{Burst, Replies};
use crate::media::sftp::holes;
use crate::media::sftp::known::Blocks;
use crate::media::sftp::meta::{meta_of, of_file, time};
use crate::media::sftp::reply::{SftpError, is_done, unexpected};
use crate::wire::path::RelPath;
use crate::wire::sftp::{Attrs, Request, Response};
use crate::wire::tree::{Digest, Meta};

pub(super) struct File {
    pub ticket: u64,
    pub path: RelPath,
    pub temp: Bytes,
    pub meta: Meta,
    pub size: u64,
    /// Long runs of zeros are not written.
    pub sparse: bool,
    /// As foretold.
    pub handle: Bytes,
    /// Beginning with that to the OPEN; what has come of them is in `said`.
    pub replies: VecDeque<Replies>,
    pub said: Said,
    /// To store it once more.
    pub content: Option<(Digest, Bytes)>,
    /// What it is patched from.
    pub basis: Option<Basis>,
    /// What is to be remembered of it: without a value, that nothing is known any more.
    pub blocks: Option<Option<Summing>>,
}

/// The old file, open beside the new one.
pub(super) struct Basis {
    pub handle: Bytes,
    pub known: Blocks,
}

/// What the server has said of a file.
#[derive(Default)]
pub(super) struct Said {
    /// The reply to the OPEN.
    opened: Option<Result<Response, SftpError>>,
    /// The handle of the basis.
    basis: Option<Bytes>,
    /// Of the basis before and after, and of the new file, if it is patched.
    looks: Vec<Attrs>,
    /// The first thing that was not done.
    error: Option<SftpError>,
    anything_done: bool,
}

pub(super) enum Verdict {
    Good,
    Failed(SftpError),
    /// The handle was another one: this one, if the server opened anything.
    Unforetold(Option<Bytes>),
}

impl Said {
    fn hear(&mut self, replies: Vec<Result<Response, SftpError>>) {
        for reply in replies {
            if self.opened.is_none() {
                self.opened = Some(reply);
                continue;
            }
            match reply {
                Ok(status) if is_done(&status) => self.anything_done = true,
                Ok(Response::Handle(handle)) if self.basis.is_none() => self.basis = Some(handle),
                Ok(Response::Attrs(attrs)) => self.looks.push(attrs),
                Ok(other) => drop(self.error.get_or_insert(unexpected(other))),
                Err(error) => drop(self.error.get_or_insert(error)),
            }
        }
    }

    /// Whether what is still to come of the file need not be sent.
    fn is_hopeless(&self, handle: &Bytes) -> bool {
        let opened = match &self.opened {
            None => true,
            Some(Ok(Response::Handle(real))) => real == handle,
            Some(_) => false,
        };
        !opened || self.error.is_some()
    }
}

impl File {
    pub fn new(ticket: u64, path: RelPath, temp: Bytes, meta: Meta, size: u64) -> Self {
        File {
            ticket,
            path,
            temp,
            meta,
            size,
            sparse: false,
            handle: Bytes::new(),
            replies: VecDeque::with_capacity(1),
            said: Said::default(),
            content: None,
            basis: None,
            blocks: None,
        }
    }

    /// Hears what has come. Whether that is all.
    pub fn hear(&mut self) -> bool {
        while self.replies.front().is_some_and(Replies::is_ready) {
            if let Some(replies) = self.replies.pop_front() {
                self.said.hear(replies.take());
            }
        }
        self.replies.is_empty()
    }

    pub fn is_hopeless(&self) -> bool {
        self.said.is_hopeless(&self.handle)
    }

    pub fn post_open(&mut self, burst: &mut Burst<'_>) {
        self.handle = burst.open(&create(self.temp.clone()));
    }

    pub fn post_writes(&self, burst: &mut Burst<'_>, at: u64, content: Bytes) {
        // A copy of a block may have left a byte where a hole would be.
        let parts = match self.sparse && self.basis.is_none() {
            true => holes::written(&content),
            false => vec![(0, content)],
        };
        for (skipped, mut content) in parts {
            let mut offset = at + skipped as u64;
            while !content.is_empty() {
                let data = content.split_to(content.len().min(WRITE_BYTES));
                let length = data.len() as u64;
                burst.post(&Request::Write { handle: self.handle.clone(), offset, data });
                offset += length;
            }
        }
    }

    pub fn post_end(&self, burst: &mut Burst<'_>) {
        let handle = &self.handle;
        let attrs = Attrs { size: Some(self.size), ..Attrs::default() };
        let resize = Request::FsetStat { handle: handle.clone(), attrs };
        if let Some(basis) = &self.basis {
            burst.post(&Request::Fstat { handle: basis.handle.clone() });
            // The last copy may have left a byte too many.
            burst.post(&resize);
            burst.post(&Request::Fstat { handle: handle.clone() });
        } else if self.sparse {
            // Zeros at its end were not written.
            burst.post(&resize);
        }
        for attrs in of_file(self.meta) {
            burst.post(&Request::FsetStat { handle: handle.clone(), attrs });
        }
        self.post_close(burst);
    }

    pub fn post_close(&self, burst: &mut Burst<'_>) {
        if let Some(basis) = &self.basis {
            burst.close(&basis.handle);
        }
        burst.close(&self.handle);
    }

    /// What the server said, when all of it was heard.
    pub fn judge(&mut self) -> Verdict {
        let Said { opened, basis, looks, error, anything_done } = std::mem::take(&mut self.said);
        match opened.unwrap_or(Err(SftpError::Unexpected)) {
            Ok(Response::Handle(real)) if real != self.handle => {
                return Verdict::Unforetold(Some(real));
            }
            Ok(Response::Handle(_)) => {}
            // Something had the handle that was foretold for this file; of a patched one, only its
            // basis may have.
            Ok(_) | Err(_) if anything_done && self.basis.is_none() => {
                return Verdict::Unforetold(None);
            }
            Ok(other) => return Verdict::Failed(unexpected(other)),
            Err(error) => return Verdict::Failed(error),
        }
        if let Some(error) = error {
            return Verdict::Failed(error);
        }
        let Some(Basis { handle, known }) = &self.basis else { return Verdict::Good };
        match (basis, &looks[..]) {
            (Some(real), _) if real != *handle => Verdict::Unforetold(Some(real)),
            (Some(_), [before, after, new])
                if known.is_of(before) && known.is_of(after) && new.size == Some(self.size) =>
            {
                Verdict::Good
            }
            // It is another one than was compared with.
            (Some(_) | None, _) => Verdict::Failed(SftpError::Unexpected),
        }
    }

    /// What is known of it from now on.
    pub fn into_blocks(self) -> Option<Blocks> {
        let signature = self.blocks??.finish()?;
        let mtime_secs = meta_of(&time(self.meta.mtime)).mtime.secs;
        Some(Blocks { size: self.size, mtime_secs, signature })
    }
}
