//! The scan of a local tree: directories in the order of a walk, one at a time, each opened
//! relative to its parent. Memory: one open handle and the list of names for each level of depth.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, RawDir};

use super::failure::failure;
use super::filter::Filter;
use super::read::digest_of;
use super::root::{Root, Stat, StatKind, stat_at, stat_open};
use super::temp;
use crate::wire::bounded::Blob;
use crate::wire::message::Side;
use crate::wire::path::{Name, RelPath};
use crate::wire::tree::{
    Directory, Entry, Failure, FailureKind, LINK_BYTES_MAX, Meta, MetaRule, Node, Problem, RunId,
};

/// Deeper directories are opened from the root instead of from a parent that is kept open.
const KEPT_OPEN_MAX: usize = 64;
const LIST_BUFFER_BYTES: usize = 64 * 1024;

/// What to look at and how.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    pub side: Side,
    pub rule: MetaRule,
    pub checksum: bool,
    pub filter: Filter,
    pub run: RunId,
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
        if self.filter.is_empty() {
            return true;
        }
        !dir.join(name).is_ok_and(|path| self.filter.excludes(&path, is_dir))
    }
}

/// A directory being walked: what is still to be visited in it, last name first.
struct Level {
    path: RelPath,
    fd: Option<OwnedFd>,
    names: Vec<Name>,
}

/// Walks the tree and gives each directory to `emit`, until it is told to stop.
pub(crate) fn walk(
    root: &Root,
    scan: &Scan,
    mut emit: impl FnMut(Directory) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut levels: Vec<Level> = Vec::new();
    let mut next = Some((RelPath::root(), root.open_dir(&RelPath::root())));
    loop {
        if let Some((path, opened)) = next.take() {
            let (directory, level) = visit(root, scan, path, opened, levels.len());
            emit(directory)?;
            levels.extend(level);
        }
        let Some(level) = levels.last_mut() else { return ControlFlow::Continue(()) };
        let Some(name) = level.names.pop() else {
            levels.pop();
            continue;
        };
        // Names whose path would be too long were reported and left out.
        let Ok(path) = level.path.join(&name) else { continue };
        let opened = match &level.fd {
            Some(fd) => open_child(fd, &name),
            None => root.open_dir(&path),
        };
        next = Some((path, opened));
    }
}

fn open_child(parent: &OwnedFd, name: &Name) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name.as_bytes(), flags, Mode::empty())
}

fn visit(
    root: &Root,
    scan: &Scan,
    path: RelPath,
    opened: rustix::io::Result<OwnedFd>,
    depth: usize,
) -> (Directory, Option<Level>) {
    let mut directory = Directory {
        path: path.clone(),
        meta: None,
        entries: Vec::new(),
        leftovers: Vec::new(),
        problems: Vec::new(),
    };
    let fd = match opened {
        Ok(fd) => fd,
        Err(error) => {
            let failure = failure("open the directory", error);
            directory.problems.push(Problem { path, failure });
            return (directory, None);
        }
    };
    match stat_open(&fd) {
        Ok(stat) => directory.meta = Some(scan.meta(stat.meta)),
        Err(error) => {
            directory.problems.push(Problem { path, failure: failure("look at it", error) });
            return (directory, None);
        }
    }
    list(root, scan, &fd, &mut directory);
    directory.entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    let dirs = directory.entries.iter().rev().filter(|entry| entry.node == Node::Dir);
    let names: Vec<Name> = dirs.map(|entry| entry.name.clone()).collect();
    let level = (!names.is_empty()).then(|| Level {
        path,
        fd: (depth < KEPT_OPEN_MAX).then_some(fd),
        names,
    });
    (directory, level)
}

/// Fills `directory` with what is in `fd`.
fn list(root: &Root, scan: &Scan, fd: &OwnedFd, directory: &mut Directory) {
    let mut buffer = Vec::with_capacity(LIST_BUFFER_BYTES);
    let mut list = RawDir::new(fd, buffer.spare_capacity_mut());
    while let Some(item) = list.next() {
        let item = match item {
            Ok(item) => item,
            Err(error) => {
                let failure = failure("list the directory", error);
                directory.problems.push(Problem { path: directory.path.clone(), failure });
                return;
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
                Ok(node) => directory.entries.push(Entry { name, node }),
                Err(failure) => directory.problems.push(Problem { path, failure }),
            },
        }
    }
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

fn node(
    root: &Root,
    scan: &Scan,
    fd: &OwnedFd,
    path: &RelPath,
    name: &Name,
    is_dir: bool,
) -> Result<Node, Failure> {
    if is_dir {
        return Ok(Node::Dir);
    }
    let Stat { kind, size, meta, .. } =
        stat_at(fd, name.as_bytes()).map_err(|error| failure("look at it", error))?;
    let meta = scan.meta(meta);
    match kind {
        StatKind::File if scan.checksum => {
            let content = Some(digest_of(root, path)?);
            Ok(Node::File { size, meta, content })
        }
        StatKind::File => Ok(Node::File { size, meta, content: None }),
        StatKind::Link => {
            let text = rustix::fs::readlinkat(fd, name.as_bytes(), Vec::new())
                .map_err(|error| failure("read the symlink", error))?
                .into_bytes();
            if text.len() > LINK_BYTES_MAX {
                return Err(Failure::new(FailureKind::Other, "the symlink's text is too long"));
            }
            Ok(Node::Link { meta, text: Blob(text) })
        }
        StatKind::Dir => Ok(Node::Dir),
        StatKind::Special => Ok(Node::Special),
    }
}
