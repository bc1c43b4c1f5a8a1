//! The queue of loads that wait for a lane: one in, many out. How many may wait is up to whoever
//! puts them in.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Mutex, Notify, mpsc};

use super::Load;

struct Shared {
    waiting: AtomicUsize,
    added: Notify,
    emptied: Notify,
}

/// Where loads are put. Dropping all clones ends the queue.
#[derive(Clone)]
pub(crate) struct QueueSender {
    /// `None` only while being dropped.
    loads: Option<mpsc::UnboundedSender<Load>>,
    shared: Arc<Shared>,
}

/// Where lanes take loads from.
pub(crate) struct Queue {
    loads: Mutex<mpsc::UnboundedReceiver<Load>>,
    shared: Arc<Shared>,
}

pub(crate) fn queue() -> (QueueSender, Queue) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let waiting = AtomicUsize::new(0);
    let shared = Arc::new(Shared { waiting, added: Notify::new(), emptied: Notify::new() });
    let queue = Queue { loads: Mutex::new(receiver), shared: shared.clone() };
    (QueueSender { loads: Some(sender), shared }, queue)
}

impl QueueSender {
    /// Whether anybody still takes loads.
    pub fn push(&self, load: Load) -> bool {
        self.shared.waiting.fetch_add(1, Ordering::AcqRel);
        let sent = self.loads.as_ref().is_some_and(|sender| sender.send(load).is_ok());
        self.shared.added.notify_one();
        sent
    }
}

impl Drop for QueueSender {
    fn drop(&mut self) {
        // Perhaps the last one: whoever waits for more must look again.
        self.loads = None;
        self.shared.added.notify_one();
    }
}

impl Queue {
    /// The next load; `None` when no more come. Dropping the future loses nothing.
    pub async fn next(&self) -> Option<Load> {
        let load = self.loads.lock().await.recv().await;
        match load {
            Some(_) => {
                if self.shared.waiting.fetch_sub(1, Ordering::AcqRel) == 1 {
                    self.shared.emptied.notify_waiters();
                }
            }
            // The lock was held, so whoever waits for more could not see the end.
            None => self.shared.added.notify_one(),
        }
        load
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

    /// Waits until loads wait; `false` if no more come.
    pub async fn wait_for_backlog(&self) -> bool {
        loop {
            let added = self.shared.added.notified();
            if !self.is_idle() {
                return true;
            }
            // The lock is free whenever no lane waits in it; then the queue tells of its end.
            if let Ok(loads) = self.loads.try_lock()
                && loads.is_closed()
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

    use super::*;

    #[tokio::test]
    async fn a_lane_hears_that_another_one_took_the_last_load() {
        let (sender, queue) = queue();
        assert!(sender.push(Vec::new()));
        let idle = queue.idle();
        tokio::pin!(idle);
        assert!(idle.as_mut().now_or_never().is_none());
        assert!(queue.next().await.is_some());
        assert!(idle.now_or_never().is_some());
    }
}
