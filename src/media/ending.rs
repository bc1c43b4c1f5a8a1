//! The end of a pass: deletions, bottom-up and only if they are not too many; then what a deleted
//! directory was in the way of; then the times of directories that lost something.

use super::batch::Hands;
use super::board::Board;
use super::compare::{Conflict, Deletion};
use super::deletions::Deletions;
use super::error::MediaError;
use super::options::{Options, Stats};
use crate::wire::message::Op;
use crate::wire::path::RelPath;
use crate::wire::tree::{Failure, FailureKind, Problem};

/// Removals that are asked for at once.
const STEP: usize = 4096;

/// Stops a pass that would delete more than it may.
pub(super) fn refuse_too_many(
    deletions: &Deletions,
    options: &Options,
    stats: &Stats,
) -> Result<(), MediaError> {
    let Some(limit) = options.max_delete else { return Ok(()) };
    let limit = limit.allows(stats.target_files + stats.target_dirs);
    if deletions.entries > limit {
        return Err(MediaError::TooManyDeletions { planned: deletions.entries, limit });
    }
    Ok(())
}

/// Counts and tells a deletion.
pub(super) fn tell_deletion(board: &Board<'_>, deletion: &Deletion) {
    if let Some(change) = deletion.change() {
        board.count(|stats| stats.deleted_entries += 1);
        board.change(&change);
    }
}

/// Carries out the deletions. A directory that keeps something excluded stays, silently.
pub(super) async fn delete(
    hands: Hands<'_>,
    deletions: &Deletions,
    filtered: bool,
) -> Result<(), MediaError> {
    let mut step = Vec::new();
    for deletion in deletions.backwards() {
        if let Some(op) = removal(&deletion) {
            step.push((deletion, op));
        }
        if step.len() >= STEP {
            delete_step(hands, std::mem::take(&mut step), filtered).await?;
        }
    }
    delete_step(hands, step, filtered).await?;
    if deletions.left > 0 {
        let text = format!("{} deletions are left for the next pass", deletions.left);
        let failure = Failure::new(FailureKind::Other, text);
        hands.board.problem(Problem { path: RelPath::root(), failure });
    }
    Ok(())
}

fn removal(deletion: &Deletion) -> Option<Op> {
    match deletion {
        Deletion::File(path) => Some(Op::Remove { path: path.clone() }),
        Deletion::Dir(path) => Some(Op::RemoveDir { path: path.clone() }),
        Deletion::Leftover(path, name) => {
            Some(Op::Sweep { path: path.clone(), name: name.clone() })
        }
        Deletion::Restore(..) => None,
    }
}

async fn delete_step(
    hands: Hands<'_>,
    step: Vec<(Deletion, Op)>,
    filtered: bool,
) -> Result<(), MediaError> {
    let (deletions, ops): (Vec<Deletion>, Vec<Op>) = step.into_iter().unzip();
    let sent = hands.send_ops(ops).await?;
    for (deletion, (op, result)) in deletions.iter().zip(hands.results(sent).await?) {
        match result {
            Ok(()) => tell_deletion(hands.board, deletion),
            Err(Failure { kind: FailureKind::NotEmpty, .. }) if filtered => {}
            Err(failure) => hands.failed(op.path().clone(), failure)?,
        }
    }
    Ok(())
}

/// Makes what had to wait because a directory had its name.
pub(super) async fn resolve(hands: Hands<'_>, conflicts: Vec<Conflict>) -> Result<(), MediaError> {
    let remove = |conflict: &Conflict| Op::RemoveDir { path: conflict.path().clone() };
    let ops = conflicts.iter().map(remove).collect();
    let sent = hands.send_ops(ops).await?;
    let (mut files, mut links) = (Vec::new(), Vec::new());
    for (conflict, (op, result)) in conflicts.into_iter().zip(hands.results(sent).await?) {
        match (result, conflict) {
            (Ok(()), Conflict::File(file)) => files.push(file),
            (Ok(()), Conflict::Link(op)) => links.push(op),
            (Err(Failure { kind: FailureKind::NotEmpty, .. }), _) => {
                let text = "a directory with something in it is in the way; --delete removes it";
                hands.failed(op.path().clone(), Failure::new(FailureKind::NotEmpty, text))?;
            }
            (Err(failure), _) => hands.failed(op.path().clone(), failure)?,
        }
    }
    hands.transfer(files).await?;
    let sent = hands.send_ops(links).await?;
    hands.ops_done(sent).await
}

/// Gives directories back the times that removals in them changed.
pub(super) async fn restore(hands: Hands<'_>, deletions: &Deletions) -> Result<(), MediaError> {
    let mut ops = Vec::new();
    for deletion in deletions.backwards() {
        if let Deletion::Restore(path, meta) = deletion {
            ops.push(Op::SetDir { path, meta });
        }
        if ops.len() >= STEP {
            let sent = hands.send_ops(std::mem::take(&mut ops)).await?;
            hands.ops_done(sent).await?;
        }
    }
    let sent = hands.send_ops(ops).await?;
    hands.ops_done(sent).await
}
