//! Events as JSON lines, for programs. `docs/events.md` is the contract.
//!
//! One event a line: `at`, `run` once it is known, `event`, and the event's own fields. Control
//! characters are escaped beyond what JSON asks for, so that the stream is harmless on a terminal.

use std::io::{self, Write};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

use super::outlet::Sink;
use super::text::is_unsafe;
use crate::event::{Event, Stamped};

#[derive(Serialize)]
struct Line<'a> {
    at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<&'a str>,
    #[serde(flatten)]
    event: &'a Event,
}

/// One event as a line with its newline. `run` is the run it belongs to.
pub(super) fn line(stamped: &Stamped, run: Option<&str>) -> io::Result<Vec<u8>> {
    let event = &stamped.event;
    // These two name their run themselves.
    let named = matches!(event, Event::RunStarted { .. } | Event::RunFinished { .. });
    let run = run.filter(|_| !named);
    let mut bytes = Vec::with_capacity(160);
    let mut serializer = Serializer::with_formatter(&mut bytes, Harmless);
    Line { at: stamped.at, run, event }.serialize(&mut serializer)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Compact JSON that escapes what a terminal would obey.
struct Harmless;

impl Formatter for Harmless {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(start) = rest.find(is_unsafe) {
            let (before, from) = rest.split_at(start);
            let letter = from.chars().next().unwrap_or_default();
            CompactFormatter.write_string_fragment(out, before)?;
            // All of them lie in the basic plane: four digits are enough.
            write!(out, "\\u{:04x}", u32::from(letter))?;
            rest = &from[letter.len_utf8()..];
        }
        CompactFormatter.write_string_fragment(out, rest)
    }
}

/// Writes each event as it comes; after a failed write it writes nothing more.
pub(super) struct Json<W> {
    out: Option<W>,
    run: Option<String>,
}

impl<W: Write + Send> Json<W> {
    pub fn new(out: W) -> Self {
        Json { out: Some(out), run: None }
    }
}

impl<W: Write + Send> Sink for Json<W> {
    fn take(&mut self, stamped: &Stamped) {
        if let Event::RunStarted { run, .. } = &stamped.event {
            self.run = Some(run.clone());
        }
        let Some(out) = &mut self.out else { return };
        let written = line(stamped, self.run.as_deref())
            .and_then(|bytes| out.write_all(&bytes))
            .and_then(|()| out.flush());
        if written.is_err() {
            self.out = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Level, Progress, StepOutcome};

    fn all() -> Vec<Event> {
        let text = || "text".to_owned();
        vec![
            Event::RunStarted { run: text(), verb: text() },
            Event::StepStarted { step: text(), title: text(), number: 1, steps: 2 },
            Event::StepFinished { step: text(), outcome: StepOutcome::Undone, millis: 3 },
            Event::DowntimeStarted,
            Event::DowntimeEnded { millis: 4 },
            Event::PointOfNoReturn,
            Event::Progress(Progress { activity: text(), ..Progress::default() }),
            Event::Finding { level: Level::Warning, subject: text(), text: text(), remedy: None },
            Event::Problem { subject: text(), text: text(), remedy: Some(text()) },
            Event::Note { text: text() },
            Event::RunFinished { run: text(), exit: 3, millis: 5 },
        ]
    }

    #[test]
    fn every_event_survives_its_line() {
        for event in all() {
            let stamped = Stamped::now(event);
            let bytes = line(&stamped, Some("the-run")).unwrap();
            assert_eq!(serde_json::from_slice::<Stamped>(&bytes).unwrap(), stamped);
            let fields: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            assert!(fields["at"].is_string() && fields["run"].is_string(), "{fields}");
        }
    }

    #[test]
    fn a_line_is_harmless_on_a_terminal_and_means_the_same() {
        let text = "\u{9b}2J \u{7f} \u{1b}[0m \u{202e} \" ü\u{85}";
        let stamped = Stamped::now(Event::Note { text: text.into() });
        let bytes = line(&stamped, None).unwrap();
        let raw = String::from_utf8(bytes).unwrap();
        assert!(!raw.trim_end().contains(is_unsafe), "{raw}");
        assert_eq!(serde_json::from_str::<Stamped>(&raw).unwrap(), stamped);
    }

    #[test]
    fn a_closed_pipe_ends_the_writing_and_nothing_else() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut json = Json::new(Closed);
        json.take(&Stamped::now(Event::DowntimeStarted));
        json.take(&Stamped::now(Event::DowntimeStarted));
        assert!(json.out.is_none());
    }
}
