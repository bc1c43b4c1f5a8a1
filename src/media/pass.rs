//! A pass under way: each pair of directories compared, what differs carried out in batches, and
//! what must come last kept for the end.

use std::collections::HashSet;
use std::sync::Arc;

use super::batch::{Batch, Hands, UnderWay, Waits};
use super::board::Board;
use super::change::{Action, Change, NodeKind};
use super::compare::{self, Conflict, Deletion, Plan, Rules};
use super::deletions::Deletions;
use super::ending;
use super::error::MediaError;
use super::hard_links::HardLinks;
use super::listed::Coverage;
use super::merge::{Merge, MergeError, Pair};
use super::options::Options;
use super::session::Link;
use super::trail::{Last, Trail};
use super::walks::Walks;
use crate::wire::message::{Op, Side};
use crate::wire::path::RelPath;
use crate::wire::tree::{Directory, Failure, FailureKind, Node, Problem, ShardHead};

/// Batches under way at once.
const BATCHES_MAX: usize = 24;
/// What waits for the end of the pass because something is in its way, at most.
const CONFLICTS_MAX: usize = 100_000;

/// A pass: what it was told, and what it keeps for its end.
pub(super) struct Pass<'a> {
    pub options: &'a Options,
    pub board: &'a Board<'a>,
    pub rules: Rules,
    /// Something is excluded, so a directory may hold what was not seen.
    pub filtered: bool,
    /// What the pass is about, if that is not the whole tree.
    pub coverage: Option<Coverage>,
    pub links: (Arc<Link>, Arc<Link>),
    /// A directory of the source that could not be read: nothing in it is deleted.
    pub protected: Option<RelPath>,
    pub deletions: Deletions,
    pub conflicts: Vec<Conflict>,
    /// How many were begun.
    pub walks: u64,
    /// The directories that the walk is in.
    pub trail: Trail,
    /// Directories whose mode would keep us out, for the end.
    pub locked: Vec<Op>,
    /// Names of files that have others, for the end.
    pub hard_links: HardLinks,
    /// First names of such files that were not there, or were other files.
    /// Only where the target does not tell which names are of one file.
    pub new_firsts: Option<HashSet<RelPath>>,
    /// The target can make changes when the files of a load are published.
    pub settles: bool,
}

impl Pass<'_> {
    /// A dry run: every change is told, nothing is done.
    pub async fn tell(mut self, mut walks: Walks<'_>) -> Result<(), MediaError> {
        while let Some(mut merge) = walks.next().await? {
            self.walks += 1;
            while let Some(pair) = self.next(&mut merge).await? {
                self.plan(pair);
            }
        }
        self.count_root_once();
        self.refuse_emptying()?;
        for deletion in self.deletions.backwards() {
            ending::tell_deletion(self.board, &deletion);
        }
        Ok(())
    }

    pub async fn run(mut self, mut walks: Walks<'_>, hands: Hands<'_>) -> Result<(), MediaError> {
        let mut batch = Batch::default();
        let mut under_way = UnderWay::new(hands);
        while let Some(merge) = walks.next().await? {
            self.walks += 1;
            self.walk(merge, &mut batch, &mut under_way).await?;
        }
        self.leave(None, &mut batch);
        self.board.planned_all();
        self.count_root_once();
        self.refuse_emptying()?;
        under_way.start(batch)?;
        under_way.all().await?;
        self.end(hands).await
    }

    async fn walk(
        &mut self,
        mut merge: Merge,
        batch: &mut Batch,
        under_way: &mut UnderWay<'_>,
    ) -> Result<(), MediaError> {
        loop {
            tokio::select! {
                done = under_way.next(), if under_way.count() > 0 => done?,
                pair = self.next(&mut merge), if under_way.count() < BATCHES_MAX => {
                    let Some(pair) = pair? else { break };
                    let clears = self.take(pair, batch);
                    if batch.is_full() || clears {
                        let next = batch.next(self.trail.ops());
                        under_way.start(std::mem::replace(batch, next))?;
                    }
                    if clears {
                        under_way.all().await?;
                    }
                }
            }
        }
        self.leave(Some(&RelPath::root()), batch);
        Ok(())
    }

    /// Each walk begins with the root.
    fn count_root_once(&self) {
        let again = self.walks.saturating_sub(1);
        self.board.count(|stats| {
            stats.source_dirs = stats.source_dirs.saturating_sub(again);
            stats.target_dirs = stats.target_dirs.saturating_sub(again);
        });
    }

    /// Plans what is to be done about a pair and adds it to the batch. Whether something has to be
    /// out of the way before anything else.
    fn take(&mut self, pair: Pair, batch: &mut Batch) -> bool {
        let path = match &pair {
            Pair::Equal(head) => &head.first,
            Pair::Both(directory, _) | Pair::Source(directory) | Pair::Target(directory) => {
                &directory.path
            }
        };
        let path = path.clone();
        self.leave(Some(&path), batch);
        let mut plan = self.plan(pair);
        let waits = batch.add(&mut plan);
        let Plan { make, last, clears, .. } = plan;
        let last = last.map(|op| Last { op, batch: batch.number, waits });
        self.trail.enter(path, make, last);
        clears
    }

    /// Ends the directories that the walk leaves on its way to `path`.
    fn leave(&mut self, path: Option<&RelPath>, batch: &mut Batch) {
        for Last { op, batch: number, waits } in self.trail.leave(path) {
            match &op {
                // A directory that its owner could not search any more must wait for what is below.
                Op::SetDir { meta, .. } if meta.mode & 0o100 == 0 => self.locked.push(op),
                Op::SetDirTime { .. } if self.settles && number == batch.number => {
                    batch.add_time(op, waits);
                }
                _ => batch.add_time(op, Waits::Earlier),
            }
        }
    }

    /// What has to wait until everything else is in place.
    async fn end(self, hands: Hands<'_>) -> Result<(), MediaError> {
        ending::refuse_too_many(&self.deletions, self.options, &self.board.stats())?;
        ending::delete(hands, &self.deletions, self.filtered).await?;
        ending::resolve(hands, self.conflicts).await?;
        self.hard_links.make(hands).await?;
        ending::restore(hands, &self.deletions).await?;
        // They came the deepest first.
        let locked = hands.send_ops(self.locked).await?;
        hands.ops_done(locked).await?;
        hands.sync().await
    }

    async fn next(&mut self, merge: &mut Merge) -> Result<Option<Pair>, MediaError> {
        merge.next().await.map_err(|error| {
            let link = |side| if side == Side::Source { &self.links.0 } else { &self.links.1 };
            match error {
                MergeError::Broken(side) => {
                    let lost = || MediaError::Lost { host: link(side).host.clone() };
                    link(side).take_failure().unwrap_or_else(lost)
                }
                MergeError::Disorder(side) => {
                    MediaError::Disorder { host: link(side).host.clone() }
                }
            }
        })
    }

    /// Compares a pair, counts and tells what is to be done, and keeps what is for the end.
    fn plan(&mut self, pair: Pair) -> Plan {
        let mut plan = self.compare(pair);
        let again = self.walks > 1;
        for change in plan.changes.iter().filter(|change| !(again && change.path.is_root())) {
            self.board.change(change);
        }
        for problem in plan.problems.drain(..) {
            self.board.problem(problem);
        }
        for file in &plan.files {
            self.board.planned(file.size);
        }
        for deletion in &plan.deletions {
            // Paths that came out of a scan can always be written down.
            let _ = self.deletions.push(deletion);
        }
        self.put_off_links(&mut plan);
        for conflict in plan.conflicts.drain(..) {
            self.put_off(conflict);
        }
        plan
    }

    fn compare(&mut self, pair: Pair) -> Plan {
        match pair {
            Pair::Equal(head) => {
                self.see_equal(&head);
                Plan::default()
            }
            Pair::Both(source, target) => {
                self.see_source(&source);
                self.see_target(&target);
                let delete = self.rules.delete && !self.is_protected(&source.path);
                let delete = delete && self.holds_all(&source.path).0;
                let mut plan = compare::both(&source, &target, &Rules { delete, ..self.rules });
                if let (Some(meta), Some(new)) = (source.meta, &mut self.new_firsts) {
                    compare::hard_link::settle(&mut plan, &source.path, meta, new);
                }
                self.spare_root(&source.path, plan)
            }
            Pair::Source(source) => {
                self.see_source(&source);
                let mut plan = compare::source_only(&source, &self.rules);
                if let Some(new) = &mut self.new_firsts {
                    new.extend(plan.new_firsts.drain(..));
                }
                self.spare_root(&source.path, plan)
            }
            Pair::Target(target) => {
                self.see_target(&target);
                let delete = self.rules.delete && !self.is_protected(&target.path);
                let delete = delete && self.holds_all(&target.path).1;
                compare::target_only(&target, delete)
            }
        }
    }

    /// Whether what is only on the target may go: what is directly in the directory at `path`, and
    /// that directory itself.
    fn holds_all(&mut self, path: &RelPath) -> (bool, bool) {
        self.coverage.as_mut().map_or((true, true), |coverage| coverage.holds_all(path))
    }

    /// Leaves mode and time of the root as they are, if it is not on the list.
    fn spare_root(&self, path: &RelPath, mut plan: Plan) -> Plan {
        if path.is_root() && self.coverage.as_ref().is_some_and(|coverage| !coverage.sets_root()) {
            (plan.make, plan.last) = (None, None);
            let restores = |deletion: &Deletion| matches!(deletion, Deletion::Restore(..));
            plan.deletions.retain(|deletion| !restores(deletion));
            plan.changes.retain(|change| !change.path.is_root());
        }
        plan
    }

    /// Keeps the hard links of a directory for the end of the pass, when it may have a mode that
    /// would keep us out.
    fn put_off_links(&mut self, plan: &mut Plan) {
        let links = std::mem::take(&mut plan.hard_links);
        if links.is_empty() {
            return;
        }
        if let Some(Deletion::Restore(path, meta)) = plan.deletions.first()
            && !compare::is_usable(*meta)
        {
            self.hard_links.enter(path.clone(), *meta);
        }
        for (path, first) in links {
            self.hard_links.push_link(path, first);
        }
    }

    /// Keeps a conflict for the end of the pass, while there is room.
    fn put_off(&mut self, conflict: Conflict) {
        if self.conflicts.len() < CONFLICTS_MAX {
            if let Conflict::File(file) = &conflict {
                self.board.planned(file.size);
            }
            self.conflicts.push(conflict);
        } else {
            let text = "a directory is in the way; left for the next pass";
            let failure = Failure::new(FailureKind::NotEmpty, text);
            self.board.problem(Problem { path: conflict.path().clone(), failure });
        }
    }

    fn see_equal(&self, head: &ShardHead) {
        self.board.count(|stats| {
            stats.source_files += head.files;
            stats.source_dirs += head.dirs;
            stats.source_bytes = stats.source_bytes.saturating_add(head.bytes);
            stats.target_files += head.files;
            stats.target_dirs += head.dirs;
        });
    }

    fn see_source(&mut self, directory: &Directory) {
        if !directory.problems.is_empty() && !self.is_protected(&directory.path) {
            self.protected = Some(directory.path.clone());
        }
        let (mut files, mut bytes) = (0, 0_u64);
        for entry in &directory.entries {
            match entry.node {
                Node::File { size, .. } | Node::HardLink { size, .. } => {
                    files += 1;
                    bytes = bytes.saturating_add(size);
                }
                Node::Link { .. } | Node::Special => files += 1,
                Node::Dir => {}
            }
        }
        self.board.count(|stats| {
            stats.source_files += files;
            stats.source_dirs += 1;
            stats.source_bytes = stats.source_bytes.saturating_add(bytes);
        });
        self.board.progress(&directory.path, false);
    }

    fn see_target(&self, directory: &Directory) {
        let files = directory.entries.iter().filter(|entry| entry.node != Node::Dir).count();
        self.board.count(|stats| {
            stats.target_files += files as u64;
            stats.target_dirs += 1;
        });
    }

    fn is_protected(&self, path: &RelPath) -> bool {
        self.protected.as_ref().is_some_and(|dir| path.is_within(dir))
    }

    /// A source without a single file would delete everything: more likely it is not mounted.
    fn refuse_emptying(&self) -> Result<(), MediaError> {
        let stats = self.board.stats();
        let hinted = self.options.hinted;
        if self.options.delete && !hinted && stats.source_files == 0 && stats.target_files > 0 {
            return Err(MediaError::SourceEmpty);
        }
        Ok(())
    }
}

impl Change {
    pub(crate) fn deletion(path: RelPath, node: NodeKind) -> Self {
        Change { path, node, action: Action::Delete, link_text: None }
    }
}

impl Deletion {
    /// What is told of it.
    pub(crate) fn change(&self) -> Option<Change> {
        match self {
            Deletion::File(path) => Some(Change::deletion(path.clone(), NodeKind::File)),
            Deletion::Dir(path) => Some(Change::deletion(path.clone(), NodeKind::Dir)),
            Deletion::Leftover(..) | Deletion::Restore(..) => None,
        }
    }
}
