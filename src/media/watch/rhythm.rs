//! When a watch looks again, and at what. Pure: times in, times out.

use std::time::Duration;

use tokio::time::Instant;

/// How a pass looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// At everything, as a pass without a watch does.
    Whole,
    /// At every directory, and at files where something says that they may have changed.
    Quick,
    /// At what is known to have changed.
    Changed,
}

/// The pace of a watch.
#[derive(Clone, Copy, Debug)]
pub struct Rhythm {
    /// Changes that come within this time are looked at together.
    pub gather: Duration,
    /// Between two looks at everything where nobody tells of changes: so long after one that found
    /// something,
    pub quick_min: Duration,
    /// and so long after many that found nothing.
    pub quick_max: Duration,
    /// Between two passes that look at every file where nobody tells of changes,
    pub whole: Duration,
    /// and where somebody does.
    pub whole_told: Duration,
    /// After a failure that may pass, at first and at most.
    pub retry_min: Duration,
    pub retry_max: Duration,
}

impl Rhythm {
    pub const DEFAULT: Rhythm = Rhythm {
        gather: Duration::from_secs(1),
        quick_min: Duration::from_secs(2),
        quick_max: Duration::from_secs(60),
        whole: Duration::from_secs(300),
        whole_told: Duration::from_secs(3600),
        retry_min: Duration::from_secs(1),
        retry_max: Duration::from_secs(60),
    };
}

impl Default for Rhythm {
    fn default() -> Self {
        Rhythm::DEFAULT
    }
}

/// A pass takes this share of the time at most, where it is not asked for.
const REST: u32 = 4;

/// What a watch is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Every change.
    All,
    /// Most of what is urgent: the rest is looked for, without haste.
    Some,
    Nothing,
}

pub(super) struct Schedule {
    rhythm: Rhythm,
    told: Told,
    whole_at: Instant,
    quick_at: Instant,
    quick_pause: Duration,
    failures: u32,
    not_before: Instant,
}

impl Schedule {
    /// The first pass looks at everything, at once.
    pub fn new(rhythm: Rhythm, told: Told, now: Instant) -> Self {
        let quick_pause = rhythm.quick_min;
        Schedule {
            rhythm,
            told,
            whole_at: now,
            quick_at: now,
            quick_pause,
            failures: 0,
            not_before: now,
        }
    }

    /// When the next pass is due, and how it looks. `dirty` tells since when something is known to
    /// have changed, and whether it is not known what.
    pub fn next(&self, dirty: Option<(Instant, bool)>) -> (Instant, Look) {
        let mut next = (self.whole_at, Look::Whole);
        if self.failures > 0 {
            return next;
        }
        if self.told != Told::All && self.quick_at < next.0 {
            next = (self.quick_at, Look::Quick);
        }
        if let Some((since, everything)) = dirty {
            let at = since + self.rhythm.gather;
            if at < next.0 {
                next = (at, if everything { Look::Quick } else { Look::Changed });
            }
        }
        (next.0.max(self.not_before), next.1)
    }

    /// A pass ended well. `left` tells that some of it must be tried again.
    pub fn done(&mut self, look: Look, started: Instant, ended: Instant, moved: bool, left: bool) {
        let rest = (ended - started) * REST;
        self.failures = 0;
        self.not_before = ended;
        let whole = match self.told {
            Told::All => self.rhythm.whole_told,
            Told::Some | Told::Nothing => self.rhythm.whole,
        };
        if look == Look::Whole {
            self.whole_at = ended + whole.max(rest);
        }
        // A look at single places says nothing about the others.
        if look != Look::Changed {
            self.quick_pause = match (self.told, moved) {
                (Told::Some, _) => self.rhythm.quick_max,
                (Told::All | Told::Nothing, true) => self.rhythm.quick_min,
                (Told::All | Told::Nothing, false) => {
                    (self.quick_pause * 2).min(self.rhythm.quick_max)
                }
            };
            self.quick_at = ended + self.quick_pause.max(rest);
        }
        if left && look != Look::Whole {
            self.whole_at = self.whole_at.min(ended + self.rhythm.quick_max.max(rest));
        }
    }

    /// A pass failed in a way that may pass: how long to wait before the next try, which looks at
    /// everything, because it is not known what was done.
    pub fn failed(&mut self, now: Instant) -> Duration {
        let pause = self.rhythm.retry_min * 2_u32.saturating_pow(self.failures.min(16));
        let pause = pause.min(self.rhythm.retry_max);
        self.failures += 1;
        self.whole_at = now + pause;
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEC: Duration = Duration::from_secs(1);

    #[test]
    fn where_nobody_tells_passes_come_less_often_while_nothing_happens() {
        let start = Instant::now();
        let mut schedule = Schedule::new(Rhythm::default(), Told::Nothing, start);
        assert_eq!(schedule.next(None), (start, Look::Whole));
        schedule.done(Look::Whole, start, start, false, false);
        let (mut now, mut pauses) = (start, Vec::new());
        while let (at, Look::Quick) = schedule.next(None) {
            pauses.push((at - now).as_secs());
            schedule.done(Look::Quick, at, at, false, false);
            now = at;
        }
        assert_eq!(pauses[..6], [4, 8, 16, 32, 60, 60]);
        assert_eq!(schedule.next(None), (start + 300 * SEC, Look::Whole));
        schedule.done(Look::Quick, now, now, true, false);
        assert_eq!(schedule.next(None).0, now + 2 * SEC);
        let (mut schedule, now) = (Schedule::new(Rhythm::default(), Told::Nothing, start), start);
        schedule.done(Look::Whole, now, now, true, false);
        // A pass that takes long is not begun again at once.
        schedule.done(Look::Quick, now, now + 20 * SEC, true, false);
        assert_eq!(schedule.next(None).0, now + 100 * SEC);
    }

    #[test]
    fn what_is_told_is_gathered_and_looked_at_and_nothing_else_is() {
        let start = Instant::now();
        let mut schedule = Schedule::new(Rhythm::default(), Told::All, start);
        schedule.done(Look::Whole, start, start, true, false);
        assert_eq!(schedule.next(None), (start + 3600 * SEC, Look::Whole));
        let since = start + 5 * SEC;
        assert_eq!(schedule.next(Some((since, false))), (since + SEC, Look::Changed));
        assert_eq!(schedule.next(Some((since, true))), (since + SEC, Look::Quick));
        // What failed is tried again before long.
        schedule.done(Look::Changed, since, since, true, true);
        assert_eq!(schedule.next(None), (since + 60 * SEC, Look::Whole));
    }

    #[test]
    fn where_some_is_told_the_rest_is_looked_for_without_haste_and_never_put_off() {
        let start = Instant::now();
        let mut schedule = Schedule::new(Rhythm::default(), Told::Some, start);
        schedule.done(Look::Whole, start, start, true, false);
        assert_eq!(schedule.next(None), (start + 60 * SEC, Look::Quick));
        for secs in 1..60 {
            let now = start + secs * SEC;
            assert_eq!(schedule.next(Some((now - SEC, false))), (now, Look::Changed));
            schedule.done(Look::Changed, now, now, true, false);
        }
        let now = start + 60 * SEC;
        assert_eq!(schedule.next(Some((now, false))), (now, Look::Quick));
        schedule.done(Look::Quick, now, now, true, false);
        assert_eq!(schedule.next(None), (start + 120 * SEC, Look::Quick));
    }

    #[test]
    fn a_failure_is_followed_by_longer_and_longer_pauses_and_by_a_whole_pass() {
        let start = Instant::now();
        let mut schedule = Schedule::new(Rhythm::default(), Told::All, start);
        let pauses: Vec<u64> = (0..9).map(|_| schedule.failed(start).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(schedule.next(Some((start, false))), (start + 60 * SEC, Look::Whole));
        schedule.done(Look::Whole, start, start, false, false);
        assert_eq!(schedule.failed(start), SEC);
    }
}
