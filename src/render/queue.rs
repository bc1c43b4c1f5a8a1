//! What waits to be told: bounded, in order, with progress that coalesces.
//!
//! Events of the life of a run are never dropped: a plan has tens of steps, so they fit. Progress
//! of one activity replaces the one that waits already. If the reader stands still while thousands
//! of problems or notes arrive, those past the limit are counted and the count is told instead.

use std::collections::VecDeque;

use crate::event::{Event, Stamped};

/// How many events may wait before problems, notes and findings are only counted.
pub(super) const WAITING_MAX: usize = 16 * 1024;
/// How many activities may have progress waiting between two other events.
const PROGRESS_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Stamped>,
    left_out: u64,
}

impl Queue {
    pub fn push(&mut self, stamped: Stamped) {
        match kind(&stamped.event) {
            Kind::Life => self.waiting.push_back(stamped),
            Kind::Text if self.waiting.len() >= WAITING_MAX => self.left_out += 1,
            Kind::Text => self.waiting.push_back(stamped),
            Kind::Progress => self.push_progress(stamped),
        }
    }

    /// Everything that waits, oldest first.
    pub fn take(&mut self) -> VecDeque<Stamped> {
        let mut taken = std::mem::take(&mut self.waiting);
        let left_out = std::mem::take(&mut self.left_out);
        if let (true, Some(last)) = (left_out > 0, taken.back()) {
            let text = format!("{left_out} more lines came faster than they could be written");
            taken.push_back(Stamped { at: last.at, event: Event::Note { text } });
        }
        taken
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether anything waits that should not wait for the next tick.
    pub fn has_news(&self) -> bool {
        // At most `PROGRESS_MAX` are skipped before anything else is found.
        self.waiting.iter().any(|waiting| kind(&waiting.event) != Kind::Progress)
    }

    /// Puts progress in the place of the one that waits since the last event of another kind.
    fn push_progress(&mut self, stamped: Stamped) {
        let recent = self
            .waiting
            .iter_mut()
            .rev()
            .take_while(|waiting| kind(&waiting.event) == Kind::Progress);
        let mut count = 0;
        for waiting in recent {
            count += 1;
            if activity(&waiting.event) == activity(&stamped.event) {
                *waiting = stamped;
                return;
            }
        }
        if count < PROGRESS_MAX && self.waiting.len() < WAITING_MAX {
            self.waiting.push_back(stamped);
        }
    }
}

#[derive(PartialEq, Eq)]
enum Kind {
    Life,
    Text,
    Progress,
}

fn kind(event: &Event) -> Kind {
    match event {
        Event::RunStarted { .. }
        | Event::StepPredicted { .. }
        | Event::StepStarted { .. }
        | Event::StepFinished { .. }
        | Event::DowntimeStarted
        | Event::DowntimeEnded { .. }
        | Event::PointOfNoReturn
        | Event::RunFinished { .. } => Kind::Life,
        Event::Finding { .. } | Event::Problem { .. } | Event::Note { .. } => Kind::Text,
        Event::Progress(_) => Kind::Progress,
    }
}

fn activity(event: &Event) -> Option<&str> {
    if let Event::Progress(progress) = event { Some(&progress.activity) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Progress;
    use jiff::Timestamp;
    use proptest::prelude::*;

    fn stamped(event: Event) -> Stamped {
        Stamped { at: Timestamp::UNIX_EPOCH, event }
    }

    fn progress(activity: &str, items_done: u64) -> Event {
        Event::Progress(Progress { activity: activity.into(), items_done, ..Progress::default() })
    }

    #[test]
    fn texts_past_the_limit_are_counted_and_lives_still_pass() {
        let mut queue = Queue::default();
        for number in 0..WAITING_MAX + 5 {
            queue.push(stamped(Event::Note { text: number.to_string() }));
        }
        queue.push(stamped(Event::PointOfNoReturn));
        let taken = queue.take();
        assert_eq!(taken.len(), WAITING_MAX + 2);
        assert_eq!(taken[WAITING_MAX].event, Event::PointOfNoReturn);
        let text = "5 more lines came faster than they could be written".to_owned();
        assert_eq!(taken[WAITING_MAX + 1].event, Event::Note { text });
    }

    proptest! {
        /// The law: what is not progress comes out whole and in order, whenever it is taken, and
        /// the newest progress before each such event is there.
        #[test]
        fn only_progress_coalesces(
            events in prop::collection::vec((0u8..5, 0u64..1000), 0..200),
            every in 1usize..50,
        ) {
            let (mut queue, mut taken) = (Queue::default(), Vec::new());
            let mut sent = Vec::new();
            for (index, (what, number)) in events.iter().enumerate() {
                let event = match what {
                    0 => Event::Note { text: number.to_string() },
                    1 => Event::DowntimeEnded { millis: *number },
                    2 => progress("media", *number),
                    _ => progress("database", *number),
                };
                sent.push(event.clone());
                queue.push(stamped(event));
                if index % every == 0 {
                    taken.extend(queue.take());
                }
            }
            taken.extend(queue.take());
            let lives = |events: &[Event]| -> Vec<Event> {
                events.iter().filter(|event| kind(event) != Kind::Progress).cloned().collect()
            };
            let taken: Vec<Event> = taken.into_iter().map(|stamped| stamped.event).collect();
            prop_assert_eq!(lives(&taken), lives(&sent));
            for name in ["media", "database"] {
                let last = |events: &[Event]| {
                    events.iter().rfind(|event| activity(event) == Some(name)).cloned()
                };
                prop_assert_eq!(last(&taken), last(&sent));
            }
        }
    }
}
