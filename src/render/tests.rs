//! Whole transcripts: one story, as each renderer tells it.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use indicatif::{InMemoryTerm, ProgressDrawTarget};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::json::Json;
use super::outlet::Sink;
use super::plain::{Detail, Plain};
use super::text::{Paint, is_unsafe};
use super::tty::Tty;
use super::view::{Finding, StepState, View};
use super::{Outlet, PlanLine, Segment, findings, live, plan, status};
use crate::event::{Event, Level, Monitor, Progress, Stamped, StepOutcome};

/// A story told with its times in seconds from its start.
pub(super) fn story(events: impl IntoIterator<Item = (f64, Event)>) -> Vec<Stamped> {
    let start: Timestamp = "2026-11-24T03:00:00Z".parse().unwrap();
    events
        .into_iter()
        .map(|(secs, event)| {
            let at = start.as_millisecond() + (secs * 1000.0) as i64;
            Stamped { at: Timestamp::from_millisecond(at).unwrap(), event }
        })
        .collect()
}

fn started(step: &str, number: usize, title: &str) -> Event {
    Event::StepStarted { step: step.into(), title: title.into(), number, steps: 5 }
}

fn ended(step: &str, millis: u64, outcome: StepOutcome) -> Event {
    Event::StepFinished { step: step.into(), outcome, millis }
}

fn done(evidence: &str) -> StepOutcome {
    StepOutcome::Done { evidence: evidence.into() }
}

fn media(items_done: u64, mib_done: u64) -> Event {
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
pub(super) fn a_move() -> Vec<Stamped> {
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
pub(super) fn an_unwound_move() -> Vec<Stamped> {
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

/// A writer that can be read afterwards.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Page {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn plain(events: &[Stamped], detail: Detail) -> String {
    let page = Page::default();
    let mut sink = Plain::new(page.clone(), TimeZone::UTC, detail);
    events.iter().for_each(|stamped| sink.take(stamped));
    sink.finish();
    page.text()
}

/// The terminal after `events`, redrawn at the moment of the last.
fn screen(events: &[Stamped], rows: u16, columns: u16) -> (InMemoryTerm, Tty) {
    let term = InMemoryTerm::new(rows, columns);
    let target = ProgressDrawTarget::term_like(Box::new(term.clone()));
    let mut sink = Tty::new(target, move || usize::from(columns), Paint(false));
    for stamped in events {
        sink.take(stamped);
        sink.tick(stamped.at);
    }
    (term, sink)
}

#[test]
fn plain_lines_tell_each_change_once() {
    insta::assert_snapshot!(plain(&a_move(), Detail::All), @r"
    2026-11-24 03:00:00  migrate started, run r1, times in UTC
    2026-11-24 03:00:00  warning: clock: the servers are 3 s apart
                         remedy: run `timedatectl`
    2026-11-24 03:00:01  step 1/5 helper: Install the helper on new.example
    2026-11-24 03:00:02  step 1/5 helper done after 1.2 s: its digest is the one that was sent
    2026-11-24 03:00:02  step 2/5 certificates: Copy the certificates
    2026-11-24 03:00:02  step 2/5 certificates skipped: none configured
    2026-11-24 03:00:03  step 3/5 media: Copy the media
    2026-11-24 03:00:03  media: 0 %, 0 of 20,000 files, 0 B of 1000 MiB, accounts/avatars
    2026-11-24 03:00:13  media: 40 %, 8,000 of 20,000 files, 400 MiB of 1000 MiB, 800 files/s, 40 MiB/s, 15 s left, accounts/avatars
    2026-11-24 03:00:14  problem: media: accounts/\u{1b}[2Jevil.png changed while it was read
                         remedy: the next pass takes it again
    2026-11-24 03:00:28  step 3/5 media done after 25.0 s: 20,000 files and their modes are equal
    2026-11-24 03:00:30  downtime started: nobody can post from now on
    2026-11-24 03:00:30  step 4/5 stop: Stop and fence the old server
    2026-11-24 03:00:33  step 4/5 stop done after 2.9 s: no unit runs, none would start
    2026-11-24 03:01:00  point of no return: from here on the run only goes forward
    2026-11-24 03:01:00  step 5/5 start: Start the new server
    2026-11-24 03:01:12  step 5/5 start done after 11.9 s: https://social.example answers with 200
    2026-11-24 03:01:12  downtime ended after 42.4 s
    2026-11-24 03:01:13  Point the A record of social.example at 192.0.2.7.
    1 problem:
      media: accounts/\u{1b}[2Jevil.png changed while it was read
        → the next pass takes it again
    2026-11-24 03:01:14  migrate ended after 1 min 14 s: done, with problems
    ");
}

#[test]
fn plain_lines_tell_how_a_failure_was_unwound() {
    insta::assert_snapshot!(plain(&an_unwound_move(), Detail::All), @"
    2026-11-24 03:00:00  migrate started, run r2, times in UTC
    2026-11-24 03:00:01  step 1/5 page: Show the maintenance page
    2026-11-24 03:00:01  step 1/5 page done after 500 ms: 503 with Retry-After
    2026-11-24 03:00:01  downtime started: nobody can post from now on
    2026-11-24 03:00:02  step 2/5 stop: Stop the old server
    2026-11-24 03:00:03  step 2/5 stop done after 1.0 s: no unit runs
    2026-11-24 03:00:03  step 3/5 database: Copy the database
    2026-11-24 03:00:09  step 3/5 database failed after 6.0 s: pg_restore on new.example failed with exit code 1:
                         ERROR: disk full
    2026-11-24 03:00:10  step 2/5 stop undone
    2026-11-24 03:00:11  step 1/5 page undo failed: nginx -t refused
    2026-11-24 03:00:11  downtime ended after 9.5 s
    2026-11-24 03:00:12  migrate ended after 12.0 s: undoing failed; the old server needs you
    ");
}

#[test]
fn quiet_tells_only_what_is_wrong() {
    let text = plain(&a_move(), Detail::Problems) + &plain(&an_unwound_move(), Detail::Problems);
    insta::assert_snapshot!(text, @r"
    2026-11-24 03:00:00  warning: clock: the servers are 3 s apart
                         remedy: run `timedatectl`
    2026-11-24 03:00:14  problem: media: accounts/\u{1b}[2Jevil.png changed while it was read
                         remedy: the next pass takes it again
    2026-11-24 03:00:09  step 3/5 database failed after 6.0 s: pg_restore on new.example failed with exit code 1:
                         ERROR: disk full
    2026-11-24 03:00:11  step 1/5 page undo failed: nginx -t refused
    ");
}

#[test]
fn json_tells_everything_one_event_a_line() {
    let page = Page::default();
    let mut sink = Json::new(page.clone());
    a_move().iter().for_each(|stamped| sink.take(stamped));
    insta::assert_snapshot!(page.text(), @r#"
    {"at":"2026-11-24T03:00:00Z","event":"run_started","run":"r1","verb":"migrate"}
    {"at":"2026-11-24T03:00:00.5Z","run":"r1","event":"finding","level":"ok","subject":"ssh","text":"root@new.example answers","remedy":null}
    {"at":"2026-11-24T03:00:00.6Z","run":"r1","event":"finding","level":"warning","subject":"clock","text":"the servers are 3 s apart","remedy":"run `timedatectl`"}
    {"at":"2026-11-24T03:00:01Z","run":"r1","event":"step_started","step":"helper","title":"Install the helper on new.example","number":1,"steps":5}
    {"at":"2026-11-24T03:00:02.2Z","run":"r1","event":"step_finished","step":"helper","outcome":{"kind":"done","evidence":"its digest is the one that was sent"},"millis":1200}
    {"at":"2026-11-24T03:00:02.3Z","run":"r1","event":"step_started","step":"certificates","title":"Copy the certificates","number":2,"steps":5}
    {"at":"2026-11-24T03:00:02.3Z","run":"r1","event":"step_finished","step":"certificates","outcome":{"kind":"skipped","reason":"none configured"},"millis":0}
    {"at":"2026-11-24T03:00:03Z","run":"r1","event":"step_started","step":"media","title":"Copy the media","number":3,"steps":5}
    {"at":"2026-11-24T03:00:03.5Z","run":"r1","event":"progress","activity":"media","detail":"accounts/avatars","items_done":0,"items_total":20000,"bytes_done":0,"bytes_total":1048576000}
    {"at":"2026-11-24T03:00:08.5Z","run":"r1","event":"progress","activity":"media","detail":"accounts/avatars","items_done":4000,"items_total":20000,"bytes_done":209715200,"bytes_total":1048576000}
    {"at":"2026-11-24T03:00:13.5Z","run":"r1","event":"progress","activity":"media","detail":"accounts/avatars","items_done":8000,"items_total":20000,"bytes_done":419430400,"bytes_total":1048576000}
    {"at":"2026-11-24T03:00:14Z","run":"r1","event":"problem","subject":"media","text":"accounts/\u001b[2Jevil.png changed while it was read","remedy":"the next pass takes it again"}
    {"at":"2026-11-24T03:00:28Z","run":"r1","event":"step_finished","step":"media","outcome":{"kind":"done","evidence":"20,000 files and their modes are equal"},"millis":25000}
    {"at":"2026-11-24T03:00:30Z","run":"r1","event":"downtime_started"}
    {"at":"2026-11-24T03:00:30.1Z","run":"r1","event":"step_started","step":"stop","title":"Stop and fence the old server","number":4,"steps":5}
    {"at":"2026-11-24T03:00:33Z","run":"r1","event":"step_finished","step":"stop","outcome":{"kind":"done","evidence":"no unit runs, none would start"},"millis":2900}
    {"at":"2026-11-24T03:01:00Z","run":"r1","event":"point_of_no_return"}
    {"at":"2026-11-24T03:01:00.1Z","run":"r1","event":"step_started","step":"start","title":"Start the new server","number":5,"steps":5}
    {"at":"2026-11-24T03:01:12Z","run":"r1","event":"step_finished","step":"start","outcome":{"kind":"done","evidence":"https://social.example answers with 200"},"millis":11900}
    {"at":"2026-11-24T03:01:12.4Z","run":"r1","event":"downtime_ended","millis":42400}
    {"at":"2026-11-24T03:01:13Z","run":"r1","event":"note","text":"Point the A record of social.example at 192.0.2.7."}
    {"at":"2026-11-24T03:01:14Z","event":"run_finished","run":"r1","exit":3,"millis":74000}
    "#);
}

#[test]
fn a_terminal_shows_the_running_step_with_its_bar() {
    let (term, _sink) = screen(&a_move()[..11], 24, 80);
    insta::assert_snapshot!(term.contents(), @"
    migrate  run r1
    warning: clock: the servers are 3 s apart
        → run `timedatectl`
    ✓   1/5         1.2 s  Install the helper on new.example  its digest is the one…
    –   2/5                Copy the certificates  skipped: none configured
    ▸   3/5          10 s  Copy the media
                           ━━━━━━━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌  40 %  media  15 s left
                           8,000 of 20,000 files · 400 MiB of 1000 MiB · 800 files/s
    ");
}

#[test]
fn a_narrow_terminal_keeps_the_figures() {
    let (term, _sink) = screen(&a_move()[..11], 24, 44);
    insta::assert_snapshot!(term.contents(), @"
    migrate  run r1
    warning: clock: the servers are 3 s apart
        → run `timedatectl`
    ✓   1/5         1.2 s  Install the helper on
     new.example
    –   2/5                Copy the certificates
    ▸   3/5          10 s  Copy the media
       40 %  media  15 s left
      8,000 of 20,000 files · 400 MiB of 1000 Mi
    ");
}

#[test]
fn a_terminal_shows_the_downtime_while_it_lasts() {
    let (term, mut sink) = screen(&a_move()[..18], 24, 100);
    let later = a_move()[17].at + jiff::SignedDuration::from_secs(5);
    sink.tick(later);
    insta::assert_snapshot!(term.contents(), @r"
    migrate  run r1
    warning: clock: the servers are 3 s apart
        → run `timedatectl`
    ✓   1/5         1.2 s  Install the helper on new.example  its digest is the one that was sent
    –   2/5                Copy the certificates  skipped: none configured
    problem: media: accounts/\u{1b}[2Jevil.png changed while it was read
        → the next pass takes it again
    ✓   3/5        25.0 s  Copy the media  20,000 files and their modes are equal
    ■  downtime started: nobody can post
    ✓   4/5         2.9 s  Stop and fence the old server  no unit runs, none would start
    ── point of no return: from here on the run only goes forward ──
    ▸   5/5           5 s  Start the new server
     DOWNTIME 0:35   past the point of no return: the run only goes forward
    ");
}

#[test]
fn a_terminal_keeps_only_what_happened_when_the_run_has_ended() {
    let (term, mut sink) = screen(&a_move(), 40, 100);
    sink.finish();
    insta::assert_snapshot!(term.contents(), @r"
    migrate  run r1
    warning: clock: the servers are 3 s apart
        → run `timedatectl`
    ✓   1/5         1.2 s  Install the helper on new.example  its digest is the one that was sent
    –   2/5                Copy the certificates  skipped: none configured
    problem: media: accounts/\u{1b}[2Jevil.png changed while it was read
        → the next pass takes it again
    ✓   3/5        25.0 s  Copy the media  20,000 files and their modes are equal
    ■  downtime started: nobody can post
    ✓   4/5         2.9 s  Stop and fence the old server  no unit runs, none would start
    ── point of no return: from here on the run only goes forward ──
    ✓   5/5        11.9 s  Start the new server  https://social.example answers with 200
    ■  downtime over after 42.4 s
    · Point the A record of social.example at 192.0.2.7.
    1 problem:
      media: accounts/\u{1b}[2Jevil.png changed while it was read
        → the next pass takes it again
    migrate: done, with problems  (1 min 14 s, downtime 42.4 s)
    ");
}

#[test]
fn a_terminal_tells_an_error_in_full() {
    let (term, mut sink) = screen(&an_unwound_move(), 40, 80);
    sink.finish();
    insta::assert_snapshot!(term.contents(), @"
    migrate  run r2
    ✓   1/5        500 ms  Show the maintenance page  503 with Retry-After
    ■  downtime started: nobody can post
    ✓   2/5         1.0 s  Stop the old server  no unit runs
    ✗   3/5         6.0 s  Copy the database
                           pg_restore on new.example failed with exit code 1:
                           ERROR: disk full
    ↩   2/5                Stop the old server  undone
    ✗   1/5                Show the maintenance page  undo failed
                           nginx -t refused
    ■  downtime over after 9.5 s
    migrate: undoing failed; the old server needs you  (12.0 s, downtime 9.5 s)
    ");
}

#[test]
fn a_question_finds_the_terminal_free_of_live_lines() {
    let (term, mut sink) = screen(&a_move()[..11], 24, 80);
    sink.pause();
    assert!(!term.contents().contains("Copy the media"), "{}", term.contents());
    sink.tick(a_move()[11].at);
    assert!(term.contents().contains("Copy the media"), "{}", term.contents());
}

#[test]
fn colours_are_there_only_when_asked_for() {
    for color in [false, true] {
        let term = InMemoryTerm::new(40, 100);
        let target = ProgressDrawTarget::term_like(Box::new(term.clone()));
        let mut sink = Tty::new(target, || 100, Paint(color));
        for stamped in &a_move() {
            sink.take(stamped);
            sink.tick(stamped.at);
        }
        let colored = term.contents_formatted().windows(4).any(|bytes| bytes == b"\x1b[32");
        assert_eq!(colored, color);
    }
}

#[test]
fn the_status_of_a_run_under_way() {
    let events = &a_move()[..11];
    let now = events[10].at + jiff::SignedDuration::from_secs(40);
    insta::assert_snapshot!(status(&View::of(events), now), @"
    migrate (run r1), started 53 s ago
      not ended; 2 of 5 steps are done; last heard of 40 s ago
      ✓  1  Install the helper on new.example: done in 1.2 s
      –  2  Copy the certificates: skipped: none configured
      ▸  3  Copy the media: running for 50 s
            media: 8,000 of 20,000 files, 400 MiB of 1000 MiB, no news for 40 s
    ");
}

#[test]
fn the_status_of_a_run_that_was_unwound() {
    let events = an_unwound_move();
    insta::assert_snapshot!(status(&View::of(&events), events[11].at), @"
    migrate (run r2), started 12 s ago
      undoing failed; the old server needs you; 0 of 5 steps are done
      ✗  1  Show the maintenance page: undo failed: nginx -t refused
      ↩  2  Stop the old server: undone
      ✗  3  Copy the database: failed: pg_restore on new.example failed with exit code 1:
            ERROR: disk full
      downtime: 9.5 s
    ");
}

#[test]
fn the_findings_stand_grouped_with_the_worst_last() {
    let finding = |level, subject: &str, text: &str, remedy: Option<&str>| Finding {
        level,
        subject: subject.into(),
        text: text.into(),
        remedy: remedy.map(Into::into),
    };
    let found = [
        finding(
            Level::Refusal,
            "locale",
            "new.example lacks de_DE.UTF-8",
            Some("run `locale-gen de_DE.UTF-8` there"),
        ),
        finding(Level::Ok, "ssh", "root@new.example answers", None),
        finding(Level::Warning, "space", "only 12 GiB would be left\non /home", None),
        finding(Level::Ok, "postgresql", "15.4 to 15.14", None),
    ];
    insta::assert_snapshot!(findings(&found, false), @"
    2 in order
      ✓ ssh         root@new.example answers
      ✓ postgresql  15.4 to 15.14

    1 warning
      ! space       only 12 GiB would be left
                    on /home

    1 refusal: migrate will not start
      ✗ locale      new.example lacks de_DE.UTF-8
                    → run `locale-gen de_DE.UTF-8` there
    ");
}

#[test]
fn the_plan_shows_its_segments_and_the_point_of_no_return() {
    let line = |id: &str, title: &str, segment, secs: Option<u64>, past_return| PlanLine {
        id: id.into(),
        title: title.into(),
        segment,
        predicted: secs.map(Duration::from_secs),
        past_return,
    };
    let lines = [
        line("helper", "Install the helper", Segment::Prepare, Some(2), false),
        line(
            "media",
            "Copy the media while the old server is live",
            Segment::Prepare,
            Some(5000),
            false,
        ),
        line("fence", "Stop and fence the old server", Segment::Cutover, Some(0), false),
        line("database", "Copy the database", Segment::Cutover, Some(95), false),
        line("start", "Start the new server", Segment::Cutover, Some(20), true),
        line("feeds", "Build the home feeds", Segment::Settle, None, true),
    ];
    insta::assert_snapshot!(plan(&lines, false), @"
    Prepare: the old server serves as usual, about 1 h 23 min
       1  helper    Install the helper                           about 2 s
       2  media     Copy the media while the old server is live  about 1 h 23 min

    Cutover: nobody can post, about 1 min 55 s
       3  fence     Stop and fence the old server                under 1 s
       4  database  Copy the database                            about 1 min 35 s
          ── point of no return: from here on the run only goes forward ──
       5  start     Start the new server                         about 20 s

    Settle: the new server serves
       6  feeds     Build the home feeds
    ");
}

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

fn any_event() -> impl Strategy<Value = Event> {
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

fn any_progress() -> impl Strategy<Value = Event> {
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
pub(super) fn any_story() -> impl Strategy<Value = Vec<Stamped>> {
    let moment = (-1_000i64..100_000_000).prop_map(|ms| Timestamp::from_millisecond(ms).unwrap());
    let stamped = (moment, any_event()).prop_map(|(at, event)| Stamped { at, event });
    prop::collection::vec(stamped, 0..60)
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
