//! A TUN device of the network namespace that the calling thread is in. The kernel hands over
//! what TCP sent as packets of many segments, as it would to a network card that cuts them up, and
//! takes them back the same way: a tenth of the packets, and of the processor time.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use rustix::ioctl::{IntegerSetter, Opcode, Setter, ioctl};

const TUNSETIFF: Opcode = 0x4004_54ca;
const TUNSETOFFLOAD: Opcode = 0x4004_54d0;
const IFF_TUN: u16 = 0x0001;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;
/// Checksums may be left out; long TCP segments over IPv4 and IPv6.
const OFFLOAD: usize = 0x01 | 0x02 | 0x04;
/// `struct virtio_net_hdr`: flags, kind, bytes of the headers, bytes of a segment, checksum place.
const HEAD_BYTES: usize = 10;
/// The longest packet with its head.
const PACKET_BYTES_MAX: usize = HEAD_BYTES + 65_536;

/// `struct ifreq` as far as it is used.
#[repr(C)]
struct Request {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

pub struct Tun(File);

impl Tun {
    /// A new device `name`. With `whole`, packets of many segments are handed over as they are.
    pub fn open(name: &str, whole: bool) -> io::Result<Self> {
        let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let file =
            File::options().read(true).write(true).custom_flags(flags).open("/dev/net/tun")?;
        let mut request =
            Request { name: [0; 16], flags: IFF_TUN | IFF_NO_PI | IFF_VNET_HDR, rest: [0; 22] };
        request.name[..name.len()].copy_from_slice(name.as_bytes());
        // SAFETY: TUNSETIFF reads and writes a `struct ifreq`, whose size and layout these are.
        unsafe { ioctl(&file, Setter::<TUNSETIFF, Request>::new(request))? };
        let offload = if whole { OFFLOAD } else { 0 };
        // SAFETY: TUNSETOFFLOAD takes its flags by value.
        unsafe { ioctl(&file, IntegerSetter::<TUNSETOFFLOAD>::new_usize(offload))? };
        Ok(Tun(file))
    }

    /// The next packet, into `buffer`; `false` if there is none for now.
    pub fn read(&self, buffer: &mut Vec<u8>) -> io::Result<bool> {
        buffer.resize(PACKET_BYTES_MAX, 0);
        match (&self.0).read(buffer) {
            Ok(length) => {
                buffer.truncate(length);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Hands a packet over; one that the kernel does not want is lost.
    pub fn write(&self, packet: &[u8]) {
        let _ = (&self.0).write(packet);
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// How many bytes a packet has on the wire, where each segment has headers of its own.
pub fn wire_bytes(packet: &[u8]) -> u64 {
    let field = |at: usize| {
        packet.get(at..at + 2).map_or(0, |two| u64::from(two[0]) | u64::from(two[1]) << 8)
    };
    let (headers, segment) = (field(2), field(4));
    let bytes = packet.len().saturating_sub(HEAD_BYTES) as u64;
    let whole = packet.get(1).is_some_and(|kind| *kind != 0);
    if !whole || segment == 0 {
        return bytes;
    }
    bytes + (bytes.saturating_sub(headers).div_ceil(segment).max(1) - 1) * headers
}
