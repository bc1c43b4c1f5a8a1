//! One lane: asks the source for files ahead, hands their pieces to the target in order, and gives
//! each file's result to whoever waits for it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, oneshot};

use super::queue::Item;
use super::split::{Ended, Part, Split};
use super::{Broken, Failed, Queue, Relieved, Work};
use crate::media::board::Board;
use crate::media::session::{SourceLane, TargetLane};
use crate::wire::message::{Ack, FileHead, Job, PartHead, Piece, Side, Store};
use crate::wire::path::RelPath;
use crate::wire::tree::{Failure, FailureKind, MetaRule};

/// What may be asked of the source ahead of its pieces.
const ASKED_FILES_MAX: usize = 64;
const ASKED_BYTES_MAX: u64 = 8 << 20;
/// Files given to the target that may wait for their acknowledgement.
const UNACKED_FILES_MAX: usize = 2048;

const FROM_SOURCE: Broken = Broken(Side::Source);
const FROM_TARGET: Broken = Broken(Side::Target);

/// A file or part that the source was asked for.
struct Asked {
    ticket: u64,
    item: Asking,
    /// Its pieces have begun, of a file with this many bytes.
    begun: Option<u64>,
    literal_bytes: u64,
}

enum Asking {
    File(Work),
    Part(Part),
}

impl Asked {
    fn path(&self) -> &RelPath {
        match &self.item {
            Asking::File(work) => &work.path,
            Asking::Part(part) => &part.split.path,
        }
    }

    /// About what is still to come.
    fn rest_bytes(&self) -> u64 {
        let bytes = match &self.item {
            Asking::File(work) => work.size,
            Asking::Part(part) => part.bytes(),
        };
        bytes.saturating_sub(self.literal_bytes)
    }
}

/// Who waits for the acknowledgement of what was given to the target.
enum Waiter {
    File { result: oneshot::Sender<Result<(), Failed>>, size: u64, literal_bytes: u64 },
    Part(Arc<Split>),
}

type Waiting = Mutex<HashMap<u64, Waiter>>;

/// Runs until no more work comes (or, if `relieved` is given, until that is told) and everything
/// is acknowledged.
pub(super) async fn run(
    source: SourceLane,
    target: TargetLane,
    rule: MetaRule,
    queue: &Queue,
    board: &Board<'_>,
    relieved: Option<&Relieved>,
) -> Result<(), Broken> {
    let stored = Waiting::default();
    let forward = Forward {
        jobs: source.jobs,
        pieces: source.pieces,
        target: target.pieces,
        rule,
        queue,
        board,
        relieved,
        stored: &stored,
        asked: VecDeque::new(),
        unflushed: false,
        next_ticket: 0,
    };
    tokio::try_join!(forward.run(), acknowledge(target.acks, &stored, queue, board)).map(drop)
}

/// Takes acknowledgements until the target closes, which is right only after everything came.
async fn acknowledge(
    mut acks: mpsc::Receiver<Ack>,
    stored: &Waiting,
    queue: &Queue,
    board: &Board<'_>,
) -> Result<(), Broken> {
    while let Some(Ack { ticket, result }) = acks.recv().await {
        let waiter = lock(stored).remove(&ticket);
        let outcome = result.map_err(|failure| Failed { side: Side::Target, failure });
        match waiter {
            Some(Waiter::File { result, size, literal_bytes }) => {
                if outcome.is_ok() {
                    board.transferred(size, literal_bytes);
                }
                // Whoever waited may have given up.
                let _ = result.send(outcome);
            }
            Some(Waiter::Part(split)) => {
                if let Some(ended) = split.part_done(outcome) {
                    queue.end(ended);
                }
            }
            // Of a file that was given up meanwhile nobody wants to know.
            None => {}
        }
    }
    if lock(stored).is_empty() { Ok(()) } else { Err(FROM_TARGET) }
}

fn lock(stored: &Waiting) -> std::sync::MutexGuard<'_, HashMap<u64, Waiter>> {
    stored.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

struct Forward<'a> {
    jobs: mpsc::Sender<Job>,
    pieces: mpsc::Receiver<Piece>,
    target: mpsc::Sender<Store>,
    rule: MetaRule,
    queue: &'a Queue,
    board: &'a Board<'a>,
    relieved: Option<&'a Relieved>,
    stored: &'a Waiting,
    asked: VecDeque<Asked>,
    /// Something was given to the target since it was last told to publish.
    unflushed: bool,
    next_ticket: u64,
}

impl Forward<'_> {
    async fn run(mut self) -> Result<(), Broken> {
        let mut open = true;
        loop {
            if self.asked.is_empty() && !open {
                return self.flush().await;
            }
            tokio::select! {
                () = relieved(self.relieved), if open => open = false,
                item = self.queue.next(), if open && self.has_room() => match item {
                    Some(item) => self.ask(item).await?,
                    None => open = false,
                },
                piece = self.pieces.recv(), if !self.asked.is_empty() => {
                    self.take(piece.ok_or(FROM_SOURCE)?).await?;
                }
                // Nothing more comes for now, and somebody may wait for what was given.
                () = self.queue.idle(), if self.asked.is_empty() && self.unflushed => {
                    self.flush().await?;
                }
                // Only while acknowledgements are overdue: the source has been asked for nothing.
                () = tokio::time::sleep(UNACKED_PATIENCE), if self.asked.is_empty() && !self.has_room() => {
                    self.store(Store::Flush).await?;
                }
            }
        }
    }

    /// Has the target publish what it was given.
    async fn flush(&mut self) -> Result<(), Broken> {
        if std::mem::take(&mut self.unflushed) {
            self.store(Store::Flush).await?;
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        let bytes: u64 = self.asked.iter().map(Asked::rest_bytes).sum();
        self.asked.len() < ASKED_FILES_MAX
            && bytes < ASKED_BYTES_MAX
            && lock(self.stored).len() < UNACKED_FILES_MAX
    }

    fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }

    async fn ask(&mut self, item: Item) -> Result<(), Broken> {
        let mut item = match item {
            Item::Ended(ended) => return self.end_split(ended).await,
            Item::Part(part) if part.split.has_failed() => {
                if let Some(ended) = part.split.part_done(Ok(())) {
                    self.queue.end(ended);
                }
                return Ok(());
            }
            Item::File(work) => Asking::File(work),
            Item::Part(part) => Asking::Part(part),
        };
        let ticket = self.ticket();
        let job = match &mut item {
            Asking::File(work) => {
                let signature = work.signature.take();
                Job { ticket, path: work.path.clone(), signature, part: None }
            }
            Asking::Part(part) => {
                let path = part.split.path.clone();
                Job { ticket, path, signature: None, part: Some(part.index) }
            }
        };
        // There is room for all that may be asked for.
        self.jobs.try_send(job).map_err(|_| FROM_SOURCE)?;
        self.asked.push_back(Asked { ticket, item, begun: None, literal_bytes: 0 });
        Ok(())
    }

    /// The file that the source must be at. A source that sends another is not followed.
    fn current(&mut self, ticket: u64) -> Result<&mut Asked, Broken> {
        self.asked.front_mut().filter(|asked| asked.ticket == ticket).ok_or(FROM_SOURCE)
    }

    async fn take(&mut self, piece: Piece) -> Result<(), Broken> {
        match piece {
            Piece::Whole { ticket, meta, digest, content } => {
                let asked = self.current(ticket)?;
                let Asking::File(_) = asked.item else { return Err(FROM_SOURCE) };
                let path = asked.path().clone();
                let bytes = content.len();
                self.board.throttle.pass(bytes).await;
                self.board.given(&path, 1, bytes as u64);
                self.finish(ticket, bytes as u64, bytes as u64);
                let meta = self.rule.wanted(meta);
                self.store(Store::Whole { ticket, path, meta, digest, content }).await
            }
            Piece::Begin { ticket, head } => {
                let asked = self.current(ticket)?;
                let Asking::File(_) = asked.item else { return Err(FROM_SOURCE) };
                asked.literal_bytes = 0;
                asked.begun = Some(head.size);
                let path = asked.path().clone();
                let head = FileHead { meta: self.rule.wanted(head.meta), ..head };
                self.store(Store::Begin { ticket, path, head }).await
            }
            Piece::Chunk(bytes) => {
                let asked = self.asked.front_mut().filter(|asked| asked.begun.is_some());
                let asked = asked.ok_or(FROM_SOURCE)?;
                asked.literal_bytes += bytes.len() as u64;
                self.board.throttle.pass(bytes.len()).await;
                self.board.given(asked.path(), 0, bytes.len() as u64);
                self.store(Store::Chunk(bytes)).await
            }
            Piece::End { ticket, digest } => {
                let asked = self.current(ticket)?;
                let size = asked.begun.ok_or(FROM_SOURCE)?;
                let literal_bytes = asked.literal_bytes;
                if let Asking::File(work) = &asked.item {
                    // What a delta saves counts as done.
                    let (path, saved_bytes) =
                        (work.path.clone(), size.saturating_sub(literal_bytes));
                    self.board.given(&path, 1, saved_bytes);
                }
                self.finish(ticket, size, literal_bytes);
                self.store(Store::End { digest }).await
            }
            Piece::Failed { ticket, failure } => {
                let begun = self.current(ticket)?.begun.is_some();
                if begun {
                    self.store(Store::Abort).await?;
                }
                self.give_up(failure);
                Ok(())
            }
            Piece::Part { ticket, head } => self.begin_part(ticket, head).await,
        }
    }

    /// From here on the target's acknowledgement decides.
    fn finish(&mut self, ticket: u64, size: u64, literal_bytes: u64) {
        let Some(Asked { item, .. }) = self.asked.pop_front() else { return };
        let waiter = match item {
            Asking::File(work) => Waiter::File { result: work.result, size, literal_bytes },
            Asking::Part(part) => Waiter::Part(part.split),
        };
        lock(self.stored).insert(ticket, waiter);
    }

    fn give_up(&mut self, failure: Failure) {
        let Some(Asked { item, .. }) = self.asked.pop_front() else { return };
        // Full is what a target is; a source that says so means something else.
        let kind = match failure.kind {
            FailureKind::Full => FailureKind::Other,
            kind => kind,
        };
        let failed = Failed { side: Side::Source, failure: Failure { kind, ..failure } };
        match item {
            Asking::File(work) => {
                let _ = work.result.send(Err(failed));
            }
            Asking::Part(part) => {
                if let Some(ended) = part.split.part_done(Err(failed)) {
                    self.queue.end(ended);
                }
            }
        }
    }

    async fn begin_part(&mut self, ticket: u64, head: PartHead) -> Result<(), Broken> {
        let asked = self.current(ticket)?;
        let Asking::Part(part) = &asked.item else { return Err(FROM_SOURCE) };
        if let Err(failure) = part.split.accept(head) {
            // What still comes of it finds the file failed, and is not published.
            part.split.fail(Failed { side: Side::Source, failure });
        }
        let (path, file, index) = (part.split.path.clone(), part.split.file, part.index);
        asked.literal_bytes = 0;
        asked.begun = Some(head.size);
        self.store(Store::Part { ticket, path, file, index, size: head.size }).await
    }

    /// Has a file published whose parts are all there, or what there is of it removed.
    async fn end_split(&mut self, ended: Ended) -> Result<(), Broken> {
        let Ended { split, outcome, result } = ended;
        let (path, file) = (split.path.clone(), split.file);
        match outcome {
            Ok(PartHead { meta, size, .. }) => {
                let ticket = self.ticket();
                let waiter = Waiter::File { result, size, literal_bytes: size };
                lock(self.stored).insert(ticket, waiter);
                self.board.given(&path, 1, 0);
                let meta = self.rule.wanted(meta);
                self.store(Store::Join { ticket, path, file, meta, size }).await
            }
            Err(failed) => {
                // First what is there must go, so that there is room for another attempt.
                self.queue.keep_whole(&path);
                self.store(Store::Drop { path, file }).await?;
                let _ = result.send(Err(failed));
                Ok(())
            }
        }
    }

    async fn store(&mut self, piece: Store) -> Result<(), Broken> {
        self.unflushed |=
            matches!(piece, Store::Whole { .. } | Store::End { .. } | Store::Join { .. });
        self.target.send(piece).await.map_err(|_| FROM_TARGET)
    }
}

async fn relieved(by: Option<&Relieved>) {
    match by {
        Some(relieved) => relieved.told().await,
        None => std::future::pending().await,
    }
}

/// How long acknowledgements may be overdue before the target is reminded.
const UNACKED_PATIENCE: std::time::Duration = std::time::Duration::from_millis(500);
