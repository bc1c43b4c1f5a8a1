//! What holds for every story, and for every reader however slow.

use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use proptest::prelude::*;

use super::plain;
use super::story::{a_move, any_story, done, ended, media, started, story};
use crate::event::{Event, Monitor, Progress, Stamped};
use crate::render::outlet::Sink;
use crate::render::plain::Detail;
use crate::render::text::{Paint, is_unsafe};
use crate::render::view::{StepState, View};
use crate::render::{Outlet, live, status};

#[test]
fn a_resumed_run_keeps_its_past() {
    let mut events = a_move()[..11].to_vec();
    events.extend(story([
        (100.0, Event::RunStarted { run: "r1".into(), verb: "migrate".into() }),
        (101.0, started("media", 3, "Copy the media")),
        (103.0, ended("media", 2000, done("equal"))),
    ]));
    let view = View::of(&events);
    assert_eq!((view.resumed, view.steps_done()), (1, 3));
    assert_eq!(view.steps[2].cut_off, [(events[7].at, events[10].at)]);
    assert!(matches!(view.steps[2].state, StepState::Ended { .. }));
}

#[test]
fn a_slow_reader_misses_no_event_of_the_life_of_a_run() {
    struct Slow(Arc<Mutex<Vec<Event>>>, std::sync::mpsc::Receiver<()>);
    impl Sink for Slow {
        fn take(&mut self, stamped: &Stamped) {
            let mut seen = self.0.lock().unwrap();
            seen.push(stamped.event.clone());
            if seen.len() == 1 {
                drop(seen);
                // Stands still until everything was emitted.
                self.1.recv().unwrap();
            }
        }
    }
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (go_on, waits) = std::sync::mpsc::channel();
    let outlet = Outlet::start(Slow(seen.clone(), waits)).unwrap();
    let mut lives = Vec::new();
    for number in 0..100_000 {
        if number % 1000 == 0 {
            lives.push(started(&number.to_string(), number, "step"));
            outlet.emit(lives[lives.len() - 1].clone());
        }
        outlet.emit(media(number as u64, 0));
        outlet.emit(Event::Progress(Progress { activity: "redis".into(), ..Progress::default() }));
    }
    go_on.send(()).unwrap();
    outlet.finish();
    let seen = seen.lock().unwrap();
    let told: Vec<Event> =
        seen.iter().filter(|event| !matches!(event, Event::Progress(_))).cloned().collect();
    assert_eq!(told, lives);
    assert!(seen.contains(&media(99_999, 0)), "the last figures are told");
    assert!(seen.len() <= 3 * lives.len() + 4, "{} events", seen.len());
}

#[test]
fn a_sink_that_panics_does_not_hold_up_the_end() {
    struct Broken;
    impl Sink for Broken {
        fn take(&mut self, _: &Stamped) {
            panic!("this panic is part of the test");
        }
    }
    let outlet = Outlet::start(Broken).unwrap();
    outlet.emit(Event::DowntimeStarted);
    outlet.finish();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The law: every sequence of events folds and can be drawn, and progress, wherever it
    /// stands, changes nothing but the activities.
    #[test]
    fn any_events_fold_and_progress_changes_only_activities(
        events in any_story(),
        columns in 1usize..200,
    ) {
        let view = View::of(&events);
        let last = events.last().map_or(Timestamp::UNIX_EPOCH, |stamped| stamped.at);
        for line in live::lines(&view, last, columns, Paint(false)) {
            prop_assert!(!line.contains(is_unsafe), "{}", line);
        }
        status(&view, last);
        prop_assert!(!plain(&events, Detail::All).replace('\n', "").contains(is_unsafe));

        let (figures, lives): (Vec<Stamped>, Vec<Stamped>) = events
            .iter()
            .cloned()
            .partition(|stamped| matches!(stamped.event, Event::Progress(_)));
        let bare = |mut view: View| {
            view.activities.clear();
            view.latest = None;
            view.steps.iter_mut().for_each(|step| step.cut_off.clear());
            view
        };
        let expected = bare(view);
        prop_assert_eq!(&bare(View::of(&lives)), &expected);
        prop_assert_eq!(&bare(View::of(figures.iter().chain(&lives))), &expected);
    }
}
