//! Moves the content of files: work in, results out. Lanes run side by side, each a way out of
//! the source joined to a way into the target; more are opened while work waits. What is under
//! way on a lane is bounded in files and in bytes.

mod lane;
mod queue;
mod split;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};

use super::board::Board;
use super::error::MediaError;
use super::session::{Session, SourceLane, TargetLane};
use crate::wire::message::Side;
use crate::wire::path::RelPath;
use crate::wire::tree::{Failure, MetaRule};

pub(crate) use queue::{Queue, QueueSender, queue};

/// A file to move, and who waits for it.
#[derive(Debug)]
pub(crate) struct Work {
    pub path: RelPath,
    /// As scanned; only for bounds.
    pub size: u64,
    pub signature: Option<bytes::Bytes>,
    pub result: oneshot::Sender<Result<(), Failed>>,
}

/// Why a file was not moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    pub side: Side,
    pub failure: Failure,
}

/// A channel closed that should not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken(pub Side);

/// Moves files until no more work comes.
pub(crate) async fn run(
    source: &dyn Session,
    target: &dyn Session,
    rule: MetaRule,
    queue: &Queue,
    board: &Board<'_>,
) -> Result<(), MediaError> {
    let lanes_max = lanes(source, target);
    let links = (source.link().clone(), target.link().clone());
    let parts = source.ability().parts && target.ability().parts;
    // Within one machine lanes do not add up to anything.
    if parts && lanes_max > 1 && (source.ability().remote || target.ability().remote) {
        queue.cut_large();
    }
    let (sender, mut opened) = mpsc::channel(1);
    let open = open(source, target, lanes_max, queue, sender);
    let work = async {
        let mut running = FuturesUnordered::new();
        let mut opening = true;
        loop {
            tokio::select! {
                lane = opened.recv(), if opening => match lane {
                    Some((out, into)) => running.push(lane::run(out, into, rule, queue, board)),
                    None => opening = false,
                },
                Some(ended) = running.next(), if !running.is_empty() => {
                    let ended: Result<(), Broken> = ended;
                    ended.map_err(|Broken(side)| {
                        let link = if side == Side::Source { &links.0 } else { &links.1 };
                        let lost = || MediaError::Lost { host: link.host.clone() };
                        link.take_failure().unwrap_or_else(lost)
                    })?;
                }
                else => return Ok(()),
            }
        }
    };
    tokio::try_join!(open, work).map(drop)
}

/// Opens lanes while there is work for them. The first one waits for the first file; further ones
/// come up beside it, for what waits beyond what those before can be given.
async fn open(
    source: &dyn Session,
    target: &dyn Session,
    lanes_max: usize,
    queue: &Queue,
    opened: mpsc::Sender<(SourceLane, TargetLane)>,
) -> Result<(), MediaError> {
    let mut opening = FuturesUnordered::new();
    let mut numbers = 0..lanes_max as u32;
    loop {
        tokio::select! {
            more = queue.wait_for_backlog(opening.len()), if !numbers.is_empty() => {
                let Some(number) = numbers.next().filter(|_| more) else { return Ok(()) };
                opening.push(async move {
                    let out = source.source_lane(number).await?;
                    let into = target.target_lane(number).await?;
                    Ok::<_, MediaError>((out, into))
                });
            }
            Some(lane) = opening.next(), if !opening.is_empty() => {
                if opened.send(lane?).await.is_err() {
                    return Ok(());
                }
            }
            else => return Ok(()),
        }
    }
}

/// How many lanes make sense: what the remote sides were given, or what the local one can use.
fn lanes(source: &dyn Session, target: &dyn Session) -> usize {
    let (source, target) = (source.ability(), target.ability());
    match (source.remote, target.remote) {
        (true, false) => source.lanes,
        (false, true) => target.lanes,
        (true, true) | (false, false) => source.lanes.min(target.lanes),
    }
}
