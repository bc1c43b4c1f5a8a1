//! A conversation packed on its way: zstd in both directions, for requests and answers that must
//! not wait for each other.
//!
//! What was written leaves at the next flush at the latest. The end is told: a stream that breaks
//! off before it is an error, never an end. Memory is what zstd needs for its window, and a buffer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use zstd::stream::raw::{DParameter, Decoder, Encoder, InBuffer, Operation, OutBuffer};

const BUFFER_BYTES: usize = 128 * 1024;
/// What is compressed at one go: a fraction of a millisecond.
const STEP_BYTES: usize = 64 * 1024;
/// The largest window that a peer can make us keep: 8 MiB, that of the highest level we take.
const WINDOW_LOG_MAX: u32 = 23;

/// Packs what is written to it.
pub struct PackedWriter<W> {
    inner: W,
    encoder: Encoder<'static>,
    out: Vec<u8>,
    /// What of `out` has still to be written.
    start: usize,
    end: usize,
    /// Whether something was written since the last flush.
    is_dirty: bool,
    is_ended: bool,
}

impl<W: AsyncWrite + Unpin> PackedWriter<W> {
    pub fn new(inner: W, level: i32) -> io::Result<Self> {
        let encoder = Encoder::new(level)?;
        let out = vec![0; BUFFER_BYTES];
        // The first flush tells the other side that it is a packed stream.
        Ok(PackedWriter { inner, encoder, out, start: 0, end: 0, is_dirty: true, is_ended: false })
    }

    /// Writes what is packed.
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.start < self.end {
            let bytes = &self.out[self.start..self.end];
            match ready!(Pin::new(&mut self.inner).poll_write(context, bytes))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.start += count,
            }
        }
        (self.start, self.end) = (0, 0);
        Poll::Ready(Ok(()))
    }

    /// Lets `step` add to the packed bytes, and writes them, until it has nothing left.
    fn poll_steps(
        &mut self,
        context: &mut Context<'_>,
        step: fn(&mut Encoder<'static>, &mut OutBuffer<'_, [u8]>) -> io::Result<usize>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_drain(context))?;
            let mut output = OutBuffer::around(self.out.as_mut_slice());
            let left = step(&mut self.encoder, &mut output)?;
            self.end = output.pos();
            if left == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for PackedWriter<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.is_ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        loop {
            // A step always fits in half of the buffer, or nearly so.
            if this.end > BUFFER_BYTES / 2 {
                ready!(this.poll_drain(context))?;
            }
            let mut input = InBuffer::around(&bytes[..bytes.len().min(STEP_BYTES)]);
            let mut output = OutBuffer::around_pos(this.out.as_mut_slice(), this.end);
            this.encoder.run(&mut input, &mut output)?;
            this.end = output.pos();
            this.is_dirty = true;
            if input.pos() > 0 {
                return Poll::Ready(Ok(input.pos()));
            }
            ready!(this.poll_drain(context))?;
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.is_dirty && !this.is_ended {
            ready!(this.poll_steps(context, |encoder, output| encoder.flush(output)))?;
            this.is_dirty = false;
        }
        ready!(this.poll_drain(context))?;
        Pin::new(&mut this.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.is_ended {
            ready!(this.poll_steps(context, |encoder, output| encoder.finish(output, true)))?;
            this.is_ended = true;
        }
        ready!(this.poll_drain(context))?;
        // Not every writer flushes when it is shut down: tokio's standard output does not.
        ready!(Pin::new(&mut this.inner).poll_flush(context))?;
        Pin::new(&mut this.inner).poll_shutdown(context)
    }
}

/// Unpacks what it reads.
pub struct PackedReader<R> {
    inner: R,
    decoder: Decoder<'static>,
    buffer: Vec<u8>,
    /// What of `buffer` has still to be unpacked.
    start: usize,
    end: usize,
    /// Whether more may come out before more goes in.
    holds_more: bool,
    is_ended: bool,
}

impl<R: AsyncRead + Unpin> PackedReader<R> {
    pub fn new(inner: R) -> io::Result<Self> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
        let buffer = vec![0; BUFFER_BYTES];
        let (holds_more, is_ended) = (false, false);
        Ok(PackedReader { inner, decoder, buffer, start: 0, end: 0, holds_more, is_ended })
    }

    /// Reads more packed bytes; `false` at the end of the inner stream.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut buffer = ReadBuf::new(&mut self.buffer);
        ready!(Pin::new(&mut self.inner).poll_read(context, &mut buffer))?;
        (self.start, self.end) = (0, buffer.filled().len());
        Poll::Ready(Ok(self.end > 0))
    }

    /// Unpacks into `plain`; gives how many bytes came out.
    fn unpack(&mut self, plain: &mut [u8]) -> io::Result<usize> {
        let mut input = InBuffer::around(&self.buffer[self.start..self.end]);
        let mut output = OutBuffer::around(plain);
        let hint = self.decoder.run(&mut input, &mut output)?;
        let count = output.pos();
        self.start += input.pos();
        self.is_ended = hint == 0;
        self.holds_more = !self.is_ended && count == plain.len();
        Ok(count)
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for PackedReader<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if !this.is_ended && (this.holds_more || this.start < this.end) {
                let count = this.unpack(buffer.initialize_unfilled())?;
                buffer.advance(count);
                if count > 0 {
                    return Poll::Ready(Ok(()));
                }
            } else if this.start < this.end {
                let text = "something follows the end of a packed stream";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, text)));
            } else if !ready!(this.poll_fill(context))? {
                return Poll::Ready(match this.is_ended {
                    true => Ok(()),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// What `write` puts on the wire.
    fn packed(pieces: &[Vec<u8>], is_whole: bool) -> Vec<u8> {
        let mut wire = Vec::new();
        run(async {
            let mut writer = PackedWriter::new(&mut wire, 1).unwrap();
            for piece in pieces {
                writer.write_all(piece).await.unwrap();
                writer.flush().await.unwrap();
            }
            if is_whole {
                writer.shutdown().await.unwrap();
            }
        });
        wire
    }

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
    }

    fn unpacked(wire: &[u8]) -> (Vec<u8>, io::Result<()>) {
        run(async {
            let (mut plain, mut block) = (Vec::new(), [0; 7]);
            let mut reader = PackedReader::new(wire).unwrap();
            loop {
                match reader.read(&mut block).await {
                    Ok(0) => return (plain, Ok(())),
                    Ok(count) => plain.extend_from_slice(&block[..count]),
                    Err(error) => return (plain, Err(error)),
                }
            }
        })
    }

    #[test]
    fn a_question_arrives_as_soon_as_it_is_flushed() {
        run(async {
            let (near, far) = tokio::io::duplex(1 << 20);
            let (far_in, far_out) = tokio::io::split(far);
            let mut writer = PackedWriter::new(near, 3).unwrap();
            let (mut reader, _) = (PackedReader::new(far_in).unwrap(), far_out);
            for word in ["SELECT 1", "COMMIT"] {
                writer.write_all(word.as_bytes()).await.unwrap();
                writer.flush().await.unwrap();
                let mut heard = vec![0; word.len()];
                reader.read_exact(&mut heard).await.unwrap();
                assert_eq!(heard, word.as_bytes());
            }
        });
    }

    #[test]
    fn large_writes_take_little_wire_and_little_memory() {
        let plain = b"the quick brown fox ".repeat(200_000);
        let wire = packed(std::slice::from_ref(&plain), true);
        assert!(wire.len() < plain.len() / 50, "{}", wire.len());
        assert_eq!(unpacked(&wire).0, plain);
    }

    #[test]
    fn flushing_twice_sends_nothing_more() {
        run(async {
            let mut wire = Vec::new();
            let mut writer = PackedWriter::new(&mut wire, 1).unwrap();
            writer.write_all(b"x").await.unwrap();
            writer.flush().await.unwrap();
            let once = writer.inner.len();
            writer.flush().await.unwrap();
            assert_eq!(writer.inner.len(), once);
        });
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8)) {
            let (plain, ending) = unpacked(&packed(&pieces, true));
            prop_assert!(ending.is_ok());
            prop_assert_eq!(plain, pieces.concat());
        }

        /// The law: a stream that was cut anywhere is an error, after what had arrived.
        #[test]
        fn a_cut_is_no_end(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 1..4), at in any::<prop::sample::Index>()) {
            let wire = packed(&pieces, true);
            let (plain, ending) = unpacked(&wire[..at.index(wire.len())]);
            prop_assert_eq!(ending.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
            prop_assert!(pieces.concat().starts_with(&plain));
        }

        #[test]
        fn any_bytes_end_or_fail(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut wire = packed(&[b"hello".to_vec()], false);
            wire.extend(bytes);
            let _ = unpacked(&wire);
        }
    }
}
