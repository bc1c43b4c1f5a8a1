//! Manifests: what a scan found, remembered on the machine it ran on, so that the next scan of the
//! same tree need not list what has not changed. In flows what the walk finds, in order; out flow
//! blocks of the last walk, with what of them is still so.
//!
//! A manifest is never believed: it says what to compare with. A directory is as remembered if
//! stat says that it has the same number, change time, mode and owner. Nobody can set a change
//! time, so one that is the same says that nothing happened in between; except within the same
//! tick of the clock, which is why a directory that changed within `RACY_SECS` before its scan
//! began, or later, is not remembered. That scan and the changes are timed by the same clock,
//! because only file systems of this machine are remembered (`Root::keeps_times`), and in those
//! only what does not lie on another one mounted into it.
//!
//! Damage, a foreign file or a lack of rights mean that the tree is walked plainly, from there on;
//! they are no errors. `format` is the bytes, `place` the files, `confirm` compares.

pub(crate) mod confirm;
pub(crate) mod format;
pub(crate) mod mark;
mod place;
pub(crate) mod recall;

use std::io;
use std::path::{Path, PathBuf};

use confirm::{Look, Remembered, remembered};
use format::{Block, Found, Head, frame, record};
use mark::{Mark, Time};
pub(crate) use place::{ENDING_BLOCKS, ENDING_PARTS, Recorder, open_own};
use place::{Place, Reader};

use super::gentle::Gentle;
use super::root::{Root, Stat};
use crate::wire::bounded::{Blob, List};
use crate::wire::message::{Extent, ScanSpec, Side, Trust};
use crate::wire::path::PATH_BYTES_MAX;
use crate::wire::scope::Scope;
use crate::wire::tree::{MetaRule, RunId};

/// What changed so shortly before a scan, or later, may change again without being noticed.
const RACY_SECS: i64 = 2;

/// Where manifests are kept, and how far they are trusted.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    dir: PathBuf,
    trust: Trust,
    rule: MetaRule,
    exclude: List<Blob<PATH_BYTES_MAX>, 4096>,
    scope: Scope,
    racy_secs: i64,
}

/// Removes all manifests in `dir`.
pub fn forget(dir: &Path) -> io::Result<()> {
    place::forget(dir)
}

/// Goes through the bytes of a block to the last name in it: how many directories it holds, or
/// `None` if it makes no sense.
pub fn directories_in(block: &[u8]) -> Option<u64> {
    let block = Block::decode(0, &frame(block), block.to_vec())?;
    let mut sensible = true;
    block.each(|_, record| sensible &= record.entries().all(|known| known.is_some()))?;
    sensible.then_some(block.head.dirs)
}

impl Memory {
    /// For a scan as `spec` says; `None` for one that reads contents, trusts nothing, looks at a
    /// part of the tree only or for hard links.
    pub fn new(dir: &Path, spec: &ScanSpec) -> Option<Self> {
        let part = spec.extent != Extent::Whole;
        // Which names are of one file is only known to a walk that meets them all.
        if spec.checksum || spec.trust == Trust::Nothing || part || spec.hard_links {
            return None;
        }
        let ScanSpec { rule, exclude, scope, trust, .. } = spec.clone();
        Some(Memory { dir: dir.to_owned(), trust, rule, exclude, scope, racy_secs: RACY_SECS })
    }

    /// Everything that decides what a scan of `root` finds and how it is told.
    fn key(&self, root: &Root, side: Side) -> Option<[u8; 32]> {
        let stat = root.stat().ok()?;
        let inode = (stat.device, stat.inode);
        let of = (root.path(), inode, side, self.rule, &self.exclude, &self.scope);
        Some(*blake3::hash(&postcard::to_stdvec(&of).ok()?).as_bytes())
    }
}

/// The manifest of a scan: the one of the last scan, and the one that is being written.
pub(crate) struct Manifest {
    reader: Option<Reader>,
    trust: Trust,
    device: u64,
    started: Time,
    racy_secs: i64,
    recorder: Recorder,
}

impl Manifest {
    /// `None` where none can be kept.
    pub fn open(memory: &Memory, root: &Root, side: Side, run: RunId) -> Option<Self> {
        let now = crate::event::now();
        let started = (now.as_second(), now.subsec_nanosecond().unsigned_abs());
        if !root.keeps_times() {
            return None;
        }
        let key = memory.key(root, side)?;
        let place = Place::open(&memory.dir, root, &key)?;
        // After the clock was set back, times that were passed before come again.
        let reader = place.read(&key).filter(|reader| reader.head.started <= started);
        let original = reader.as_ref().and_then(Reader::original);
        let recorder = Recorder::new(place, Head { key, started }, run.0, original);
        let device = root.stat().ok()?.device;
        Some(Manifest {
            reader,
            trust: memory.trust,
            device,
            started,
            racy_secs: memory.racy_secs,
            recorder,
        })
    }

    /// Lets `work` use what is remembered, and record what is found.
    pub fn with<T>(
        self,
        root: &Root,
        gentle: Option<&Gentle>,
        work: impl FnOnce(Remembered, Recorder, Fresh) -> T,
    ) -> T {
        let quiet_since = self.reader.as_ref().and_then(|reader| match self.trust {
            Trust::Nothing | Trust::Names => None,
            Trust::QuietFiles { secs } => {
                let quiet = i64::from(secs).max(self.racy_secs);
                Some((reader.head.started.0.saturating_sub(quiet), reader.head.started.1))
            }
        });
        let look = Look { root, device: self.device, quiet_since, gentle };
        let since = (self.started.0 - self.racy_secs, self.started.1);
        let fresh = Fresh { device: self.device, since };
        let Manifest { reader, recorder, .. } = self;
        remembered(reader, &look, |remembered| work(remembered, recorder, fresh))
    }
}

/// What may be remembered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fresh {
    device: u64,
    /// Whatever changed since then may change again without being noticed.
    since: Time,
}

impl Fresh {
    /// The record of a directory with this status, looked at before it was listed. It is empty if
    /// the directory must be listed the next time too.
    pub fn record(&self, dir: &Stat, entries: &[Found]) -> Vec<u8> {
        let mark = Mark::new(dir);
        if dir.device == self.device && mark.changed() < self.since {
            record(&mark, entries)
        } else {
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests;
