//! A monitor that never makes its caller wait: events go into a bounded queue, and a thread of its
//! own carries them to a [`Sink`]. A terminal that is stopped with Ctrl-S, or a slow pipe, does
//! not lengthen the downtime.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::queue::Queue;
use crate::event::{self, Event, Monitor, Stamped};

/// How often a sink may redraw what changes with time alone.
const TICK: Duration = Duration::from_millis(100);
/// How long [`Outlet::finish`] waits for a reader that has stopped reading.
const FINISH_SECS_MAX: u64 = 60;

/// Where events end up. Called from one thread, in order; its own failures are its own to keep:
/// a closed pipe must not end a move.
pub(super) trait Sink: Send {
    fn take(&mut self, stamped: &Stamped);

    /// Time has passed.
    fn tick(&mut self, now: Timestamp) {
        let _ = now;
    }

    /// Someone else is about to use the terminal.
    fn pause(&mut self) {}

    /// No more events come.
    fn finish(&mut self) {}
}

/// A sink with its queue and its thread. Dropping it finishes it.
pub struct Outlet {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    sink: Mutex<Box<dyn Sink>>,
}

#[derive(Default)]
struct State {
    queue: Queue,
    /// No more events are taken.
    closed: bool,
    /// The thread has ended.
    ended: bool,
}

impl Outlet {
    pub(super) fn start(sink: impl Sink + 'static) -> io::Result<Outlet> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            sink: Mutex::new(Box::new(sink)),
        });
        let carrier = shared.clone();
        let thread =
            std::thread::Builder::new().name("events".into()).spawn(move || carrier.carry())?;
        Ok(Outlet { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Waits until everything that was emitted is written, and ends. Events that come later are
    /// dropped. Blocks for a minute at most; more than once is harmless.
    pub fn finish(&self) {
        let deadline = Instant::now() + Duration::from_secs(FINISH_SECS_MAX);
        let mut state = lock(&self.shared.state);
        state.closed = true;
        self.shared.changed.notify_all();
        while !state.ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let wait = self.shared.changed.wait_timeout(state, left);
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        if let Some(thread) = lock(&self.thread).take() {
            // It has ended; if it panicked, the panic was printed.
            let _ = thread.join();
        }
    }

    /// Runs `ask` while nothing is drawn, for a question on the terminal. Events wait meanwhile.
    pub fn paused<R>(&self, ask: impl FnOnce() -> R) -> R {
        let mut sink = lock(&self.shared.sink);
        for stamped in lock(&self.shared.state).queue.take() {
            sink.take(&stamped);
        }
        sink.pause();
        ask()
    }
}

impl Monitor for Outlet {
    fn emit(&self, event: Event) {
        let mut state = lock(&self.shared.state);
        if !state.closed {
            let waits_for_tick = matches!(event, Event::Progress(_));
            // Stamped under the lock, so that the order in the queue is the order in time.
            state.queue.push(Stamped::now(event));
            if !waits_for_tick {
                self.shared.changed.notify_all();
            }
        }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Shared {
    fn carry(&self) {
        let _ended = Ended(self);
        loop {
            let closed = self.await_work();
            let mut sink = lock(&self.sink);
            // Taken with the sink in hand, so that nobody else carries later events before these.
            let batch = lock(&self.state).queue.take();
            for stamped in &batch {
                sink.take(stamped);
            }
            if closed && lock(&self.state).queue.is_empty() {
                sink.finish();
                return;
            }
            sink.tick(event::now());
        }
    }

    /// Waits for an event, the end or the next tick; tells whether the end has come.
    fn await_work(&self) -> bool {
        let state = lock(&self.state);
        if state.closed || state.queue.has_news() {
            return state.closed;
        }
        let wait = self.changed.wait_timeout(state, TICK);
        wait.unwrap_or_else(PoisonError::into_inner).0.closed
    }
}

/// Tells whoever waits in [`Outlet::finish`] that the thread ended, also when a sink panicked.
struct Ended<'a>(&'a Shared);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).ended = true;
        self.0.changed.notify_all();
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
