//! Packets of an SFTP server: any bytes decode to responses or to an error.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use transhume::wire::sftp::{self, Response};

fuzz_target!(|bytes: &[u8]| {
    let mut input = BytesMut::from(bytes);
    while let Ok(Some(packet)) = sftp::split_packet(&mut input) {
        let _ = sftp::read_version(packet.clone());
        let _ = sftp::free_bytes(packet.clone());
        let _ = Response::read(packet);
    }
});
