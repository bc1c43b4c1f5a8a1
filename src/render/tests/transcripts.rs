//! Whole transcripts: the same stories, as each renderer tells them.

use std::time::Duration;

use indicatif::{InMemoryTerm, ProgressDrawTarget};

use super::story::{a_move, an_unwound_move};
use super::{Page, plain, screen};
use crate::event::Level;
use crate::render::json::Json;
use crate::render::outlet::Sink;
use crate::render::plain::Detail;
use crate::render::text::Paint;
use crate::render::tty::Tty;
use crate::render::view::{Finding, View};
use crate::render::{PlanLine, Segment, findings, plan, status};

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
      not ended; steps done: 2 of 5; last heard of 40 s ago
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
      undoing failed; the old server needs you; steps undone: 1 of 2
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
        done: id == "helper",
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
    ✓  1  helper    Install the helper                           about 2 s
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
