//! SFTP version 3 as OpenSSH speaks it, byte for byte: paths and handles are bytes, because a
//! handle above 127 and many file names are no UTF-8.

mod attrs;
mod request;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::WireError;
pub use attrs::Attrs;
pub use request::{COPY_STEP_BYTES, Request};

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
    /// How many names the file has, where the server tells it as OpenSSH does.
    pub links: Option<u32>,
    pub attrs: Attrs,
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

impl Response {
    /// The commonest packet, that something is done, if `input` begins with a whole one: the id,
    /// the length of the packet, and the response. Nothing of the input has to be kept for it.
    pub fn read_success(input: &[u8]) -> Option<(u32, usize, Response)> {
        let number = |from: usize| {
            let bytes = input.get(from..from + 4)?;
            Some(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        };
        let packet_bytes = 4 + number(0)? as usize;
        let whole = (13..=PACKET_BYTES_MAX).contains(&packet_bytes) && input.len() >= packet_bytes;
        if !whole || input[4] != 101 || number(9)? != 0 {
            return None;
        }
        let response = Response::Status { code: StatusCode::Ok, message: Bytes::new() };
        Some((number(5)?, packet_bytes, response))
    }

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
        let line = get_string(body)?;
        names.push(NameEntry { name, links: links_in(&line), attrs: Attrs::read(body)? });
    }
    Ok(names)
}

/// The second word of the line that `ls -l` would print.
fn links_in(line: &[u8]) -> Option<u32> {
    let mut words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    std::str::from_utf8(words.nth(1)?).ok()?.parse().ok()
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
    fn success_is_known_without_taking_the_packet_apart() {
        let packet = [&[0, 0, 0, 17, 101, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0][..], b"\0\0\0\0"];
        let packet = packet.concat();
        let (id, packet_bytes, response) = Response::read_success(&packet).unwrap();
        assert_eq!((id, packet_bytes), (7, packet.len()));
        let whole = split_packet(&mut BytesMut::from(&packet[..])).unwrap().unwrap();
        assert_eq!(Response::read(whole).unwrap(), (7, response));
        for short in 0..packet.len() {
            assert_eq!(Response::read_success(&packet[..short]), None);
        }
        for other in
            [[0, 0, 0, 9, 101, 0, 0, 0, 7, 0, 0, 0, 4], [0, 0, 0, 9, 103, 0, 0, 0, 7, 0, 0, 0, 0]]
        {
            assert_eq!(Response::read_success(&other), None);
        }
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
