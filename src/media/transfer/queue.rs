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
    emptied: Notify,
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
    let waiting = AtomicUsize::new(0);
    let shared = Arc::new(Shared { waiting, added: Notify::new(), emptied: Notify::new() });
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
            Some(_) => {
                if self.shared.waiting.fetch_sub(1, Ordering::AcqRel) == 1 {
                    self.shared.emptied.notify_waiters();
                }
            }
            // The lock was held, so whoever waits for more could not see the end.
            None => self.shared.added.notify_one(),
        }
        work
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
