//! The remote half: frames in, frames out, the workers of [`Workers`] behind them. It does what
//! it is asked below the root it was given and ends when its input does.

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio_util::codec::{FramedRead, FramedWrite};
use tokio_util::task::TaskTracker;

use crate::media::error::MediaError;
use crate::media::root::native;
use crate::media::session::local::{Workers, missing};
use crate::media::shard::Scanner;
use crate::wire::content;
use crate::wire::hello::Hello;
use crate::wire::message::{Answer, Call, Facts, Job, Open, Reply, Request, Store, Verdict};
use crate::wire::stream::{FrameQueue, RequestDecoder};
use crate::wire::tree::{Failure, FailureKind};
use crate::wire::{Frames, WireError};

/// Replies that wait to be written, at most.
const REPLIES_AHEAD_MAX: usize = 16;

/// Serves one stream until its input ends.
pub async fn serve(
    input: impl AsyncRead + Unpin + Send,
    output: impl AsyncWrite + Unpin + Send + 'static,
) -> Result<(), WireError> {
    let mut input = FramedRead::new(input, Frames);
    let mut output = FramedWrite::new(output, Frames);
    output.send(Hello::ours().frame()).await?;
    let greeting = input.next().await.ok_or(WireError::Truncated)??;
    Hello::accept(&greeting)?;
    let (replies, receiver) = mpsc::channel(REPLIES_AHEAD_MAX);
    let writer = tokio::spawn(write(receiver, output));
    let read = async {
        let mut decoder = RequestDecoder::default();
        let mut server = Server { replies, workers: None, lane: 0, doors: Doors::default() };
        while let Some(frame) = input.next().await {
            let mut requests = Vec::new();
            decoder.push(frame?, &mut |request| requests.push(request))?;
            for request in requests {
                server.take(request).await?;
            }
        }
        Ok(())
    };
    let result = read.await;
    // The workers' channels are closed now; the writer ends when they have.
    let written = writer.await.unwrap_or(Ok(()));
    result.and(written)
}

async fn write(
    mut replies: mpsc::Receiver<Reply>,
    mut output: FramedWrite<impl AsyncWrite + Unpin, Frames>,
) -> Result<(), WireError> {
    let mut queue = FrameQueue::default();
    while let Some(reply) = replies.recv().await {
        queue.reply(reply)?;
        let idle = replies.is_empty();
        for frame in queue.take(idle) {
            output.feed(frame).await?;
        }
        if idle {
            SinkExt::flush(&mut output).await?;
        }
    }
    for frame in queue.take(true) {
        output.feed(frame).await?;
    }
    output.close().await
}

struct Server {
    replies: mpsc::Sender<Reply>,
    workers: Option<Workers>,
    lane: u32,
    doors: Doors,
}

/// Ways to the workers that were started.
#[derive(Default)]
struct Doors {
    verdicts: Option<mpsc::Sender<Verdict>>,
    jobs: Option<mpsc::Sender<Job>>,
    pieces: Option<mpsc::Sender<Store>>,
    calls: Option<mpsc::Sender<Call>>,
}

impl Server {
    async fn take(&mut self, request: Request) -> Result<(), WireError> {
        match request {
            Request::Open(open) => {
                let opened = self.open(open);
                self.reply(Reply::Opened(opened)).await;
            }
            Request::Scan(spec) => match self.workers()?.scan(spec) {
                Ok(scanner) => self.doors.verdicts = Some(tell(scanner, self.replies.clone())),
                Err(error) => self.fatal(&error).await,
            },
            Request::Verdict(verdict) => {
                let door = self.doors.verdicts.as_ref();
                pass(door.ok_or(WireError::OutOfTurn("a verdict"))?, verdict).await;
            }
            Request::Read(job) => {
                if self.doors.jobs.is_none() {
                    match self.workers()?.reader() {
                        Ok((jobs, pieces)) => {
                            forward(pieces, self.replies.clone(), Reply::Piece);
                            self.doors.jobs = Some(jobs);
                        }
                        Err(error) => self.fatal(&error).await,
                    }
                }
                if let Some(jobs) = &self.doors.jobs {
                    pass(jobs, job).await;
                }
            }
            Request::Store(piece) => {
                if self.doors.pieces.is_none() {
                    match self.workers()?.storer(self.lane) {
                        Ok((pieces, acks)) => {
                            forward(acks, self.replies.clone(), Reply::Ack);
                            self.doors.pieces = Some(pieces);
                        }
                        Err(error) => self.fatal(&error).await,
                    }
                }
                if let Some(pieces) = &self.doors.pieces {
                    pass(pieces, piece).await;
                }
            }
            Request::Call(call) => self.call(call).await?,
        }
        Ok(())
    }

    fn open(&mut self, open: Open) -> Result<Facts, Failure> {
        if self.workers.is_some() {
            return Err(Failure::new(FailureKind::Other, "the root was opened already"));
        }
        self.lane = open.lane;
        let Open { root, side, create, run, .. } = open;
        // The stream ends after their last reply; nobody needs to wait for them otherwise.
        let tasks = TaskTracker::new();
        self.workers = Workers::open(native(&root.0), side, create, run, tasks)?;
        Ok(self.workers.as_ref().map_or_else(missing, Workers::facts))
    }

    fn workers(&self) -> Result<&Workers, WireError> {
        self.workers.as_ref().ok_or(WireError::OutOfTurn("work before a root"))
    }

    async fn call(&mut self, call: Call) -> Result<(), WireError> {
        if self.doors.calls.is_none() {
            match self.workers()?.calls() {
                Ok(calls) => {
                    let (door, waiting) = mpsc::channel::<Call>(8);
                    tokio::spawn(answer(waiting, calls, self.replies.clone()));
                    self.doors.calls = Some(door);
                }
                Err(error) => self.fatal(&error).await,
            }
        }
        if let Some(calls) = &self.doors.calls {
            pass(calls, call).await;
        }
        Ok(())
    }

    async fn fatal(&self, error: &MediaError) {
        let text = crate::error::one_line(error);
        self.reply(Reply::Fatal(Failure::new(FailureKind::Other, text))).await;
    }

    async fn reply(&self, reply: Reply) {
        pass(&self.replies, reply).await;
    }
}

/// Sends; if the receiver is gone, so is the reason for sending.
async fn pass<T>(channel: &mpsc::Sender<T>, value: T) {
    let _ = channel.send(value).await;
}

/// Turns what a worker gives into replies.
fn forward<T: Send + 'static>(
    mut from: mpsc::Receiver<T>,
    replies: mpsc::Sender<Reply>,
    wrap: impl Fn(T) -> Reply + Send + 'static,
) {
    tokio::spawn(async move {
        while let Some(value) = from.recv().await {
            if replies.send(wrap(value)).await.is_err() {
                return;
            }
        }
    });
}

/// Calls in, answers out, in order.
async fn answer(
    mut waiting: mpsc::Receiver<Call>,
    calls: mpsc::Sender<(Call, oneshot::Sender<Answer>)>,
    replies: mpsc::Sender<Reply>,
) {
    while let Some(call) = waiting.recv().await {
        let (sender, answer) = oneshot::channel();
        if calls.send((call, sender)).await.is_err() {
            return;
        }
        let Ok(answer) = answer.await else { return };
        pass(&replies, Reply::Answer(answer)).await;
    }
}

/// Tells a scan: heads as they come, content as it is asked for. Gives the way for verdicts.
fn tell(scanner: Scanner, replies: mpsc::Sender<Reply>) -> mpsc::Sender<Verdict> {
    let Scanner { mut heads, verdicts, mut contents } = scanner;
    let (door, mut asked) = mpsc::channel::<Verdict>(crate::media::shard::AHEAD_MAX + 1);
    tokio::spawn(async move {
        // Which shards the coming contents belong to; as bounded as the scan itself.
        let mut taken = std::collections::VecDeque::new();
        let mut scanning = true;
        loop {
            let reply = tokio::select! {
                head = heads.recv(), if scanning => match head {
                    Some(Some(head)) => Reply::Shard(head),
                    Some(None) => {
                        scanning = false;
                        Reply::ScanEnd
                    }
                    None => Reply::Fatal(Failure::new(FailureKind::Other, "the scan broke off")),
                },
                verdict = asked.recv() => {
                    let Some(verdict) = verdict else { return };
                    if verdict.take {
                        taken.push_back(verdict.index);
                    }
                    pass(&verdicts, verdict).await;
                    continue;
                }
                dirs = contents.recv(), if !taken.is_empty() => {
                    let (Some(dirs), Some(index)) = (dirs, taken.pop_front()) else { return };
                    for content in content::split(index, dirs) {
                        pass(&replies, Reply::Content(content)).await;
                    }
                    continue;
                }
            };
            let failed = matches!(reply, Reply::Fatal(_));
            if replies.send(reply).await.is_err() || failed {
                return;
            }
        }
    });
    door
}
