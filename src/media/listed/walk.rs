//! The walk of a local tree along a list: directories in the order of a walk, one at a time, each
//! opened relative to its parent. Memory: one open handle and the names to visit for each level of
//! depth.

use std::ops::ControlFlow;
use std::os::fd::OwnedFd;

use rustix::fs::RawDir;

use super::{Listed, Missing, Visit};
use crate::media::failure::failure;
use crate::media::manifest::format::Found;
use crate::media::root::{Root, StatKind, stat_at};
use crate::media::scan::{
    KEPT_OPEN_MAX, LIST_BUFFER_BYTES, Scan, list, look_into, node, open_child,
};
use crate::media::temp;
use crate::wire::message::Side;
use crate::wire::names::At;
use crate::wire::path::{Name, RelPath};
use crate::wire::tree::{Directory, Entry, Failure, FailureKind, Node, Problem};

/// A directory that was looked at: what is still to be visited in it, in byte order: the walk takes
/// the last one first.
struct Level {
    path: RelPath,
    fd: Option<OwnedFd>,
    dirs: Vec<(Name, Visit)>,
}

/// Walks what `listed` names and gives what it finds to `emit`, until it is told to stop.
pub(crate) fn walk(
    root: &Root,
    scan: &Scan,
    listed: &Listed,
    mut emit: impl FnMut(Directory) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let walk = Walk { root, scan, listed };
    let (directory, level) =
        walk.open(RelPath::root(), root.open_dir(&RelPath::root()), listed.root());
    emit(directory)?;
    let mut levels: Vec<Level> = level.into_iter().collect();
    while let Some(level) = levels.last_mut() {
        let Some((name, visit)) = level.dirs.pop() else {
            levels.pop();
            continue;
        };
        // Names whose path would be too long were reported and left out.
        let Ok(path) = level.path.join(&name) else { continue };
        let (directory, below) = walk.visit(level, path, &name, visit);
        emit(directory)?;
        levels.extend(below.map(|mut below| {
            if levels.len() >= KEPT_OPEN_MAX {
                below.fd = None;
            }
            below
        }));
    }
    ControlFlow::Continue(())
}

struct Walk<'a> {
    root: &'a Root,
    scan: &'a Scan,
    listed: &'a Listed,
}

impl Walk<'_> {
    fn visit(
        &self,
        parent: &Level,
        path: RelPath,
        name: &Name,
        visit: Visit,
    ) -> (Directory, Option<Level>) {
        if visit.content || self.listed.names(&visit).next().is_some() {
            let opened = match &parent.fd {
                Some(fd) => open_child(fd, name),
                None => self.root.open_dir(&path),
            };
            return self.open(path, opened, visit);
        }
        // Nothing in it is wanted, so it need not be readable.
        let stat = match &parent.fd {
            Some(fd) => stat_at(fd, name.as_bytes()),
            None => self.root.open_dir(&parent.path).and_then(|fd| stat_at(fd, name.as_bytes())),
        };
        let mut directory = Directory::unread(path);
        match stat {
            Ok(stat) if stat.kind == StatKind::Dir => {
                directory.meta = Some(self.scan.meta(stat.meta));
            }
            Ok(_) => {
                let failure = Failure::new(FailureKind::Changed, "it is no longer a directory");
                directory.problems.push(Problem { path: directory.path.clone(), failure });
            }
            Err(error) => {
                let failure = failure("look at it", error);
                directory.problems.push(Problem { path: directory.path.clone(), failure });
            }
        }
        (directory, None)
    }

    fn open(
        &self,
        path: RelPath,
        opened: rustix::io::Result<OwnedFd>,
        visit: Visit,
    ) -> (Directory, Option<Level>) {
        let mut directory = Directory::unread(path.clone());
        let (fd, stat) = match look_into(opened) {
            Ok(status) => status,
            Err(failure) => {
                directory.problems.push(Problem { path, failure });
                return (directory, None);
            }
        };
        let meta = self.scan.meta(stat.meta);
        let meta = if path.is_root() { self.listed.root_meta(meta) } else { meta };
        directory.meta = Some(meta);
        let mut found = match visit.content {
            true => list(self.root, self.scan, &fd, &mut directory),
            false => Vec::new(),
        };
        if !visit.content && self.scan.side == Side::Target {
            self.leftovers(&fd, &mut directory);
        }
        self.named(&fd, &visit, &mut found, &mut directory);
        if let Some(links) = &self.scan.links {
            links.see(&path, &mut found);
        }
        directory.entries = found.into_iter().map(|found| found.entry).collect();
        let dirs = directory.entries.iter().filter(|entry| entry.node == Node::Dir);
        let dirs = dirs.map(|entry| entry.name.clone());
        let dirs = self.listed.visits(&visit, dirs, |name| name);
        let level = (!dirs.is_empty()).then_some(Level { path, fd: Some(fd), dirs });
        (directory, level)
    }

    /// Adds the listed names to what was found by listing.
    fn named(&self, fd: &OwnedFd, visit: &Visit, all: &mut Vec<Found>, directory: &mut Directory) {
        all.sort_unstable_by(|one, other| one.entry.name.cmp(&other.entry.name));
        let mut missing = Missing::default();
        let mut more = Vec::new();
        {
            let mut found = all.iter().map(|found| &found.entry).peekable();
            for (name, at) in self.listed.names(visit) {
                while found.next_if(|entry| entry.name < name).is_some() {}
                match found.next_if(|entry| entry.name == name) {
                    // What is on the way to other names must be a directory for them.
                    Some(entry) if self.scan.side == Side::Source => {
                        if let Ok(path) = directory.path.join(&name) {
                            self.listed.found(at, &path, (&entry.node).into(), &mut missing);
                        }
                    }
                    Some(_) => {}
                    None => more.push((name, at)),
                }
            }
        }
        for (name, at) in more {
            // The list has no longer paths.
            let Ok(path) = directory.path.join(&name) else { continue };
            match self.look(fd, &path, &name, at, &mut missing) {
                Ok(Some(found)) => all.push(found),
                Ok(None) => {}
                Err(failure) => directory.problems.push(Problem { path, failure }),
            }
        }
        all.sort_unstable_by(|one, other| one.entry.name.cmp(&other.entry.name));
        directory.problems.extend(missing.problems(&directory.path));
    }

    fn look(
        &self,
        fd: &OwnedFd,
        path: &RelPath,
        name: &Name,
        at: At,
        missing: &mut Missing,
    ) -> Result<Option<Found>, Failure> {
        if temp::is_ours(name.as_bytes()) {
            return match self.scan.side {
                Side::Source => Err(Failure::new(FailureKind::Other, "a temporary file: skipped")),
                Side::Target => Ok(None),
            };
        }
        let looked = node(self.root, self.scan, fd, path, name, false);
        let (node, mark, inode) = match (self.scan.side, looked) {
            (_, Ok(looked)) => looked,
            (side, Err(Failure { kind: FailureKind::Vanished, .. })) => {
                if side == Side::Source {
                    self.listed.missing(at, path, missing);
                }
                return Ok(None);
            }
            (_, Err(failure)) => return Err(failure),
        };
        let admitted = self.listed.admits(at, path, node == Node::Dir, &self.scan.filter);
        let wanted = admitted
            && match self.scan.side {
                Side::Source => self.listed.found(at, path, (&node).into(), missing),
                Side::Target => true,
            };
        let entry = Entry { name: name.clone(), node };
        Ok(wanted.then_some(Found { entry, mark, inode }))
    }

    /// What an earlier run left in a directory that is not listed.
    fn leftovers(&self, fd: &OwnedFd, directory: &mut Directory) {
        let mut buffer = Vec::with_capacity(LIST_BUFFER_BYTES);
        let mut list = RawDir::new(fd, buffer.spare_capacity_mut());
        // One that cannot be listed keeps them until it can.
        while let Some(Ok(item)) = list.next() {
            let name = Name::new(item.file_name().to_bytes());
            directory
                .leftovers
                .extend(name.ok().filter(|name| temp::is_leftover(name, self.scan.run)));
        }
    }
}
