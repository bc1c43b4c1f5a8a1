//! Frames over blocking streams: bytes in, frames out, and back.

use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};

use crate::wire::frame::LENGTH_BYTES;
use crate::wire::{FRAME_BYTES_MAX, Frame, WireError};

/// Small: the bodies of long frames go past it.
const BUFFER_BYTES: usize = 8 * 1024;

/// Reads frames. Each has memory of its own, [`FRAME_BYTES_MAX`] at most.
#[derive(Debug)]
pub struct FrameReader<R>(BufReader<R>);

impl<R: Read> FrameReader<R> {
    pub fn new(input: R) -> Self {
        FrameReader(BufReader::with_capacity(BUFFER_BYTES, input))
    }

    /// The next frame; `None` at the end of the stream, if that is between two frames.
    pub fn next(&mut self) -> Result<Option<Frame>, WireError> {
        if self.0.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let mut length = [0; LENGTH_BYTES];
        self.0.read_exact(&mut length).map_err(truncated)?;
        let bytes = u32::from_be_bytes(length) as usize;
        if bytes > FRAME_BYTES_MAX {
            return Err(WireError::FrameTooLong { bytes: bytes as u64 });
        }
        let mut body = Vec::with_capacity(bytes);
        (&mut self.0).take(bytes as u64).read_to_end(&mut body)?;
        if body.len() < bytes {
            return Err(WireError::Truncated);
        }
        Frame::parse(body.into()).map(Some)
    }

    /// Whether the next frame may be long in coming.
    pub fn is_dry(&self) -> bool {
        self.0.buffer().is_empty()
    }
}

fn truncated(error: io::Error) -> WireError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => WireError::Truncated,
        _ => WireError::Io(error),
    }
}

/// Writes frames.
#[derive(Debug)]
pub struct FrameWriter<W: Write>(BufWriter<W>);

impl<W: Write> FrameWriter<W> {
    pub fn new(output: W) -> Self {
        FrameWriter(BufWriter::with_capacity(BUFFER_BYTES, output))
    }

    pub fn write(&mut self, frame: Frame) -> Result<(), WireError> {
        self.0.write_all(&frame.head()?)?;
        self.0.write_all(&frame.body)?;
        Ok(())
    }

    pub fn flush(&mut self) -> Result<(), WireError> {
        Ok(self.0.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::FrameKind;

    #[test]
    fn frames_come_out_as_they_went_in_and_a_cut_is_no_end() {
        let frames = [
            Frame::new(FrameKind::Data, vec![7; FRAME_BYTES_MAX - 1]),
            Frame::new(FrameKind::Message, &b""[..]),
        ];
        let mut bytes = Vec::new();
        let mut writer = FrameWriter::new(&mut bytes);
        for frame in &frames {
            writer.write(frame.clone()).unwrap();
        }
        writer.flush().unwrap();
        drop(writer);
        let mut reader = FrameReader::new(&bytes[..]);
        assert_eq!(reader.next().unwrap().as_ref(), Some(&frames[0]));
        assert_eq!(reader.next().unwrap().as_ref(), Some(&frames[1]));
        assert!(reader.next().unwrap().is_none());
        let mut cut = FrameReader::new(&bytes[..bytes.len() - 1]);
        assert!(cut.next().is_ok());
        assert!(matches!(cut.next(), Err(WireError::Truncated)));
    }

    #[test]
    fn a_length_over_the_limit_takes_no_memory() {
        let mut reader = FrameReader::new(&[0x7f, 0xff, 0xff, 0xff][..]);
        assert!(matches!(reader.next(), Err(WireError::FrameTooLong { .. })));
    }
}
