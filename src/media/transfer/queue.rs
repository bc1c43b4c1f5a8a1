//! The queue of files that wait for a lane: one in, many out. Large ones wait in parts.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};

use tokio::sync::{Mutex, Notify, mpsc};

use super::Work;
use super::split::{self, Ended, Part};
use crate::wire::path::RelPath;

/// Items that may wait.
const WAITING_MAX: usize = 512;

/// What a lane takes.
#[derive(Debug)]
pub(super) enum Item {
    File(Work),
    Part(Part),
    /// All parts of a file have ended.
    Ended(Ended),
}

struct Shared {
    waiting: AtomicUsize,
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
    ways_out: Mutex<WaysOut>,
    ended: mpsc::UnboundedSender<Ended>,
    shared: Arc<Shared>,
}

struct WaysOut {
    items: mpsc::Receiver<Item>,
    ended: mpsc::UnboundedReceiver<Ended>,
}

pub(crate) fn queue() -> (QueueSender, Queue) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    let shared = Arc::new(Shared {
        waiting: AtomicUsize::new(0),
        cutting: AtomicBool::new(false),
        cut_files: AtomicU64::new(0),
        whole: std::sync::Mutex::default(),
        added: Notify::new(),
        emptied: Notify::new(),
    });
    let (ended, ended_receiver) = mpsc::unbounded_channel();
    let ways_out = Mutex::new(WaysOut { items: receiver, ended: ended_receiver });
    let queue = Queue { ways_out, ended, shared: shared.clone() };
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

    /// Has any lane finish a file whose parts have ended.
    pub(super) fn end(&self, ended: Ended) {
        // The receiver is in our hand.
        let _ = self.ended.send(ended);
    }

    /// What is next; `None` when no more comes. Dropping the future loses nothing.
    pub(super) async fn next(&self) -> Option<Item> {
        let mut ways_out = self.ways_out.lock().await;
        let WaysOut { items, ended } = &mut *ways_out;
        let item = tokio::select! {
            biased;
            Some(ended) = ended.recv() => return Some(Item::Ended(ended)),
            item = items.recv() => item,
        };
        match item {
            Some(_) => {
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

    /// Waits until no more comes.
    pub async fn closed(&self) {
        loop {
            let added = self.shared.added.notified();
            // The lock is free whenever no lane waits in it; then the queue tells of its end.
            if let Ok(ways_out) = self.ways_out.try_lock()
                && ways_out.items.is_closed()
            {
                return;
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
