//! The renderers, told stories with fixed times.

mod laws;
pub(super) mod story;
mod transcripts;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use indicatif::{InMemoryTerm, ProgressDrawTarget};
use jiff::tz::TimeZone;

use super::outlet::Sink;
use super::plain::{Detail, Plain};
use super::text::Paint;
use super::tty::Tty;
use crate::event::Stamped;

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
