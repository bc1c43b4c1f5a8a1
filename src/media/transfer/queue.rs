//! The queue of files that wait for a lane: one in, many out. Large ones wait in parts.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};

use tokio::sync::{Mutex, Notify, mpsc};

use super::Work;
use super::split::{self, Part};
use crate::wire::path::RelPath;

/// Items that may wait.
const WAITING_MAX: usize = 512;

/// As long as a lane comes up, so much is kept for it: only what exceeds it calls for another.
const LANE_ITEMS: usize = 64;
const LANE_BYTES: u64 = 8 << 20;

/// What a lane takes.
#[derive(Debug)]
pub(super) enum Item {
    File(Work),
    Part(Part),
}

impl Item {
    /// About how much is to be moved.
    pub fn bytes(&self) -> u64 {
        match self {
            Item::File(work) => work.size,
            Item::Part(part) => part.bytes(),
        }
    }
}

struct Shared {
    waiting: AtomicUsize,
    waiting_bytes: AtomicU64,
    /// Large files are cut.
    cutting: AtomicBool,
    /// Files cut so far.
    cut_files: AtomicU64,
    /// Files that failed in parts: whole they may succeed.
    whole: std::sync::Mutex<HashSet<RelPath>>,
    added: Notify,
    emptied: Notify,
}

/// Where work is put. Dropping all clones ends the queue.
#[derive(Clone)]
pub(crate) struct QueueSender {
    /// `None` only while being dropped.
    items: Option<mpsc::Sender<Item>>,
    shared: Arc<Shared>,
}

/// Where lanes take work from.
pub(crate) struct Queue {
    items: Mutex<mpsc::Receiver<Item>>,
    shared: Arc<Shared>,
}

pub(crate) fn queue() -> (QueueSender, Queue) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    let shared = Arc::new(Shared {
        waiting: AtomicUsize::new(0),
        waiting_bytes: AtomicU64::new(0),
        cutting: AtomicBool::new(false),
        cut_files: AtomicU64::new(0),
        whole: std::sync::Mutex::default(),
        added: Notify::new(),
        emptied: Notify::new(),
    });
    let queue = Queue { items: Mutex::new(receiver), shared: shared.clone() };
    (QueueSender { items: Some(sender), shared }, queue)
}

impl QueueSender {
    /// Whether anybody still takes work.
    pub async fn push(&self, work: Work) -> bool {
        if !self.shared.is_to_be_cut(&work) {
            return self.push_item(Item::File(work)).await;
        }
        let file = self.shared.cut_files.fetch_add(1, Ordering::Relaxed) + 1;
        for part in split::cut(work, file) {
            if !self.push_item(Item::Part(part)).await {
                return false;
            }
        }
        true
    }

    async fn push_item(&self, item: Item) -> bool {
        self.shared.waiting.fetch_add(1, Ordering::AcqRel);
        self.shared.waiting_bytes.fetch_add(item.bytes(), Ordering::AcqRel);
        let sent = match &self.items {
            Some(sender) => sender.send(item).await.is_ok(),
            None => false,
        };
        self.shared.added.notify_one();
        sent
    }
}

impl Shared {
    fn is_to_be_cut(&self, work: &Work) -> bool {
        let mut whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        // Once whole, it may be cut again in whatever comes later.
        self.cutting.load(Ordering::Acquire) && split::is_large(work) && !whole.remove(&work.path)
    }
}

impl Drop for QueueSender {
    fn drop(&mut self) {
        // Perhaps the last one: whoever waits for more must look again.
        self.items = None;
        self.shared.added.notify_one();
    }
}

impl Queue {
    /// Has large files cut from now on.
    pub fn cut_large(&self) {
        self.shared.cutting.store(true, Ordering::Release);
    }

    /// Has `path` travel whole when it comes next.
    pub fn keep_whole(&self, path: &RelPath) {
        let mut whole = self.shared.whole.lock().unwrap_or_else(PoisonError::into_inner);
        whole.insert(path.clone());
    }

    /// What is next; `None` when no more comes. Dropping the future loses nothing.
    pub(super) async fn next(&self) -> Option<Item> {
        let item = self.items.lock().await.recv().await;
        match &item {
            Some(item) => {
                self.shared.waiting_bytes.fetch_sub(item.bytes(), Ordering::AcqRel);
                if self.shared.waiting.fetch_sub(1, Ordering::AcqRel) == 1 {
                    self.shared.emptied.notify_waiters();
                }
            }
            // The lock was held, so whoever waits for more could not see the end.
            None => self.shared.added.notify_one(),
        }
        item
    }

    /// Waits until nothing waits, also if others take the last of it.
    pub async fn idle(&self) {
        loop {
            let emptied = self.shared.emptied.notified();
            if self.is_idle() {
                return;
            }
            emptied.await;
        }
    }

    /// Whether nothing waits at the moment.
    fn is_idle(&self) -> bool {
        self.shared.waiting.load(Ordering::Acquire) == 0
    }

    /// Waits until there is work for one more lane while `opening` others come up; `false` if no
    /// more comes.
    pub async fn wait_for_backlog(&self, opening: usize) -> bool {
        loop {
            let added = self.shared.added.notified();
            let waiting = self.shared.waiting.load(Ordering::Acquire);
            let waiting_bytes = self.shared.waiting_bytes.load(Ordering::Acquire);
            if waiting > opening * LANE_ITEMS
                || waiting > 0 && waiting_bytes > opening as u64 * LANE_BYTES
            {
                return true;
            }
            // The lock is free whenever no lane waits in it; then the queue tells of its end.
            if let Ok(items) = self.items.try_lock()
                && items.is_closed()
            {
                return false;
            }
            added.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::sync::oneshot;

    use super::*;
    use crate::wire::path::RelPath;

    #[tokio::test]
    async fn a_lane_hears_that_another_one_took_the_last_file() {
        let (sender, queue) = queue();
        let (result, _answer) = oneshot::channel();
        let work = Work { path: RelPath::root(), size: 0, signature: None, result };
        assert!(sender.push(work).await);
        let idle = queue.idle();
        tokio::pin!(idle);
        assert!(idle.as_mut().now_or_never().is_none());
        assert!(queue.next().await.is_some());
        assert!(idle.now_or_never().is_some());
    }
}
