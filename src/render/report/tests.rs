//! The report in both forms.

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::{Meta, html, text};
use crate::event::{Event, Level, Stamped, StepOutcome};
use crate::render::tests::story::{a_move, an_unwound_move, any_story, story};
use crate::render::text::is_unsafe;

fn meta() -> Meta {
    Meta {
        instance: Some("social.example".into()),
        source: "this server".into(),
        target: "new.example".into(),
        version: "0.1.0".into(),
        facts: vec![("database".into(), "PostgreSQL 15.4 to 15.14, mode stream".into())],
        zone: TimeZone::UTC,
        skipped_lines: 0,
    }
}

#[test]
fn the_text_of_a_move() {
    insta::assert_snapshot!(text(&meta(), &a_move()), @r"
    social.example moved to new.example
    24 November 2026, 03:00:00 UTC to 03:01:14. Nobody could post for 42.4 s.

    result      done, with problems
    downtime    42.4 s
    whole run   1 min 14 s
    steps done  5 of 5
    problems    1

    What to do next
      - Point the A record of social.example at 192.0.2.7.

    Problems
      - media: accounts/\u{1b}[2Jevil.png changed while it was read
          remedy: the next pass takes it again

    Findings
      - warning, clock: the servers are 3 s apart
          remedy: run `timedatectl`

    Steps
        1  03:00:01       1.2 s  Install the helper on new.example: done
        2  03:00:02              Copy the certificates: skipped: none configured
        3  03:00:03      25.0 s  Copy the media: done
        4  03:00:30       2.9 s  Stop and fence the old server: done
        5  03:01:00      11.9 s  Start the new server: done

    What was verified
      - Install the helper on new.example: its digest is the one that was sent
      - Copy the media: 20,000 files and their modes are equal
      - Stop and fence the old server: no unit runs, none would start
      - Start the new server: https://social.example answers with 200

    Throughput
      - media at 03:00:03: 8,000 files, 400 MiB in 10.0 s, 40 MiB/s on average

    Environment
      from       this server
      to         new.example
      transhume  0.1.0
      run        r1
      database   PostgreSQL 15.4 to 15.14, mode stream
    ");
}

#[test]
fn what_was_expected_stands_beside_what_it_took() {
    let mut events = a_move();
    let words = "about 20 s: files 20 s".to_owned();
    let expected = Event::StepPredicted { step: "media".into(), millis: 20_000, text: words };
    events.splice(2..2, story([(0.6, expected)]));
    let told = text(&meta(), &events);
    assert!(told.contains("25.0 s  Copy the media: done (predicted: 20.0 s)"), "{told}");
    assert!(html(&meta(), &events).contains("predicted: 20.0 s"));
    assert_eq!(told.matches("predicted").count(), 1, "nothing is said of the others");
}

#[test]
fn the_text_of_an_unwound_move() {
    let meta = Meta { skipped_lines: 2, ..meta() };
    insta::assert_snapshot!(text(&meta, &an_unwound_move()), @"
    social.example needs you: undoing failed
    24 November 2026, 03:00:00 UTC to 03:00:12. Nobody could post for 9.5 s.

    result        undoing failed; the old server needs you
    downtime      9.5 s
    whole run     12.0 s
    steps undone  1 of 2
    problems      0

    What went wrong
      - Show the maintenance page: nginx -t refused
      - Copy the database: pg_restore on new.example failed with exit code 1:
          ERROR: disk full

    What to do next
      - Look at the old server: the steps whose undo failed are marked. Put them right by hand, or run `transhume rollback` again once their cause is gone.

    Steps
        1  03:00:01      500 ms  Show the maintenance page: undo failed: nginx -t refused
        2  03:00:02       1.0 s  Stop the old server: undone
        3  03:00:03       6.0 s  Copy the database: failed: pg_restore on new.example failed with exit code 1:
                                 ERROR: disk full

    Environment
      from       this server
      to         new.example
      transhume  0.1.0
      run        r2
      database   PostgreSQL 15.4 to 15.14, mode stream
      events     2 lines could not be read and are missing here
    ");
}

#[test]
fn without_events_the_report_says_so() {
    assert!(text(&meta(), &[]).starts_with("No run is recorded\nThere are no events.\n"));
    assert_balanced(&html(&meta(), &[]));
}

#[test]
fn the_page_shows_downtime_and_the_point_of_no_return() {
    let page = html(&meta(), &a_move());
    assert_balanced(&page);
    for piece in [
        "<h1>social.example moved to new.example</h1>",
        "<dt>downtime</dt><dd>42.4 s</dd>",
        "downtime 42.4 s</text>",
        "point of no return</text>",
        "Point the A record of social.example at 192.0.2.7.",
        "no unit runs, none would start",
    ] {
        assert!(page.contains(piece), "{piece} is missing");
    }
    assert_eq!(page.matches("<svg").count(), 2, "the timeline and one curve");
}

#[test]
fn a_run_over_midnight_is_told_with_dates() {
    let mut events = a_move();
    events[13..].iter_mut().for_each(|stamped| stamped.at += jiff::SignedDuration::from_hours(22));
    let text = text(&meta(), &events);
    assert!(text.contains("24 November 2026, 03:00:00 UTC to 25 November 2026, 01:01:14 UTC."));
    assert!(text.contains("Nov 25, 01:00:30       2.9 s  Stop and fence"), "{text}");
}

#[test]
fn a_run_without_steps_has_notes_and_nothing_left_to_do() {
    let events = story([
        (0.0, Event::RunStarted { run: "r".into(), verb: "sync".into() }),
        (1.0, Event::Note { text: "no helper there: SFTP is used".into() }),
        (2.0, Event::RunFinished { run: "r".into(), exit: 0, millis: 2000 }),
    ]);
    let text = text(&meta(), &events);
    assert!(text.starts_with("The media of social.example are on new.example\n"), "{text}");
    assert!(text.contains("Notes\n  03:00:01  no helper there: SFTP is used\n"), "{text}");
    assert!(!text.contains("What to do next"));
}

#[test]
fn a_short_downtime_of_a_long_run_is_enlarged() {
    let mut events = a_move();
    let shift = jiff::SignedDuration::from_hours(5);
    events[13..].iter_mut().for_each(|stamped| stamped.at += shift);
    let page = html(&meta(), &events);
    assert!(page.contains("The downtime, enlarged"));
    assert_balanced(&page);
}

#[test]
fn the_page_loads_nothing() {
    let page = html(&meta(), &a_move());
    for piece in ["<script", "<link", "<img", "<iframe", "src=", "href=", "url(", "@import"] {
        assert!(!page.contains(piece), "{piece}");
    }
}

#[test]
fn markup_in_names_stays_text() {
    let hostile = "</title><script>alert('x')</script>\"onload=\"x\u{1b}[2J&amp;";
    let said = || hostile.to_owned();
    let events = story([
        (0.0, Event::RunStarted { run: said(), verb: said() }),
        (
            0.0,
            Event::Finding {
                level: Level::Refusal,
                subject: said(),
                text: said(),
                remedy: Some(said()),
            },
        ),
        (0.0, Event::StepStarted { step: "s".into(), title: said(), number: 1, steps: 1 }),
        (
            1.0,
            Event::StepFinished {
                step: "s".into(),
                outcome: StepOutcome::Failed { error: said() },
                millis: 1000,
            },
        ),
        (1.0, Event::Problem { subject: said(), text: said(), remedy: Some(said()) }),
        (1.0, Event::Note { text: said() }),
    ]);
    let meta = Meta {
        instance: Some(said()),
        source: said(),
        target: said(),
        version: said(),
        facts: vec![(said(), said())],
        ..meta()
    };
    let page = html(&meta, &events);
    assert_balanced(&page);
    assert!(!page.contains("<script") && !page.contains('\u{1b}'));
    assert!(!page.contains("\"onload"), "no attribute is broken out of");
    assert!(!text(&meta, &events).contains('\u{1b}'));
}

/// Every element that is opened is closed, in order, and nothing else looks like one.
fn assert_balanced(page: &str) {
    const VOID: [&str; 3] = ["meta", "br", "!DOCTYPE"];
    let style = page.find("<style>").unwrap()..page.find("</style>").unwrap();
    let page = [&page[..style.start], "<style>", &page[style.end..]].concat();
    let mut open: Vec<&str> = Vec::new();
    for piece in page.split('<').skip(1) {
        let (tag, _) = piece.split_once('>').expect("a tag ends");
        let name = tag.split_whitespace().next().unwrap_or_default();
        if let Some(name) = name.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "near <{tag}>");
        } else if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
    assert_eq!(page.matches('<').count(), page.matches('>').count());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The law: whatever happened, at whatever times, both forms can be written and are harmless.
    #[test]
    fn any_story_can_be_reported(events in any_story()) {
        let events: Vec<Stamped> = events;
        let page = html(&meta(), &events);
        assert_balanced(&page);
        prop_assert!(!page.contains("NaN") && !page.contains("inf\""), "{page}");
        prop_assert!(!page.replace('\n', "").contains(is_unsafe));
        prop_assert!(!text(&meta(), &events).replace('\n', "").contains(is_unsafe));
    }
}
