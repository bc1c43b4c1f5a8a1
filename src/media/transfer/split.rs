//! A large file that travels in parts, over all lanes. Its parts are work like any other; what
//! came of them is gathered here, and whoever ends the last one publishes the file or gives it up.

use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use super::{Failed, FileWork};
use crate::media::kept::Kept;
use crate::media::read::changed;
use crate::wire::message::{PART_BYTES, PartHead, Side};
use crate::wire::path::RelPath;

/// A smaller file is carried by one lane.
const SPLIT_BYTES_MIN: u64 = 4 * PART_BYTES;

/// A file in parts.
#[derive(Debug)]
pub(crate) struct Split {
    pub path: RelPath,
    /// As scanned.
    size: u64,
    /// What of it is on the target already.
    kept: Option<Kept>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Parts whose end is not known yet.
    missing: u32,
    /// Of the first part that was read.
    head: Option<PartHead>,
    failed: Option<Failed>,
    /// What of it was sent.
    literal_bytes: u64,
    /// Taken by whoever ends the last part.
    result: Option<oneshot::Sender<Result<(), Failed>>>,
}

/// A part to move.
#[derive(Debug)]
pub(crate) struct Part {
    pub split: Arc<Split>,
    pub index: u32,
}

impl Part {
    pub fn bytes(&self) -> u64 {
        PART_BYTES.min(self.split.size - u64::from(self.index) * PART_BYTES)
    }

    /// The hash with which it is on the target, if it is.
    pub fn kept(&self) -> Option<[u8; 32]> {
        self.split.kept.as_ref()?.get(self.index)
    }
}

/// What is left to be done when all parts have ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub path: RelPath,
    /// What the file is like; without it nothing came of any part.
    pub head: Option<PartHead>,
    /// Why it cannot be published.
    pub failed: Option<Failed>,
    /// What of it was sent.
    pub literal_bytes: u64,
    pub result: oneshot::Sender<Result<(), Failed>>,
}

/// Whether a file may be cut for its length.
pub(crate) fn is_long(bytes: u64) -> bool {
    bytes >= SPLIT_BYTES_MIN && u32::try_from(bytes.div_ceil(PART_BYTES)).is_ok()
}

/// Whether a file may be cut. A delta needs the whole file.
pub(super) fn is_large(work: &FileWork) -> bool {
    work.signature.is_none() && is_long(work.size)
}

/// Cuts a file that [`is_large`].
pub(super) fn cut(work: FileWork) -> impl Iterator<Item = Part> {
    let FileWork { path, size, kept, result, .. } = work;
    let missing = u32::try_from(size.div_ceil(PART_BYTES)).unwrap_or(u32::MAX);
    let state = State { missing, head: None, failed: None, literal_bytes: 0, result: Some(result) };
    let split = Arc::new(Split { path, size, kept, state: Mutex::new(state) });
    (0..missing).map(move |index| Part { split: split.clone(), index })
}

impl Split {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Whether a part has failed, so that the others need not be moved any more.
    pub fn has_failed(&self) -> bool {
        self.state().failed.is_some()
    }

    /// Takes the head of a part; gives that of the first one. If they differ, the file cannot be
    /// published, whatever becomes of the parts under way.
    pub fn accept(&self, head: PartHead) -> PartHead {
        let mut state = self.state();
        let first = *state.head.get_or_insert(head);
        if first != head || head.size != self.size {
            let failed = Failed { side: Side::Source, failure: changed() };
            state.failed.get_or_insert(failed);
        }
        first
    }

    /// Notes the end of a part, of which so much was sent. Whoever is given something ends the file
    /// with it.
    pub fn part_done(&self, outcome: Result<u64, Failed>) -> Option<Ended> {
        let mut state = self.state();
        match outcome {
            Ok(literal_bytes) => state.literal_bytes += literal_bytes,
            Err(failed) => drop(state.failed.get_or_insert(failed)),
        }
        state.missing = state.missing.saturating_sub(1);
        if state.missing > 0 {
            return None;
        }
        let result = state.result.take()?;
        Some(Ended {
            path: self.path.clone(),
            head: state.head,
            failed: state.failed.take(),
            literal_bytes: state.literal_bytes,
            result,
        })
    }
}
