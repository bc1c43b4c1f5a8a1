//! SFTP version 3 as OpenSSH speaks it, byte for byte: paths and handles are bytes, because a
//! handle above 127 and many file names are no UTF-8.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::WireError;

/// The longest packet that OpenSSH sends is 256 KiB.
pub const PACKET_BYTES_MAX: usize = 512 * 1024;
/// Names in one reply; OpenSSH sends 100.
const NAMES_MAX: u32 = 10_000;

pub const VERSION: u32 = 3;

/// Flags of [`Request::Open`].
pub mod open_flags {
    pub const READ: u32 = 0x01;
    pub const WRITE: u32 = 0x02;
    pub const CREATE: u32 = 0x08;
    pub const EXCLUSIVE: u32 = 0x20;
}

/// Status codes of version 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusCode {
    Ok,
    Eof,
    NoSuchFile,
    PermissionDenied,
    /// Whatever else went wrong: the protocol has no code for a full disk.
    Failure,
    BadMessage,
    Unsupported,
    Other(u32),
}

impl StatusCode {
    fn from_number(number: u32) -> Self {
        match number {
            0 => StatusCode::Ok,
            1 => StatusCode::Eof,
            2 => StatusCode::NoSuchFile,
            3 => StatusCode::PermissionDenied,
            4 => StatusCode::Failure,
            5 => StatusCode::BadMessage,
            8 => StatusCode::Unsupported,
            other => StatusCode::Other(other),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Open {
        path: Bytes,
        flags: u32,
        attrs: Attrs,
    },
    Close {
        handle: Bytes,
    },
    Read {
        handle: Bytes,
        offset: u64,
        length: u32,
    },
    Write {
        handle: Bytes,
        offset: u64,
        data: Bytes,
    },
    Lstat {
        path: Bytes,
    },
    Fstat {
        handle: Bytes,
    },
    SetStat {
        path: Bytes,
        attrs: Attrs,
    },
    FsetStat {
        handle: Bytes,
        attrs: Attrs,
    },
    OpenDir {
        path: Bytes,
    },
    ReadDir {
        handle: Bytes,
    },
    Remove {
        path: Bytes,
    },
    MakeDir {
        path: Bytes,
        attrs: Attrs,
    },
    RemoveDir {
        path: Bytes,
    },
    RealPath {
        path: Bytes,
    },
    Stat {
        path: Bytes,
    },
    ReadLink {
        path: Bytes,
    },
    /// In OpenSSH's order, which is the reverse of the draft's: what the link says comes first.
    Symlink {
        text: Bytes,
        path: Bytes,
    },
    /// `posix-rename@openssh.com`: replaces what is at `to`.
    PosixRename {
        from: Bytes,
        to: Bytes,
    },
    /// `lsetstat@openssh.com`: does not follow a symlink.
    LsetStat {
        path: Bytes,
        attrs: Attrs,
    },
    /// `statvfs@openssh.com`.
    StatVfs {
        path: Bytes,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    Status { code: StatusCode, message: Bytes },
    Handle(Bytes),
    Data(Bytes),
    Names(Vec<NameEntry>),
    Attrs(Attrs),
    Extended(Bytes),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameEntry {
    pub name: Bytes,
    pub attrs: Attrs,
}

/// Attributes; what is `None` is neither sent nor changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attrs {
    pub size: Option<u64>,
    /// User and group.
    pub owner: Option<(u32, u32)>,
    /// Type and permission bits.
    pub mode: Option<u32>,
    /// Access and modification, in seconds since 1970.
    pub times: Option<(u32, u32)>,
}

const ATTR_SIZE: u32 = 0x1;
const ATTR_OWNER: u32 = 0x2;
const ATTR_MODE: u32 = 0x4;
const ATTR_TIMES: u32 = 0x8;
const ATTR_EXTENDED: u32 = 0x8000_0000;

impl Attrs {
    fn write(&self, out: &mut BytesMut) {
        let flag = |set: bool, bit: u32| if set { bit } else { 0 };
        out.put_u32(
            flag(self.size.is_some(), ATTR_SIZE)
                | flag(self.owner.is_some(), ATTR_OWNER)
                | flag(self.mode.is_some(), ATTR_MODE)
                | flag(self.times.is_some(), ATTR_TIMES),
        );
        if let Some(size) = self.size {
            out.put_u64(size);
        }
        if let Some((uid, gid)) = self.owner {
            out.put_u32(uid);
            out.put_u32(gid);
        }
        if let Some(mode) = self.mode {
            out.put_u32(mode);
        }
        if let Some((access, modification)) = self.times {
            out.put_u32(access);
            out.put_u32(modification);
        }
    }

    fn read(input: &mut Bytes) -> Result<Self, WireError> {
        let flags = get_u32(input)?;
        let has = |bit| flags & bit != 0;
        let size = if has(ATTR_SIZE) { Some(get_u64(input)?) } else { None };
        let owner = if has(ATTR_OWNER) { Some((get_u32(input)?, get_u32(input)?)) } else { None };
        let mode = if has(ATTR_MODE) { Some(get_u32(input)?) } else { None };
        let times = if has(ATTR_TIMES) { Some((get_u32(input)?, get_u32(input)?)) } else { None };
        if has(ATTR_EXTENDED) {
            // Nothing in them is of use; an announced count that the packet cannot hold ends the
            // loop with an error.
            for _ in 0..get_u32(input)? {
                get_string(input)?;
                get_string(input)?;
            }
        }
        Ok(Attrs { size, owner, mode, times })
    }
}

/// The packet that opens a session.
pub fn init() -> Bytes {
    let mut out = BytesMut::new();
    out.put_u32(5);
    out.put_u8(1);
    out.put_u32(VERSION);
    out.freeze()
}

/// The server's version and the names of its extensions.
pub fn read_version(mut body: Bytes) -> Result<(u32, Vec<Bytes>), WireError> {
    if get_u8(&mut body)? != 2 {
        return Err(WireError::Packet("the server does not begin with its version"));
    }
    let version = get_u32(&mut body)?;
    let mut extensions = Vec::new();
    while !body.is_empty() {
        extensions.push(get_string(&mut body)?);
        get_string(&mut body)?;
    }
    Ok((version, extensions))
}

/// Splits the next whole packet off `input`, without its length.
pub fn split_packet(input: &mut BytesMut) -> Result<Option<Bytes>, WireError> {
    let Some(head) = input.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*head) as usize;
    if length > PACKET_BYTES_MAX || length == 0 {
        return Err(WireError::Packet("its length is not plausible"));
    }
    if input.len() < 4 + length {
        input.reserve(4 + length - input.len());
        return Ok(None);
    }
    input.advance(4);
    Ok(Some(input.split_to(length).freeze()))
}

impl Request {
    /// About how many bytes the packet takes: what flow control counts.
    pub fn weight(&self) -> usize {
        let content = match self {
            Request::Write { data, .. } => data.len(),
            Request::Read { length, .. } => *length as usize,
            Request::ReadDir { .. } => 8 * 1024,
            Request::Open { path, .. }
            | Request::Lstat { path }
            | Request::SetStat { path, .. }
            | Request::OpenDir { path }
            | Request::Remove { path }
            | Request::MakeDir { path, .. }
            | Request::RemoveDir { path }
            | Request::RealPath { path }
            | Request::Stat { path }
            | Request::ReadLink { path }
            | Request::LsetStat { path, .. }
            | Request::StatVfs { path } => path.len(),
            Request::Symlink { text, path } => text.len() + path.len(),
            Request::PosixRename { from, to } => from.len() + to.len(),
            Request::Close { handle }
            | Request::Fstat { handle }
            | Request::FsetStat { handle, .. } => handle.len(),
        };
        content + 64
    }

    /// Appends the packet.
    pub fn write(&self, id: u32, out: &mut BytesMut) {
        let start = out.len();
        out.put_u32(0);
        out.put_u8(self.number());
        out.put_u32(id);
        self.write_body(out);
        let length = (out.len() - start - 4) as u32;
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }

    fn number(&self) -> u8 {
        match self {
            Request::Open { .. } => 3,
            Request::Close { .. } => 4,
            Request::Read { .. } => 5,
            Request::Write { .. } => 6,
            Request::Lstat { .. } => 7,
            Request::Fstat { .. } => 8,
            Request::SetStat { .. } => 9,
            Request::FsetStat { .. } => 10,
            Request::OpenDir { .. } => 11,
            Request::ReadDir { .. } => 12,
            Request::Remove { .. } => 13,
            Request::MakeDir { .. } => 14,
            Request::RemoveDir { .. } => 15,
            Request::RealPath { .. } => 16,
            Request::Stat { .. } => 17,
            Request::ReadLink { .. } => 19,
            Request::Symlink { .. } => 20,
            Request::PosixRename { .. } | Request::LsetStat { .. } | Request::StatVfs { .. } => 200,
        }
    }

    fn write_body(&self, out: &mut BytesMut) {
        match self {
            Request::Open { path, flags, attrs } => {
                put_string(out, path);
                out.put_u32(*flags);
                attrs.write(out);
            }
            Request::Close { handle } | Request::Fstat { handle } | Request::ReadDir { handle } => {
                put_string(out, handle)
            }
            Request::Read { handle, offset, length } => {
                put_string(out, handle);
                out.put_u64(*offset);
                out.put_u32(*length);
            }
            Request::Write { handle, offset, data } => {
                put_string(out, handle);
                out.put_u64(*offset);
                put_string(out, data);
            }
            Request::Lstat { path }
            | Request::OpenDir { path }
            | Request::Remove { path }
            | Request::RemoveDir { path }
            | Request::RealPath { path }
            | Request::Stat { path }
            | Request::ReadLink { path } => put_string(out, path),
            Request::SetStat { path, attrs } | Request::MakeDir { path, attrs } => {
                put_string(out, path);
                attrs.write(out);
            }
            Request::FsetStat { handle, attrs } => {
                put_string(out, handle);
                attrs.write(out);
            }
            Request::Symlink { text, path } => {
                put_string(out, text);
                put_string(out, path);
            }
            Request::PosixRename { from, to } => {
                put_string(out, b"posix-rename@openssh.com");
                put_string(out, from);
                put_string(out, to);
            }
            Request::LsetStat { path, attrs } => {
                put_string(out, b"lsetstat@openssh.com");
                put_string(out, path);
                attrs.write(out);
            }
            Request::StatVfs { path } => {
                put_string(out, b"statvfs@openssh.com");
                put_string(out, path);
            }
        }
    }
}

impl Response {
    /// The id of the request that it answers, and the answer.
    pub fn read(mut body: Bytes) -> Result<(u32, Response), WireError> {
        let number = get_u8(&mut body)?;
        let id = get_u32(&mut body)?;
        let response = match number {
            101 => {
                let code = StatusCode::from_number(get_u32(&mut body)?);
                // Version 3 servers may leave the message out.
                let message = if body.is_empty() { Bytes::new() } else { get_string(&mut body)? };
                Response::Status { code, message }
            }
            102 => Response::Handle(get_string(&mut body)?),
            103 => Response::Data(get_string(&mut body)?),
            104 => Response::Names(get_names(&mut body)?),
            105 => Response::Attrs(Attrs::read(&mut body)?),
            201 => Response::Extended(body),
            _ => return Err(WireError::Packet("its type is unknown")),
        };
        Ok((id, response))
    }
}

fn get_names(body: &mut Bytes) -> Result<Vec<NameEntry>, WireError> {
    let count = get_u32(body)?;
    if count > NAMES_MAX {
        return Err(WireError::Packet("it announces too many names"));
    }
    let mut names = Vec::new();
    for _ in 0..count {
        let name = get_string(body)?;
        // The line that `ls -l` would print.
        get_string(body)?;
        names.push(NameEntry { name, attrs: Attrs::read(body)? });
    }
    Ok(names)
}

/// What a `statvfs@openssh.com` reply says is left for those who are not root, in bytes.
pub fn free_bytes(mut body: Bytes) -> Result<u64, WireError> {
    let mut fields = [0_u64; 5];
    for field in &mut fields {
        *field = get_u64(&mut body)?;
    }
    let [_, fragment_bytes, _, _, available] = fields;
    Ok(fragment_bytes.saturating_mul(available))
}

fn put_string(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32(bytes.len() as u32);
    out.put_slice(bytes);
}

const SHORT: WireError = WireError::Packet("it ends early");

fn get_u8(input: &mut Bytes) -> Result<u8, WireError> {
    input.try_get_u8().map_err(|_| SHORT)
}

fn get_u32(input: &mut Bytes) -> Result<u32, WireError> {
    input.try_get_u32().map_err(|_| SHORT)
}

fn get_u64(input: &mut Bytes) -> Result<u64, WireError> {
    input.try_get_u64().map_err(|_| SHORT)
}

fn get_string(input: &mut Bytes) -> Result<Bytes, WireError> {
    let length = get_u32(input)? as usize;
    if length > input.len() { Err(SHORT) } else { Ok(input.split_to(length)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn attrs() -> impl Strategy<Value = Attrs> {
        let (size, owner) = (any::<Option<u64>>(), any::<Option<(u32, u32)>>());
        (size, owner, any::<Option<u32>>(), any::<Option<(u32, u32)>>())
            .prop_map(|(size, owner, mode, times)| Attrs { size, owner, mode, times })
    }

    #[test]
    fn a_handle_above_127_stays_as_it_is() {
        let body = Bytes::from_static(&[102, 0, 0, 0, 9, 0, 0, 0, 4, 0, 0, 0, 0x80]);
        let (id, response) = Response::read(body).unwrap();
        assert_eq!(id, 9);
        let Response::Handle(handle) = response else { panic!("{response:?}") };
        let mut out = BytesMut::new();
        Request::Close { handle }.write(1, &mut out);
        assert_eq!(out[..], [0, 0, 0, 13, 4, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 0x80]);
    }

    #[test]
    fn a_symlink_names_its_text_first_as_openssh_wants_it() {
        let mut out = BytesMut::new();
        let (text, path) = (Bytes::from_static(b"to"), Bytes::from_static(b"at"));
        Request::Symlink { text, path }.write(0, &mut out);
        assert_eq!(out[9..], *b"\0\0\0\x02to\0\0\0\x02at");
    }

    #[test]
    fn counts_and_lengths_beyond_the_packet_are_errors() {
        let names = Bytes::from_static(&[104, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]);
        assert!(Response::read(names).is_err());
        let data = Bytes::from_static(&[103, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff, 1]);
        assert!(Response::read(data).is_err());
        assert!(split_packet(&mut BytesMut::from(&[0xff_u8, 0, 0, 0][..])).is_err());
    }

    proptest! {
        #[test]
        fn attributes_come_out_as_they_went_in(attrs in attrs()) {
            let mut out = BytesMut::new();
            attrs.write(&mut out);
            prop_assert_eq!(Attrs::read(&mut out.freeze()).unwrap(), attrs);
        }

        #[test]
        fn garbage_is_a_packet_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = Response::read(Bytes::from(bytes.clone()));
            let _ = read_version(Bytes::from(bytes.clone()));
            let _ = free_bytes(Bytes::from(bytes.clone()));
            let _ = split_packet(&mut BytesMut::from(&bytes[..]));
        }
    }
}
