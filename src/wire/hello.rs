//! The greeting with which each side of a helper stream begins.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Frame, FrameKind, WireError};

/// Raised by every change that an older half would misunderstand.
pub const VERSION: u16 = 7;
const MAGIC: &[u8; 8] = b"transhme";

/// What a half says about itself. `caps` are bits for what may be used beyond the version; an
/// unknown one is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    pub version: u16,
    pub caps: u32,
}

impl Hello {
    pub fn ours() -> Self {
        Hello { version: VERSION, caps: 0 }
    }

    pub fn frame(self) -> Frame {
        let mut body = BytesMut::with_capacity(MAGIC.len() + 6);
        body.put_slice(MAGIC);
        body.put_u16(self.version);
        body.put_u32(self.caps);
        Frame::new(FrameKind::Hello, body)
    }

    /// The greeting in `frame`, of whatever version.
    pub fn read(frame: &Frame) -> Result<Self, WireError> {
        let mut body: Bytes = frame.body.clone();
        if frame.kind != FrameKind::Hello
            || body.len() < MAGIC.len() + 6
            || body.split_to(MAGIC.len()) != MAGIC[..]
        {
            return Err(WireError::NotOurs);
        }
        Ok(Hello { version: body.get_u16(), caps: body.get_u32() })
    }

    /// The greeting in `frame`, if the two halves can work together.
    pub fn accept(frame: &Frame) -> Result<Self, WireError> {
        let theirs = Hello::read(frame)?;
        if theirs.version == VERSION {
            Ok(theirs)
        } else {
            Err(WireError::Version { ours: VERSION, theirs: theirs.version })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_is_read_back_and_another_version_is_told() {
        assert_eq!(Hello::accept(&Hello::ours().frame()).unwrap(), Hello::ours());
        let newer = Hello { version: VERSION + 1, caps: 7 };
        let error = Hello::accept(&newer.frame()).unwrap_err();
        assert_eq!(error.to_string(), "it speaks protocol version 8, this one speaks 7");
    }

    #[test]
    fn anything_else_is_not_ours() {
        for body in [&b""[..], b"transhme", b"Last login: Mon Nov 23"] {
            assert!(Hello::read(&Frame::new(FrameKind::Hello, body)).is_err());
        }
        assert!(Hello::read(&Frame::new(FrameKind::Data, Hello::ours().frame().body)).is_err());
    }
}
