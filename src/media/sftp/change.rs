//! Changes without content over SFTP: directories, symlinks, modes and times, removals. Many are
//! under way at once; the server handles them in the order in which they were asked.

use std::sync::Mutex;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};

use super::client::{Client, SftpError};
use super::session::Tree;
use super::target::{mode_and_time, owner, time};
use crate::media::temp::{self, TempNames};
use crate::wire::message::{Answer, Call, Op, Results};
use crate::wire::path::RelPath;
use crate::wire::sftp::{Attrs, Request};
use crate::wire::tree::{Failure, FailureKind, Meta, Mtime};

const OPS_AHEAD_MAX: usize = 64;
const TYPE_BITS: u32 = 0o170_000;
/// What the owner of a directory needs to work in it.
const USABLE: u32 = 0o700;
const TYPE_DIR: u32 = 0o040_000;
const TYPE_FILE: u32 = 0o100_000;

pub(super) struct Changer {
    tree: Tree,
    names: Mutex<TempNames>,
}

impl Changer {
    pub fn new(tree: Tree, names: TempNames) -> Self {
        Changer { tree, names: Mutex::new(names) }
    }

    pub async fn answer(&self, call: Call) -> Answer {
        match call {
            Call::Apply(ops) => Answer::Applied(self.apply_all(&ops.0).await),
            Call::Signature(_) => {
                Answer::Signature(Err(Failure::new(FailureKind::Other, "SFTP has no signatures")))
            }
            // Every file was acknowledged by the server; more the protocol does not promise.
            Call::Sync => Answer::Synced(Ok(())),
        }
    }

    pub async fn apply_all(&self, ops: &[Op]) -> Results {
        let applying: Vec<BoxFuture<'_, _>> = ops.iter().map(|op| self.apply(op).boxed()).collect();
        let mut results: Vec<_> = stream::iter(applying).buffered(OPS_AHEAD_MAX).collect().await;
        // A directory may have been asked for before its parent's making was under way, or its
        // removal before that of the last file in it: by now everything else is done.
        for (op, result) in ops.iter().zip(&mut results) {
            if result.is_err() && matches!(op, Op::MakeDir { .. } | Op::RemoveDir { .. }) {
                *result = self.apply(op).await;
            }
        }
        results
    }

    async fn apply(&self, op: &Op) -> Result<(), Failure> {
        match op {
            Op::MakeDir { path, meta } => self.make_dir(path, *meta).await,
            Op::Link { path, meta, text } => self.link(path, *meta, &text.0).await,
            Op::SetFile { path, meta } => self.set(path, *meta, TYPE_FILE).await,
            Op::SetLink { path, meta } => self.set_link(self.tree.full(path), *meta).await,
            Op::SetDir { path, meta } => self.set(path, *meta, TYPE_DIR).await,
            Op::SetDirTime { path, mtime } => self.set_dir_time(path, *mtime).await,
            Op::Remove { path } => self.remove(path).await,
            Op::RemoveDir { path } => self.remove_dir(path).await,
            Op::Sweep { path, name } => {
                let leftover = path.join(name).map_err(|_| outside())?;
                if !temp::is_ours(name.as_bytes()) {
                    return Err(outside());
                }
                self.remove(&leftover).await
            }
            Op::HardLink { path, first } => self.hard_link(path, first).await,
        }
    }

    fn client(&self) -> &Client {
        &self.tree.client
    }

    async fn make_dir(&self, path: &RelPath, meta: Meta) -> Result<(), Failure> {
        if path.is_root() {
            return Ok(());
        }
        let full = self.tree.full(path);
        let attrs = Attrs { mode: Some(meta.mode | USABLE), ..Attrs::default() };
        let make = Request::MakeDir { path: full.clone(), attrs };
        let Err(error) = self.client().done(make).await else {
            // The server's umask and the parent's group had their say in what it is like now.
            return self.own(full, Meta { mode: meta.mode | USABLE, ..meta }, attrs).await;
        };
        // "Failure" may mean that it is there.
        let Ok(found) = self.client().attrs(Request::Lstat { path: full.clone() }).await else {
            return Err(error.failure("make the directory"));
        };
        let mode = found.mode.unwrap_or_default();
        if mode & TYPE_BITS != TYPE_DIR {
            return Err(Failure::new(FailureKind::Confined, "something else is in the way"));
        }
        if mode & USABLE == USABLE {
            return Ok(());
        }
        let attrs = Attrs { mode: Some(mode & 0o7777 | USABLE), ..Attrs::default() };
        let usable = self.client().done(Request::SetStat { path: full, attrs }).await;
        usable.map_err(|error| error.failure("change its mode"))
    }

    async fn link(&self, path: &RelPath, meta: Meta, text: &[u8]) -> Result<(), Failure> {
        let name = self.names.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).next();
        let temp = self.tree.beside(path, &name);
        let text = Bytes::copy_from_slice(text);
        let made = self.client().done(Request::Symlink { text, path: temp.clone() }).await;
        made.map_err(|error| error.failure("make the symlink"))?;
        let placed = async {
            self.set_link(temp.clone(), meta).await?;
            let rename = Request::PosixRename { from: temp.clone(), to: self.tree.full(path) };
            let renamed = self.client().done(rename).await;
            renamed.map_err(|error| error.failure("put it in place"))
        };
        let placed = placed.await;
        if placed.is_err() {
            // One that stays is swept by the next pass.
            let _ = self.client().done(Request::Remove { path: temp }).await;
        }
        placed
    }

    async fn hard_link(&self, path: &RelPath, first: &RelPath) -> Result<(), Failure> {
        if !self.client().offers("hardlink@openssh.com") {
            return Err(Failure::new(FailureKind::Other, "the server makes no hard links"));
        }
        self.look(first, TYPE_FILE).await?;
        let name = self.names.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).next();
        let temp = self.tree.beside(path, &name);
        let link = Request::HardLink { from: self.tree.full(first), to: temp.clone() };
        self.client().done(link).await.map_err(|error| error.failure("link it"))?;
        let rename = Request::PosixRename { from: temp.clone(), to: self.tree.full(path) };
        let placed = self.client().done(rename).await;
        // If it is a name of that file already, renaming leaves both.
        let _ = self.client().done(Request::Remove { path: temp }).await;
        placed.map_err(|error| error.failure("put it in place"))
    }

    /// Without the extension a symlink keeps the time and owner it was made with.
    async fn set_link(&self, path: Bytes, meta: Meta) -> Result<(), Failure> {
        if !self.client().offers("lsetstat@openssh.com") {
            return Ok(());
        }
        let attrs = Attrs { owner: owner(meta), ..time(meta.mtime) };
        let set = self.client().done(Request::LsetStat { path, attrs }).await;
        set.map_err(|error| error.failure("set its time"))
    }

    async fn set(&self, path: &RelPath, meta: Meta, kind: u32) -> Result<(), Failure> {
        self.look(path, kind).await?;
        self.own(self.tree.full(path), meta, mode_and_time(meta)).await
    }

    async fn set_dir_time(&self, path: &RelPath, mtime: Mtime) -> Result<(), Failure> {
        self.look(path, TYPE_DIR).await?;
        let attrs = time(mtime);
        let set = self.client().done(Request::SetStat { path: self.tree.full(path), attrs }).await;
        set.map_err(|error| error.failure("set its time"))
    }

    /// SETSTAT follows symlinks, and only looking beforehand tells.
    async fn look(&self, path: &RelPath, kind: u32) -> Result<(), Failure> {
        if path.is_root() {
            return Ok(());
        }
        let found = self.client().attrs(Request::Lstat { path: self.tree.full(path) }).await;
        let found = found.map_err(|error| error.failure("look at it"))?;
        if found.mode.unwrap_or_default() & TYPE_BITS != kind {
            return Err(Failure::new(FailureKind::Confined, "something else is there"));
        }
        Ok(())
    }

    /// Sets the owner that `meta` names, if it names one, and then the rest.
    async fn own(&self, full: Bytes, meta: Meta, rest: Attrs) -> Result<(), Failure> {
        let set = |attrs| self.client().done(Request::SetStat { path: full.clone(), attrs });
        if let Some(owner) = owner(meta) {
            // First: changing the owner clears setuid.
            let attrs = Attrs { owner: Some(owner), ..Attrs::default() };
            set(attrs).await.map_err(|error| error.failure("change its owner"))?;
        }
        set(rest).await.map_err(|error| error.failure("set its mode and time"))
    }

    async fn remove(&self, path: &RelPath) -> Result<(), Failure> {
        if path.is_root() {
            return Err(outside());
        }
        gone(self.client().done(Request::Remove { path: self.tree.full(path) }).await)
            .map_err(|error| error.failure("remove it"))
    }

    async fn remove_dir(&self, path: &RelPath) -> Result<(), Failure> {
        if path.is_root() {
            return Err(outside());
        }
        let removed = self.client().done(Request::RemoveDir { path: self.tree.full(path) }).await;
        gone(removed).map_err(|error| {
            let failure = error.failure("remove it");
            let kind = match failure.kind {
                // What the protocol calls "failure" is here, almost always, a full directory.
                FailureKind::Other => FailureKind::NotEmpty,
                kind => kind,
            };
            Failure { kind, ..failure }
        })
    }
}

fn gone(removed: Result<(), SftpError>) -> Result<(), SftpError> {
    match removed {
        Err(error) if error.is_missing() => Ok(()),
        other => other,
    }
}

fn outside() -> Failure {
    Failure::new(FailureKind::Confined, "the root stays as it is")
}
