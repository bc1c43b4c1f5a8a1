//! Events made visible: on a terminal, as plain lines, as JSON, and as the report of a run.
//!
//! In flow [`Event`]s, folded into a [`view`]; out flows text. It knows
//! nothing of plans, configurations or engines, and nothing but its [`Outlet`]s writes anywhere.

pub mod events;
mod json;
mod live;
mod outlet;
mod plain;
mod queue;
mod rate;
pub mod report;
mod tables;
pub mod text;
mod tty;
pub mod view;
mod words;

use std::io;
use std::sync::Arc;

use indicatif::ProgressDrawTarget;
use jiff::tz::TimeZone;

use crate::event::{Event, Monitor};
pub use outlet::Outlet;
use plain::Detail;
pub use tables::{PlanLine, Segment, findings, plan, problems, status};
use text::Paint;
pub use text::table;
pub use view::View;
pub use words::result;

/// How events are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Live, on a terminal at standard error.
    Tty,
    /// A line for each change of state, on standard error.
    Plain,
    /// One event a line, on standard output.
    Json,
    /// What is wrong, on standard error.
    Quiet,
}

impl Kind {
    /// The kind for these options. `terminal` tells whether standard error is one, and `term` is
    /// the environment's `TERM`.
    pub fn choose(json: bool, quiet: bool, terminal: bool, term: Option<&str>) -> Kind {
        if json {
            Kind::Json
        } else if quiet {
            Kind::Quiet
        } else if terminal && term != Some("dumb") {
            Kind::Tty
        } else {
            Kind::Plain
        }
    }
}

/// How text looks: with colours or without, and in which time zone.
#[derive(Clone, Debug)]
pub struct Look {
    pub color: bool,
    pub zone: TimeZone,
}

/// Whether to use colours. `chosen` is what the operator said; without it colours go to terminals
/// unless the environment sets `NO_COLOR` to something.
pub fn wants_color(chosen: Option<bool>, no_color: Option<&str>, terminal: bool) -> bool {
    chosen.unwrap_or(terminal && no_color.is_none_or(str::is_empty))
}

/// The monitor that shows events as `kind`. [`Outlet::finish`] writes what is still waiting.
pub fn monitor(kind: Kind, look: &Look) -> io::Result<Outlet> {
    let zone = look.zone.clone();
    match kind {
        Kind::Tty => {
            let target = ProgressDrawTarget::stderr_with_hz(30);
            Outlet::start(tty::Tty::new(target, stderr_columns, Paint(look.color)))
        }
        Kind::Plain => Outlet::start(plain::Plain::new(io::stderr(), zone, Detail::All)),
        Kind::Quiet => Outlet::start(plain::Plain::new(io::stderr(), zone, Detail::Problems)),
        Kind::Json => Outlet::start(json::Json::new(io::stdout())),
    }
}

fn stderr_columns() -> usize {
    match rustix::termios::tcgetwinsize(io::stderr()) {
        Ok(size) if size.ws_col > 0 => usize::from(size.ws_col),
        Ok(_) | Err(_) => 80,
    }
}

/// Tells several monitors the same.
pub struct Tee(pub Vec<Arc<dyn Monitor>>);

impl Monitor for Tee {
    fn emit(&self, event: Event) {
        if let Some((last, others)) = self.0.split_last() {
            for monitor in others {
                monitor.emit(event.clone());
            }
            last.emit(event);
        }
    }
}

#[cfg(test)]
mod tests;
