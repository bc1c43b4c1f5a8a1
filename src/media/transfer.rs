//! Moves the content of files: work in, results out. Lanes run side by side, each a way out of
//! the source joined to a way into the target; more are opened while work waits. What is under
//! way on a lane is bounded in files and in bytes.

mod lane;
mod queue;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};

use super::board::Board;
use super::error::MediaError;
use super::session::{Session, SourceLane, TargetLane};
use crate::wire::message::{Op, Results, Side};
use crate::wire::path::RelPath;
use crate::wire::tree::{Failure, MetaRule};

pub(crate) use queue::{Queue, QueueSender, queue};

/// What one lane does in this order.
pub(crate) type Load = Vec<Work>;

#[derive(Debug)]
pub(crate) enum Work {
    Change(Changes),
    Move(FileWork),
}

/// Changes of the target without content, and who waits for their results.
#[derive(Debug)]
pub(crate) struct Changes {
    /// `OPS_MAX` at most.
    pub ops: Vec<Op>,
    pub results: oneshot::Sender<Results>,
}

/// A file to move, and who waits for it.
#[derive(Debug)]
pub(crate) struct FileWork {
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
    source: &mut dyn Session,
    target: &mut dyn Session,
    rule: MetaRule,
    queue: &Queue,
    board: &Board<'_>,
) -> Result<(), MediaError> {
    let lanes_max = lanes(source, target);
    let links = (source.link().clone(), target.link().clone());
    let (sender, mut opened) = mpsc::channel(1);
    let open = async move {
        for number in 0..lanes_max as u32 {
            // The first lane waits for the first file, each further one for files that wait.
            if !queue.wait_for_backlog().await {
                break;
            }
            let opened = open_lane(source, target, number).await;
            let (out, into) = match opened {
                Ok(lane) => lane,
                // Some servers take only so many connections; if the machine is gone, the lanes
                // that run tell.
                Err(_) if number > 0 => break,
                Err(error) => return Err(error),
            };
            if sender.send((out, into)).await.is_err() {
                break;
            }
        }
        Ok::<(), MediaError>(())
    };
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

async fn open_lane(
    source: &mut dyn Session,
    target: &mut dyn Session,
    number: u32,
) -> Result<(SourceLane, TargetLane), MediaError> {
    Ok((source.source_lane(number).await?, target.target_lane(number).await?))
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
