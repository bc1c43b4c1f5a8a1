//! Stores files in bursts: what makes a file goes out in one go, OPEN, WRITE, FSETSTAT and CLOSE
//! with the handle that the OPEN is going to give. Changes without content go out in between, in
//! the order in which they came, so a directory is there before what is in it. Nothing waits but for
//! room; a file is renamed when all that was asked for it is acknowledged and its handle was the
//! one that was foretold.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesOrdered, FuturesUnordered};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;

use super::file::{File, Verdict};
use super::long::Long;
use super::parts::Parts;
use super::{corrupt, explain, is_wanted};
use crate::media::sftp::change::{Changer, Started};
use crate::media::sftp::client::{Client, Replies};
use crate::media::sftp::handles::Handles;
use crate::media::sftp::proof::Proof;
use crate::media::sftp::reply::SftpError;
use crate::media::sftp::session::Tree;
use crate::media::temp::TempNames;
use crate::wire::message::{Ack, FileHead, Op, Results, Store, Told};
use crate::wire::path::RelPath;
use crate::wire::sftp::Request;
use crate::wire::tree::{Digest, Failure, FailureKind, Meta};

/// Stores files until no more come. If a handle is another one than foretold, gives back what has
/// to be stored again, with handles that are waited for; nothing is under way then.
pub(super) async fn run(
    tree: &Tree,
    names: TempNames,
    pieces: &mut mpsc::Receiver<Store>,
    told: &mpsc::Sender<Told>,
) -> (TempNames, Vec<Store>) {
    let changer = Arc::new(Changer::new(tree.clone(), names.sibling()));
    let mut lane = Lane {
        tree,
        told,
        changer,
        names,
        proof: None,
        applying: None,
        long: None,
        parts: Parts::new(tree.clone()),
        written: VecDeque::new(),
        renamed: VecDeque::new(),
        applied: FuturesOrdered::new(),
        ending: FuturesUnordered::new(),
        fallen: false,
        again: Vec::new(),
    };
    lane.prove();
    lane.run(pieces).await;
    if told.is_closed() {
        lane.parts.clear_up(pieces).await;
    }
    lane.parts.close();
    (lane.names, lane.again)
}

struct Lane<'a> {
    tree: &'a Tree,
    told: &'a mpsc::Sender<Told>,
    changer: Arc<Changer>,
    names: TempNames,
    /// That of this channel, until it is answered.
    proof: Option<(Proof, Replies)>,
    applying: Option<Applying>,
    /// The long file that comes at the moment.
    long: Option<Long>,
    /// What of large files goes over this channel.
    parts: Parts,
    /// Files of which everything is posted but the renaming, in order.
    written: VecDeque<File>,
    renamed: VecDeque<(File, Replies)>,
    applied: FuturesOrdered<BoxFuture<'a, Results>>,
    ending: FuturesUnordered<BoxFuture<'a, Option<Ack>>>,
    /// A handle was another one.
    fallen: bool,
    /// What has to be stored again then.
    again: Vec<Store>,
}

/// Changes of which not all are posted.
struct Applying {
    ops: Vec<Op>,
    started: Vec<Started>,
}

impl<'a> Lane<'a> {
    fn client(&self) -> &'a Client {
        &self.tree.client
    }

    /// What holds for the first channel to this server should hold for this one; the proof is
    /// posted in front of everything, and looked at with the first file.
    fn prove(&mut self) {
        let root = self.tree.full(&RelPath::root());
        let mut proof = None;
        let replies = self.client().burst(|burst| proof = Proof::post(self.client(), burst, &root));
        self.client().foretell(Some(Handles::after_two()));
        self.proof = proof.map(|proof| (proof, replies));
    }

    async fn run(&mut self, pieces: &mut mpsc::Receiver<Store>) {
        let mut open = true;
        loop {
            self.settle().await;
            self.fallen |= !self.client().foretells();
            if self.fallen && self.long.is_none() && !self.parts.is_writing() {
                open = false;
            }
            let client = self.client();
            tokio::select! {
                biased;
                () = ready(self.renamed.front().map(|(_, replies)| replies)),
                    if !self.renamed.is_empty() => {}
                () = ready(self.written.front().and_then(|file| file.replies.front())),
                    if !self.written.is_empty() => {}
                Some(results) = self.applied.next(), if !self.applied.is_empty() => {
                    // Whoever waited for it may have given up.
                    let _ = self.told.send(Told::Applied(results)).await;
                }
                Some(ack) = self.ending.next(), if !self.ending.is_empty() => {
                    tell(self.told, ack).await;
                }
                () = client.room(), if self.applying.is_some() => self.apply(),
                piece = next(client, pieces), if open && self.applying.is_none() => match piece {
                    Some(piece) if is_wanted(&piece, self.told) => self.take(piece).await,
                    Some(_) | None => {
                        open = false;
                        self.abort();
                    }
                },
                else => return,
            }
        }
    }

    async fn take(&mut self, piece: Store) {
        match piece {
            Store::Apply(ops) => {
                self.applying =
                    Some(Applying { started: Vec::with_capacity(ops.0.len()), ops: ops.0 });
                self.apply();
            }
            Store::Whole { ticket, path, meta, digest, content } => {
                self.whole(ticket, path, meta, digest, content);
            }
            Store::Begin { ticket, path, head } => self.begin(ticket, path, head).await,
            Store::Part { ticket, file, index } => {
                self.abort();
                self.parts.begin(ticket, &file, index).await;
            }
            Store::Chunk(bytes) if self.parts.is_writing() => self.parts.chunk(bytes).await,
            Store::Chunk(bytes) => self.chunk(bytes),
            Store::End { digest } if self.parts.is_writing() => {
                let ending = self.parts.end(digest);
                self.ending.push(ending);
            }
            Store::End { digest } => self.end(digest),
            Store::Abort => self.abort(),
            // These may come between the pieces of something else.
            Store::Join { ticket, file, meta } => {
                let ending = self.parts.join(ticket, &file, meta).await;
                self.ending.push(ending);
            }
            Store::Drop(file) => {
                let ending = self.parts.give_up(&file);
                self.ending.push(ending);
            }
            Store::Flush => {}
            // Nobody sends them: this side does not offer what they are for.
            Store::Settle(_) => {}
        }
    }

    /// Posts changes while there is room.
    fn apply(&mut self) {
        let Some(Applying { ops, started }) = &mut self.applying else { return };
        while started.len() < ops.len() && self.tree.client.has_room() {
            started.push(self.changer.start(&ops[started.len()]));
        }
        if started.len() < ops.len() {
            return;
        }
        if let Some(Applying { ops, started }) = self.applying.take() {
            let changer = self.changer.clone();
            self.applied.push_back(async move { changer.finish(&ops, started).await }.boxed());
        }
    }

    fn file(&mut self, ticket: u64, path: RelPath, meta: Meta, size: u64) -> File {
        let temp = self.tree.beside(&path, &self.names.next());
        let sparse = self.tree.manner.sparse;
        File { sparse, ..File::new(ticket, path, temp, meta, size) }
    }

    fn whole(&mut self, ticket: u64, path: RelPath, meta: Meta, digest: Digest, content: Bytes) {
        if blake3::hash(&content).as_bytes() != &digest.0 {
            self.refuse(ticket, corrupt());
            return;
        }
        let mut file = self.file(ticket, path, meta, content.len() as u64);
        file.content = Some((digest, content.clone()));
        let replies = self.client().burst(|burst| {
            file.post_open(burst);
            file.post_writes(burst, 0, content);
            file.post_end(burst);
        });
        file.replies.push_back(replies);
        self.written.push_back(file);
    }

    async fn begin(&mut self, ticket: u64, path: RelPath, head: FileHead) {
        self.abort();
        let file = self.file(ticket, path, head.meta, head.size);
        self.long = Some(Long::begin(self.tree, file, head.delta).await);
    }

    fn chunk(&mut self, bytes: Bytes) {
        if let Some(long) = &mut self.long {
            long.chunk(&self.tree.client, bytes, !self.fallen);
        }
    }

    fn end(&mut self, digest: Digest) {
        let Some(long) = self.long.take() else { return };
        let whole = long.is_whole(&digest);
        let file = long.end(self.client(), whole && !self.fallen);
        if whole && !self.fallen {
            self.written.push_back(file);
            return;
        }
        let ticket = file.ticket;
        self.discard(file);
        self.refuse(ticket, if whole { unforetold() } else { corrupt() });
    }

    /// Forgets what comes at the moment of a long file.
    fn abort(&mut self) {
        self.parts.abort();
        if let Some(long) = self.long.take() {
            self.discard(long.end(self.client(), false));
        }
    }

    /// Removes a file that was closed before it was whole.
    fn discard(&mut self, file: File) {
        // One that stays is swept by the next pass.
        let removed = self.client().post(&Request::Remove { path: file.temp });
        self.ending.push(async move { removed.all().await }.map(|_| None).boxed());
    }

    fn refuse(&mut self, ticket: u64, failure: Failure) {
        self.ending.push(std::future::ready(Some(Ack { ticket, result: Err(failure) })).boxed());
    }

    /// Does what follows from the replies that are there.
    async fn settle(&mut self) {
        while self.renamed.front().is_some_and(|(_, replies)| replies.is_ready()) {
            let Some((file, replies)) = self.renamed.pop_front() else { break };
            match replies.take_done() {
                Ok(()) => {
                    let ticket = file.ticket;
                    self.remember(file);
                    tell(self.told, Some(Ack { ticket, result: Ok(()) })).await;
                }
                Err(error) => self.fail(file, error, "put it in place"),
            }
        }
        while self.written.front_mut().is_some_and(File::hear) {
            let Some(mut file) = self.written.pop_front() else { break };
            match file.judge() {
                Verdict::Unforetold(real) => self.fall(file, real),
                Verdict::Failed(error) => self.fail(file, error, "write it"),
                Verdict::Good if !self.is_as_proved() => self.fall(file, None),
                Verdict::Good if self.told.is_closed() => self.discard(file),
                Verdict::Good => self.publish(file),
            }
        }
    }

    /// Whether the server still works as it was proved to. What was sent on a false assumption may
    /// have gone astray, so nothing is published from then on.
    fn is_as_proved(&mut self) -> bool {
        if let Some((proof, replies)) = self.proof.take() {
            self.fallen |= !replies.is_ready() || proof.judge(&replies.take()).is_none();
        }
        self.fallen |= !self.client().is_in_order();
        !self.fallen
    }

    /// Keeps what a later delta needs.
    fn remember(&self, file: File) {
        let Some(known) = self.tree.known.clone().filter(|_| file.blocks.is_some()) else { return };
        let link = self.client().link().clone();
        link.tasks.spawn_blocking(move || {
            let path = file.path.clone();
            known.put(&path, file.into_blocks().as_ref());
        });
    }

    fn publish(&mut self, file: File) {
        let to = self.tree.full(&file.path);
        let replies = self.client().post(&Request::PosixRename { from: file.temp.clone(), to });
        self.renamed.push_back((file, replies));
    }

    fn fail(&mut self, file: File, error: SftpError, action: &'static str) {
        let (tree, ticket) = (self.tree, file.ticket);
        let removed = self.client().post(&Request::Remove { path: file.temp });
        self.ending.push(
            async move {
                removed.all().await;
                let failure = explain(tree, file.size, error, action).await;
                Some(Ack { ticket, result: Err(failure) })
            }
            .boxed(),
        );
    }

    /// A handle was another one: this file, and all that are under way, have to be stored again.
    fn fall(&mut self, file: File, real: Option<Bytes>) {
        self.fallen = true;
        self.client().foretell(None);
        let File { ticket, path, temp, meta, content, .. } = file;
        let removed = self.client().burst(|burst| {
            if let Some(handle) = real {
                burst.post(&Request::Close { handle });
            }
            burst.post(&Request::Remove { path: temp });
        });
        self.ending.push(async move { removed.all().await }.map(|_| None).boxed());
        match content {
            Some((digest, content)) => {
                self.again.push(Store::Whole { ticket, path, meta, digest, content });
            }
            // Whoever sent it sends it once more.
            None => self.refuse(ticket, unforetold()),
        }
    }
}

async fn tell(told: &mpsc::Sender<Told>, ack: Option<Ack>) {
    if let Some(ack) = ack {
        // Whoever waited for it may have given up.
        let _ = told.send(Told::Ack(ack)).await;
    }
}

fn unforetold() -> Failure {
    Failure::new(FailureKind::Other, "the server gave another handle than it gives usually")
}

/// The next piece, once there is room for what it asks for.
async fn next(client: &Client, pieces: &mut mpsc::Receiver<Store>) -> Option<Store> {
    client.room().await;
    pieces.recv().await
}

/// Waits for replies; for ever, if there are none to wait for.
async fn ready(replies: Option<&Replies>) {
    match replies {
        Some(replies) => replies.ready().await,
        None => std::future::pending().await,
    }
}
