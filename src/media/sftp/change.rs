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
use crate::wire::message::{Answer, Call, Op};
use crate::wire::path::RelPath;
use crate::wire::sftp::{Attrs, Request};
use crate::wire::tree::{Failure, FailureKind, Meta};

const OPS_AHEAD_MAX: usize = 64;
const TYPE_BITS: u32 = 0o170_000;
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

    async fn apply_all(&self, ops: &[Op]) -> Vec<Result<(), Failure>> {
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
            Op::MakeDir { path } => self.make_dir(path).await,
            Op::Link { path, meta, text } => self.link(path, *meta, &text.0).await,
            Op::SetFile { path, meta } => self.set(path, *meta, TYPE_FILE).await,
            Op::SetLink { path, meta } => self.set_link(self.tree.full(path), *meta).await,
            Op::SetDir { path, meta } => self.set(path, *meta, TYPE_DIR).await,
            Op::Remove { path } => self.remove(path).await,
            Op::RemoveDir { path } => self.remove_dir(path).await,
            Op::Sweep { path, name } => {
                let leftover = path.join(name).map_err(|_| outside())?;
                if !temp::is_ours(name.as_bytes()) {
                    return Err(outside());
                }
                self.remove(&leftover).await
            }
        }
    }

    fn client(&self) -> &Client {
        &self.tree.client
    }

    async fn make_dir(&self, path: &RelPath) -> Result<(), Failure> {
        if path.is_root() {
            return Ok(());
        }
        let full = self.tree.full(path);
        let attrs = Attrs { mode: Some(0o700), ..Attrs::default() };
        let made = self.client().done(Request::MakeDir { path: full.clone(), attrs }).await;
        let Err(error) = made else { return Ok(()) };
        // "Failure" may mean that it is there.
        let Ok(found) = self.client().attrs(Request::Lstat { path: full.clone() }).await else {
            return Err(error.failure("make the directory"));
        };
        let mode = found.mode.unwrap_or_default();
        if mode & TYPE_BITS != TYPE_DIR {
            return Err(Failure::new(FailureKind::Confined, "something else is in the way"));
        }
        if mode & 0o700 == 0o700 {
            return Ok(());
        }
        let attrs = Attrs { mode: Some(mode & 0o7777 | 0o700), ..Attrs::default() };
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

    /// Without the extension a symlink keeps the time and owner it was made with.
    async fn set_link(&self, path: Bytes, meta: Meta) -> Result<(), Failure> {
        if !self.client().offers("lsetstat@openssh.com") {
            return Ok(());
        }
        let attrs = Attrs { owner: owner(meta), ..time(meta) };
        let set = self.client().done(Request::LsetStat { path, attrs }).await;
        set.map_err(|error| error.failure("set its time"))
    }

    async fn set(&self, path: &RelPath, meta: Meta, kind: u32) -> Result<(), Failure> {
        let full = self.tree.full(path);
        if !path.is_root() {
            // SETSTAT follows symlinks, and only looking beforehand tells.
            let found = self.client().attrs(Request::Lstat { path: full.clone() }).await;
            let found = found.map_err(|error| error.failure("look at it"))?;
            if found.mode.unwrap_or_default() & TYPE_BITS != kind {
                return Err(Failure::new(FailureKind::Confined, "something else is there"));
            }
        }
        let set = |attrs| self.client().done(Request::SetStat { path: full.clone(), attrs });
        if let Some(owner) = owner(meta) {
            // First: changing the owner clears setuid.
            let attrs = Attrs { owner: Some(owner), ..Attrs::default() };
            set(attrs).await.map_err(|error| error.failure("change its owner"))?;
        }
        set(mode_and_time(meta)).await.map_err(|error| error.failure("set its mode and time"))
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
