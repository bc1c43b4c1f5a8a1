//! Moves the content of files: work in, results out. Lanes run side by side, each a way out of
//! the source joined to a way into the target; more are opened for what is planned beyond what
//! those that are there can be given. Large files are cut into parts, which all lanes share. What
//! is under way on a lane is bounded in files and in bytes.

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
    let open = open(source, target, lanes_max, queue, board, sender);
    let relieved = Relieved::default();
    let relieved = &relieved;
    let work = async {
        let mut running = FuturesUnordered::new();
        let mut opening = true;
        loop {
            tokio::select! {
                lane = opened.recv(), if opening => match lane {
                    Some(Lane { shared, out, into }) => {
                        if !shared {
                            relieved.tell();
                        }
                        let relieved = shared.then_some(relieved);
                        running.push(lane::run(out, into, rule, queue, board, relieved));
                    }
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

/// What a lane is given before another one is opened beside it.
const LANE_FILES: u64 = 64;
const LANE_BYTES: u64 = 8 << 20;

struct Lane {
    /// It is on a connection that others need as well.
    shared: bool,
    out: SourceLane,
    into: TargetLane,
}

/// Opens lanes while there is work for them. The first one comes as soon as anything is planned,
/// if possible on a connection that is there already: on a long way a new one takes a dozen round
/// trips. Further ones come side by side, for what is planned beyond what those before can be given.
async fn open(
    source: &dyn Session,
    target: &dyn Session,
    lanes_max: usize,
    queue: &Queue,
    board: &Board<'_>,
    opened: mpsc::Sender<Lane>,
) -> Result<(), MediaError> {
    let shared_lanes = u32::from(source.ability().shared_lane || target.ability().shared_lane);
    let mut opening = FuturesUnordered::new();
    let mut numbers = 0..lanes_max as u32 + shared_lanes;
    loop {
        tokio::select! {
            more = wait_for_work(queue, board, numbers.start), if !numbers.is_empty() => {
                let Some(number) = numbers.next().filter(|_| more) else { return Ok(()) };
                opening.push(async move {
                    let out = source.source_lane(number).await?;
                    let into = target.target_lane(number).await?;
                    Ok::<_, MediaError>(Lane { shared: number < shared_lanes, out, into })
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

/// Waits until there is work for one more lane than `lanes`; `false` if no more comes.
async fn wait_for_work(queue: &Queue, board: &Board<'_>, lanes: u32) -> bool {
    let planned = async {
        loop {
            let (files, bytes) = board.rest();
            let lanes = u64::from(lanes);
            if files > lanes * LANE_FILES || files > 0 && bytes > lanes * LANE_BYTES {
                return;
            }
            board.more_planned.notified().await;
        }
    };
    tokio::select! {
        () = planned => true,
        () = queue.closed() => false,
    }
}

/// Tells a lane on a shared connection that others have come up, and it can leave.
#[derive(Default)]
struct Relieved(tokio::sync::watch::Sender<bool>);

impl Relieved {
    fn tell(&self) {
        self.0.send_replace(true);
    }

    async fn told(&self) {
        // The sender is in our hand.
        let _ = self.0.subscribe().wait_for(|told| *told).await;
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
