//! `--gentle`: whoever reads the source leaves its machine to those who serve people. Work passes a
//! governor, which looks at how busy the machine is (`pressure`) and lets a share of what is
//! possible pass (`share`); the threads that read have the lowest priority (`priority`). It is
//! decided where the source is read: in this process, or in the helper over there.
//!
//! What our own reading makes others wait counts as well: also a machine that does nothing else is
//! not read at full speed.

mod pressure;
mod priority;
mod share;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub(super) use pressure::figures;
pub use pressure::read_from;
use pressure::{Look, Pressure};
pub(super) use priority::yield_to_others;
use share::Share;

/// How often it is looked how busy the machine is.
const EVERY: Duration = Duration::from_millis(500);
/// No single wait is longer: a pass that was given up must end.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// The governors of one tree: contents and entries are of different kinds.
#[derive(Clone, Debug)]
pub(crate) struct Gentle {
    /// Bytes of contents.
    pub contents: Arc<Governor>,
    /// Directories and what is in them.
    pub entries: Arc<Governor>,
}

impl Gentle {
    pub fn new() -> Self {
        let governor = || Arc::new(Governor::new());
        Gentle { contents: governor(), entries: governor() }
    }
}

/// Lets work pass at a share of the speed that was seen when it passed freely.
#[derive(Debug)]
pub(crate) struct Governor(Mutex<State>);

#[derive(Debug)]
struct State {
    look: Look,
    share: Share,
    sampled: Instant,
    /// Since then.
    passed: u64,
    /// The most that passed in a second.
    best: f64,
    /// When what has passed is paid for.
    paid: Instant,
}

impl Governor {
    fn new() -> Self {
        let now = Instant::now();
        let state = State {
            look: Look::new(),
            share: Share::default(),
            sampled: now,
            passed: 0,
            best: 0.0,
            paid: now,
        };
        Governor(Mutex::new(state))
    }

    /// Waits until so much may pass. Blocks.
    pub fn pass_here(&self, amount: u64) {
        let wait = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            if now - state.sampled >= EVERY {
                let pressure = state.look.pressure();
                state.sample(now, pressure);
            }
            state.book(now, amount)
        };
        if wait > Duration::ZERO {
            std::thread::sleep(wait.min(WAIT_MAX));
        }
    }
}

impl State {
    fn sample(&mut self, now: Instant, pressure: Option<Pressure>) {
        let rate = self.passed as f64 / (now - self.sampled).as_secs_f64();
        // What was possible with a warm cache may not be so later; while it waits or is held back
        // nothing is learnt of that.
        let forgets = self.share.is_whole() && self.passed > 0;
        self.best = rate.max(self.best * if forgets { 0.98 } else { 1.0 });
        (self.sampled, self.passed) = (now, 0);
        if let Some(pressure) = pressure {
            self.share.step(pressure);
        }
    }

    fn book(&mut self, now: Instant, amount: u64) -> Duration {
        self.passed += amount;
        if self.share.is_whole() || self.best <= 0.0 {
            self.paid = now;
            return Duration::ZERO;
        }
        let due = self.paid.max(now);
        let cost = amount as f64 / (self.best * self.share.get());
        self.paid = due + Duration::from_secs_f64(cost.min(WAIT_MAX.as_secs_f64()));
        due - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_machine_slows_it_down_and_an_idle_one_lets_it_go() {
        let governor = Governor::new();
        let mut state = governor.0.into_inner().unwrap();
        let mut now = state.sampled;
        // Ten seconds of work as fast as it may, asked for by the kilobyte.
        let mut run = |state: &mut State, pressure: Option<Pressure>| {
            let (mut passed, end) = (0, now + Duration::from_secs(10));
            while now < end {
                if now - state.sampled >= EVERY {
                    state.sample(now, pressure);
                }
                now += state.book(now, 1000).max(Duration::from_millis(1));
                passed += 1000;
            }
            passed
        };
        let idle = Pressure { io: 0.0, cpu: 0.0 };
        let free = run(&mut state, Some(idle));
        let busy = run(&mut state, Some(Pressure { io: 0.9, ..idle }));
        assert!(busy < free / 4, "{busy} of {free}");
        run(&mut state, Some(idle));
        assert!(run(&mut state, Some(idle)) > free * 9 / 10);
        // Where nothing tells how busy it is, nothing changes.
        assert!(run(&mut state, None) > free * 9 / 10);
    }
}
