//! Learns from the kernel what changes in a tree of this machine. A thread reads events and finds out
//! which paths they are about; what has changed is kept until somebody takes it. What cannot be
//! understood means that anything may have changed.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use tokio::time::Instant;

use super::changes::Changes;
use super::kernel;
use super::record::{Handle, Told, events};
use crate::media::filter::Filter;
use crate::media::temp;
use crate::wire::path::{Name, RelPath};
use crate::wire::scope::Scope;

const BUFFER_BYTES: usize = 256 * 1024;
/// Directories whose path is kept.
const KNOWN_MAX: usize = 16 * 1024;
/// How often a directory is tried to be opened, and the time between the first two tries.
const TRIES_MAX: u32 = 6;
const PAUSE_SHORT: Duration = Duration::from_millis(2);
/// After a failure of the queue itself.
const PAUSE: Duration = Duration::from_secs(1);

/// What belongs to the tree.
pub(super) struct Interest {
    pub filter: Filter,
    pub scopes: Vec<Scope>,
}

impl Interest {
    fn holds(&self, path: &RelPath) -> bool {
        if !self.scopes.is_empty() && !self.scopes.iter().any(|scope| scope.admits(path)) {
            return false;
        }
        let excluded = |path: &RelPath, is_dir| self.filter.excludes(path, is_dir);
        if self.filter.is_empty() {
            return true;
        }
        let mut above = path.split();
        while let Some((dir, _)) = above {
            if !dir.is_root() && excluded(&dir, true) {
                return false;
            }
            above = dir.split();
        }
        // What it is, or was, is not known.
        path.is_root() || !(excluded(path, true) && excluded(path, false))
    }
}

/// Tells every change until it is dropped.
#[derive(Debug)]
pub struct Listener {
    changes: Changes,
    /// Its end is that of the thread.
    _open: UnixStream,
}

impl Listener {
    /// Listens to what happens in the directory at `root` from now on.
    pub(super) fn start(root: &Path, interest: Interest) -> io::Result<Self> {
        let path = root.canonicalize()?;
        let root = OwnedFd::from(File::open(&path)?);
        let queue = kernel::listen(root.as_fd())?;
        let path = path.into_os_string().into_vec();
        let finder = Finder { root, path, interest, known: HashMap::new() };
        let changes = Changes::default();
        let (open, end) = UnixStream::pair()?;
        let to = changes.clone();
        let thread = std::thread::Builder::new().name("listen".to_owned());
        thread.spawn(move || listen(&queue, &end, finder, &to))?;
        Ok(Listener { changes, _open: open })
    }

    pub(super) fn changes(&self) -> &Changes {
        &self.changes
    }
}

/// Reads events until nobody listens any more.
fn listen(queue: &OwnedFd, end: &UnixStream, mut finder: Finder, changes: &Changes) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let mut ready = [PollFd::new(queue, PollFlags::IN), PollFd::new(end, PollFlags::IN)];
        let polled = rustix::event::poll(&mut ready, None);
        if !ready[1].revents().is_empty() {
            return;
        }
        match polled.and_then(|_| rustix::io::read(queue, &mut buffer)) {
            Ok(count) => finder.take(&buffer[..count], changes),
            Err(Errno::AGAIN | Errno::INTR) => continue,
            Err(_) => {
                changes.add_everything(Instant::now());
                std::thread::sleep(PAUSE);
            }
        }
    }
}

/// Finds the paths that events are about.
struct Finder {
    root: OwnedFd,
    path: Vec<u8>,
    interest: Interest,
    /// Directories that were found, by kind and bytes of their handle; `None` is not in the tree.
    known: HashMap<(i32, Box<[u8]>), Option<RelPath>>,
}

impl Finder {
    fn take(&mut self, bytes: &[u8], changes: &Changes) {
        let now = Instant::now();
        for told in events(bytes) {
            match told {
                Told::Entry { handle, name, names_moved } => match self.find(handle) {
                    Ok(Some(dir)) => {
                        if let Some(path) = place(&dir, name)
                            && self.interest.holds(&path)
                        {
                            changes.add_at(path, now);
                        }
                        // Whatever was in a directory that was moved is elsewhere now.
                        if names_moved {
                            self.known.clear();
                        }
                    }
                    Ok(None) if names_moved => self.known.clear(),
                    Ok(None) => {}
                    Err(_) => changes.add_everything(now),
                },
                Told::Overflow | Told::Unknown => {
                    self.known.clear();
                    changes.add_everything(now);
                }
            }
        }
    }

    /// The path of a directory; `None` if it is not in the tree, or gone: then its own name went
    /// away, and that is told of the directory it was in.
    fn find(&mut self, handle: Handle<'_>) -> io::Result<Option<RelPath>> {
        let key = (handle.kind, handle.bytes.into());
        if let Some(known) = self.known.get(&key) {
            return Ok(known.clone());
        }
        let Some(dir) = self.open(handle)? else { return Ok(None) };
        let found = self.path_of(&dir)?;
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(key, found.clone());
        Ok(found)
    }

    /// The directory; `None` if it is gone. While what it is in is being removed or moved, the
    /// kernel may fail to say which of the two.
    fn open(&self, handle: Handle<'_>) -> io::Result<Option<OwnedFd>> {
        let mut tries = 0;
        loop {
            tries += 1;
            match kernel::open(self.root.as_fd(), handle) {
                Ok(dir) => return Ok(Some(dir)),
                Err(error) if error.raw_os_error() == Some(Errno::STALE.raw_os_error()) => {
                    return Ok(None);
                }
                Err(error) if tries == TRIES_MAX => return Err(error),
                Err(_) => std::thread::sleep(PAUSE_SHORT * tries),
            }
        }
    }

    fn path_of(&self, dir: &OwnedFd) -> io::Result<Option<RelPath>> {
        if rustix::fs::fstat(dir)?.st_nlink == 0 {
            return Ok(None);
        }
        let link = format!("/proc/self/fd/{}", dir.as_raw_fd());
        let path = rustix::fs::readlink(link, Vec::new())?.into_bytes();
        let Some(rest) = path.strip_prefix(&self.path[..]) else { return Ok(None) };
        let rest = match rest.strip_prefix(b"/") {
            Some(rest) => rest,
            None if rest.is_empty() || self.path.ends_with(b"/") => rest,
            None => return Ok(None),
        };
        RelPath::new(rest).map(Some).map_err(io::Error::other)
    }
}

/// The path of `name` in `dir`, if it is part of a tree.
fn place(dir: &RelPath, name: &[u8]) -> Option<RelPath> {
    if name == b"." {
        // The directory itself, and nothing in it: what leads to a name that no tree has.
        return dir.join(&temp::nobody()?).ok();
    }
    if temp::is_ours(name) {
        return None;
    }
    dir.join(&Name::new(name).ok()?).ok()
}
