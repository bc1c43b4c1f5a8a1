//! `--bwlimit`: one rate over all connections; and the rate at which contents are compared.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// Lets bytes pass at a rate; without one, at once.
#[derive(Debug)]
pub(crate) struct Throttle {
    /// Bytes a second.
    rate: Option<u64>,
    /// When what has passed so far is paid for.
    paid: Mutex<Instant>,
}

impl Throttle {
    pub fn new(rate: Option<u64>) -> Self {
        Throttle { rate: rate.map(|rate| rate.max(1)), paid: Mutex::new(Instant::now()) }
    }

    /// Waits until `bytes` may pass.
    pub async fn pass(&self, bytes: usize) {
        let Some(rate) = self.rate else { return };
        let cost = Duration::from_secs_f64(bytes as f64 / rate as f64);
        tokio::time::sleep_until(self.book(Instant::now(), cost)).await;
    }

    /// The same on a thread that may block.
    pub fn pass_here(&self, bytes: usize) {
        let Some(rate) = self.rate else { return };
        let cost = Duration::from_secs_f64(bytes as f64 / rate as f64);
        let now = Instant::now();
        std::thread::sleep(self.book(now, cost).saturating_duration_since(now));
    }

    /// When something of this cost may pass that comes at `now`.
    fn book(&self, now: Instant, cost: Duration) -> Instant {
        let mut paid = self.paid.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // Time in which nothing passed is not saved up.
        let due = (*paid).max(now);
        *paid = due + cost;
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_together_passes_one_after_the_other_and_idle_time_is_not_saved_up() {
        let throttle = Throttle::new(Some(1000));
        let start = Instant::now() + Duration::from_secs(60);
        let second = Duration::from_secs(1);
        assert_eq!(throttle.book(start, second), start);
        assert_eq!(throttle.book(start, second), start + second);
        assert_eq!(throttle.book(start + 9 * second, second), start + 9 * second);
        assert_eq!(throttle.book(start + 9 * second, second), start + 10 * second);
    }
}
