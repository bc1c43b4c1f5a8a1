//! What changed, between whoever learns of it and the watch that looks there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::dirty::{Changed, Dirty};
use crate::wire::path::RelPath;

/// The paths that a watch is to look at next. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Changes(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    dirty: Mutex<Dirty>,
    more: Notify,
}

impl Changes {
    /// Something may have changed at `path`, or in it.
    pub fn add(&self, path: RelPath) {
        self.add_at(path, Instant::now());
    }

    pub(super) fn add_at(&self, path: RelPath, now: Instant) {
        self.lock().add(path, now);
        self.0.more.notify_one();
    }

    /// It is not known what happened.
    pub(super) fn add_everything(&self, now: Instant) {
        self.lock().add_everything(now);
        self.0.more.notify_one();
    }

    /// Since when something is dirty, and whether it is not known what.
    pub(super) fn dirty(&self) -> Option<(Instant, bool)> {
        let dirty = self.lock();
        dirty.since().map(|since| (since, dirty.is_everything()))
    }

    pub(super) fn take(&self) -> Changed {
        self.lock().take()
    }

    /// Waits until something more has changed.
    pub(super) async fn more(&self) {
        self.0.more.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Dirty> {
        self.0.dirty.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
