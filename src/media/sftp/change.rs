//! Changes without content over SFTP: directories, symlinks, modes and times, removals. The first
//! request of each is posted in the order of the changes, and the server handles them in that
//! order; what else one of them needs is asked when its answer is there.

use std::sync::Mutex;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;

use super::client::{Client, Replies};
use super::meta::{TYPE_DIR, TYPE_FILE, kind, mode_and_time, of_dir, of_file, owner, time};
use super::reply::{self, SftpError};
use super::session::Tree;
use super::uploads;
use crate::media::session::Asked;
use crate::media::temp::{self, TempNames};
use crate::wire::message::{Answer, Call, Op, Results};
use crate::wire::path::RelPath;
use crate::wire::sftp::{Attrs, Request};
use crate::wire::tree::{Failure, FailureKind, Meta, Mtime};

/// What the owner of a directory needs to work in it.
const USABLE: u32 = 0o700;
/// Calls whose answers may be under way.
const CALLS_AHEAD_MAX: usize = 16;

pub(super) struct Changer {
    tree: Tree,
    names: Mutex<TempNames>,
}

/// A change whose first request was posted.
pub(super) type Started = BoxFuture<'static, Result<(), Failure>>;

impl Changer {
    pub fn new(tree: Tree, names: TempNames) -> Self {
        Changer { tree, names: Mutex::new(names) }
    }

    /// Answers calls in order. Those whose changes are one request each do not wait for each other.
    pub async fn serve(&self, mut calls: mpsc::Receiver<Asked>) {
        let mut answers = FuturesOrdered::new();
        loop {
            let (call, answer) = tokio::select! {
                Some(()) = answers.next(), if !answers.is_empty() => continue,
                call = calls.recv(), if answers.len() < CALLS_AHEAD_MAX => match call {
                    Some(call) => call,
                    None => break,
                },
            };
            // Whoever asked may have given up, before or meanwhile.
            if answer.is_closed() {
                continue;
            }
            match call {
                Call::Apply(ops) if ops.0.iter().all(|op| self.is_one_request(op)) => {
                    let started = self.start_all(&ops.0).await;
                    answers.push_back(async move {
                        let results = results(started).await;
                        let _ = answer.send(Answer::Applied(results));
                    });
                }
                call => {
                    while let Some(()) = answers.next().await {}
                    let _ = answer.send(self.answer(call).await);
                }
            }
        }
        while let Some(()) = answers.next().await {}
    }

    async fn answer(&self, call: Call) -> Answer {
        match call {
            Call::Apply(ops) => Answer::Applied(self.apply_all(&ops.0).await),
            Call::Signature(path) => Answer::Signature(self.signature(path).await),
            // Every file was acknowledged by the server; more the protocol does not promise.
            Call::Sync => Answer::Synced(Ok(())),
        }
    }

    /// What is known of a file, if it is still as it was made: its blocks, or of a partial one the
    /// parts that are there.
    async fn signature(&self, path: RelPath) -> Result<Bytes, Failure> {
        let none = || Failure::new(FailureKind::Other, "nothing is known of its blocks");
        if path.split().is_some_and(|(_, name)| temp::is_partial(name.as_bytes())) {
            let kept = uploads::kept(&self.tree, &path).await?;
            return kept.map(|kept| kept.encode()).ok_or_else(none);
        }
        let known = self.tree.known.clone().ok_or_else(none)?;
        let at = path.clone();
        let blocks = tokio::task::spawn_blocking(move || known.get(&at)).await;
        let blocks = blocks.ok().flatten().ok_or_else(none)?;
        let found = self.client().attrs(Request::Lstat { path: self.tree.full(&path) }).await;
        let found = found.map_err(|error| error.failure("look at it"))?;
        let same = kind(&found) == TYPE_FILE && blocks.is_of(&found);
        if same { Ok(blocks.signature) } else { Err(none()) }
    }

    pub async fn apply_all(&self, ops: &[Op]) -> Results {
        let started = self.start_all(ops).await;
        self.finish(ops, started).await
    }

    async fn start_all(&self, ops: &[Op]) -> Vec<Started> {
        let mut started = Vec::with_capacity(ops.len());
        for op in ops {
            self.client().room().await;
            started.push(self.start(op));
        }
        started
    }

    /// What came of changes that were started.
    pub async fn finish(&self, ops: &[Op], started: Vec<Started>) -> Results {
        let mut results = results(started).await;
        // A directory may have been asked for before its parent was there, or its removal before
        // that of the last thing in it: by now everything else is done.
        for (op, result) in ops.iter().zip(&mut results) {
            if result.is_err() && matches!(op, Op::MakeDir { .. } | Op::RemoveDir { .. }) {
                *result = self.start(op).await;
            }
        }
        results
    }

    /// Whether nothing else is asked after the first request, whatever comes of it.
    fn is_one_request(&self, op: &Op) -> bool {
        match op {
            Op::SetDir { .. } => self.tree.sets_all,
            Op::SetDirTime { .. } => self.has_lsetstat(),
            Op::Remove { .. } | Op::Sweep { .. } => true,
            Op::MakeDir { .. }
            | Op::Link { .. }
            | Op::SetFile { .. }
            | Op::SetLink { .. }
            | Op::RemoveDir { .. }
            | Op::HardLink { .. } => false,
        }
    }

    /// Posts the first request of a change. Nothing waits for room here.
    pub fn start(&self, op: &Op) -> Started {
        match op {
            Op::MakeDir { path, meta } => self.make_dir(path, *meta),
            Op::Link { path, meta, text } => self.link(path, *meta, &text.0),
            Op::SetFile { path, meta } => self.set_file(path, *meta),
            Op::SetLink { path, meta } => match self.set_link(&self.tree.full(path), *meta) {
                Some(set) => told(self.client().post(&set), "set its time"),
                None => ready(Ok(())),
            },
            Op::SetDir { path, meta } => self.set_dir(path, *meta),
            Op::SetDirTime { path, mtime } => self.set_dir_time(path, *mtime),
            Op::Remove { path } => self.remove(path),
            Op::RemoveDir { path } => self.remove_dir(path),
            Op::HardLink { path, first } => self.hard_link(path, first),
            Op::Sweep { path, name } => match path.join(name) {
                Ok(leftover) if temp::is_ours(name.as_bytes()) => self.remove(&leftover),
                Ok(_) | Err(_) => ready(Err(outside())),
            },
        }
    }

    fn client(&self) -> &Client {
        &self.tree.client
    }

    fn has_lsetstat(&self) -> bool {
        self.client().offers("lsetstat@openssh.com")
    }

    /// Makes a directory; its mode is what the server's umask and the parent leave of `meta`'s until
    /// everything is in it.
    fn make_dir(&self, path: &RelPath, meta: Meta) -> Started {
        if path.is_root() {
            return ready(Ok(()));
        }
        let full = self.tree.full(path);
        let attrs = Attrs { mode: Some(meta.mode | USABLE), ..Attrs::default() };
        let made = self.client().post(&Request::MakeDir { path: full.clone(), attrs });
        let client = self.client().clone();
        async move {
            let Err(error) = made.done().await else { return Ok(()) };
            // "Failure" may mean that it is there.
            let Ok(found) = client.attrs(Request::Lstat { path: full.clone() }).await else {
                return Err(error.failure("make the directory"));
            };
            if kind(&found) != TYPE_DIR {
                return Err(Failure::new(FailureKind::Confined, "something else is in the way"));
            }
            let mode = found.mode.unwrap_or_default();
            if mode & USABLE == USABLE {
                return Ok(());
            }
            let attrs = Attrs { mode: Some(mode & 0o7777 | USABLE), ..Attrs::default() };
            let usable = client.done(Request::SetStat { path: full, attrs }).await;
            usable.map_err(|error| error.failure("change its mode"))
        }
        .boxed()
    }

    fn link(&self, path: &RelPath, meta: Meta, text: &[u8]) -> Started {
        let name = self.names.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).next();
        let temp = self.tree.beside(path, &name);
        let set = self.set_link(&temp, meta);
        let replies = self.client().burst(|burst| {
            let text = Bytes::copy_from_slice(text);
            burst.post(&Request::Symlink { text, path: temp.clone() });
            set.iter().for_each(|set| burst.post(set));
            burst.post(&Request::PosixRename { from: temp.clone(), to: self.tree.full(path) });
        });
        let client = self.client().clone();
        async move {
            let placed = replies.done().await;
            if placed.is_err() {
                // One that stays is swept by the next pass.
                let _ = client.done(Request::Remove { path: temp }).await;
            }
            placed.map_err(|error| error.failure("make the symlink"))
        }
        .boxed()
    }

    fn hard_link(&self, path: &RelPath, first: &RelPath) -> Started {
        if !self.client().offers("hardlink@openssh.com") {
            let text = "the server makes no hard links";
            return ready(Err(Failure::new(FailureKind::Other, text)));
        }
        let name = self.names.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).next();
        let (from, temp) = (self.tree.full(first), self.tree.beside(path, &name));
        let look = self.client().post(&Request::Lstat { path: from.clone() });
        let (client, to) = (self.client().clone(), self.tree.full(path));
        async move {
            let found = look.one().await.and_then(reply::attrs);
            let found = found.map_err(|error| error.failure("look at it"))?;
            if kind(&found) != TYPE_FILE {
                return Err(Failure::new(FailureKind::Confined, "something else is there"));
            }
            let placed = client.burst(|burst| {
                burst.post(&Request::HardLink { from, to: temp.clone() });
                burst.post(&Request::PosixRename { from: temp.clone(), to });
            });
            // If it is a name of that file already, renaming leaves both.
            let removed = client.post(&Request::Remove { path: temp });
            let placed = placed.done().await;
            removed.all().await;
            placed.map_err(|error| error.failure("link it"))
        }
        .boxed()
    }

    /// Without the extension a symlink keeps the time and owner it was made with.
    fn set_link(&self, path: &Bytes, meta: Meta) -> Option<Request> {
        let attrs = Attrs { owner: owner(meta), ..time(meta.mtime) };
        self.has_lsetstat().then(|| Request::LsetStat { path: path.clone(), attrs })
    }

    fn set_file(&self, path: &RelPath, meta: Meta) -> Started {
        self.look_and_set(path, TYPE_FILE, of_file(meta).collect())
    }

    fn set_dir(&self, path: &RelPath, meta: Meta) -> Started {
        if self.tree.sets_all {
            let set = Request::LsetStat { path: self.tree.full(path), attrs: of_dir(meta) };
            return told(self.client().post(&set), "set its mode and time");
        }
        let first = owner(meta).map(|owner| Attrs { owner: Some(owner), ..Attrs::default() });
        let all = first.into_iter().chain([mode_and_time(meta)]).collect();
        self.look_and_set(path, TYPE_DIR, all)
    }

    fn set_dir_time(&self, path: &RelPath, mtime: Mtime) -> Started {
        if self.has_lsetstat() {
            let set = Request::LsetStat { path: self.tree.full(path), attrs: time(mtime) };
            return told(self.client().post(&set), "set its time");
        }
        self.look_and_set(path, TYPE_DIR, vec![time(mtime)])
    }

    /// SETSTAT follows symlinks, and only looking beforehand tells.
    fn look_and_set(&self, path: &RelPath, wanted: u32, all: Vec<Attrs>) -> Started {
        let full = self.tree.full(path);
        let look = self.client().post(&Request::Lstat { path: full.clone() });
        let (client, is_root) = (self.client().clone(), path.is_root());
        async move {
            let found = look.one().await.and_then(reply::attrs);
            let found = found.map_err(|error| error.failure("look at it"))?;
            if kind(&found) != wanted && !is_root {
                return Err(Failure::new(FailureKind::Confined, "something else is there"));
            }
            let set = client.burst(|burst| {
                for attrs in all {
                    burst.post(&Request::SetStat { path: full.clone(), attrs });
                }
            });
            set.done().await.map_err(|error| error.failure("set its mode and time"))
        }
        .boxed()
    }

    fn remove(&self, path: &RelPath) -> Started {
        if path.is_root() {
            return ready(Err(outside()));
        }
        let removed = self.client().post(&Request::Remove { path: self.tree.full(path) });
        async move { gone(removed.done().await).map_err(|error| error.failure("remove it")) }
            .boxed()
    }

    fn remove_dir(&self, path: &RelPath) -> Started {
        if path.is_root() {
            return ready(Err(outside()));
        }
        let removed = self.client().post(&Request::RemoveDir { path: self.tree.full(path) });
        async move {
            gone(removed.done().await).map_err(|error| {
                let failure = error.failure("remove it");
                let kind = match failure.kind {
                    // What the protocol calls "failure" is here, almost always, a full directory.
                    FailureKind::Other => FailureKind::NotEmpty,
                    kind => kind,
                };
                Failure { kind, ..failure }
            })
        }
        .boxed()
    }
}

async fn results(started: Vec<Started>) -> Results {
    let mut results = Vec::with_capacity(started.len());
    for change in started {
        results.push(change.await);
    }
    results
}

fn ready(result: Result<(), Failure>) -> Started {
    std::future::ready(result).boxed()
}

fn told(replies: Replies, action: &'static str) -> Started {
    async move { replies.done().await.map_err(|error| error.failure(action)) }.boxed()
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
