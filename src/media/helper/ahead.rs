//! Streams for lanes that are opened before there is anything for them. Over a long way a
//! connection and a helper on it take some ten round trips, in which the scans find out what is to
//! be copied.

use std::sync::{Mutex, PoisonError};

use tokio::task::JoinHandle;

use super::stream::Stream;
use crate::media::error::MediaError;

type Opening = JoinHandle<Result<Stream, MediaError>>;

/// One for each lane, from the first on. Those that nobody takes are closed with it; a handshake
/// that is under way then comes to its end first, because servers remember who breaks one off.
#[derive(Default)]
pub(super) struct Ahead(Mutex<Vec<Option<Opening>>>);

impl Ahead {
    pub fn new(openings: Vec<Opening>) -> Self {
        Ahead(Mutex::new(openings.into_iter().map(Some).collect()))
    }

    /// The stream for `lane`, unless there is none or it could not be opened.
    pub async fn take(&self, lane: u32) -> Option<Stream> {
        let opening = {
            let mut openings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            openings.get_mut(lane as usize)?.take()?
        };
        opening.await.ok()?.ok()
    }
}
