//! The scan of a local tree: directories in the order of a walk, one at a time, each opened
//! relative to its parent; or, where what the last scan found is remembered (`manifest`) and still
//! so, not opened at all. Memory: one open handle and the list of names for each level of depth.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags, RawDir};

use super::failure::failure;
use super::filter::Filter;
use super::gentle::Gentle;
use super::hard_links::{FirstNames, Inode};
use super::listed::Listed;
use super::manifest::Fresh;
use super::manifest::confirm::Remembered;
use super::manifest::format::{Block, Found};
use super::manifest::mark::Mark;
use super::manifest::recall::{Peek, Recall, Recalled};
use super::read::digest_of;
use super::root::{Root, Stat, StatKind, stat_at, stat_open};
use super::temp;
use super::throttle::Throttle;
use crate::wire::bounded::Blob;
use crate::wire::message::Side;
use crate::wire::path::{Name, RelPath};
use crate::wire::scope::Scope;
use crate::wire::tree::{
    Directory, Entry, Failure, FailureKind, LINK_BYTES_MAX, Meta, MetaRule, Node, Problem, RunId,
};

/// Deeper directories are opened from the root instead of from a parent that is kept open.
pub(super) const KEPT_OPEN_MAX: usize = 64;
pub(super) const LIST_BUFFER_BYTES: usize = 64 * 1024;

/// What to look at and how.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    pub side: Side,
    pub rule: MetaRule,
    pub checksum: bool,
    /// Of what is read for that.
    pub pace: Arc<Throttle>,
    pub filter: Filter,
    /// Only this is looked at.
    pub listed: Option<Listed>,
    /// Hard links are told.
    pub links: Option<Arc<FirstNames>>,
    pub scope: Scope,
    pub run: RunId,
    pub gentle: Option<Gentle>,
}

impl Scan {
    /// `meta` in the form in which the two sides are compared.
    pub fn meta(&self, meta: Meta) -> Meta {
        match self.side {
            Side::Source => self.rule.wanted(meta),
            Side::Target => self.rule.present(meta),
        }
    }

    /// Whether the entry `name` belongs to the tree; a temporary file that another run left on
    /// the target is noted in `leftovers`.
    pub fn admits(
        &self,
        dir: &RelPath,
        name: &Name,
        is_dir: bool,
        leftovers: &mut Vec<Name>,
    ) -> bool {
        if temp::is_ours(name.as_bytes()) {
            if self.side == Side::Target && !is_dir && temp::is_leftover(name, self.run) {
                leftovers.push(name.clone());
            }
            return false;
        }
        if self.filter.is_empty() && self.scope.is_whole() {
            return true;
        }
        !dir.join(name)
            .is_ok_and(|path| !self.scope.admits(&path) || self.filter.excludes(&path, is_dir))
    }
}

/// A step of the walk.
pub(crate) enum Step {
    /// A directory, with what is to be remembered of it.
    Directory(Directory, Vec<u8>),
    /// Directories that follow each other and are all as remembered.
    Block(Box<Block>),
}

/// A directory that was listed: what is still to be visited in it, the next name last.
struct Level {
    path: RelPath,
    fd: Option<OwnedFd>,
    names: Vec<Name>,
    /// The directory in it of which, and of all that is below it, the walk follows what is
    /// remembered.
    within: Option<RelPath>,
}

/// Walks the tree and gives what it finds to `emit`, until it is told to stop. What is remembered
/// is used where the directories above are as remembered, or were listed and hold the name.
pub(crate) fn walk(
    root: &Root,
    scan: &Scan,
    fresh: Option<Fresh>,
    remembered: Remembered,
    mut emit: impl FnMut(Step) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let recall = Recall::new(scan, remembered);
    let mut walk = Walk { root, scan, fresh, recall, levels: Vec::new(), reached: None };
    while let Some(step) = walk.next() {
        emit(step)?;
    }
    ControlFlow::Continue(())
}

struct Walk<'a> {
    root: &'a Root,
    scan: &'a Scan,
    fresh: Option<Fresh>,
    recall: Recall<'a>,
    /// The listed directories on the way to where the walk is. Above the first of them, and with
    /// none at all, everything is as remembered.
    levels: Vec<Level>,
    reached: Option<RelPath>,
}

impl Walk<'_> {
    fn next(&mut self) -> Option<Step> {
        let step = self.advance()?;
        self.reached = Some(match &step {
            Step::Directory(directory, _) => directory.path.clone(),
            Step::Block(block) => block.head.last.clone(),
        });
        Some(step)
    }

    fn advance(&mut self) -> Option<Step> {
        loop {
            let within = match self.levels.last() {
                None => Some(RelPath::root()),
                Some(level) => level.within.clone(),
            };
            if let Some(within) = within {
                match self.recall.peek() {
                    Peek::At(path) if path.is_within(&within) => {
                        return Some(self.follow(&within));
                    }
                    Peek::At(_) => {}
                    Peek::Nothing if self.reached.is_none() => {
                        let opened = self.root.open_dir(&within);
                        return Some(self.list(within, opened));
                    }
                    Peek::Nothing => {}
                    Peek::Broken => {
                        self.recall.give_up();
                        self.go_on_plainly();
                        continue;
                    }
                }
            }
            let level = self.levels.last_mut()?;
            level.within = None;
            let Some(name) = level.names.pop() else {
                self.recall.leave(&level.path);
                self.levels.pop();
                continue;
            };
            // Names whose path would be too long were reported and left out.
            let Ok(path) = level.path.join(&name) else { continue };
            self.recall.pass_over(&path);
            if matches!(self.recall.peek(), Peek::At(next) if *next == path) {
                level.within = Some(path.clone());
                return Some(self.follow(&path));
            }
            let opened = match &level.fd {
                Some(fd) => open_child(fd, &name),
                None => self.root.open_dir(&path),
            };
            return Some(self.list(path, opened));
        }
    }

    /// Takes what is remembered next, which is somewhere in `within`.
    fn follow(&mut self, within: &RelPath) -> Step {
        match self.recall.take(within) {
            Recalled::Block(block) => Step::Block(block),
            Recalled::Directory(directory, record) => Step::Directory(directory, record),
            Recalled::Changed(path) => {
                let opened = self.root.open_dir(&path);
                self.list(path, opened)
            }
        }
    }

    fn list(&mut self, path: RelPath, opened: rustix::io::Result<OwnedFd>) -> Step {
        let visited = visit(self.root, self.scan, self.fresh, path, opened, self.levels.len());
        let Visited { directory, record, level } = visited;
        if let Some(gentle) = &self.scan.gentle {
            gentle.entries.pass_here(1 + directory.entries.len() as u64);
        }
        if level.is_none() {
            self.recall.leave(&directory.path);
        }
        self.levels.extend(level);
        Step::Directory(directory, record)
    }

    /// What is remembered breaks off: lists again what leads to where the walk is, unless it was
    /// listed, and goes on with the names that come after it.
    fn go_on_plainly(&mut self) {
        let Some(reached) = self.reached.clone() else {
            // Nothing was told: as if nothing were remembered.
            return;
        };
        let mut way = vec![reached.clone()];
        while let Some((dir, _)) = way.last().and_then(RelPath::split) {
            way.push(dir);
        }
        let mut listed = std::mem::take(&mut self.levels).into_iter().peekable();
        for dir in way.into_iter().rev() {
            if let Some(level) = listed.next_if(|level| level.path == dir) {
                self.levels.push(Level { within: None, ..level });
                continue;
            }
            let opened = self.root.open_dir(&dir);
            let visited = visit(self.root, self.scan, None, dir, opened, self.levels.len());
            if let Some(mut level) = visited.level {
                let path = level.path.clone();
                level.names.retain(|name| path.join(name).is_ok_and(|path| path > reached));
                self.levels.push(level);
            }
        }
    }
}

pub(super) fn open_child(parent: &OwnedFd, name: &Name) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name.as_bytes(), flags, Mode::empty())
}

/// A directory that was to be opened, and what it is like.
pub(super) fn look_into(opened: rustix::io::Result<OwnedFd>) -> Result<(OwnedFd, Stat), Failure> {
    let fd = opened.map_err(|error| failure("open the directory", error))?;
    let stat = stat_open(&fd).map_err(|error| failure("look at it", error))?;
    Ok((fd, stat))
}

/// A directory that was listed.
struct Visited {
    directory: Directory,
    /// What is to be remembered of it. Empty if nothing.
    record: Vec<u8>,
    level: Option<Level>,
}

fn visit(
    root: &Root,
    scan: &Scan,
    fresh: Option<Fresh>,
    path: RelPath,
    opened: rustix::io::Result<OwnedFd>,
    depth: usize,
) -> Visited {
    let mut directory = Directory::unread(path.clone());
    let (fd, stat) = match look_into(opened) {
        Ok(status) => status,
        Err(failure) => {
            directory.problems.push(Problem { path, failure });
            return Visited { directory, record: Vec::new(), level: None };
        }
    };
    directory.meta = Some(scan.meta(stat.meta));
    let mut found = list(root, scan, &fd, &mut directory);
    found.sort_unstable_by(|one, other| one.entry.name.cmp(&other.entry.name));
    if let Some(links) = &scan.links {
        links.see(&path, &mut found);
    }
    let certain = directory.leftovers.is_empty() && directory.problems.is_empty();
    let record = match fresh {
        Some(fresh) if certain => fresh.record(&stat, &found),
        Some(_) | None => Vec::new(),
    };
    directory.entries = found.into_iter().map(|found| found.entry).collect();
    let dirs = directory.entries.iter().filter(|entry| entry.node == Node::Dir);
    let names: Vec<Name> = dirs.map(|entry| entry.name.clone()).collect();
    let level = (!names.is_empty()).then(|| Level {
        path,
        fd: (depth < KEPT_OPEN_MAX).then_some(fd),
        names,
        within: None,
    });
    Visited { directory, record, level }
}

/// What is in `fd`; what is not to be told as an entry is added to `directory`.
pub(super) fn list(
    root: &Root,
    scan: &Scan,
    fd: &OwnedFd,
    directory: &mut Directory,
) -> Vec<Found> {
    let mut found = Vec::new();
    let mut buffer = Vec::with_capacity(LIST_BUFFER_BYTES);
    let mut list = RawDir::new(fd, buffer.spare_capacity_mut());
    while let Some(item) = list.next() {
        let item = match item {
            Ok(item) => item,
            Err(error) => {
                let failure = failure("list the directory", error);
                directory.problems.push(Problem { path: directory.path.clone(), failure });
                return found;
            }
        };
        let bytes = item.file_name().to_bytes();
        if matches!(bytes, b"." | b"..") {
            continue;
        }
        let kind = item.file_type();
        let Ok(name) = Name::new(bytes) else {
            directory.problems.push(unusable(&directory.path, bytes));
            continue;
        };
        let Some(is_dir) = is_dir(fd, &name, kind) else { continue };
        if !scan.admits(&directory.path, &name, is_dir, &mut directory.leftovers) {
            continue;
        }
        match directory.path.join(&name) {
            Err(_) => directory.problems.push(unusable(&directory.path, bytes)),
            Ok(path) => match node(root, scan, fd, &path, &name, is_dir) {
                Ok((node, mark, inode)) => {
                    found.push(Found { entry: Entry { name, node }, mark, inode });
                }
                Err(failure) => directory.problems.push(Problem { path, failure }),
            },
        }
    }
    found
}

fn unusable(dir: &RelPath, name: &[u8]) -> Problem {
    let text = format!("its path is too long: {}", name.escape_ascii());
    Problem { path: dir.clone(), failure: Failure::new(FailureKind::Other, text) }
}

/// Whether `name` is a directory; `None` if it is gone.
fn is_dir(fd: impl AsFd, name: &Name, kind: FileType) -> Option<bool> {
    match kind {
        FileType::Directory => Some(true),
        FileType::Unknown => {
            stat_at(fd, name.as_bytes()).ok().map(|stat| stat.kind == StatKind::Dir)
        }
        _ => Some(false),
    }
}

pub(super) fn node(
    root: &Root,
    scan: &Scan,
    fd: &OwnedFd,
    path: &RelPath,
    name: &Name,
    is_dir: bool,
) -> Result<(Node, Option<Mark>, Option<Inode>), Failure> {
    if is_dir {
        return Ok((Node::Dir, None, None));
    }
    let stat = stat_at(fd, name.as_bytes()).map_err(|error| failure("look at it", error))?;
    let Stat { kind, size, meta, device, inode: number, links, .. } = stat;
    let inode = Some(Inode { device, number, links });
    let (meta, mark) = (scan.meta(meta), Some(Mark::new(&stat)));
    match kind {
        StatKind::File if scan.checksum => {
            let content = Some(digest_of(root, path, &scan.pace, scan.gentle.as_ref())?);
            Ok((Node::File { size, meta, content }, mark, inode))
        }
        StatKind::File => Ok((Node::File { size, meta, content: None }, mark, inode)),
        StatKind::Link => {
            let text = rustix::fs::readlinkat(fd, name.as_bytes(), Vec::new())
                .map_err(|error| failure("read the symlink", error))?
                .into_bytes();
            if text.len() > LINK_BYTES_MAX {
                return Err(Failure::new(FailureKind::Other, "the symlink's text is too long"));
            }
            Ok((Node::Link { meta, text: Blob(text) }, mark, None))
        }
        StatKind::Dir => Ok((Node::Dir, None, None)),
        StatKind::Special => Ok((Node::Special, None, None)),
    }
}
