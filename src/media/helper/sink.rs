//! Frames out to a helper: those of one bunch in one write, their bodies not copied before it.

use std::io::{self, IoSlice};

use tokio::io::AsyncWriteExt;

use crate::host::Writer;
use crate::wire::frame::LENGTH_BYTES;
use crate::wire::{Frame, WireError};

/// What may wait for more before it is written.
const WAITING_BYTES_MAX: usize = 64 * 1024;

/// Where frames are written.
pub(super) struct Sink {
    output: Writer,
    waiting: Vec<Frame>,
    waiting_bytes: usize,
}

impl Sink {
    pub fn new(output: Writer) -> Self {
        Sink { output, waiting: Vec::new(), waiting_bytes: 0 }
    }

    /// Adds a frame; gives how many bytes it is on the wire.
    pub async fn feed(&mut self, frame: Frame) -> Result<usize, WireError> {
        let bytes = LENGTH_BYTES + 1 + frame.body.len();
        self.waiting.push(frame);
        self.waiting_bytes += bytes;
        if self.waiting_bytes >= WAITING_BYTES_MAX {
            self.write().await?;
        }
        Ok(bytes)
    }

    pub async fn flush(&mut self) -> Result<(), WireError> {
        self.write().await?;
        Ok(self.output.flush().await?)
    }

    /// Writes what waits, and ends the output.
    pub async fn close(&mut self) -> Result<(), WireError> {
        self.write().await?;
        Ok(self.output.shutdown().await?)
    }

    async fn write(&mut self) -> Result<(), WireError> {
        self.waiting_bytes = 0;
        let frames = std::mem::take(&mut self.waiting);
        let heads = frames.iter().map(Frame::head).collect::<Result<Vec<_>, _>>()?;
        let parts = heads.iter().zip(&frames);
        let parts = parts.flat_map(|(head, frame)| [IoSlice::new(head), IoSlice::new(&frame.body)]);
        let mut parts: Vec<IoSlice<'_>> = parts.collect();
        let mut parts = parts.as_mut_slice();
        // Advancing also passes over what is empty.
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            match self.output.write_vectored(parts).await? {
                0 => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                count => IoSlice::advance_slices(&mut parts, count),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use tokio::io::AsyncReadExt;
    use tokio_util::codec::Decoder;

    use super::*;
    use crate::wire::{FrameKind, Frames};

    #[tokio::test]
    async fn frames_arrive_in_order_through_a_writer_that_takes_little_at_a_time() {
        let (near, mut far) = tokio::io::duplex(7);
        let frames = [
            Frame::new(FrameKind::Message, &b"head"[..]),
            Frame::new(FrameKind::Data, &b""[..]),
            Frame::new(FrameKind::Pack, vec![7; WAITING_BYTES_MAX]),
            Frame::new(FrameKind::Message, &b"tail"[..]),
        ];
        let sent = frames.clone();
        let sending = tokio::spawn(async move {
            let mut sink = Sink::new(Box::pin(near));
            let mut bytes = 0;
            for frame in sent {
                bytes += sink.feed(frame).await.unwrap();
            }
            sink.close().await.unwrap();
            bytes
        });
        let mut read = BytesMut::new();
        while far.read_buf(&mut read).await.unwrap() > 0 {}
        assert_eq!(read.len(), sending.await.unwrap());
        for frame in frames {
            assert_eq!(Frames.decode(&mut read).unwrap(), Some(frame));
        }
        assert!(read.is_empty());
    }
}
