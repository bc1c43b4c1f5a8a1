//! One stream to a helper: started, greeted, its root opened; then two tasks, of which one writes
//! requests and the other reads replies. Why a stream ended is found out here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio_util::codec::FramedRead;
use tokio_util::task::AbortOnDropHandle;

use super::sink::Sink;
use crate::error::one_line;
use crate::host::{Command, Ended, Exit, Host, HostError, Reader};
use crate::media::error::MediaError;
use crate::media::session::{Link, Terms};
use crate::wire::bounded::Blob;
use crate::wire::hello::Hello;
use crate::wire::message::{Facts, Open, Reply, Request, Side};
use crate::wire::stream::{FrameQueue, ReplyDecoder};
use crate::wire::tree::Failure;
use crate::wire::{Frames, WireError};

/// How long a helper may take to greet and to open its root.
const GREETING_SECS_MAX: u64 = 60;
/// How long to wait for the last words of a helper that ended early.
const LAST_WORDS_SECS_MAX: u64 = 5;

/// What every stream of a session opens with.
#[derive(Clone)]
pub(crate) struct Opening {
    pub root: Vec<u8>,
    pub terms: Terms,
}

pub(super) fn at_host(link: &Link, source: HostError) -> MediaError {
    MediaError::Host { host: link.host.clone(), source: Box::new(source) }
}

/// How a helper ends. Dropping it with the streams closes the channel.
type Ending = BoxFuture<'static, Result<Ended, HostError>>;

/// A helper that has greeted and opened its root.
pub(super) struct Stream {
    link: Arc<Link>,
    input: FramedRead<Reader, Frames>,
    output: Sink,
    decoder: ReplyDecoder,
    ending: Ending,
}

impl Stream {
    pub async fn open(
        link: &Arc<Link>,
        host: &dyn Host,
        command: &Command,
        opening: &Opening,
        lane: u32,
    ) -> Result<(Self, Facts), MediaError> {
        let (stdin, stdout, ending) =
            host.spawn(command).await.map_err(|error| at_host(link, error))?.split();
        let mut stream = Stream {
            link: link.clone(),
            input: FramedRead::new(stdout, Frames),
            output: Sink::new(stdin),
            decoder: ReplyDecoder::default(),
            ending: ending.boxed(),
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
        let Terms { side, create, run, gentle, manner, .. } = opening.terms;
        let root = opening.root.clone();
        let mut queue = FrameQueue::default();
        let open = Open { root: Blob(root), side, create, run, lane, manner, gentle };
        queue.request(Request::Open(open))?;
        for frame in queue.take(true) {
            self.output.feed(frame).await?;
        }
        self.output.flush().await?;
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
                match tokio::time::timeout(limit, &mut self.ending).await {
                    Ok(Ok(Ended { exit: Exit::Code(0), .. })) if broken_off => {
                        MediaError::Lost { host }
                    }
                    Ok(Ok(Ended { exit, stderr_tail })) if broken_off => {
                        let text = format!("{exit} {}", stderr_tail.trim());
                        MediaError::HelperEnded { host, text }
                    }
                    Ok(Err(error)) => at_host(&self.link, error),
                    Ok(_) | Err(_) if broken_off => MediaError::Lost { host },
                    Ok(_) | Err(_) => MediaError::Wire { host, source: error },
                }
            }
            error => MediaError::Wire { host, source: error },
        }
    }

    /// Starts the two tasks of the stream: what comes from `requests` is written, what is read is
    /// given to `accept`. The stream ends when `requests` does.
    pub fn run<T: Send + 'static>(
        self,
        requests: mpsc::Receiver<T>,
        wrap: impl Fn(T) -> Request + Send + Sync + 'static,
        accept: impl Accept,
    ) {
        let Stream { link, input, output, decoder, ending } = self;
        let closing = Arc::new(AtomicBool::new(false));
        let writer = write(link.clone(), output, requests, wrap, closing.clone());
        let writing = AbortOnDropHandle::new(tokio::spawn(writer));
        let tasks = link.tasks.clone();
        let reader = ReadHalf { link, input, decoder, ending, closing, _writing: writing };
        tasks.spawn(reader.read(accept));
    }
}

/// Where the replies of a stream go. An error is a reply that does not belong there.
#[async_trait]
pub(super) trait Accept: Send + 'static {
    /// Whether to go on; if not, the helper is cut off.
    async fn accept(&mut self, reply: Reply) -> Result<bool, WireError>;

    /// The same for what one frame brought.
    async fn accept_all(&mut self, replies: Vec<Reply>) -> Result<bool, WireError> {
        for reply in replies {
            if !self.accept(reply).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

async fn write<T>(
    link: Arc<Link>,
    mut output: Sink,
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
                link.count_sent(output.feed(frame).await?);
            }
            if idle {
                output.flush().await?;
            }
        }
        closing.store(true, Ordering::Release);
        for frame in queue.take(true) {
            link.count_sent(output.feed(frame).await?);
        }
        output.close().await
    }
    .await;
    // The reading half sees the same break, and knows more about it.
    drop(result);
}

struct ReadHalf {
    link: Arc<Link>,
    input: FramedRead<Reader, Frames>,
    decoder: ReplyDecoder,
    ending: Ending,
    closing: Arc<AtomicBool>,
    /// Without replies nothing more is asked.
    _writing: AbortOnDropHandle<()>,
}

impl ReadHalf {
    async fn read(mut self, mut to: impl Accept) {
        let result = self.read_all(&mut to).await;
        if let Err(error) = result {
            if self.closing.load(Ordering::Acquire) && matches!(error, WireError::Truncated) {
                return;
            }
            let ReadHalf { link, input, decoder, ending, .. } = self;
            let output = Sink::new(Box::pin(tokio::io::sink()));
            let mut stream = Stream { link, input, output, decoder, ending };
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
            for reply in &replies {
                if let Reply::Fatal(failure) = reply {
                    let host = self.link.host.clone();
                    self.link.fail(MediaError::HelperEnded { host, text: one_line(failure) });
                    return Ok(());
                }
            }
            if !to.accept_all(replies).await? {
                return Ok(());
            }
        }
    }
}

fn refused(link: &Link, opening: &Opening, source: Failure) -> MediaError {
    MediaError::Root {
        host: link.host.clone(),
        path: opening.root.escape_ascii().to_string(),
        role: match opening.terms.side {
            Side::Source => "source",
            Side::Target => "target",
        },
        source,
    }
}
