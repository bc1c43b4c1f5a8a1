//! The bytes of one SSH channel, made safe to use: a task of its own always drains it (an unread
//! channel stops the whole connection), another one feeds it (so that a write may be cancelled),
//! and a lost connection is an error to reader and writer, never an end of data.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard, PollSender};

use super::pace::Pace;
use crate::host::{Exit, STDERR_TAIL_BYTES};

/// Each item is a packet of at most 32 KiB, or a write of at most [`WRITE_BYTES_MAX`].
const QUEUE_ITEMS: usize = 16;
const WRITE_BYTES_MAX: usize = 128 * 1024;

/// What came of a channel.
#[derive(Debug)]
pub(super) struct Closing {
    pub exit: Option<Exit>,
    /// The other side closed the channel; if not, the connection was lost.
    pub complete: bool,
    pub stderr_tail: String,
}

/// The ends of a channel. When all of them are dropped the channel is closed; what runs on the
/// other side is not stopped by that.
pub(super) struct Ends {
    pub writer: Feeder,
    pub reader: Drain,
    pub closing: oneshot::Receiver<Closing>,
    /// To be kept with `closing`.
    pub guard: Arc<DropGuard>,
}

/// Starts the tasks that serve `channel`; `keep` is dropped when the channel is closed.
pub(super) fn serve(channel: Channel<Msg>, pace: Pace, keep: impl Send + 'static) -> Ends {
    let pace = Arc::new(pace);
    let (read_half, write_half) = channel.split();
    let write_half = Arc::new(write_half);
    let (in_tx, in_rx) = mpsc::channel(QUEUE_ITEMS);
    let (out_tx, out_rx) = mpsc::channel(QUEUE_ITEMS);
    let (closing_tx, closing_rx) = oneshot::channel();
    let (abandoned, closed) = (CancellationToken::new(), CancellationToken::new());
    tokio::spawn(feed(write_half.clone(), in_rx, pace.clone(), closed.clone()));
    let guard = Arc::new(abandoned.clone().drop_guard());
    tokio::spawn(async move {
        let closing = drain(read_half, &write_half, out_tx, &pace, abandoned).await;
        closed.cancel();
        // The place is free before anybody can hear that it is.
        drop(keep);
        let _ = closing_tx.send(closing);
    });
    Ends {
        writer: Feeder { queue: PollSender::new(in_tx), _guard: guard.clone() },
        reader: Drain { queue: out_rx, current: Bytes::new(), _guard: guard.clone() },
        closing: closing_rx,
        guard,
    }
}

/// Sends what is queued. Ends the input when the queue does, gives up when the channel is closed.
async fn feed(
    write_half: Arc<ChannelWriteHalf<Msg>>,
    mut queue: mpsc::Receiver<Bytes>,
    pace: Arc<Pace>,
    closed: CancellationToken,
) {
    let sending = async {
        while let Some(bytes) = queue.recv().await {
            pace.send(bytes.len()).await;
            if write_half.data_bytes(bytes).await.is_err() {
                return;
            }
        }
        let _ = write_half.eof().await;
    };
    // A write that waits for the window of a lost connection would wait for ever.
    tokio::select! {
        () = sending => {}
        () = closed.cancelled() => {}
    }
}

async fn drain(
    mut read_half: ChannelReadHalf,
    write_half: &ChannelWriteHalf<Msg>,
    out: mpsc::Sender<io::Result<Bytes>>,
    pace: &Pace,
    abandoned: CancellationToken,
) -> Closing {
    let mut out = Some(out);
    let mut closing = Closing { exit: None, complete: false, stderr_tail: String::new() };
    let mut tail = Tail::default();
    let mut is_closing = false;
    loop {
        let message = tokio::select! {
            message = read_half.wait() => message,
            () = abandoned.cancelled(), if !is_closing => {
                is_closing = true;
                let _ = write_half.close().await;
                continue;
            }
        };
        match message {
            None => break,
            Some(ChannelMsg::Data { data }) => {
                if let Some(queue) = &out {
                    let sent = tokio::select! {
                        sent = queue.send(Ok(data)) => sent.is_ok(),
                        () = abandoned.cancelled() => false,
                    };
                    if !sent {
                        out = None;
                    }
                }
            }
            Some(ChannelMsg::ExtendedData { data, .. }) => tail.push(&data),
            Some(ChannelMsg::Eof) => out = None,
            Some(ChannelMsg::ExitStatus { exit_status }) => {
                closing.exit = Some(Exit::Code(i32::try_from(exit_status).unwrap_or(i32::MAX)));
            }
            Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                closing.exit = Some(Exit::Signal(signal_text(signal_name)));
            }
            Some(ChannelMsg::Close) => closing.complete = true,
            Some(ChannelMsg::WindowAdjusted { new_size }) => pace.grant(new_size),
            // Answers to requests, and messages that only a server is sent.
            Some(_) => {}
        }
    }
    if let Some(queue) = out
        && !closing.complete
    {
        let lost = io::Error::new(io::ErrorKind::ConnectionReset, "the SSH connection was lost");
        tokio::select! {
            _ = queue.send(Err(lost)) => {}
            () = abandoned.cancelled() => {}
        }
    }
    closing.stderr_tail = tail.into_text();
    closing
}

fn signal_text(signal: russh::Sig) -> String {
    match signal {
        russh::Sig::Custom(name) => name,
        named => format!("{named:?}"),
    }
}

/// The last bytes of a stream.
#[derive(Default)]
struct Tail(VecDeque<u8>);

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(STDERR_TAIL_BYTES)..];
        let excess = (self.0.len() + bytes.len()).saturating_sub(STDERR_TAIL_BYTES);
        self.0.drain(..excess);
        self.0.extend(bytes);
    }

    fn into_text(self) -> String {
        String::from_utf8_lossy(&Vec::from(self.0)).into_owned()
    }
}

/// Writes into the channel. A flush proves nothing: only an answer does.
pub(super) struct Feeder {
    queue: PollSender<Bytes>,
    _guard: Arc<DropGuard>,
}

impl AsyncWrite for Feeder {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    /// What is written together is sent together.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = parts.iter().map(|part| part.len()).sum::<usize>().min(WRITE_BYTES_MAX);
        if bytes == 0 {
            return Poll::Ready(Ok(0));
        }
        ready!(self.queue.poll_reserve(context)).map_err(|_| broken())?;
        let mut item = Vec::with_capacity(bytes);
        for part in parts {
            let room = bytes - item.len();
            item.extend_from_slice(&part[..part.len().min(room)]);
        }
        self.queue.send_item(item.into()).map_err(|_| broken())?;
        Poll::Ready(Ok(bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.queue.close();
        Poll::Ready(Ok(()))
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the other side closed its input")
}

/// Reads what comes out of the channel. A lost connection is an error.
pub(super) struct Drain {
    queue: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
    _guard: Arc<DropGuard>,
}

impl AsyncRead for Drain {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.current.is_empty() {
            match ready!(self.queue.poll_recv(context)) {
                Some(Ok(bytes)) => self.current = bytes,
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = self.current.len().min(buffer.remaining());
        buffer.put_slice(&self.current[..count]);
        self.current.advance(count);
        Poll::Ready(Ok(()))
    }
}

/// Both directions of a channel as one stream.
pub(super) struct Joined {
    pub reader: Drain,
    pub writer: Feeder,
}

impl AsyncRead for Joined {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(context, buffer)
    }
}

impl AsyncWrite for Joined {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(context)
    }
}
