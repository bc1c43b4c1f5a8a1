//! The helper protocol: any bytes decode to messages or to an error, in bounded memory, and what
//! was decoded is encoded to the same again.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use tokio_util::codec::{Decoder, Encoder};
use transhume::wire::hello::Hello;
use transhume::wire::message::Request;
use transhume::wire::names::Names;
use transhume::wire::path::RelPath;
use transhume::wire::stream::{ReplyDecoder, RequestDecoder};
use transhume::wire::{Frame, Frames};

fuzz_target!(|bytes: &[u8]| {
    let frames = decode(bytes);
    let (mut requests, mut replies) = (RequestDecoder::default(), ReplyDecoder::default());
    for frame in frames {
        let mut encoded = BytesMut::new();
        Frames.encode(frame.clone(), &mut encoded).expect("a frame that came in fits");
        assert_eq!(decode(&encoded), std::slice::from_ref(&frame));
        let _ = Hello::read(&frame);
        // Out of turn or not to be decoded is an answer; a panic is not.
        let _ = requests.push(frame.clone(), &mut |request| {
            if let Request::Names(bytes) = request
                && let Ok(names) = Names::decode(bytes.0)
            {
                names.each_listed(names.root(), &RelPath::root(), &mut drop);
            }
        });
        let _ = replies.push(frame, &mut drop);
    }
});

/// The whole frames at the start of `bytes`.
fn decode(bytes: &[u8]) -> Vec<Frame> {
    let mut input = BytesMut::from(bytes);
    let mut frames = Vec::new();
    while let Ok(Some(frame)) = Frames.decode(&mut input) {
        frames.push(frame);
    }
    frames
}
