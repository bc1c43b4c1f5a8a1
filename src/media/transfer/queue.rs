//! The queue of files that wait for a lane: one in, many out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Mutex, Notify, mpsc};

use super::Work;

/// Files that may wait.
const WAITING_MAX: usize = 512;

struct Shared {
    waiting: AtomicUsize,
    added: Notify,
}

/// Where work is put. Dropping all clones ends the queue.
#[derive(Clone)]
pub(crate) struct QueueSender {
    /// `None` only while being dropped.
    work: Option<mpsc::Sender<Work>>,
    shared: Arc<Shared>,
}

/// Where lanes take work from.
pub(crate) struct Queue {
    work: Mutex<mpsc::Receiver<Work>>,
    shared: Arc<Shared>,
}

pub(crate) fn queue() -> (QueueSender, Queue) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    let shared = Arc::new(Shared { waiting: AtomicUsize::new(0), added: Notify::new() });
    let queue = Queue { work: Mutex::new(receiver), shared: shared.clone() };
    (QueueSender { work: Some(sender), shared }, queue)
}

impl QueueSender {
    /// Whether anybody still takes work.
    pub async fn push(&self, work: Work) -> bool {
        self.shared.waiting.fetch_add(1, Ordering::AcqRel);
        let sent = match &self.work {
            Some(sender) => sender.send(work).await.is_ok(),
            None => false,
        };
        self.shared.added.notify_one();
        sent
    }
}

impl Drop for QueueSender {
    fn drop(&mut self) {
        // Perhaps the last one: whoever waits for more must look again.
        self.work = None;
        self.shared.added.notify_one();
    }
}

impl Queue {
    /// The next file; `None` when no more come. Dropping the future loses nothing.
    pub async fn next(&self) -> Option<Work> {
        let work = self.work.lock().await.recv().await;
        match work {
            Some(_) => drop(self.shared.waiting.fetch_sub(1, Ordering::AcqRel)),
            // The lock was held, so whoever waits for more could not see the end.
            None => self.shared.added.notify_one(),
        }
        work
    }

    /// Whether nothing waits at the moment.
    pub fn is_idle(&self) -> bool {
        self.shared.waiting.load(Ordering::Acquire) == 0
    }

    /// Waits until files wait; `false` if no more come.
    pub async fn wait_for_backlog(&self) -> bool {
        loop {
            let added = self.shared.added.notified();
            if !self.is_idle() {
                return true;
            }
            // The lock is free whenever no lane waits in it; then the queue tells of its end.
            if let Ok(work) = self.work.try_lock()
                && work.is_closed()
            {
                return false;
            }
            added.await;
        }
    }
}
