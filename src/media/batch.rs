//! A batch: the plans of some directories, carried out together. One lane gets it as a load:
//! directories, symlinks and modes first, then files. So nothing has to be waited for in between,
//! and several batches are under way at once, in no order. Only the times of directories wait for
//! everything in them: in the load, if all of it is there; else for earlier batches too.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::oneshot;

use super::board::Board;
use super::compare::{Plan, Transfer};
use super::error::MediaError;
use super::kept::Kept;
use super::session::{Calls, Link};
use super::transfer::{Changes, Failed, FileWork, QueueSender, Work, is_long};
use crate::wire::bounded::List;
use crate::wire::message::{Answer, Call, OPS_MAX, Op, Results, Side};
use crate::wire::path::RelPath;
use crate::wire::tree::{Failure, FailureKind, Problem};

/// A batch is carried out when it holds so much.
const FILES_MAX: usize = 512;
const OPS_TOTAL_MAX: usize = 2048;

/// What everybody needs who carries something out.
#[derive(Clone, Copy)]
pub(crate) struct Hands<'a> {
    pub board: &'a Board<'a>,
    pub calls: &'a Calls,
    pub queue: &'a QueueSender,
    /// Of source and target.
    pub links: &'a (Arc<Link>, Arc<Link>),
}

#[derive(Default)]
pub(crate) struct Batch {
    pub number: u64,
    ops: Vec<Op>,
    files: Vec<Transfer>,
    /// Times of directories that `files` go into, and nothing later.
    settling: Vec<Op>,
    /// Times of other directories, the deepest first.
    times: Vec<Op>,
}

/// What the time of a directory has to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    /// The changes in the same load.
    Changes,
    /// The files in it as well.
    Files,
    /// Also what is not in that load.
    Earlier,
}

impl Batch {
    /// The one after this. `ops` make the directories that earlier batches make too: on another
    /// lane, those may be later.
    pub fn next(&self, ops: Vec<Op>) -> Self {
        Batch { number: self.number + 1, ops, ..Batch::default() }
    }

    /// Takes over what `plan` holds for now, and tells what of it changes the directory's time.
    pub fn add(&mut self, plan: &mut Plan) -> Waits {
        let waits = match plan.files.as_slice() {
            [] => Waits::Changes,
            files if files.iter().any(is_later) => Waits::Earlier,
            _ => Waits::Files,
        };
        self.ops.extend(plan.make.clone());
        self.ops.append(&mut plan.ops);
        self.files.append(&mut plan.files);
        waits
    }

    /// Sets a time when what it waits for is there.
    pub fn add_time(&mut self, op: Op, waits: Waits) {
        let list = match waits {
            Waits::Changes => &mut self.ops,
            Waits::Files => &mut self.settling,
            Waits::Earlier => &mut self.times,
        };
        list.push(op);
    }

    pub fn is_full(&self) -> bool {
        let ops = self.ops.len() + self.settling.len() + self.times.len();
        self.files.len() >= FILES_MAX || ops >= OPS_TOTAL_MAX
    }

    /// Sends it on its way. `before` tells when all earlier batches are done.
    pub fn start<'a>(
        self,
        hands: Hands<'a>,
        before: Option<oneshot::Receiver<()>>,
    ) -> Result<Started<'a>, MediaError> {
        let (later, now) = self.files.into_iter().partition(is_later);
        let load = hands.load(self.ops, now, self.settling)?;
        Ok(Started { hands, before, load, later, times: self.times })
    }
}

/// Several lanes may share a long file, but not before its directory is there; of one with a basis
/// the signature is awaited.
fn is_later(file: &Transfer) -> bool {
    file.basis.is_some() || is_long(file.size)
}

/// A batch that is under way.
pub(crate) struct Started<'a> {
    hands: Hands<'a>,
    before: Option<oneshot::Receiver<()>>,
    load: Loaded,
    /// Files that may be sent as a delta, or in parts.
    later: Vec<Transfer>,
    times: Vec<Op>,
}

impl Started<'_> {
    /// Carries out the rest; `done` is told when all but the times is done.
    pub async fn finish(self, done: oneshot::Sender<()>) -> Result<(), MediaError> {
        let Started { hands, before, load, later, mut times } = self;
        times.extend(hands.loaded(load).await?);
        hands.transfer(later).await?;
        if let Some(before) = before {
            // Without an answer it failed, and so does the pass.
            let _ = before.await;
        }
        // The last batch may be done, and nobody wait.
        let _ = done.send(());
        let times = hands.send_ops(times).await?;
        hands.ops_done(times).await
    }
}

type Answered = Vec<(Vec<Op>, oneshot::Receiver<Results>)>;

/// What a lane was given.
#[derive(Default)]
struct Loaded {
    changes: Answered,
    settling: Answered,
    files: Vec<(Transfer, oneshot::Receiver<Result<(), Failed>>)>,
}

type Done<'a> = BoxFuture<'a, Result<(), MediaError>>;

/// The batches under way.
pub(crate) struct UnderWay<'a> {
    hands: Hands<'a>,
    batches: FuturesUnordered<Done<'a>>,
    /// Tells when the latest one, and so all of them, are done.
    latest: Option<oneshot::Receiver<()>>,
}

impl<'a> UnderWay<'a> {
    pub fn new(hands: Hands<'a>) -> Self {
        UnderWay { hands, batches: FuturesUnordered::new(), latest: None }
    }

    pub fn count(&self) -> usize {
        self.batches.len()
    }

    pub fn start(&mut self, batch: Batch) -> Result<(), MediaError> {
        let (done, latest) = oneshot::channel();
        let started = batch.start(self.hands, self.latest.replace(latest))?;
        self.batches.push(started.finish(done).boxed());
        Ok(())
    }

    /// Waits for some batch.
    pub async fn next(&mut self) -> Result<(), MediaError> {
        self.batches.next().await.unwrap_or(Ok(()))
    }

    /// Waits for all batches.
    pub async fn all(&mut self) -> Result<(), MediaError> {
        while let Some(done) = self.batches.next().await {
            done?;
        }
        Ok(())
    }
}

/// Operations that the target was asked for.
pub(crate) struct SentOps {
    ops: Vec<Op>,
    answer: oneshot::Receiver<Answer>,
}

impl<'a> Hands<'a> {
    fn lost(&self, side: Side) -> MediaError {
        let link = if side == Side::Source { &self.links.0 } else { &self.links.1 };
        let lost = || MediaError::Lost { host: link.host.clone() };
        link.take_failure().unwrap_or_else(lost)
    }

    fn target_lost(&self) -> MediaError {
        self.lost(Side::Target)
    }

    fn target_full(&self, problem: String) -> MediaError {
        MediaError::TargetFull { host: self.links.1.host.clone(), problem }
    }

    async fn call(&self, call: Call) -> Result<oneshot::Receiver<Answer>, MediaError> {
        self.board.touched.store(true, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.calls.send((call, sender)).await.map_err(|_| self.target_lost())?;
        Ok(answer)
    }

    /// Asks for `ops`, in order.
    pub async fn send_ops(&self, ops: Vec<Op>) -> Result<Vec<SentOps>, MediaError> {
        let mut sent = Vec::new();
        for ops in ops.chunks(OPS_MAX) {
            let answer = self.call(Call::Apply(List(ops.to_vec()))).await?;
            sent.push(SentOps { ops: ops.to_vec(), answer });
        }
        Ok(sent)
    }

    /// Waits for operations and notes those that failed.
    pub async fn ops_done(&self, sent: Vec<SentOps>) -> Result<(), MediaError> {
        for (op, result) in self.results(sent).await? {
            self.note(&op, result)?;
        }
        Ok(())
    }

    fn note(&self, op: &Op, result: Result<(), Failure>) -> Result<(), MediaError> {
        match result {
            // It counts when it gets its time.
            Ok(()) if matches!(op, Op::MakeDir { .. }) => Ok(()),
            Ok(()) => {
                self.board.count(|stats| stats.changed_entries += 1);
                Ok(())
            }
            Err(failure) => self.failed(op.path().clone(), failure),
        }
    }

    /// Waits for operations.
    pub async fn results(
        &self,
        sent: Vec<SentOps>,
    ) -> Result<Vec<(Op, Result<(), Failure>)>, MediaError> {
        let mut all = Vec::new();
        for SentOps { ops, answer } in sent {
            match answer.await {
                Ok(Answer::Applied(results)) if results.len() == ops.len() => {
                    all.extend(ops.into_iter().zip(results));
                }
                Ok(Answer::Applied(_) | Answer::Signature(_) | Answer::Synced(_)) | Err(_) => {
                    return Err(self.target_lost());
                }
            }
        }
        Ok(all)
    }

    /// Notes a failure on the target, or stops the pass if going on makes no sense.
    pub fn failed(&self, path: RelPath, failure: Failure) -> Result<(), MediaError> {
        match failure.kind {
            FailureKind::Full => Err(self.target_full(format!("{path}: {failure}"))),
            FailureKind::Lost => Err(self.target_lost()),
            FailureKind::Vanished
            | FailureKind::Changed
            | FailureKind::Denied
            | FailureKind::NotEmpty
            | FailureKind::Confined
            | FailureKind::Corrupt
            | FailureKind::Other => {
                self.board.problem(Problem { path, failure });
                Ok(())
            }
        }
    }

    /// Gives operations, files, and operations for when these are published to a lane.
    fn load(
        &self,
        ops: Vec<Op>,
        files: Vec<Transfer>,
        settling: Vec<Op>,
    ) -> Result<Loaded, MediaError> {
        let mut loaded = Loaded::default();
        let mut load = Vec::new();
        load.extend(changes(&ops, &mut loaded.changes).map(Work::Change));
        load.extend(files.into_iter().map(|file| Work::Move(work(file, None, None, &mut loaded))));
        load.extend(changes(&settling, &mut loaded.settling).map(Work::Settle));
        if load.is_empty() {
            return Ok(loaded);
        }
        self.board.touched.store(true, Ordering::Relaxed);
        if self.queue.push(load) { Ok(loaded) } else { Err(self.target_lost()) }
    }

    /// Waits for a load. Files that fail in a way that may pass are tried once more; what has to be
    /// done again after that is given back.
    async fn loaded(&self, load: Loaded) -> Result<Vec<Op>, MediaError> {
        self.answered(load.changes).await?;
        let again = self.moved(load.files).await?;
        if again.is_empty() {
            self.answered(load.settling).await?;
            return Ok(Vec::new());
        }
        let settling = load.settling.into_iter().flat_map(|(ops, _)| ops).collect();
        let whole = |(file, _)| Transfer { basis: None, kept: None, ..file };
        let again = again.into_iter().map(whole).collect();
        let load = self.load(Vec::new(), again, Vec::new())?;
        for (file, Failed { failure, .. }) in self.moved(load.files).await? {
            self.failed(file.path, failure)?;
        }
        Ok(settling)
    }

    /// Waits for changes and notes those that failed.
    async fn answered(&self, changes: Answered) -> Result<(), MediaError> {
        for (ops, answer) in changes {
            let results = answer.await.map_err(|_| self.target_lost())?;
            if results.len() != ops.len() {
                return Err(self.target_lost());
            }
            for (op, result) in ops.iter().zip(results) {
                self.note(op, result)?;
            }
        }
        Ok(())
    }

    /// Moves files and waits for them.
    pub async fn transfer(&self, files: Vec<Transfer>) -> Result<(), MediaError> {
        let mut loaded = Loaded::default();
        for file in files {
            self.board.touched.store(true, Ordering::Relaxed);
            let signature = match &file.basis {
                Some(basis) => self.signature(basis).await?,
                None => None,
            };
            let kept = match &file.kept {
                Some(kept) if signature.is_none() => self.signature(kept).await?,
                Some(_) | None => None,
            };
            let kept = kept.and_then(|kept| Kept::decode(&kept));
            // Each is large, or there are few: any lane may take it.
            if !self.queue.push_file(work(file, signature, kept, &mut loaded)) {
                return Err(self.target_lost());
            }
        }
        // Nothing settles with these.
        self.loaded(loaded).await.map(drop)
    }

    /// Waits for files; gives those that failed in a way that may pass.
    async fn moved(
        &self,
        waiting: Vec<(Transfer, oneshot::Receiver<Result<(), Failed>>)>,
    ) -> Result<Vec<(Transfer, Failed)>, MediaError> {
        let mut failed = Vec::new();
        for (file, answer) in waiting {
            match answer.await.map_err(|_| self.target_lost())? {
                Ok(()) => {}
                Err(Failed { side, failure }) if failure.kind == FailureKind::Lost => {
                    return Err(self.lost(side));
                }
                Err(Failed { side: Side::Target, failure })
                    if failure.kind == FailureKind::Full =>
                {
                    self.failed(file.path, failure)?;
                }
                Err(reason) => failed.push((file, reason)),
            }
        }
        Ok(failed)
    }

    /// The signature of a file on the target; without one it is sent whole.
    async fn signature(&self, path: &RelPath) -> Result<Option<bytes::Bytes>, MediaError> {
        let answer = self.call(Call::Signature(path.clone())).await?;
        match answer.await {
            Ok(Answer::Signature(signature)) => Ok(signature.ok()),
            Ok(Answer::Applied(_) | Answer::Synced(_)) | Err(_) => Err(self.target_lost()),
        }
    }

    /// Makes everything durable that was changed.
    pub async fn sync(&self) -> Result<(), MediaError> {
        if !self.board.touched.load(Ordering::Relaxed) {
            return Ok(());
        }
        match self.call(Call::Sync).await?.await {
            Ok(Answer::Synced(Ok(()))) => Ok(()),
            Ok(Answer::Synced(Err(failure))) => Err(self.target_full(failure.to_string())),
            Ok(Answer::Applied(_) | Answer::Signature(_)) | Err(_) => Err(self.target_lost()),
        }
    }
}

/// The changes that make `ops`, which are noted in `answered`.
fn changes(ops: &[Op], answered: &mut Answered) -> impl Iterator<Item = Changes> {
    ops.chunks(OPS_MAX).map(|ops| {
        let (results, answer) = oneshot::channel();
        answered.push((ops.to_vec(), answer));
        Changes { ops: ops.to_vec(), results }
    })
}

/// The work of moving `file`, which is noted in `loaded`.
fn work(
    file: Transfer,
    signature: Option<bytes::Bytes>,
    kept: Option<Kept>,
    loaded: &mut Loaded,
) -> FileWork {
    let (result, answer) = oneshot::channel();
    let work = FileWork { path: file.path.clone(), size: file.size, signature, kept, result };
    loaded.files.push((file, answer));
    work
}
