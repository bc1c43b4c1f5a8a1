//! A large file that travels in parts, over all lanes. Its parts are work like any other; what
//! came of them is gathered here, and whoever ends the last one publishes the file or gives it up.

use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use super::{Failed, Work};
use crate::media::read::changed;
use crate::wire::message::{PART_BYTES, PartHead, Side};
use crate::wire::path::RelPath;
use crate::wire::tree::{Failure, FailureKind};

/// A smaller file is carried by one lane.
const SPLIT_BYTES_MIN: u64 = 4 * PART_BYTES;

/// A file in parts.
#[derive(Debug)]
pub(super) struct Split {
    /// Its number in the pass.
    pub file: u64,
    pub path: RelPath,
    /// As scanned.
    size: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Parts whose end is not known yet.
    missing: u32,
    /// Of the first part that was read.
    head: Option<PartHead>,
    failed: Option<Failed>,
    /// Taken by whoever ends the last part.
    result: Option<oneshot::Sender<Result<(), Failed>>>,
}

/// A part to move.
#[derive(Debug)]
pub(super) struct Part {
    pub split: Arc<Split>,
    pub index: u32,
}

impl Part {
    pub fn bytes(&self) -> u64 {
        PART_BYTES.min(self.split.size - u64::from(self.index) * PART_BYTES)
    }
}

/// What is left to be done when all parts have ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub split: Arc<Split>,
    /// What the file is like, if all parts of it are there.
    pub outcome: Result<PartHead, Failed>,
    pub result: oneshot::Sender<Result<(), Failed>>,
}

/// Whether a file of this kind may be cut.
pub(super) fn is_large(work: &Work) -> bool {
    // A delta needs the whole file.
    let parts = work.size.div_ceil(PART_BYTES);
    work.signature.is_none() && work.size >= SPLIT_BYTES_MIN && u32::try_from(parts).is_ok()
}

/// Cuts a file that [`is_large`].
pub(super) fn cut(work: Work, file: u64) -> Vec<Part> {
    let Work { path, size, result, .. } = work;
    let missing = u32::try_from(size.div_ceil(PART_BYTES)).unwrap_or(u32::MAX);
    let state = State { missing, head: None, failed: None, result: Some(result) };
    let split = Arc::new(Split { file, path, size, state: Mutex::new(state) });
    (0..missing).map(|index| Part { split: split.clone(), index }).collect()
}

impl Split {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Whether a part has failed, so that the others need not be moved any more.
    pub fn has_failed(&self) -> bool {
        self.state().failed.is_some()
    }

    /// Takes the head of a part; an error if it is of another state of the file.
    pub fn accept(&self, head: PartHead) -> Result<(), Failure> {
        let known = *self.state().head.get_or_insert(head);
        if known == head && head.size == self.size { Ok(()) } else { Err(changed()) }
    }

    /// Notes that the file cannot be published, whatever becomes of the parts under way.
    pub fn fail(&self, failed: Failed) {
        self.state().failed.get_or_insert(failed);
    }

    /// Notes the end of a part. Whoever is given something ends the file with it.
    pub fn part_done(self: &Arc<Self>, outcome: Result<(), Failed>) -> Option<Ended> {
        let mut state = self.state();
        if let Err(failed) = outcome {
            state.failed.get_or_insert(failed);
        }
        state.missing = state.missing.saturating_sub(1);
        if state.missing > 0 {
            return None;
        }
        let result = state.result.take()?;
        let outcome = match (state.failed.take(), state.head) {
            (None, Some(head)) => Ok(head),
            (Some(failed), _) => Err(failed),
            (None, None) => {
                let failure = Failure::new(FailureKind::Other, "nothing was read of it");
                Err(Failed { side: Side::Source, failure })
            }
        };
        drop(state);
        Some(Ended { split: self.clone(), outcome, result })
    }
}
