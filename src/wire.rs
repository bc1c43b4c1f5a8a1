//! What the two halves of transhume say to each other: frames, messages, and the SFTP packets that
//! speak to a stock server. Pure: bytes in, values out, and back. No I/O, no file is touched.
//!
//! Everything that is decoded here comes from a peer that may be broken or hostile, so every
//! length and count has a limit, every path is checked ([`path`]), and any byte string decodes to
//! a value or an error. A stream of the helper protocol is a [`hello`], then [`frame`]s: control
//! messages ([`message`], postcard) and raw file content. Names are bytes everywhere.

pub mod bounded;
pub mod content;
pub mod frame;
pub mod hello;
pub mod message;
pub mod names;
pub mod path;
pub mod scope;
pub mod sftp;
pub mod stream;
pub mod tree;

pub use bounded::{Blob, List};
pub use frame::{FRAME_BYTES_MAX, Frame, FrameKind, Frames};
pub use path::{Name, RelPath};

/// Why bytes from the other side were not understood.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("the connection broke")]
    Io(#[from] std::io::Error),
    #[error("it does not greet as a transhume helper")]
    NotOurs,
    #[error("it speaks protocol version {theirs}, this one speaks {ours}")]
    Version { ours: u16, theirs: u16 },
    #[error("a frame of {bytes} bytes is over the limit of {FRAME_BYTES_MAX}")]
    FrameTooLong { bytes: u64 },
    #[error("a frame is of the unknown kind {kind}")]
    FrameKind { kind: u8 },
    #[error("a message cannot be decoded")]
    Message(#[from] postcard::Error),
    #[error("an SFTP packet cannot be decoded: {0}")]
    Packet(&'static str),
    #[error("{0} came out of turn")]
    OutOfTurn(&'static str),
    #[error("the stream ended early")]
    Truncated,
}
