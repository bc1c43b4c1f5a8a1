//! One lane: takes a load, has the target make its changes, asks the source for its files ahead,
//! hands their pieces to the target in order, and gives each result to whoever waits for it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{mpsc, oneshot};

use super::split::{Ended, Part, Split};
use super::{Broken, Changes, Failed, FileWork, Queue, Work};
use crate::media::board::Board;
use crate::media::session::{Bunch, SourceLane, TargetLane};
use crate::wire::bounded::List;
use crate::wire::message::{
    Ack, FileHead, Job, PartHead, Parted, Piece, Results, Side, Store, Told,
};
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
    item: Item,
    /// Its pieces have begun, of a file with this many bytes.
    begun: Option<u64>,
    literal_bytes: u64,
}

enum Item {
    File(FileWork),
    Part(Part),
}

impl Asked {
    fn path(&self) -> &RelPath {
        match &self.item {
            Item::File(work) => &work.path,
            Item::Part(part) => &part.split.path,
        }
    }

    /// About what is still to come.
    fn rest_bytes(&self) -> u64 {
        let bytes = match &self.item {
            Item::File(work) => work.size,
            Item::Part(part) => part.bytes(),
        };
        bytes.saturating_sub(self.literal_bytes)
    }
}

/// What was given to the target.
enum Stored {
    File { result: oneshot::Sender<Result<(), Failed>>, size: u64, literal_bytes: u64 },
    Part { split: Arc<Split>, literal_bytes: u64 },
}

/// Who waits for the target.
#[derive(Default)]
struct Waiting {
    stored: HashMap<u64, Stored>,
    changes: VecDeque<oneshot::Sender<Results>>,
    settling: VecDeque<oneshot::Sender<Results>>,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.stored.is_empty() && self.changes.is_empty() && self.settling.is_empty()
    }
}

/// Runs until no more work comes and everything is acknowledged.
pub(super) async fn run(
    source: SourceLane,
    target: TargetLane,
    rule: MetaRule,
    queue: &Queue,
    board: &Board<'_>,
) -> Result<(), Broken> {
    let waiting = Mutex::default();
    let forward = Forward {
        jobs: source.jobs,
        pieces: source.pieces,
        target: target.pieces,
        rule,
        queue,
        board,
        waiting: &waiting,
        load: VecDeque::new(),
        asked: VecDeque::new(),
        settling: VecDeque::new(),
        unflushed: false,
        next_ticket: 0,
    };
    tokio::try_join!(forward.run(), acknowledge(target.told, &waiting, queue, board)).map(drop)
}

/// Takes what the target tells until it closes, which is right only after everything came.
async fn acknowledge(
    mut told: mpsc::Receiver<Told>,
    waiting: &Mutex<Waiting>,
    queue: &Queue,
    board: &Board<'_>,
) -> Result<(), Broken> {
    while let Some(told) = told.recv().await {
        match told {
            Told::Applied(results) => {
                let waiting = lock(waiting).changes.pop_front();
                // Whoever waited may have given up.
                let _ = waiting.ok_or(FROM_TARGET)?.send(results);
            }
            Told::Settled(results) => {
                let waiting = lock(waiting).settling.pop_front();
                let _ = waiting.ok_or(FROM_TARGET)?.send(results);
            }
            Told::Ack(ack) => acknowledged(ack, waiting, queue, board),
        }
    }
    if lock(waiting).is_empty() { Ok(()) } else { Err(FROM_TARGET) }
}

fn acknowledged(
    Ack { ticket, result }: Ack,
    waiting: &Mutex<Waiting>,
    queue: &Queue,
    board: &Board<'_>,
) {
    let stored = lock(waiting).stored.remove(&ticket);
    let outcome = result.map_err(|failure| Failed { side: Side::Target, failure });
    match stored {
        Some(Stored::File { result, size, literal_bytes }) => {
            if outcome.is_ok() {
                board.transferred(size, literal_bytes);
            }
            // Whoever waited may have given up.
            let _ = result.send(outcome);
        }
        Some(Stored::Part { split, literal_bytes }) => {
            if let Some(ended) = split.part_done(outcome.map(|()| literal_bytes)) {
                queue.end(ended);
            }
        }
        // Of a file that was given up meanwhile nobody wants to know.
        None => {}
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

struct Forward<'a> {
    jobs: mpsc::Sender<Job>,
    pieces: mpsc::Receiver<Bunch>,
    target: mpsc::Sender<Store>,
    rule: MetaRule,
    queue: &'a Queue,
    board: &'a Board<'a>,
    waiting: &'a Mutex<Waiting>,
    /// What is left of the load that was taken last.
    load: VecDeque<Work>,
    asked: VecDeque<Asked>,
    /// For when all that was asked for up to a ticket was given to the target.
    settling: VecDeque<(u64, Changes)>,
    /// Something was given to the target since it was last told to publish.
    unflushed: bool,
    next_ticket: u64,
}

impl Forward<'_> {
    async fn run(mut self) -> Result<(), Broken> {
        let mut open = true;
        loop {
            self.begin().await?;
            if self.is_at_rest() && !open {
                return self.flush().await;
            }
            tokio::select! {
                load = self.queue.next(), if open && self.load.is_empty() && self.has_room() => {
                    match load {
                        Some(load) => self.load.extend(load),
                        None => open = false,
                    }
                }
                bunch = self.pieces.recv(), if !self.asked.is_empty() => {
                    for piece in bunch.ok_or(FROM_SOURCE)? {
                        self.take(piece).await?;
                        self.settle().await?;
                    }
                }
                // Nothing more comes for now, and somebody may wait for what was given.
                () = self.queue.idle(), if self.is_at_rest() && self.unflushed => {
                    self.flush().await?;
                }
                // Only while acknowledgements are overdue: the source has been asked for nothing.
                () = tokio::time::sleep(UNACKED_PATIENCE), if self.asked.is_empty() && !self.has_room() => {
                    self.store(Store::Flush).await?;
                }
            }
        }
    }

    /// Begins as much of the load as there is room for.
    async fn begin(&mut self) -> Result<(), Broken> {
        while self.has_room() {
            match self.load.pop_front() {
                Some(Work::Change(changes)) => self.change(changes).await?,
                Some(Work::Move(file)) => self.ask(Item::File(file))?,
                Some(Work::Settle(changes)) => {
                    self.settling.push_back((self.next_ticket, changes));
                    self.settle().await?;
                }
                Some(Work::Part(part)) => self.ask_part(part)?,
                Some(Work::End(ended)) => self.end_split(ended).await?,
                None => break,
            }
        }
        Ok(())
    }

    async fn change(&mut self, Changes { ops, results }: Changes) -> Result<(), Broken> {
        lock(self.waiting).changes.push_back(results);
        self.store(Store::Apply(List(ops))).await
    }

    /// Gives on the settling changes whose turn it is.
    async fn settle(&mut self) -> Result<(), Broken> {
        let oldest = self.asked.front().map(|asked| asked.ticket);
        while let Some((_, changes)) =
            self.settling.pop_front_if(|(last, _)| oldest.is_none_or(|oldest| oldest > *last))
        {
            lock(self.waiting).settling.push_back(changes.results);
            self.store(Store::Settle(List(changes.ops))).await?;
        }
        Ok(())
    }

    /// Has the target publish what it was given.
    async fn flush(&mut self) -> Result<(), Broken> {
        if std::mem::take(&mut self.unflushed) {
            self.store(Store::Flush).await?;
        }
        Ok(())
    }

    fn is_at_rest(&self) -> bool {
        self.asked.is_empty() && self.load.is_empty()
    }

    fn has_room(&self) -> bool {
        let bytes: u64 = self.asked.iter().map(Asked::rest_bytes).sum();
        self.asked.len() < ASKED_FILES_MAX
            && bytes < ASKED_BYTES_MAX
            && lock(self.waiting).stored.len() < UNACKED_FILES_MAX
    }

    fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }

    fn ask(&mut self, mut item: Item) -> Result<(), Broken> {
        let ticket = self.ticket();
        let (path, size, signature, part) = match &mut item {
            Item::File(work) => (work.path.clone(), work.size, work.signature.take(), None),
            Item::Part(part) => {
                let kept = part.kept().map(|hash| bytes::Bytes::copy_from_slice(&hash));
                (part.split.path.clone(), part.bytes(), kept, Some(part.index))
            }
        };
        // There is room for all that may be asked for.
        let job = Job { ticket, path, size, signature, part };
        self.jobs.try_send(job).map_err(|_| FROM_SOURCE)?;
        self.asked.push_back(Asked { ticket, item, begun: None, literal_bytes: 0 });
        Ok(())
    }

    fn ask_part(&mut self, part: Part) -> Result<(), Broken> {
        if !part.split.has_failed() {
            return self.ask(Item::Part(part));
        }
        if let Some(ended) = part.split.part_done(Ok(0)) {
            self.queue.end(ended);
        }
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
                let Item::File(_) = asked.item else { return Err(FROM_SOURCE) };
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
                let Item::File(_) = asked.item else { return Err(FROM_SOURCE) };
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
                // What a delta saves counts as done, and so does a part that is there.
                let (path, files, bytes) = match &asked.item {
                    Item::File(work) => (&work.path, 1, size),
                    Item::Part(part) => (&part.split.path, 0, part.bytes()),
                };
                let (path, saved_bytes) = (path.clone(), bytes.saturating_sub(literal_bytes));
                if files > 0 || saved_bytes > 0 {
                    self.board.given(&path, files, saved_bytes);
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
        let stored = match item {
            Item::File(work) => Stored::File { result: work.result, size, literal_bytes },
            Item::Part(part) => Stored::Part { split: part.split, literal_bytes },
        };
        lock(self.waiting).stored.insert(ticket, stored);
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
            Item::File(work) => {
                let _ = work.result.send(Err(failed));
            }
            Item::Part(part) => {
                if let Some(ended) = part.split.part_done(Err(failed)) {
                    self.queue.end(ended);
                }
            }
        }
    }

    async fn begin_part(&mut self, ticket: u64, head: PartHead) -> Result<(), Broken> {
        let asked = self.current(ticket)?;
        let Item::Part(part) = &asked.item else { return Err(FROM_SOURCE) };
        let (head, index) = (part.split.accept(head), part.index);
        let path = part.split.path.clone();
        asked.literal_bytes = 0;
        asked.begun = Some(head.size);
        let file = self.parted(path, head);
        self.store(Store::Part { ticket, file, index }).await
    }

    fn parted(&self, path: RelPath, PartHead { meta, size, .. }: PartHead) -> Parted {
        Parted { path, size, mtime: self.rule.wanted(meta).mtime }
    }

    /// Has a file published whose parts are all there, or what there is of it removed.
    async fn end_split(&mut self, ended: Ended) -> Result<(), Broken> {
        let Ended { path, head, failed, literal_bytes, result } = ended;
        let file = head.map(|head| (self.parted(path, head), head.meta));
        match (file, failed) {
            (Some((file, meta)), None) => {
                let (ticket, size) = (self.ticket(), file.size);
                let stored = Stored::File { result, size, literal_bytes };
                lock(self.waiting).stored.insert(ticket, stored);
                self.board.given(&file.path, 1, 0);
                self.store(Store::Join { ticket, file, meta: self.rule.wanted(meta) }).await
            }
            (file, failed) => {
                // First what is there must go, so that there is room for another attempt.
                if let Some((file, _)) = file {
                    self.store(Store::Drop(file)).await?;
                }
                let failure = Failure::new(FailureKind::Other, "nothing was read of it");
                let failed = failed.unwrap_or(Failed { side: Side::Source, failure });
                // Whoever waited may have given up.
                let _ = result.send(Err(failed));
                Ok(())
            }
        }
    }

    async fn store(&mut self, piece: Store) -> Result<(), Broken> {
        self.unflushed |= matches!(
            piece,
            Store::Whole { .. } | Store::End { .. } | Store::Join { .. } | Store::Settle(_)
        );
        self.target.send(piece).await.map_err(|_| FROM_TARGET)
    }
}

/// How long acknowledgements may be overdue before the target is reminded.
const UNACKED_PATIENCE: std::time::Duration = std::time::Duration::from_millis(500);
