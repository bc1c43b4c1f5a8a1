//! `sync --watch`: until Ctrl-C, or until a move begins. What the new server gets once it serves is
//! not on the old one, and a watch that deletes would take it away again.

use std::time::Duration;

use super::after_move;
use super::rows::Asker;
use crate::cli::display::Display;
use crate::cli::files::interrupt;
use crate::cli::watching::{self, Way};
use crate::cli::{Exit, Failure};
use crate::event::Event;
use crate::media::{Endpoint, Options};
use crate::migration::facts::MediaPaths;
use crate::migration::steps::media::{self, Pass, endpoints};
use crate::migration::world::World;

/// How often it is looked whether a move has begun: it takes longer to come to its first pass.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const BEGUN: &str = "a move has begun and copies what is left: the watch ends";

/// Keeps the copy close.
pub(super) async fn run(
    world: &World,
    paths: &MediaPaths,
    change: impl FnOnce(Options) -> Options,
    display: &Display,
) -> Result<Exit, Failure> {
    let stopped = |error| Failure::of_step(Exit::Failed, "the watch ended".into(), error);
    let watching = async {
        let (source, target, owner) = endpoints(world, paths).await.map_err(stopped)?;
        let options = change(media::options(&world.config.media, Pass::Base, owner));
        let (monitor, live) = (&*world.monitor, display.is_live());
        let (way, asker) = way(world, &source, &options).await;
        let asking = async {
            match asker {
                Some(asker) => asker.ask_on(monitor).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            watched = watching::watch(&source, &target, &options, way, monitor, live) => {
                watched.map(|never| match never {}).map_err(|error| stopped(error.into()))
            }
            never = asking => match never {},
        }
    };
    let result = tokio::select! {
        biased;
        // What was under way leaves temporary files at most; the next pass sweeps them.
        interrupted = interrupt() => interrupted.map(|()| Exit::Interrupted),
        () = a_move(world) => {
            world.monitor.emit(Event::Note { text: BEGUN.into() });
            Ok(Exit::Done)
        }
        result = watching => result,
    };
    let exit = match &result {
        Ok(exit) => *exit,
        Err(failure) => failure.exit(),
    };
    display.close("sync", exit);
    result
}

/// How it is learnt what changes: from the kernel, else from the database.
async fn way(world: &World, source: &Endpoint, options: &Options) -> (Way, Option<Asker>) {
    let why = match Way::of(source, options) {
        Way::Looking { why } => why,
        way @ (Way::Kernel(_) | Way::Rows { .. }) => return (way, None),
    };
    match Asker::begin(world).await {
        Ok(asker) => (Way::Rows { changes: asker.changes(), why }, Some(asker)),
        Err(also) => (Way::Looking { why: format!("{why}; {also}") }, None),
    }
}

/// Returns when a move has begun.
async fn a_move(world: &World) {
    let count = || after_move::records(world).ok().map(|records| records.len());
    let before = count();
    while count() == before {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
