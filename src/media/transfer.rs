//! Moves the content of files: work in, results out. Lanes run side by side, each a way out of
//! the source joined to a way into the target; more are opened for what is planned beyond what
//! those that are there can be given. Large files are cut into parts, which all lanes share. What
//! is under way on a lane is bounded in files and in bytes.

mod lane;
mod queue;
mod split;

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};

use super::board::Board;
use super::error::MediaError;
use super::kept::Kept;
use super::session::{Lanes, Session, SourceLane, TargetLane};
use crate::wire::message::{Op, Results, Side};
use crate::wire::path::RelPath;
use crate::wire::tree::{Failure, MetaRule};

pub(crate) use queue::{Queue, QueueSender, queue};
pub(crate) use split::is_long;
use split::{Ended, Part};

/// What one lane does in this order.
pub(crate) type Load = Vec<Work>;

#[derive(Debug)]
pub(crate) enum Work {
    Change(Changes),
    Move(FileWork),
    /// For when all files of the load before it are published.
    Settle(Changes),
    /// Some of a large file.
    Part(Part),
    /// All parts of a file have ended.
    End(Ended),
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
    /// What of its parts is on the target already.
    pub kept: Option<Kept>,
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
    let lanes = lanes(source, target);
    let links = (source.link().clone(), target.link().clone());
    let (sender, mut opened) = mpsc::channel(1);
    let open = open(source, target, lanes, queue, board, sender);
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

/// Whether large files are cut into parts: for several lanes, or because a target keeps these when
/// it breaks off. Within one machine lanes do not add up to anything.
pub(crate) fn cuts(source: &dyn Session, target: &dyn Session) -> bool {
    let (from, to) = (source.ability(), target.ability());
    let worth_it = to.keeps_parts || lanes(source, target).max > 1;
    from.parts && to.parts && (from.remote || to.remote) && worth_it
}

/// What a lane is given before another one is opened beside it.
const LANE_FILES: u64 = 64;
const LANE_BYTES: u64 = 8 << 20;
/// How long it is watched what lanes achieve that do not wait for their way, and how many times as
/// long the rest of the work must take for another one to be worth its cost.
const WATCH: Duration = Duration::from_millis(250);
const WATCHES_LEFT_MIN: u64 = 6;
/// A small file is as much work as so many bytes.
const FILE_WORK_BYTES: u64 = 16 << 10;

type Lane = (SourceLane, TargetLane);

/// Opens lanes while there is work for them: the first one as soon as anything is planned, further
/// ones side by side, for what is planned beyond what those before can be given or get done soon.
async fn open(
    source: &dyn Session,
    target: &dyn Session,
    lanes: Lanes,
    queue: &Queue,
    board: &Board<'_>,
    opened: mpsc::Sender<Lane>,
) -> Result<(), MediaError> {
    let mut opening = FuturesUnordered::new();
    let mut numbers = 0..lanes.max as u32;
    loop {
        tokio::select! {
            more = wait_for_work(queue, board, numbers.start, lanes.at_once), if !numbers.is_empty() => {
                let Some(number) = numbers.next().filter(|_| more) else { return Ok(()) };
                opening.push(open_lane(source, target, number));
            }
            Some(lane) = opening.next(), if !opening.is_empty() => {
                let Some(lane) = lane? else {
                    // No more of them.
                    numbers = 0..0;
                    continue;
                };
                if opened.send(lane).await.is_err() {
                    return Ok(());
                }
            }
            else => return Ok(()),
        }
    }
}

/// `None` if this is as many as there can be: some servers take only so many connections. (If the
/// machine is gone, the lanes that run tell.)
async fn open_lane(
    source: &dyn Session,
    target: &dyn Session,
    number: u32,
) -> Result<Option<Lane>, MediaError> {
    let lane = async { Ok((source.source_lane(number).await?, target.target_lane(number).await?)) };
    match lane.await {
        Ok(lane) => Ok(Some(lane)),
        Err(_) if number > 0 => Ok(None),
        Err(error) => Err(error),
    }
}

/// Waits until there is work for one more lane than `lanes`; `false` if no more comes.
async fn wait_for_work(queue: &Queue, board: &Board<'_>, lanes: u32, at_once: usize) -> bool {
    let planned = async {
        if lanes as usize >= at_once {
            return wait_for_long_work(board).await;
        }
        loop {
            let (files, bytes) = board.rest();
            let lanes = u64::from(lanes);
            if files > lanes * LANE_FILES || files > 0 && bytes > lanes * LANE_BYTES {
                return;
            }
            board.more_planned.notified().await;
        }
    };
    let queued = async {
        if lanes == 0 {
            return queue.wait_for_backlog().await;
        }
        queue.closed().await;
        false
    };
    tokio::select! {
        () = planned => true,
        more = queued => more,
    }
}

/// Waits until what is planned will take long, if it goes on as it does.
async fn wait_for_long_work(board: &Board<'_>) {
    let work = |(files, bytes): (u64, u64)| files * FILE_WORK_BYTES + bytes;
    loop {
        let before = work(board.done());
        tokio::time::sleep(WATCH).await;
        let done = work(board.done()).saturating_sub(before);
        // Where nothing is done yet nothing can be said.
        if done > 0 && work(board.rest()) > done.saturating_mul(WATCHES_LEFT_MIN) {
            return;
        }
    }
}

/// How many lanes make sense: what the remote sides were given, or what the local one can use.
fn lanes(source: &dyn Session, target: &dyn Session) -> Lanes {
    let (source, target) = (source.ability(), target.ability());
    match (source.remote, target.remote) {
        (true, false) => source.lanes,
        (false, true) => target.lanes,
        (true, true) | (false, false) => Lanes {
            max: source.lanes.max.min(target.lanes.max),
            at_once: source.lanes.at_once.max(target.lanes.at_once),
        },
    }
}
