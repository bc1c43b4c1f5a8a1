//! Streams for lanes that are opened before there is anything for them. Over a long way a
//! connection and a helper on it take some ten round trips, in which the scans find out what is to
//! be copied.

use std::sync::{Mutex, PoisonError};

use tokio::task::JoinHandle;

use super::stream::Stream;
use crate::media::error::MediaError;

pub(super) type Opening = JoinHandle<Result<Stream, MediaError>>;

/// One for each lane, from the first on, and one for calls. Those that nobody takes are closed with
/// it; a handshake that is under way then comes to its end first, because servers remember who
/// breaks one off.
#[derive(Default)]
pub(super) struct Ahead {
    lanes: Mutex<Vec<Option<Opening>>>,
    calls: Mutex<Option<Opening>>,
}

impl Ahead {
    pub fn new(lanes: Vec<Opening>, calls: Opening) -> Self {
        let lanes = Mutex::new(lanes.into_iter().map(Some).collect());
        Ahead { lanes, calls: Mutex::new(Some(calls)) }
    }

    /// The stream for `lane`, unless there is none or it could not be opened.
    pub async fn lane(&self, lane: u32) -> Option<Stream> {
        let opening = {
            let mut openings = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
            openings.get_mut(lane as usize)?.take()?
        };
        opening.await.ok()?.ok()
    }

    /// The one for calls, which nobody else may be waiting for.
    pub fn calls(&self) -> Option<Opening> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
