//! Stories to tell: a move that goes well, one that is unwound, and any other.

use jiff::Timestamp;
use proptest::prelude::*;

use crate::event::{Event, Level, Progress, Stamped, StepOutcome};

/// A story told with its times in seconds from its start.
pub fn story(events: impl IntoIterator<Item = (f64, Event)>) -> Vec<Stamped> {
    let start: Timestamp = "2026-11-24T03:00:00Z".parse().unwrap();
    events
        .into_iter()
        .map(|(secs, event)| {
            let at = start.as_millisecond() + (secs * 1000.0) as i64;
            Stamped { at: Timestamp::from_millisecond(at).unwrap(), event }
        })
        .collect()
}

pub fn started(step: &str, number: usize, title: &str) -> Event {
    Event::StepStarted { step: step.into(), title: title.into(), number, steps: 5 }
}

pub fn ended(step: &str, millis: u64, outcome: StepOutcome) -> Event {
    Event::StepFinished { step: step.into(), outcome, millis }
}

pub fn done(evidence: &str) -> StepOutcome {
    StepOutcome::Done { evidence: evidence.into() }
}

pub fn media(items_done: u64, mib_done: u64) -> Event {
    Event::Progress(Progress {
        activity: "media".into(),
        detail: Some("accounts/avatars".into()),
        items_done,
        items_total: Some(20_000),
        bytes_done: mib_done << 20,
        bytes_total: Some(1000 << 20),
    })
}

/// A short move that goes well, with a hostile file name on the way.
pub fn a_move() -> Vec<Stamped> {
    let finding = |level, subject: &str, text: &str, remedy: Option<&str>| Event::Finding {
        level,
        subject: subject.into(),
        text: text.into(),
        remedy: remedy.map(Into::into),
    };
    story([
        (0.0, Event::RunStarted { run: "r1".into(), verb: "migrate".into() }),
        (0.5, finding(Level::Ok, "ssh", "root@new.example answers", None)),
        (
            0.6,
            finding(
                Level::Warning,
                "clock",
                "the servers are 3 s apart",
                Some("run `timedatectl`"),
            ),
        ),
        (1.0, started("helper", 1, "Install the helper on new.example")),
        (2.2, ended("helper", 1200, done("its digest is the one that was sent"))),
        (2.3, started("certificates", 2, "Copy the certificates")),
        (2.3, ended("certificates", 0, StepOutcome::Skipped { reason: "none configured".into() })),
        (3.0, started("media", 3, "Copy the media")),
        (3.5, media(0, 0)),
        (8.5, media(4000, 200)),
        (13.5, media(8000, 400)),
        (
            14.0,
            Event::Problem {
                subject: "media".into(),
                text: "accounts/\u{1b}[2Jevil.png changed while it was read".into(),
                remedy: Some("the next pass takes it again".into()),
            },
        ),
        (28.0, ended("media", 25_000, done("20,000 files and their modes are equal"))),
        (30.0, Event::DowntimeStarted),
        (30.1, started("stop", 4, "Stop and fence the old server")),
        (33.0, ended("stop", 2900, done("no unit runs, none would start"))),
        (60.0, Event::PointOfNoReturn),
        (60.1, started("start", 5, "Start the new server")),
        (72.0, ended("start", 11_900, done("https://social.example answers with 200"))),
        (72.4, Event::DowntimeEnded { millis: 42_400 }),
        (73.0, Event::Note { text: "Point the A record of social.example at 192.0.2.7.".into() }),
        (74.0, Event::RunFinished { run: "r1".into(), exit: 3, millis: 74_000 }),
    ])
}

/// A move whose third step fails and that puts the old server back.
pub fn an_unwound_move() -> Vec<Stamped> {
    story([
        (0.0, Event::RunStarted { run: "r2".into(), verb: "migrate".into() }),
        (1.0, started("page", 1, "Show the maintenance page")),
        (1.5, ended("page", 500, done("503 with Retry-After"))),
        (1.6, Event::DowntimeStarted),
        (2.0, started("stop", 2, "Stop the old server")),
        (3.0, ended("stop", 1000, done("no unit runs"))),
        (3.1, started("database", 3, "Copy the database")),
        (
            9.1,
            ended(
                "database",
                6000,
                StepOutcome::Failed {
                    error: "pg_restore on new.example failed with exit code 1:\nERROR: disk full"
                        .into(),
                },
            ),
        ),
        (10.0, ended("stop", 800, StepOutcome::Undone)),
        (11.0, ended("page", 100, StepOutcome::UndoFailed { error: "nginx -t refused".into() })),
        (11.1, Event::DowntimeEnded { millis: 9500 }),
        (12.0, Event::RunFinished { run: "r2".into(), exit: 6, millis: 12_000 }),
    ])
}

pub fn any_event() -> impl Strategy<Value = Event> {
    let step = || "[a-c]".prop_map(String::from);
    prop_oneof![
        "[xy]".prop_map(|run| Event::RunStarted { run, verb: "migrate".into() }),
        (step(), 0usize..5).prop_map(|(step, number)| started(&step, number, "title")),
        (step(), 0u8..6, any::<u64>()).prop_map(|(step, kind, millis)| {
            let text = String::from("text");
            let outcome = match kind {
                0 => StepOutcome::Done { evidence: text },
                1 => StepOutcome::AlreadyTrue { evidence: text },
                2 => StepOutcome::Skipped { reason: text },
                3 => StepOutcome::Failed { error: text },
                4 => StepOutcome::Undone,
                _ => StepOutcome::UndoFailed { error: text },
            };
            ended(&step, millis, outcome)
        }),
        Just(Event::DowntimeStarted),
        any::<u64>().prop_map(|millis| Event::DowntimeEnded { millis }),
        Just(Event::PointOfNoReturn),
        (step(), any::<u64>()).prop_map(|(step, millis)| Event::StepPredicted {
            step,
            millis,
            text: "about".into()
        }),
        any::<String>().prop_map(|text| Event::Note { text }),
        any::<String>().prop_map(|text| Event::Problem {
            subject: text.clone(),
            text,
            remedy: None
        }),
        any_progress(),
        any_progress(),
    ]
}

pub fn any_progress() -> impl Strategy<Value = Event> {
    let figures = (any::<u64>(), any::<Option<u64>>(), any::<u64>(), any::<Option<u64>>());
    ("[a-d]", figures).prop_map(|(activity, (items_done, items_total, bytes_done, bytes_total))| {
        let detail = Some(activity.clone());
        Event::Progress(Progress {
            activity,
            detail,
            items_done,
            items_total,
            bytes_done,
            bytes_total,
        })
    })
}

/// Any events at any times, the clock going back now and then.
pub fn any_story() -> impl Strategy<Value = Vec<Stamped>> {
    let moment = (-1_000i64..100_000_000).prop_map(|ms| Timestamp::from_millisecond(ms).unwrap());
    let stamped = (moment, any_event()).prop_map(|(at, event)| Stamped { at, event });
    prop::collection::vec(stamped, 0..60)
}
