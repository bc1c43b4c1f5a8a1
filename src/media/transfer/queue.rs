//! The queue of loads that wait for a lane: one in, many out. How many may wait is up to whoever
//! puts them in. Large files wait in parts, each a load of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Mutex, Notify, mpsc};

use super::split::{self, Ended};
use super::{FileWork, Load, Work};

struct Shared {
    waiting: AtomicUsize,
    cuts: bool,
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
    ways_out: Mutex<WaysOut>,
    ended: mpsc::UnboundedSender<Ended>,
    shared: Arc<Shared>,
}

struct WaysOut {
    loads: mpsc::UnboundedReceiver<Load>,
    ended: mpsc::UnboundedReceiver<Ended>,
}

/// A queue that cuts large files, or does not.
pub(crate) fn queue(cuts: bool) -> (QueueSender, Queue) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared {
        waiting: AtomicUsize::new(0),
        cuts,
        added: Notify::new(),
        emptied: Notify::new(),
    });
    let (ended, ended_receiver) = mpsc::unbounded_channel();
    let ways_out = Mutex::new(WaysOut { loads: receiver, ended: ended_receiver });
    let queue = Queue { ways_out, ended, shared: shared.clone() };
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

    /// Puts in a file that any lane may take, or several together. Whether anybody still takes it.
    pub fn push_file(&self, file: FileWork) -> bool {
        if !self.shared.cuts || !split::is_large(&file) {
            return self.push(vec![Work::Move(file)]);
        }
        split::cut(file).all(|part| self.push(vec![Work::Part(part)]))
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
    /// Has any lane finish a file whose parts have ended.
    pub(super) fn end(&self, ended: Ended) {
        // The receiver is in our hand.
        let _ = self.ended.send(ended);
    }

    /// The next load; `None` when no more come. Dropping the future loses nothing.
    pub async fn next(&self) -> Option<Load> {
        let mut ways_out = self.ways_out.lock().await;
        let WaysOut { loads, ended } = &mut *ways_out;
        let load = tokio::select! {
            biased;
            Some(ended) = ended.recv() => return Some(vec![Work::End(ended)]),
            load = loads.recv() => load,
        };
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
            if self.is_closed() {
                return false;
            }
            added.await;
        }
    }

    /// Waits until no more loads come.
    pub async fn closed(&self) {
        loop {
            let added = self.shared.added.notified();
            if self.is_closed() {
                return;
            }
            added.await;
        }
    }

    /// Whether no more loads come. (The lock is free whenever no lane waits in it; then the queue
    /// tells of its end.)
    fn is_closed(&self) -> bool {
        self.ways_out.try_lock().is_ok_and(|ways_out| ways_out.loads.is_closed())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_lane_hears_that_another_one_took_the_last_load() {
        let (sender, queue) = queue(false);
        assert!(sender.push(Vec::new()));
        let idle = queue.idle();
        tokio::pin!(idle);
        assert!(idle.as_mut().now_or_never().is_none());
        assert!(queue.next().await.is_some());
        assert!(idle.now_or_never().is_some());
    }
}
