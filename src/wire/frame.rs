//! Frames: a length, a kind, a body. The body of a message is postcard, that of the others raw.

use bytes::{Buf, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use super::WireError;

/// The longest frame, kind and body together.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// Before each frame stands how long it is, big endian.
pub const LENGTH_BYTES: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    Hello = 1,
    /// One control message.
    Message = 2,
    /// The next bytes of the file, signature or delta that a message has begun.
    Data = 3,
    /// Several small files, whole, each a head and its content.
    Pack = 4,
}

impl FrameKind {
    fn from_byte(kind: u8) -> Result<Self, WireError> {
        match kind {
            1 => Ok(FrameKind::Hello),
            2 => Ok(FrameKind::Message),
            3 => Ok(FrameKind::Data),
            4 => Ok(FrameKind::Pack),
            _ => Err(WireError::FrameKind { kind }),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: FrameKind,
    pub body: Bytes,
}

impl Frame {
    pub fn new(kind: FrameKind, body: impl Into<Bytes>) -> Self {
        Frame { kind, body: body.into() }
    }

    /// What stands before the body: the length and the kind.
    pub fn head(&self) -> Result<[u8; LENGTH_BYTES + 1], WireError> {
        let bytes = self.body.len() + 1;
        if bytes > FRAME_BYTES_MAX {
            return Err(WireError::FrameTooLong { bytes: bytes as u64 });
        }
        let [first, second, third, fourth] = (bytes as u32).to_be_bytes();
        Ok([first, second, third, fourth, self.kind as u8])
    }

    /// The frame that consists of a kind and a body.
    pub fn parse(mut bytes: Bytes) -> Result<Self, WireError> {
        if bytes.is_empty() {
            return Err(WireError::FrameKind { kind: 0 });
        }
        let kind = FrameKind::from_byte(bytes.get_u8())?;
        Ok(Frame { kind, body: bytes })
    }
}

/// Encodes and decodes frames. What waits to be decoded never exceeds one frame by more than one
/// read.
#[derive(Debug, Default)]
pub struct Frames;

impl Encoder<Frame> for Frames {
    type Error = WireError;

    fn encode(&mut self, frame: Frame, out: &mut BytesMut) -> Result<(), WireError> {
        let head = frame.head()?;
        out.reserve(head.len() + frame.body.len());
        out.extend_from_slice(&head);
        out.extend_from_slice(&frame.body);
        Ok(())
    }
}

impl Decoder for Frames {
    type Item = Frame;
    type Error = WireError;

    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, WireError> {
        let Some(head) = input.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let bytes = u32::from_be_bytes(*head) as usize;
        if bytes > FRAME_BYTES_MAX {
            return Err(WireError::FrameTooLong { bytes: bytes as u64 });
        }
        if bytes == 0 {
            return Err(WireError::FrameKind { kind: 0 });
        }
        if input.len() < LENGTH_BYTES + bytes {
            input.reserve(LENGTH_BYTES + bytes - input.len());
            return Ok(None);
        }
        input.advance(LENGTH_BYTES);
        Frame::parse(input.split_to(bytes).freeze()).map(Some)
    }

    fn decode_eof(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, WireError> {
        match self.decode(input)? {
            Some(frame) => Ok(Some(frame)),
            None if input.is_empty() => Ok(None),
            None => Err(WireError::Truncated),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kinds() -> impl Strategy<Value = FrameKind> {
        prop::sample::select(vec![
            FrameKind::Hello,
            FrameKind::Message,
            FrameKind::Data,
            FrameKind::Pack,
        ])
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_any_byte_of_it_came() {
        let mut input = BytesMut::from(&[0x7f, 0xff, 0xff, 0xff][..]);
        assert!(matches!(Frames.decode(&mut input), Err(WireError::FrameTooLong { .. })));
        assert!(input.capacity() < 1024);
    }

    #[test]
    fn an_end_inside_a_frame_is_an_error() {
        let mut bytes = BytesMut::new();
        Frames.encode(Frame::new(FrameKind::Data, &b"content"[..]), &mut bytes).unwrap();
        bytes.truncate(bytes.len() - 1);
        assert!(matches!(Frames.decode_eof(&mut bytes), Err(WireError::Truncated)));
    }

    proptest! {
        /// The law: frames come out as they went in, however the stream is cut into reads.
        #[test]
        fn frames_survive_any_cut(
            frames in prop::collection::vec((kinds(), prop::collection::vec(any::<u8>(), 0..300)), 0..6),
            cut in 1_usize..97,
        ) {
            let frames: Vec<Frame> = frames.into_iter().map(|(kind, body)| Frame::new(kind, body)).collect();
            let mut stream = BytesMut::new();
            for frame in &frames {
                Frames.encode(frame.clone(), &mut stream).unwrap();
            }
            let (mut read, mut input) = (Vec::new(), BytesMut::new());
            for piece in stream.chunks(cut) {
                input.extend_from_slice(piece);
                while let Some(frame) = Frames.decode(&mut input).unwrap() {
                    read.push(frame);
                }
            }
            prop_assert_eq!(read, frames);
        }

        /// Any bytes give frames or an error.
        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut input = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = Frames.decode(&mut input) {}
        }
    }
}
