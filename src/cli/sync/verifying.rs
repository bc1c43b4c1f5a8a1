//! `sync --verify`: contents are read on both sides and compared.

use std::sync::Arc;

use crate::event::{Event, Monitor};
use crate::media::{Action, Change, ChangeSink, NodeKind};

/// What becomes of what differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Verify {
    /// It is told, and nothing is changed
    Report,
    /// It is told and copied again
    Repair,
}

/// Tells each difference as a problem, or as what is being repaired.
pub(super) fn sink(verify: Verify, monitor: Arc<dyn Monitor>) -> ChangeSink {
    Arc::new(move |change: &Change| {
        // A time of a directory says nothing about what is in it.
        if change.node == NodeKind::Dir && matches!(change.action, Action::Adjust(_)) {
            return;
        }
        let (subject, text) = (change.path.to_string(), change.in_words());
        monitor.emit(match (verify, change.action) {
            (Verify::Report, _) => Event::Problem { subject, text, remedy: None },
            (Verify::Repair, Action::Delete) => Event::Note { text: format!("{subject}: {text}") },
            (Verify::Repair, _) => Event::Note { text: format!("{subject}: {text}; copied") },
        });
    })
}
