//! Where a verb's events go: to the operator, and for a move also into the file that the report
//! is drawn from.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use jiff::tz::TimeZone;

use super::{Color, Common, Exit, Failure};
use crate::event::{Event, Monitor};
use crate::render::{self, Kind, Look, Outlet, Tee};

/// The monitors of one run of a verb.
pub(super) struct Display {
    shown: Arc<Outlet>,
    recorded: Option<Arc<Outlet>>,
    look: Look,
    live: bool,
    started: Instant,
}

impl Display {
    /// A display for `common`'s options that also records into `events`, if given.
    pub fn new(common: &Common, events: Option<&Path>) -> Result<Display, Failure> {
        let look = look(common);
        let kind = kind(common);
        let shown = render::monitor(kind, &look)
            .map_err(|error| Failure::from_io("start the display", error))?;
        let recorded = events
            .map(render::events::record)
            .transpose()
            .map_err(|error| Failure::new(Exit::Failed, error))?;
        let (shown, recorded) = (Arc::new(shown), recorded.map(Arc::new));
        let live = matches!(kind, Kind::Tty);
        Ok(Display { shown, recorded, look, live, started: Instant::now() })
    }

    pub fn monitor(&self) -> Arc<dyn Monitor> {
        let mut monitors: Vec<Arc<dyn Monitor>> = vec![self.shown.clone()];
        monitors.extend(self.recorded.iter().map(|outlet| outlet.clone() as Arc<dyn Monitor>));
        Arc::new(Tee(monitors))
    }

    pub fn look(&self) -> &Look {
        &self.look
    }

    /// Whether something is drawn on a terminal.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Tells something that the report need not repeat.
    pub fn say_here(&self, text: String) {
        self.shown.emit(Event::Note { text });
    }

    /// Asks a question while nothing is drawn.
    pub fn paused<R>(&self, ask: impl FnOnce() -> R) -> R {
        self.shown.paused(ask)
    }

    /// Tells how the run ended and writes what is still waiting.
    pub fn close(&self, run: &str, exit: Exit) {
        let millis = self.started.elapsed().as_millis() as u64;
        self.monitor().emit(Event::RunFinished { run: run.to_owned(), exit: exit as u8, millis });
        self.flush();
    }

    pub fn flush(&self) {
        self.shown.finish();
        if let Some(recorded) = &self.recorded {
            recorded.finish();
        }
    }
}

pub(super) fn look(common: &Common) -> Look {
    let chosen = match common.color {
        Color::Auto => None,
        Color::Always => Some(true),
        Color::Never => Some(false),
    };
    let no_color = std::env::var("NO_COLOR").ok();
    let color = render::wants_color(chosen, no_color.as_deref(), std::io::stderr().is_terminal());
    Look { color, zone: TimeZone::system() }
}

fn kind(common: &Common) -> Kind {
    let term = std::env::var("TERM").ok();
    Kind::choose(common.json, common.quiet, std::io::stderr().is_terminal(), term.as_deref())
}
