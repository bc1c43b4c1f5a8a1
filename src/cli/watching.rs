//! `--watch`, of `sync` and of `files`: what is told while passes go on.

use std::convert::Infallible;
use std::time::Duration;

use crate::error::one_line;
use crate::event::{Event, Monitor, Progress};
use crate::media::{
    self, Changes, Endpoint, Hints, Listener, MediaError, Options, Outcome, Rhythm, Said,
    WatchOptions,
};
use crate::units::{Bytes, counted, duration};

/// How it is learnt what changes.
pub(super) enum Way {
    Kernel(Listener),
    /// From the rows that change in Mastodon's database, because the kernel does not tell.
    Rows {
        changes: Changes,
        why: String,
    },
    Looking {
        why: String,
    },
}

impl Way {
    /// By what the kernel tells, if it does; otherwise by looking.
    pub fn of(source: &Endpoint, options: &Options) -> Way {
        match media::listen(source, options) {
            Ok(listener) => Way::Kernel(listener),
            Err(why) => Way::Looking { why },
        }
    }

    fn in_words(&self) -> String {
        match self {
            Way::Kernel(_) => "watching: the kernel tells what changes".to_owned(),
            Way::Rows { why, .. } => format!(
                "watching: the database tells of new files, and for the rest it is looked again and \
                 again ({why})"
            ),
            Way::Looking { why } => format!("watching: it is looked again and again ({why})"),
        }
    }
}

/// Keeps `target` as `source` is. On a terminal (`live`) it also shows how far behind it is.
pub(super) async fn watch(
    source: &Endpoint,
    target: &Endpoint,
    options: &Options,
    way: Way,
    monitor: &dyn Monitor,
    live: bool,
) -> Result<Infallible, MediaError> {
    monitor.emit(Event::Note { text: way.in_words() });
    let tell = |said: Said<'_>| {
        if let Some(event) = event(said, live) {
            monitor.emit(event);
        }
    };
    let hints = match way {
        Way::Kernel(listener) => Hints::Kernel(listener),
        Way::Rows { changes, .. } => Hints::Told(changes),
        Way::Looking { .. } => Hints::None,
    };
    let how = WatchOptions { hints, rhythm: Rhythm::default() };
    media::watch(source, target, options, how, monitor, tell).await
}

fn event(said: Said<'_>, live: bool) -> Option<Event> {
    let text = match said {
        Said::Passed { outcome, lag, .. } => moved(outcome, lag)?,
        Said::Failed { error, pause } => {
            let text = format!("{}; the next try comes in {}", one_line(error), duration(pause));
            return Some(Event::Problem { subject: "watch".into(), text, remedy: None });
        }
        Said::Behind(_) if !live => return None,
        Said::Behind(behind) => {
            let detail = match behind {
                Some(behind) => format!("{} s behind", behind.as_secs()),
                None => "in step".into(),
            };
            let (activity, detail) = ("watch".into(), Some(detail));
            return Some(Event::Progress(Progress { activity, detail, ..Progress::default() }));
        }
    };
    Some(Event::Note { text })
}

/// What a pass moved, if it moved anything.
fn moved(outcome: &Outcome, lag: Option<Duration>) -> Option<String> {
    let stats = &outcome.stats;
    let mut parts = Vec::new();
    if stats.transferred_files > 0 {
        let files = counted(stats.transferred_files, "file");
        parts.push(format!("{files} copied, {}", Bytes(stats.transferred_bytes)));
    }
    if stats.deleted_entries > 0 {
        parts.push(format!("{} deleted", stats.deleted_entries));
    }
    if stats.changed_entries > 0 {
        parts.push(counted(stats.changed_entries, "other change"));
    }
    if parts.is_empty() {
        return None;
    }
    let lag =
        lag.map_or(String::new(), |lag| format!("; {} after the first change", duration(lag)));
    Some(format!("{}{lag}", parts.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{Look, Stats};

    fn passed(stats: Stats) -> Option<Event> {
        let outcome = Outcome { stats, ..Outcome::default() };
        let lag = Some(Duration::from_millis(1500));
        event(Said::Passed { look: Look::Changed, outcome: &outcome, lag }, false)
    }

    #[test]
    fn a_pass_that_moved_something_is_told_and_one_that_did_not_is_not() {
        let stats = Stats {
            transferred_files: 2,
            transferred_bytes: 300,
            deleted_entries: 1,
            ..Stats::default()
        };
        let text = "2 files copied, 300 B, 1 deleted; 1.5 s after the first change".to_owned();
        assert_eq!(passed(stats), Some(Event::Note { text }));
        assert_eq!(passed(Stats::default()), None);
    }

    #[test]
    fn how_far_behind_it_is_shows_on_a_terminal_alone() {
        let behind = || Said::Behind(Some(Duration::from_secs(3)));
        assert_eq!(event(behind(), false), None);
        let Some(Event::Progress(progress)) = event(behind(), true) else { panic!("a figure") };
        assert_eq!(progress.detail.as_deref(), Some("3 s behind"));
    }
}
