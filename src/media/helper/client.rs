//! Our half of the helper transport: one SSH channel with a helper on it for the scan, one for
//! calls, and one on a connection of its own for each lane.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{SinkExt, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio_util::codec::{FramedRead, FramedWrite};

use crate::error::one_line;
use crate::host::{Command, Ended, Exit, Host, HostError, Reader, Writer};
use crate::media::error::MediaError;
use crate::media::session::local::scan_nothing;
use crate::media::session::{
    Ability, Calls, JOBS_AHEAD_MAX, Link, PIECES_AHEAD_MAX, Session, SourceLane, TargetLane,
};
use crate::media::shard::{Scanner, channels};
use crate::wire::bounded::Blob;
use crate::wire::content::Assembler;
use crate::wire::hello::Hello;
use crate::wire::message::{Answer, Call, Facts, Open, Reply, Request, ScanSpec, Side};
use crate::wire::stream::{FrameQueue, ReplyDecoder};
use crate::wire::tree::{Failure, RunId};
use crate::wire::{Frames, WireError};

/// How long a helper may take to greet and to open its root.
const GREETING_SECS_MAX: u64 = 60;
/// How long to wait for the last words of a helper that ended early.
const LAST_WORDS_SECS_MAX: u64 = 5;
const CALLS_LANE: u32 = u32::MAX;

/// What every stream of a session opens with.
#[derive(Clone)]
pub(crate) struct Opening {
    pub root: Vec<u8>,
    pub side: Side,
    pub create: bool,
    pub run: RunId,
}

/// The session of an endpoint with a helper.
pub(crate) struct Helper {
    link: Arc<Link>,
    host: Arc<dyn Host>,
    command: Command,
    opening: Opening,
    connections: usize,
    facts: Facts,
    /// The stream that told the facts; it becomes that of the scan. The lock is for the compiler:
    /// a stream cannot be shared.
    first: Mutex<Option<Stream>>,
}

impl Helper {
    /// Starts a first helper and opens the root.
    pub async fn open(
        link: Arc<Link>,
        host: Arc<dyn Host>,
        command: Command,
        opening: Opening,
        connections: usize,
    ) -> Result<Self, MediaError> {
        let (first, facts) = Stream::open(&link, &*host, &command, &opening, 0).await?;
        Ok(Helper {
            link,
            host,
            command,
            opening,
            connections,
            facts,
            first: Mutex::new(Some(first)),
        })
    }

    async fn stream(&self, host: &dyn Host, lane: u32) -> Result<Stream, MediaError> {
        let opened = Stream::open(&self.link, host, &self.command, &self.opening, lane).await?;
        Ok(opened.0)
    }

    /// A stream over a connection of its own.
    async fn lane(&self, lane: u32) -> Result<Stream, MediaError> {
        let own = self.host.dedicated().await.map_err(|error| at_host(&self.link, error))?;
        self.stream(&*own, lane).await
    }
}

fn at_host(link: &Link, source: HostError) -> MediaError {
    MediaError::Host { host: link.host.clone(), source: Box::new(source) }
}

/// A helper that has greeted and opened its root.
struct Stream {
    link: Arc<Link>,
    input: FramedRead<Reader, Frames>,
    output: FramedWrite<Writer, Frames>,
    decoder: ReplyDecoder,
    /// Tells how the helper ended, once it has.
    ended: oneshot::Receiver<Result<Ended, HostError>>,
}

impl Stream {
    async fn open(
        link: &Arc<Link>,
        host: &dyn Host,
        command: &Command,
        opening: &Opening,
        lane: u32,
    ) -> Result<(Self, Facts), MediaError> {
        let (stdin, stdout, ending) =
            host.spawn(command).await.map_err(|error| at_host(link, error))?.split();
        let (sender, ended) = oneshot::channel();
        tokio::spawn(async move { sender.send(ending.await) });
        let mut stream = Stream {
            link: link.clone(),
            input: FramedRead::new(stdout, Frames),
            output: FramedWrite::new(stdin, Frames),
            decoder: ReplyDecoder::default(),
            ended,
        };
        let greeting = tokio::time::timeout(
            Duration::from_secs(GREETING_SECS_MAX),
            stream.greet(opening, lane),
        );
        match greeting.await {
            Ok(Ok(Ok(facts))) => Ok((stream, facts)),
            Ok(Ok(Err(source))) => Err(refused(link, opening, source)),
            Ok(Err(error)) => Err(stream.why(error).await),
            Err(_) => Err(MediaError::Silent { host: link.host.clone(), secs: GREETING_SECS_MAX }),
        }
    }

    async fn greet(
        &mut self,
        opening: &Opening,
        lane: u32,
    ) -> Result<Result<Facts, Failure>, WireError> {
        self.output.feed(Hello::ours().frame()).await?;
        let Opening { root, side, create, run } = opening.clone();
        let mut queue = FrameQueue::default();
        queue.request(Request::Open(Open { root: Blob(root), side, create, run, lane }))?;
        for frame in queue.take(true) {
            self.output.feed(frame).await?;
        }
        SinkExt::<crate::wire::Frame>::flush(&mut self.output).await?;
        let greeting = match self.input.next().await.ok_or(WireError::Truncated)? {
            // Whatever a shell prints at login makes no sensible frame.
            Err(WireError::FrameTooLong { .. } | WireError::FrameKind { .. }) => {
                return Err(WireError::NotOurs);
            }
            frame => frame?,
        };
        Hello::accept(&greeting)?;
        let frame = self.input.next().await.ok_or(WireError::Truncated)??;
        let mut opened = None;
        self.decoder.push(frame, &mut |reply| {
            if let Reply::Opened(result) = reply {
                opened = Some(result);
            }
        })?;
        opened.ok_or(WireError::OutOfTurn("something else than the root"))
    }

    /// The best explanation for `error`: often the helper's last words.
    async fn why(&mut self, error: WireError) -> MediaError {
        let host = self.link.host.clone();
        let limit = Duration::from_secs(LAST_WORDS_SECS_MAX);
        let broken_off = matches!(error, WireError::Truncated | WireError::Io(_));
        match error {
            WireError::Truncated | WireError::Io(_) | WireError::NotOurs => {
                match tokio::time::timeout(limit, &mut self.ended).await {
                    Ok(Ok(Ok(Ended { exit: Exit::Code(0), .. }))) if broken_off => {
                        MediaError::Lost { host }
                    }
                    Ok(Ok(Ok(Ended { exit, stderr_tail }))) if broken_off => {
                        let text = format!("{exit} {}", stderr_tail.trim());
                        MediaError::HelperEnded { host, text }
                    }
                    Ok(Ok(Err(error))) => at_host(&self.link, error),
                    Ok(_) | Err(_) if broken_off => MediaError::Lost { host },
                    Ok(_) | Err(_) => MediaError::Wire { host, source: error },
                }
            }
            error => MediaError::Wire { host, source: error },
        }
    }

    /// Starts the two tasks of the stream: what comes from `requests` is written, what is read is
    /// given to `accept`. The stream ends when `requests` does.
    fn run<T: Send + 'static>(
        self,
        requests: mpsc::Receiver<T>,
        wrap: impl Fn(T) -> Request + Send + Sync + 'static,
        accept: impl Accept,
    ) {
        let Stream { link, input, output, decoder, ended } = self;
        let closing = Arc::new(AtomicBool::new(false));
        let writer = write(link.clone(), output, requests, wrap, closing.clone());
        tokio::spawn(writer);
        let reader = ReadHalf { link, input, decoder, ended, closing };
        tokio::spawn(reader.read(accept));
    }
}

/// Where the replies of a stream go. An error is a reply that does not belong there.
#[async_trait]
trait Accept: Send + 'static {
    /// Whether to go on.
    async fn accept(&mut self, reply: Reply) -> Result<bool, WireError>;
}

async fn write<T>(
    link: Arc<Link>,
    mut output: FramedWrite<Writer, Frames>,
    mut requests: mpsc::Receiver<T>,
    wrap: impl Fn(T) -> Request + Sync,
    closing: Arc<AtomicBool>,
) {
    let mut queue = FrameQueue::default();
    let result: Result<(), WireError> = async {
        while let Some(request) = requests.recv().await {
            queue.request(wrap(request))?;
            let idle = requests.is_empty();
            for frame in queue.take(idle) {
                link.count_sent(frame.body.len() + 5);
                output.feed(frame).await?;
            }
            if idle {
                SinkExt::<crate::wire::Frame>::flush(&mut output).await?;
            }
        }
        closing.store(true, Ordering::Release);
        for frame in queue.take(true) {
            link.count_sent(frame.body.len() + 5);
            output.feed(frame).await?;
        }
        SinkExt::<crate::wire::Frame>::close(&mut output).await
    }
    .await;
    // The reading half sees the same break, and knows more about it.
    drop(result);
}

struct ReadHalf {
    link: Arc<Link>,
    input: FramedRead<Reader, Frames>,
    decoder: ReplyDecoder,
    ended: oneshot::Receiver<Result<Ended, HostError>>,
    closing: Arc<AtomicBool>,
}

impl ReadHalf {
    async fn read(mut self, mut to: impl Accept) {
        let result = self.read_all(&mut to).await;
        if let Err(error) = result {
            if self.closing.load(Ordering::Acquire) && matches!(error, WireError::Truncated) {
                return;
            }
            let ReadHalf { link, input, decoder, ended, .. } = self;
            let output = FramedWrite::new(Box::pin(tokio::io::sink()) as Writer, Frames);
            let mut stream = Stream { link, input, output, decoder, ended };
            let why = stream.why(error).await;
            stream.link.fail(why);
        }
        // Dropping `to` closes its channels; by then the reason is known.
        drop(to);
    }

    async fn read_all(&mut self, to: &mut impl Accept) -> Result<(), WireError> {
        loop {
            let frame = self.input.next().await.ok_or(WireError::Truncated)??;
            self.link.count_received(frame.body.len() + 5);
            let mut replies = Vec::new();
            self.decoder.push(frame, &mut |reply| replies.push(reply))?;
            for reply in replies {
                if let Reply::Fatal(failure) = &reply {
                    let host = self.link.host.clone();
                    self.link.fail(MediaError::HelperEnded { host, text: one_line(failure) });
                    return Ok(());
                }
                if !to.accept(reply).await? {
                    return Ok(());
                }
            }
        }
    }
}

const STRAY: WireError = WireError::OutOfTurn("a reply to something else");

struct ToScanner {
    heads: mpsc::Sender<Option<crate::wire::tree::ShardHead>>,
    contents: mpsc::Sender<Vec<crate::wire::tree::Directory>>,
    assembler: Assembler,
}

#[async_trait]
impl Accept for ToScanner {
    async fn accept(&mut self, reply: Reply) -> Result<bool, WireError> {
        match reply {
            Reply::Shard(head) => Ok(self.heads.send(Some(head)).await.is_ok()),
            Reply::ScanEnd => Ok(self.heads.send(None).await.is_ok()),
            Reply::Content(content) => match self.assembler.push(content)? {
                Some(dirs) => Ok(self.contents.send(dirs).await.is_ok()),
                None => Ok(true),
            },
            Reply::Opened(_)
            | Reply::Piece(_)
            | Reply::Ack(_)
            | Reply::Answer(_)
            | Reply::Fatal(_) => Err(STRAY),
        }
    }
}

/// Gives on the replies that `pick` knows.
struct ToChannel<T, P>(mpsc::Sender<T>, P);

#[async_trait]
impl<T: Send + 'static, P: Fn(Reply) -> Option<T> + Send + 'static> Accept for ToChannel<T, P> {
    async fn accept(&mut self, reply: Reply) -> Result<bool, WireError> {
        let value = (self.1)(reply).ok_or(STRAY)?;
        Ok(self.0.send(value).await.is_ok())
    }
}

/// Gives answers to those who asked, in order.
struct ToCallers(mpsc::Receiver<oneshot::Sender<Answer>>);

#[async_trait]
impl Accept for ToCallers {
    async fn accept(&mut self, reply: Reply) -> Result<bool, WireError> {
        let Reply::Answer(answer) = reply else { return Err(STRAY) };
        let caller = self.0.try_recv().map_err(|_| STRAY)?;
        // Whoever asked may have given up.
        let _ = caller.send(answer);
        Ok(true)
    }
}

#[async_trait]
impl Session for Helper {
    fn link(&self) -> &Arc<Link> {
        &self.link
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn ability(&self) -> Ability {
        Ability { whole_secs: false, delta: true, remote: true, lanes: self.connections }
    }

    async fn scan(&mut self, spec: ScanSpec) -> Result<Scanner, MediaError> {
        if !self.facts.exists {
            return Ok(scan_nothing().await);
        }
        let first = self.first.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        let stream = match first {
            Some(stream) => stream,
            None => self.stream(&*self.host, 0).await?,
        };
        let (scanner, ends) = channels();
        let (requests, receiver) = mpsc::channel(crate::media::shard::AHEAD_MAX + 1);
        let mut verdicts = ends.verdicts;
        tokio::spawn(async move {
            let mut next = Some(Request::Scan(spec));
            while let Some(request) = next {
                if requests.send(request).await.is_err() {
                    return;
                }
                next = verdicts.recv().await.map(Request::Verdict);
            }
        });
        let to = ToScanner {
            heads: ends.heads,
            contents: ends.contents,
            assembler: Assembler::default(),
        };
        stream.run(receiver, |request| request, to);
        Ok(scanner)
    }

    async fn source_lane(&mut self, lane: u32) -> Result<SourceLane, MediaError> {
        let stream = self.lane(lane).await?;
        let (jobs, receiver) = mpsc::channel(JOBS_AHEAD_MAX);
        let (sender, pieces) = mpsc::channel(PIECES_AHEAD_MAX);
        let pick = |reply| if let Reply::Piece(piece) = reply { Some(piece) } else { None };
        stream.run(receiver, Request::Read, ToChannel(sender, pick));
        Ok(SourceLane { jobs, pieces })
    }

    async fn target_lane(&mut self, lane: u32) -> Result<TargetLane, MediaError> {
        let stream = self.lane(lane).await?;
        let (pieces, receiver) = mpsc::channel(PIECES_AHEAD_MAX);
        let (sender, acks) = mpsc::channel(JOBS_AHEAD_MAX);
        let pick = |reply| if let Reply::Ack(ack) = reply { Some(ack) } else { None };
        stream.run(receiver, Request::Store, ToChannel(sender, pick));
        Ok(TargetLane { pieces, acks })
    }

    async fn calls(&mut self) -> Result<Calls, MediaError> {
        let stream = self.stream(&*self.host, CALLS_LANE).await?;
        let (calls, mut waiting) = mpsc::channel::<(Call, oneshot::Sender<Answer>)>(8);
        let (requests, receiver) = mpsc::channel(1);
        let (callers, caller_receiver) = mpsc::channel(8);
        tokio::spawn(async move {
            while let Some((call, caller)) = waiting.recv().await {
                if callers.send(caller).await.is_err() || requests.send(call).await.is_err() {
                    return;
                }
            }
        });
        stream.run(receiver, Request::Call, ToCallers(caller_receiver));
        Ok(calls)
    }
}

fn refused(link: &Link, opening: &Opening, source: Failure) -> MediaError {
    MediaError::Root {
        host: link.host.clone(),
        path: opening.root.escape_ascii().to_string(),
        role: match opening.side {
            Side::Source => "source",
            Side::Target => "target",
        },
        source,
    }
}
