//! Packets of an SFTP server: any bytes decode to responses or to an error, and the short cut for
//! the commonest one says what the long way says.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use transhume::wire::sftp::{self, Response};

fuzz_target!(|bytes: &[u8]| {
    let mut input = BytesMut::from(bytes);
    loop {
        let short_cut = Response::read_success(&input);
        let before = input.len();
        let Ok(Some(packet)) = sftp::split_packet(&mut input) else {
            assert!(short_cut.is_none());
            break;
        };
        let _ = sftp::read_version(packet.clone());
        let _ = sftp::free_bytes(packet.clone());
        let long_way = Response::read(packet);
        if let Some((id, packet_bytes, Response::Status { code, .. })) = short_cut {
            assert_eq!(packet_bytes, before - input.len());
            // A message that does not hold together is not looked at where nothing has gone wrong.
            if let Ok((long_id, Response::Status { code: long_code, .. })) = long_way {
                assert_eq!((id, code), (long_id, long_code));
            }
        }
    }
});
