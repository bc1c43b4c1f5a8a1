//! How fast something goes, smoothed so that the time left does not jump.
//!
//! In flows a counter with the moment it was read, out flows a rate a second. It knows nothing of
//! what is counted.

use jiff::Timestamp;

/// How much of the past counts: what happened this long ago weighs about a third.
const MEMORY_SECS: f64 = 8.0;
/// Readings closer together than this are one reading: their quotient would be noise.
const INTERVAL_SECS_MIN: f64 = 0.25;

/// An exponentially weighted mean of a counter's speed, without a bias towards zero at its start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rate {
    sum: f64,
    weight: f64,
    last: Option<(Timestamp, u64)>,
}

impl Rate {
    /// Takes a reading. A counter that fell far was started anew; one that fell a little was read
    /// by two tasks in another order than they were told.
    pub fn observe(&mut self, at: Timestamp, done: u64) {
        let Some((before, counted)) = self.last else {
            self.last = Some((at, done));
            return;
        };
        let Some(delta) = done.checked_sub(counted) else {
            if started_anew(counted, done) {
                *self = Rate { last: Some((at, done)), ..Rate::default() };
            }
            return;
        };
        let secs = at.duration_since(before).as_secs_f64();
        if secs < INTERVAL_SECS_MIN {
            return;
        }
        let share = 1.0 - (-secs / MEMORY_SECS).exp();
        self.sum += share * (delta as f64 / secs - self.sum);
        self.weight += share * (1.0 - self.weight);
        self.last = Some((at, done));
    }

    /// Units a second; none before two readings.
    pub fn per_sec(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }

    /// Seconds until `left` more units are done, at this speed.
    pub fn secs_for(&self, left: u64) -> Option<f64> {
        self.per_sec().filter(|rate| *rate > 0.0).map(|rate| left as f64 / rate)
    }
}

/// Whether a counter that went from one reading to a smaller one began again.
pub(super) fn started_anew(before: u64, after: u64) -> bool {
    after < before / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(millis).unwrap()
    }

    #[test]
    fn a_steady_counter_has_its_speed_from_the_second_reading_on() {
        let mut rate = Rate::default();
        assert_eq!(rate.per_sec(), None);
        for second in 0..5 {
            rate.observe(at(second * 1000), second as u64 * 200);
        }
        assert!((rate.per_sec().unwrap() - 200.0).abs() < 0.001);
        assert!((rate.secs_for(1000).unwrap() - 5.0).abs() < 0.001);
    }

    #[test]
    fn a_counter_that_starts_anew_forgets_its_past() {
        let mut rate = Rate::default();
        rate.observe(at(0), 0);
        rate.observe(at(1000), 1_000_000);
        rate.observe(at(2000), 0);
        rate.observe(at(3000), 10);
        assert!((rate.per_sec().unwrap() - 10.0).abs() < 0.001);
    }

    #[test]
    fn readings_that_overtake_each_other_do_not_start_anew() {
        let mut rate = Rate::default();
        for (millis, done) in [(0, 1000), (1000, 1100), (1100, 1095), (2000, 1200)] {
            rate.observe(at(millis), done);
        }
        assert!((rate.per_sec().unwrap() - 100.0).abs() < 0.001);
    }

    proptest! {
        /// The law: whatever is read, the speed lies between the slowest and the fastest seen.
        #[test]
        fn the_speed_is_one_that_was_seen(
            deltas in prop::collection::vec((250i64..5000, 0u64..1_000_000), 1..40)
        ) {
            let mut rate = Rate::default();
            let (mut now, mut done) = (0, 0);
            rate.observe(at(now), done);
            let (mut slowest, mut fastest) = (f64::MAX, 0.0f64);
            for (millis, delta) in deltas {
                now += millis;
                done += delta;
                rate.observe(at(now), done);
                let speed = delta as f64 / (millis as f64 / 1000.0);
                slowest = slowest.min(speed);
                fastest = fastest.max(speed);
            }
            let speed = rate.per_sec().unwrap();
            prop_assert!(speed >= slowest * 0.999 - 0.001 && speed <= fastest * 1.001 + 0.001);
        }
    }
}
