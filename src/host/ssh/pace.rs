//! How much of what was sent may still be with the server. OpenSSH's grants two MiB before anything
//! is passed on, and its buffer for them grows by one packet at a time, each time copied whole: to
//! fill it once costs more than the hundred MiB that are sent meanwhile. Over a short way a fraction
//! keeps it busy.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// Only a way this short needs no more than [`WITH_SERVER_BYTES`] under way.
const SHORT: Duration = Duration::from_millis(1);
const WITH_SERVER_BYTES: i64 = 512 * 1024;
/// A server that grants nothing for so long may be waiting for more, and is given more.
const PATIENCE: Duration = Duration::from_millis(50);
const MORE_BYTES: i64 = 128 * 1024;

/// The pace of one channel.
pub(super) struct Pace {
    /// `None` where the server's window alone decides.
    state: Option<Mutex<State>>,
    granted: Notify,
}

struct State {
    /// What may be with the server.
    bytes_max: i64,
    /// What it still takes, as far as is known, and the most it took.
    window: i64,
    window_max: i64,
}

impl Pace {
    /// For a way there and back that takes so long; `window` is what the server has granted.
    pub fn new(round_trip: Duration, window: Option<u32>) -> Self {
        let window = i64::from(window.unwrap_or_default());
        let state = State { bytes_max: WITH_SERVER_BYTES, window, window_max: window };
        let state = (round_trip < SHORT).then(|| Mutex::new(state));
        Pace { state, granted: Notify::new() }
    }

    fn with<T>(&self, deed: impl FnOnce(&mut State) -> T) -> Option<T> {
        let state = self.state.as_ref()?;
        Some(deed(&mut state.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// The server takes so much now.
    pub fn grant(&self, window: u32) {
        self.with(|state| {
            state.window = i64::from(window);
            state.window_max = state.window_max.max(state.window);
        });
        self.granted.notify_one();
    }

    /// Waits until more may be sent, and counts it.
    pub async fn send(&self, bytes: usize) {
        let is_full = |state: &mut State| state.window_max - state.window >= state.bytes_max;
        while self.with(is_full) == Some(true) {
            if tokio::time::timeout(PATIENCE, self.granted.notified()).await.is_err() {
                self.with(|state| state.bytes_max += MORE_BYTES);
            }
        }
        self.with(|state| state.window -= bytes as i64);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::time::Instant;

    use super::*;

    const WINDOW: u32 = 2 << 20;
    const ITEM: usize = 128 * 1024;

    async fn fill(pace: &Pace) -> usize {
        let mut sent = 0;
        while pace.send(ITEM).now_or_never().is_some() && sent < 100 {
            sent += 1;
        }
        sent
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_of_the_window_is_used_until_the_server_grants_more() {
        let pace = Pace::new(Duration::from_micros(80), Some(WINDOW));
        assert_eq!(fill(&pace).await, 4);
        pace.grant(WINDOW - 2 * ITEM as u32);
        assert_eq!(fill(&pace).await, 2);
        pace.grant(WINDOW);
        assert_eq!(fill(&pace).await, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_grants_late_is_not_waited_for_in_vain() {
        let pace = Pace::new(Duration::from_micros(80), Some(WINDOW));
        let started = Instant::now();
        for _ in 0..16 {
            pace.send(ITEM).await;
        }
        assert_eq!(started.elapsed(), 12 * PATIENCE);
        pace.grant(WINDOW);
        assert_eq!(fill(&pace).await, 16);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_way_is_filled() {
        let pace = Pace::new(Duration::from_millis(40), Some(WINDOW));
        assert_eq!(fill(&pace).await, 100);
    }
}
