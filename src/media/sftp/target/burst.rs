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

use super::{WRITE_BYTES, corrupt, create, explain};
use crate::media::sftp::change::{Changer, Started};
use crate::media::sftp::client::{Burst, Client, Replies, SftpError, is_done, unexpected};
use crate::media::sftp::handles::Handles;
use crate::media::sftp::meta::of_file;
use crate::media::sftp::proof::Proof;
use crate::media::sftp::session::Tree;
use crate::media::temp::TempNames;
use crate::wire::message::{Ack, FileHead, Op, Results, Store, Told};
use crate::wire::path::RelPath;
use crate::wire::sftp::{Request, Response};
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
        written: VecDeque::new(),
        renamed: VecDeque::new(),
        applied: FuturesOrdered::new(),
        failing: FuturesUnordered::new(),
        fallen: false,
        again: Vec::new(),
    };
    lane.prove();
    lane.run(pieces).await;
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
    /// Files of which everything is posted but the renaming, in order.
    written: VecDeque<File>,
    renamed: VecDeque<(File, Replies)>,
    applied: FuturesOrdered<BoxFuture<'a, Results>>,
    failing: FuturesUnordered<BoxFuture<'a, Option<Ack>>>,
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

/// A file under way.
struct File {
    ticket: u64,
    path: RelPath,
    temp: Bytes,
    meta: Meta,
    size: u64,
    /// As foretold.
    handle: Bytes,
    /// Beginning with that to the OPEN; what has come of them is in `said`.
    replies: VecDeque<Replies>,
    said: Said,
    /// To store it once more.
    content: Option<(Digest, Bytes)>,
}

struct Long {
    file: File,
    offset: u64,
    hasher: blake3::Hasher,
}

/// What the server has said of a file.
#[derive(Default)]
struct Said {
    /// The reply to the OPEN.
    opened: Option<Result<Response, SftpError>>,
    /// The first thing that was not done.
    error: Option<SftpError>,
    anything_done: bool,
}

enum Verdict {
    Good,
    Failed(SftpError),
    /// The handle was another one: this one, if the server opened anything.
    Unforetold(Option<Bytes>),
}

impl Said {
    fn hear(&mut self, replies: Vec<Result<Response, SftpError>>) {
        for reply in replies {
            if self.opened.is_none() {
                self.opened = Some(reply);
                continue;
            }
            match reply {
                Ok(status) if is_done(&status) => self.anything_done = true,
                Ok(other) => drop(self.error.get_or_insert(unexpected(other))),
                Err(error) => drop(self.error.get_or_insert(error)),
            }
        }
    }

    /// Whether what is still to come of the file need not be sent.
    fn is_hopeless(&self, handle: &Bytes) -> bool {
        let opened = match &self.opened {
            None => true,
            Some(Ok(Response::Handle(real))) => real == handle,
            Some(_) => false,
        };
        !opened || self.error.is_some()
    }

    fn judge(self, handle: &Bytes) -> Verdict {
        match (self.opened, self.error) {
            (Some(Ok(Response::Handle(real))), _) if real != handle => {
                Verdict::Unforetold(Some(real))
            }
            (Some(Ok(Response::Handle(_))), None) => Verdict::Good,
            (Some(Ok(Response::Handle(_))), Some(error)) => Verdict::Failed(error),
            // Something had the handle that was foretold for this file.
            (_, _) if self.anything_done => Verdict::Unforetold(None),
            (Some(Ok(other)), _) => Verdict::Failed(unexpected(other)),
            (Some(Err(error)), _) => Verdict::Failed(error),
            (None, _) => Verdict::Failed(SftpError::Unexpected),
        }
    }
}

impl File {
    /// Hears what has come. Whether that is all.
    fn hear(&mut self) -> bool {
        while self.replies.front().is_some_and(Replies::is_ready) {
            if let Some(replies) = self.replies.pop_front() {
                self.said.hear(replies.take());
            }
        }
        self.replies.is_empty()
    }

    fn post_writes(&self, burst: &mut Burst<'_>, mut offset: u64, mut content: Bytes) {
        while !content.is_empty() {
            let data = content.split_to(content.len().min(WRITE_BYTES));
            let length = data.len() as u64;
            burst.post(&Request::Write { handle: self.handle.clone(), offset, data });
            offset += length;
        }
    }

    fn post_end(&self, burst: &mut Burst<'_>) {
        for attrs in of_file(self.meta) {
            burst.post(&Request::FsetStat { handle: self.handle.clone(), attrs });
        }
        burst.close(&self.handle);
    }
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
            if self.fallen && self.long.is_none() {
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
                Some(ack) = self.failing.next(), if !self.failing.is_empty() => {
                    tell(self.told, ack).await;
                }
                () = client.room(), if self.applying.is_some() => self.apply(),
                piece = next(client, pieces), if open && self.applying.is_none() => match piece {
                    Some(piece) if !self.told.is_closed() => self.take(piece),
                    Some(_) | None => {
                        open = false;
                        self.abort();
                    }
                },
                else => return,
            }
        }
    }

    fn take(&mut self, piece: Store) {
        match piece {
            Store::Apply(ops) => {
                self.applying =
                    Some(Applying { started: Vec::with_capacity(ops.0.len()), ops: ops.0 });
                self.apply();
            }
            Store::Whole { ticket, path, meta, digest, content } => {
                self.whole(ticket, path, meta, digest, content);
            }
            Store::Begin { ticket, path, head } => self.begin(ticket, path, head),
            Store::Chunk(bytes) => self.chunk(bytes),
            Store::End { digest } => self.end(digest),
            Store::Abort => self.abort(),
            Store::Flush => {}
            // Nobody sends them: this side does not offer what they are for.
            Store::Part { .. } | Store::Join { .. } | Store::Drop(_) | Store::Settle(_) => {}
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

    fn open(&mut self, ticket: u64, path: RelPath, meta: Meta, size: u64) -> File {
        let temp = self.tree.beside(&path, &self.names.next());
        File {
            ticket,
            path,
            temp,
            meta,
            size,
            handle: Bytes::new(),
            replies: VecDeque::with_capacity(1),
            said: Said::default(),
            content: None,
        }
    }

    fn whole(&mut self, ticket: u64, path: RelPath, meta: Meta, digest: Digest, content: Bytes) {
        if blake3::hash(&content).as_bytes() != &digest.0 {
            self.refuse(ticket, corrupt());
            return;
        }
        let mut file = self.open(ticket, path, meta, content.len() as u64);
        file.content = Some((digest, content.clone()));
        let replies = self.client().burst(|burst| {
            file.handle = burst.open(&create(file.temp.clone()));
            file.post_writes(burst, 0, content);
            file.post_end(burst);
        });
        file.replies.push_back(replies);
        self.written.push_back(file);
    }

    fn begin(&mut self, ticket: u64, path: RelPath, head: FileHead) {
        self.abort();
        let mut file = self.open(ticket, path, head.meta, head.size);
        let replies =
            self.client().burst(|burst| file.handle = burst.open(&create(file.temp.clone())));
        file.replies.push_back(replies);
        self.long = Some(Long { file, offset: 0, hasher: blake3::Hasher::new() });
    }

    fn chunk(&mut self, bytes: Bytes) {
        let Some(Long { file, offset, hasher }) = &mut self.long else { return };
        file.hear();
        hasher.update(&bytes);
        let length = bytes.len() as u64;
        if !self.fallen && !file.said.is_hopeless(&file.handle) {
            let replies = self.tree.client.burst(|burst| file.post_writes(burst, *offset, bytes));
            file.replies.push_back(replies);
        }
        *offset += length;
    }

    fn end(&mut self, digest: Digest) {
        let Some(Long { mut file, offset, hasher }) = self.long.take() else { return };
        let whole = offset == file.size && hasher.finalize().as_bytes() == &digest.0;
        if whole && !self.fallen {
            let replies = self.client().burst(|burst| file.post_end(burst));
            file.replies.push_back(replies);
            self.written.push_back(file);
            return;
        }
        let ticket = file.ticket;
        self.discard(file);
        self.refuse(ticket, if whole { unforetold() } else { corrupt() });
    }

    /// Forgets the long file that comes at the moment.
    fn abort(&mut self) {
        if let Some(Long { file, .. }) = self.long.take() {
            self.discard(file);
        }
    }

    /// Removes a file that is open and of which nothing more comes.
    fn discard(&mut self, file: File) {
        let temp = file.temp.clone();
        let closed = self.client().burst(|burst| {
            burst.close(&file.handle);
            // One that stays is swept by the next pass.
            burst.post(&Request::Remove { path: temp });
        });
        self.failing.push(
            async move {
                closed.all().await;
                // The replies to all that came before were there even earlier.
                drop(file);
                None
            }
            .boxed(),
        );
    }

    fn refuse(&mut self, ticket: u64, failure: Failure) {
        self.failing.push(std::future::ready(Some(Ack { ticket, result: Err(failure) })).boxed());
    }

    /// Does what follows from the replies that are there.
    async fn settle(&mut self) {
        while self.renamed.front().is_some_and(|(_, replies)| replies.is_ready()) {
            let Some((file, replies)) = self.renamed.pop_front() else { break };
            match replies.take_done() {
                Ok(()) => tell(self.told, Some(Ack { ticket: file.ticket, result: Ok(()) })).await,
                Err(error) => self.fail(file, error, "put it in place"),
            }
        }
        while self.written.front_mut().is_some_and(File::hear) {
            let Some(mut file) = self.written.pop_front() else { break };
            let said = std::mem::take(&mut file.said);
            let verdict = said.judge(&file.handle);
            match verdict {
                Verdict::Unforetold(real) => self.fall(file, real),
                Verdict::Failed(error) => self.fail(file, error, "write it"),
                Verdict::Good if !self.is_as_proved() => self.fall(file, None),
                Verdict::Good if self.told.is_closed() => self.throw_away(file),
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

    fn publish(&mut self, file: File) {
        let to = self.tree.full(&file.path);
        let replies = self.client().post(&Request::PosixRename { from: file.temp.clone(), to });
        self.renamed.push_back((file, replies));
    }

    /// Nobody wants it any more.
    fn throw_away(&mut self, file: File) {
        let removed = self.client().post(&Request::Remove { path: file.temp });
        self.failing.push(async move { removed.all().await }.map(|_| None).boxed());
    }

    fn fail(&mut self, file: File, error: SftpError, action: &'static str) {
        let (tree, ticket) = (self.tree, file.ticket);
        let removed = self.client().post(&Request::Remove { path: file.temp });
        self.failing.push(
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
        self.failing.push(async move { removed.all().await }.map(|_| None).boxed());
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
