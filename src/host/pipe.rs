//! A byte stream compressed on its way between machines, whose end is proved: a cut link can not
//! be taken for the end of the data.
//!
//! On the wire: 4 bytes of magic, one zstd frame, then the BLAKE3 digest (32 bytes) and the
//! length (8 bytes, little endian) of the plain bytes, then the end. [`pack`] makes it, [`unpack`]
//! reads it. Compression works on a blocking thread between two bounded queues; memory does not
//! depend on the length. Neither knows what the bytes mean. A conversation, whose bytes may not wait
//! for more, goes through [`PackedWriter`] and [`PackedReader`] instead.

mod codec;
mod live;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use codec::{Packer, Unpacker};
pub use live::{PackedReader, PackedWriter};

/// The exit code of `helper unpack` when the stream broke off.
pub const EXIT_TRUNCATED: u8 = 121;
/// The exit code of `helper unpack` when the stream is not what was sent.
pub const EXIT_CORRUPT: u8 = 122;

const BLOCK_BYTES: usize = 256 * 1024;
/// Blocks in each of the two queues.
const QUEUE_BLOCKS: usize = 8;

/// How hard to compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackOptions {
    /// A zstd level; negative ones are faster.
    pub level: i32,
    /// Threads that compress; 0 compresses on the one that feeds them.
    pub workers: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PackStats {
    pub plain_bytes: u64,
    pub packed_bytes: u64,
}

/// Why a packed stream did not come through.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    #[error(
        "the stream broke off after {plain_bytes} bytes: the link was cut, or the sender failed"
    )]
    Truncated { plain_bytes: u64 },
    #[error("the stream is not what was sent: {problem}")]
    Corrupt { problem: String },
    #[error("cannot read the stream")]
    Read(#[source] io::Error),
    #[error("cannot write the unpacked bytes")]
    Write(#[source] io::Error),
}

/// Compresses `reader` to its end into `writer`, adds the proof of the end, and shuts `writer`
/// down. If reading fails, the proof is not written, so that the other side fails as well.
pub async fn pack(
    reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    options: PackOptions,
) -> io::Result<PackStats> {
    let mut packer = Packer::new(options)?;
    let (reading, working, writing) = through(reader, &mut writer, move |stage| {
        while let Some(item) = stage.plain.blocking_recv() {
            let is_end = matches!(item, Item::End);
            match &item {
                Item::Block(block) => packer.push(block, &mut stage.emit())?,
                Item::End => packer.finish(&mut stage.emit())?,
            }
            if is_end {
                return Ok(packer.stats());
            }
        }
        Err(stopped())
    })
    .await;
    reading?;
    writing?;
    let stats = working?;
    writer.shutdown().await?;
    Ok(stats)
}

/// Decompresses `reader` into `writer`; gives the number of plain bytes once their end is proved.
///
/// Does not shut `writer` down: after an error whoever reads there must not see an end of data,
/// and has to be stopped first. A reader that closes early ([`io::ErrorKind::BrokenPipe`]) is no
/// error: the rest is still checked to its end.
pub async fn unpack(
    reader: impl AsyncRead + Unpin,
    writer: impl AsyncWrite + Unpin,
) -> Result<u64, UnpackError> {
    let mut unpacker =
        Unpacker::new().map_err(|error| UnpackError::Corrupt { problem: error.to_string() })?;
    let (reading, working, writing) =
        through(reader, Forgiving { inner: writer, is_closed: false }, move |stage| {
            while let Some(item) = stage.plain.blocking_recv() {
                match &item {
                    Item::Block(block) => unpacker.push(block, &mut stage.emit())?,
                    Item::End => return unpacker.finish(),
                }
            }
            Err(UnpackError::Truncated { plain_bytes: unpacker.plain_bytes() })
        })
        .await;
    reading.map_err(UnpackError::Read)?;
    writing.map_err(UnpackError::Write)?;
    working
}

impl From<io::Error> for UnpackError {
    fn from(error: io::Error) -> Self {
        UnpackError::Write(error)
    }
}

impl UnpackError {
    /// How `helper unpack` exits.
    pub fn exit_code(&self) -> u8 {
        match self {
            UnpackError::Truncated { .. } | UnpackError::Read(_) => EXIT_TRUNCATED,
            UnpackError::Corrupt { .. } => EXIT_CORRUPT,
            UnpackError::Write(_) => 1,
        }
    }
}

enum Item {
    Block(Bytes),
    /// The reader came to its end without an error.
    End,
}

/// What the blocking thread works on.
struct Stage {
    plain: mpsc::Receiver<Item>,
    out: mpsc::Sender<Bytes>,
}

impl Stage {
    /// A sink for blocks; it fails when nobody takes them any more.
    fn emit(&self) -> impl FnMut(&[u8]) -> io::Result<()> {
        let out = self.out.clone();
        move |block: &[u8]| out.blocking_send(Bytes::copy_from_slice(block)).map_err(|_| stopped())
    }
}

/// Reads, works and writes at the same time. A part that fails stops the others.
async fn through<T: Send + 'static, E: From<io::Error> + Send + 'static>(
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    work: impl FnOnce(&mut Stage) -> Result<T, E> + Send + 'static,
) -> (io::Result<()>, Result<T, E>, io::Result<()>) {
    let (plain_tx, plain_rx) = mpsc::channel(QUEUE_BLOCKS);
    let (out_tx, mut out_rx) = mpsc::channel::<Bytes>(QUEUE_BLOCKS);
    let working =
        tokio::task::spawn_blocking(move || work(&mut Stage { plain: plain_rx, out: out_tx }));
    let reading = async move {
        loop {
            let mut block = bytes::BytesMut::with_capacity(BLOCK_BYTES);
            let item = match reader.read_buf(&mut block).await? {
                0 => Item::End,
                _ => Item::Block(block.freeze()),
            };
            let is_end = matches!(item, Item::End);
            // Nobody takes it: the worker failed, and says why.
            if plain_tx.send(item).await.is_err() || is_end {
                return Ok(());
            }
        }
    };
    let writing = async move {
        while let Some(block) = out_rx.recv().await {
            writer.write_all(&block).await?;
        }
        writer.flush().await
    };
    let (read, worked, written) = tokio::join!(reading, working, writing);
    let worked = worked.unwrap_or_else(|_| Err(stopped().into()));
    (read, worked, written)
}

/// A writer that lets the other side close early: what it does not want is dropped.
struct Forgiving<W> {
    inner: W,
    is_closed: bool,
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Forgiving<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_closed {
            return Poll::Ready(Ok(bytes.len()));
        }
        match ready!(Pin::new(&mut self.inner).poll_write(context, bytes)) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.is_closed = true;
                Poll::Ready(Ok(bytes.len()))
            }
            result => Poll::Ready(result),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.inner).poll_flush(context)) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.is_closed = true;
                Poll::Ready(Ok(()))
            }
            result => Poll::Ready(result),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

fn stopped() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the other end stopped")
}

#[cfg(test)]
mod tests;
