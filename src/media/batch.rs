//! A batch: the plans of some directories, carried out together. Directories first, in the order
//! of the walk; then files, over all lanes; then symlinks, modes and times, the deepest directory
//! first. Several batches are under way at once; only their first parts are done in order.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::board::Board;
use super::compare::{Plan, Transfer};
use super::error::MediaError;
use super::session::{Calls, Link};
use super::transfer::{Failed, QueueSender, Work};
use crate::wire::bounded::List;
use crate::wire::message::{Answer, Call, OPS_MAX, Op, Side};
use crate::wire::path::RelPath;
use crate::wire::tree::{Failure, FailureKind, Problem};

/// A batch is carried out when it holds so much.
const FILES_MAX: usize = 1024;
const OPS_TOTAL_MAX: usize = 4096;

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
    before: Vec<Op>,
    files: Vec<Transfer>,
    after: Vec<Op>,
}

impl Batch {
    /// Takes over what `plan` holds for now.
    pub fn add(&mut self, plan: &mut Plan) {
        self.before.append(&mut plan.before);
        self.files.append(&mut plan.files);
        self.after.append(&mut plan.after);
    }

    pub fn is_full(&self) -> bool {
        self.files.len() >= FILES_MAX || self.before.len() + self.after.len() >= OPS_TOTAL_MAX
    }

    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.before.is_empty() && self.after.is_empty()
    }

    /// Asks for the first part, so that it is done before that of any later batch.
    pub async fn start<'a>(self, hands: Hands<'a>) -> Result<Started<'a>, MediaError> {
        let before = hands.send_ops(self.before).await?;
        Ok(Started { hands, before, files: self.files, after: self.after })
    }
}

/// A batch whose first part is under way.
pub(crate) struct Started<'a> {
    hands: Hands<'a>,
    before: Vec<SentOps>,
    files: Vec<Transfer>,
    after: Vec<Op>,
}

impl Started<'_> {
    /// Carries out the rest.
    pub async fn finish(self) -> Result<(), MediaError> {
        let Started { hands, before, files, after } = self;
        hands.ops_done(before).await?;
        hands.transfer(files).await?;
        let (dirs, others): (Vec<Op>, Vec<Op>) =
            after.into_iter().partition(|op| matches!(op, Op::SetDir { .. }));
        let others = hands.send_ops(others).await?;
        hands.ops_done(others).await?;
        let dirs = hands.send_ops(dirs.into_iter().rev().collect()).await?;
        hands.ops_done(dirs).await
    }
}

/// Operations that the target was asked for.
pub(crate) struct SentOps {
    paths: Vec<RelPath>,
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
        let (sender, answer) = oneshot::channel();
        self.calls.send((call, sender)).await.map_err(|_| self.target_lost())?;
        Ok(answer)
    }

    /// Asks for `ops`, in order.
    pub async fn send_ops(&self, ops: Vec<Op>) -> Result<Vec<SentOps>, MediaError> {
        let mut sent = Vec::new();
        for ops in ops.chunks(OPS_MAX) {
            let paths = ops.iter().map(|op| op.path().clone()).collect();
            let answer = self.call(Call::Apply(List(ops.to_vec()))).await?;
            sent.push(SentOps { paths, answer });
        }
        Ok(sent)
    }

    /// Waits for operations and notes those that failed.
    pub async fn ops_done(&self, sent: Vec<SentOps>) -> Result<(), MediaError> {
        for (path, result) in self.results(sent).await? {
            match result {
                Ok(()) => self.board.count(|stats| stats.changed_entries += 1),
                Err(failure) => self.failed(path, failure)?,
            }
        }
        Ok(())
    }

    /// Waits for operations.
    pub async fn results(
        &self,
        sent: Vec<SentOps>,
    ) -> Result<Vec<(RelPath, Result<(), Failure>)>, MediaError> {
        let mut all = Vec::new();
        for SentOps { paths, answer } in sent {
            match answer.await {
                Ok(Answer::Applied(results)) if results.len() == paths.len() => {
                    all.extend(paths.into_iter().zip(results));
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

    /// Moves files and waits for them. What fails in a way that may pass is tried once more.
    pub async fn transfer(&self, files: Vec<Transfer>) -> Result<(), MediaError> {
        let failed = self.transfer_once(files).await?;
        let whole = |(file, _)| Transfer { basis: None, ..file };
        let again = failed.into_iter().map(whole).collect();
        for (file, Failed { failure, .. }) in self.transfer_once(again).await? {
            self.failed(file.path, failure)?;
        }
        Ok(())
    }

    async fn transfer_once(
        &self,
        files: Vec<Transfer>,
    ) -> Result<Vec<(Transfer, Failed)>, MediaError> {
        let mut waiting = Vec::new();
        for file in files {
            let signature = match &file.basis {
                Some(basis) => self.signature(basis).await?,
                None => None,
            };
            let (result, answer) = oneshot::channel();
            let work = Work { path: file.path.clone(), size: file.size, signature, result };
            if !self.queue.push(work).await {
                return Err(self.target_lost());
            }
            waiting.push((file, answer));
        }
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

    /// Makes everything durable.
    pub async fn sync(&self) -> Result<(), MediaError> {
        match self.call(Call::Sync).await?.await {
            Ok(Answer::Synced(Ok(()))) => Ok(()),
            Ok(Answer::Synced(Err(failure))) => Err(self.target_full(failure.to_string())),
            Ok(Answer::Applied(_) | Answer::Signature(_)) | Err(_) => Err(self.target_lost()),
        }
    }
}
