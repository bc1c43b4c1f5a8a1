//! Carries the bytes of one SFTP channel: what was posted goes out, as much at a time as there is;
//! what comes in is entered in the table, and whoever waits is woken once for all of it.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, MissedTickBehavior};

use super::client::{SILENCE_SECS_MAX, Shared};
use crate::host::Stream;
use crate::media::error::MediaError;
use crate::wire::WireError;
use crate::wire::sftp::{Response, split_packet};

const READ_BYTES: usize = 64 * 1024;
/// How often it is looked whether the server is silent.
const LOOK_SECS: u64 = 10;

/// Runs until the channel ends, or until nobody asks any more and the server has ended it.
pub(super) async fn run(shared: Arc<Shared>, stream: Stream) {
    let error = carry(&shared, stream).await;
    let mut state = shared.state();
    if !state.closing || state.table.waiting_requests() > 0 {
        shared.link.fail(error);
    }
    let wakers = state.lose();
    drop(state);
    // Whoever still waits, or begins to just now, learns that nothing more comes.
    wakers.into_iter().for_each(Waker::wake);
}

/// Why it ended.
async fn carry(shared: &Shared, stream: Stream) -> MediaError {
    let lost = || MediaError::Lost { host: shared.link.host.clone() };
    let (mut input, mut output) = tokio::io::split(stream);
    let (mut incoming, mut outgoing) = (BytesMut::with_capacity(READ_BYTES), BytesMut::new());
    let mut look = tokio::time::interval(Duration::from_secs(LOOK_SECS));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut heard, mut ended) = (Instant::now(), false);
    loop {
        if outgoing.is_empty() && !ended {
            ended = {
                let mut state = shared.state();
                std::mem::swap(&mut outgoing, &mut state.out);
                outgoing.is_empty() && state.closing
            };
            if ended {
                // The server ends with its input; if it is gone already, so much the better.
                let _ = output.shutdown().await;
            }
        }
        incoming.reserve(READ_BYTES);
        tokio::select! {
            biased;
            read = input.read_buf(&mut incoming) => match read {
                Ok(count) if count > 0 => {
                    shared.link.count_received(count);
                    heard = Instant::now();
                    if let Err(source) = take_packets(shared, &mut incoming) {
                        return MediaError::Wire { host: shared.link.host.clone(), source };
                    }
                }
                Ok(_) | Err(_) => return lost(),
            },
            written = output.write_buf(&mut outgoing), if !outgoing.is_empty() => match written {
                Ok(count) => shared.link.count_sent(count),
                // What was answered before may still be read.
                Err(_) => {
                    outgoing.clear();
                    ended = true;
                }
            },
            () = shared.posted.notified(), if outgoing.is_empty() && !ended => {}
            _ = look.tick() => {
                if shared.state().table.waiting_requests() == 0 {
                    heard = Instant::now();
                }
                if heard.elapsed() > Duration::from_secs(SILENCE_SECS_MAX) {
                    return MediaError::Silent {
                        host: shared.link.host.clone(),
                        secs: SILENCE_SECS_MAX,
                    };
                }
            }
        }
    }
}

/// Enters the replies that are there as a whole.
fn take_packets(shared: &Shared, incoming: &mut BytesMut) -> Result<(), WireError> {
    let mut wakers = Vec::new();
    let mut state = shared.state();
    let mut entered = || -> Result<(), WireError> {
        loop {
            let (id, response) = match Response::read_success(incoming) {
                Some((id, packet_bytes, response)) => {
                    incoming.advance(packet_bytes);
                    (id, response)
                }
                None => match split_packet(incoming)? {
                    Some(packet) => Response::read(packet)?,
                    None => return Ok(()),
                },
            };
            wakers.extend(state.table.answer(id, response)?);
        }
    };
    let entered = entered();
    wakers.append(&mut state.refill());
    drop(state);
    wakers.into_iter().for_each(Waker::wake);
    entered
}
