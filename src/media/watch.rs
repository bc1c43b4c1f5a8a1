//! Keeps a target close to a source that lives: a pass over everything, and from then on passes over
//! what changes. Where the kernel tells of changes (`listen`) that is a second later; elsewhere the
//! tree is looked at again and again (`rhythm`), and earlier where somebody says that it pays
//! (`changes`). In flow changes and time; out flow passes.
//!
//! A pass that ends without an error has seen whatever was told before it began. What is told while
//! it runs is for the next one. After an error, an overflow or anything that cannot be understood,
//! everything is looked at.

mod changes;
mod dirty;
mod kernel;
mod listen;
mod record;
mod rhythm;

use std::convert::Infallible;
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use super::endpoint::Endpoint;
use super::error::MediaError;
use super::filter::Filter;
use super::options::{DeleteLimit, Options, Outcome};
use super::sync::sync;
use crate::error::{Advice, Retry, one_line};
use crate::event::{Event, Monitor};
use crate::wire::path::RelPath;
use crate::wire::scope::Scope;
pub use changes::Changes;
use dirty::Changed;
use listen::Interest;
pub use listen::Listener;
pub use rhythm::{Look, Rhythm};
use rhythm::{Schedule, Told};

/// Files that had not changed for so long are not looked at by quick passes.
const QUIET: Duration = Duration::from_secs(48 * 3600);
const TICK: Duration = Duration::from_secs(1);

/// How changes are learnt of.
#[derive(Debug)]
pub enum Hints {
    /// The kernel tells them all.
    Kernel(Listener),
    /// Somebody tells where new files may be. What else changes, and what is deleted, is looked for.
    Told(Changes),
    /// By looking alone.
    None,
}

impl Hints {
    fn changes(&self) -> Option<&Changes> {
        match self {
            Hints::Kernel(listener) => Some(listener.changes()),
            Hints::Told(changes) => Some(changes),
            Hints::None => None,
        }
    }

    fn told(&self) -> Told {
        match self {
            Hints::Kernel(_) => Told::All,
            Hints::Told(_) => Told::Some,
            Hints::None => Told::Nothing,
        }
    }
}

/// How a watch works.
#[derive(Debug)]
pub struct WatchOptions {
    pub hints: Hints,
    pub rhythm: Rhythm,
}

/// What a watch tells.
#[derive(Debug)]
pub enum Said<'a> {
    /// A pass ended. Between the first change that it was about and its end lies `lag`, as far as
    /// that is known.
    Passed { look: Look, outcome: &'a Outcome, lag: Option<Duration> },
    /// One failed in a way that may pass; the next comes after `pause`.
    Failed { error: &'a MediaError, pause: Duration },
    /// Every second: for how long the target has lacked something that the source has, as far as
    /// that is known.
    Behind(Option<Duration>),
}

/// Lets the kernel tell what changes in `source` from now on, as far as a pass with `options` is about
/// it; or says why it does not.
pub fn listen(source: &Endpoint, options: &Options) -> Result<Listener, String> {
    let root = source.here().ok_or("the source is on another server")?;
    let filter = Filter::new(&options.exclude).map_err(|error| one_line(&error))?;
    let interest = Interest { filter, scopes: options.walks.clone() };
    Listener::start(root, interest).map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => "the kernel tells root alone".into(),
        _ => format!("the kernel does not tell: {error}"),
    })
}

/// Keeps `target` as `source` is, until it is dropped or an error says that going on makes no sense.
pub async fn watch(
    source: &Endpoint,
    target: &Endpoint,
    options: &Options,
    WatchOptions { hints, rhythm }: WatchOptions,
    monitor: &dyn Monitor,
    mut tell: impl FnMut(Said<'_>) + Send,
) -> Result<Infallible, MediaError> {
    let schedule = Schedule::new(rhythm, hints.told(), Instant::now());
    let mut watch =
        Watch { source, options, monitor, schedule, hints, behind: None, deletions_left: None };
    let mut clock = tokio::time::interval(TICK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let look = {
            let wait = pin!(watch.wait());
            ticking(wait, &mut clock, || tell(Said::Behind(watch.behind()))).await
        };
        let Some((look, options)) = watch.prepare(look) else { continue };
        let started = Instant::now();
        let calm = Calm { monitor: watch.monitor, progress: look == Look::Whole };
        let passed = {
            let pass = pin!(sync(source, target, &options, &calm));
            ticking(pass, &mut clock, || tell(Said::Behind(watch.behind()))).await
        };
        match passed {
            Ok(outcome) => {
                let lag = watch.passed(look, started, &outcome);
                tell(Said::Passed { look, outcome: &outcome, lag });
            }
            Err(error) if error.retry() != Retry::Never => {
                let pause = watch.schedule.failed(Instant::now());
                tell(Said::Failed { error: &error, pause });
            }
            Err(error) => return Err(error),
        }
    }
}

/// Waits for `work`, and calls `tick` every second.
async fn ticking<T>(
    mut work: std::pin::Pin<&mut impl Future<Output = T>>,
    clock: &mut tokio::time::Interval,
    mut tick: impl FnMut(),
) -> T {
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            _ = clock.tick() => tick(),
        }
    }
}

struct Watch<'a> {
    source: &'a Endpoint,
    options: &'a Options,
    monitor: &'a dyn Monitor,
    schedule: Schedule,
    hints: Hints,
    /// Since when something is on the source that no pass has brought, and that is no longer held
    /// for the next one.
    behind: Option<Instant>,
    /// What may be deleted until everything is looked at again.
    deletions_left: Option<u64>,
}

impl Watch<'_> {
    fn dirty(&self) -> Option<(Instant, bool)> {
        self.hints.changes().and_then(Changes::dirty)
    }

    fn behind(&self) -> Option<Duration> {
        let dirty = self.dirty().map(|(since, _)| since);
        self.behind.into_iter().chain(dirty).min().map(|since| since.elapsed())
    }

    /// Waits until a pass is due.
    async fn wait(&self) -> Look {
        loop {
            let (at, look) = self.schedule.next(self.dirty());
            let more = async {
                match self.hints.changes() {
                    Some(changes) => changes.more().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(at) => return look,
                () = more => {}
            }
        }
    }

    /// What the next pass does. Takes what is dirty; `None` if there is nothing to do after all.
    fn prepare(&mut self, look: Look) -> Option<(Look, Options)> {
        let since = self.dirty().map(|(since, _)| since);
        let changed = self.hints.changes().map_or(Changed::Nothing, Changes::take);
        self.behind = self.behind.into_iter().chain(since).min();
        let options = self.options.clone();
        let quick = Options { quiet: options.quiet.or(Some(QUIET)), ..options.clone() };
        Some(match (look, changed) {
            (Look::Whole, _) => (Look::Whole, options),
            (Look::Quick, _) | (Look::Changed, Changed::Everything) => (Look::Quick, quick),
            // A guard looks at the whole tree.
            (Look::Changed, _) if options.delete && self.is_empty() => (Look::Quick, quick),
            (Look::Changed, Changed::Paths(paths)) => (Look::Changed, self.only(paths)?),
            (Look::Changed, Changed::Nothing) => return None,
        })
    }

    fn is_empty(&self) -> bool {
        let empty = |root: &Path| std::fs::read_dir(root).is_ok_and(|mut all| all.next().is_none());
        self.source.here().is_some_and(empty)
    }

    fn only(&self, paths: Vec<RelPath>) -> Option<Options> {
        let whole = [Scope::default()];
        let walks = if self.options.walks.is_empty() { &whole } else { &self.options.walks[..] };
        let walks: Vec<Scope> =
            walks.iter().filter_map(|scope| scope.narrowed(paths.clone())).collect();
        if walks.is_empty() {
            return None;
        }
        let max_delete = self.deletions_left.map(DeleteLimit::Count);
        // Only the kernel knows of a deletion. Where a place was told for another reason, what is
        // not in it may be about to come.
        let delete = self.options.delete && self.hints.told() == Told::All;
        Some(Options { walks, hinted: true, delete, max_delete, ..self.options.clone() })
    }

    /// Takes note of a pass; gives its lag.
    fn passed(&mut self, look: Look, started: Instant, outcome: &Outcome) -> Option<Duration> {
        let stats = &outcome.stats;
        let moved = stats.differing() + stats.changed_entries + stats.deleted_entries > 0;
        let left = outcome.problems_total > 0;
        self.schedule.done(look, started, Instant::now(), moved, left);
        self.deletions_left = match look {
            Look::Whole | Look::Quick => {
                let entries = stats.source_files + stats.source_dirs;
                self.options.max_delete.map(|limit| limit.allows(entries))
            }
            Look::Changed => {
                self.deletions_left.map(|left| left.saturating_sub(stats.deleted_entries))
            }
        };
        self.behind.take().map(|since| since.elapsed())
    }
}

/// A monitor of passes that come all the time: their progress is not worth a line.
struct Calm<'a> {
    monitor: &'a dyn Monitor,
    progress: bool,
}

impl Monitor for Calm<'_> {
    fn emit(&self, event: Event) {
        if self.progress || !matches!(event, Event::Progress(_)) {
            self.monitor.emit(event);
        }
    }
}
