//! `--bwlimit`: one rate over all connections.

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
        let due = {
            let mut paid = self.paid.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            // Time in which nothing passed is not saved up.
            let due = (*paid).max(Instant::now());
            *paid = due + cost;
            due
        };
        tokio::time::sleep_until(due).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_pass_at_the_rate_whoever_sends_them() {
        let throttle = Throttle::new(Some(1000));
        let start = Instant::now();
        tokio::join!(
            async { throttle.pass(1500).await },
            async { throttle.pass(1500).await },
            async { throttle.pass(1).await }
        );
        assert_eq!(start.elapsed(), Duration::from_secs(3));
        Throttle::new(None).pass(usize::MAX).await;
        assert_eq!(start.elapsed(), Duration::from_secs(3));
    }
}
