//! What a lost connection means, and how one is got again: a few tries with growing pauses.

use std::time::Duration;

use super::super::DatabaseError;
use crate::error::{Advice, Retry};

/// Between the tries: long enough for a server to come back from a crash, or a link from a hiccup.
const PAUSES: [Duration; 7] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
];
/// How often the same piece of work may be lost.
pub(super) const LOSSES_MAX: usize = 5;

/// Whether the connection failed, and not the work.
pub(super) fn is_lost(error: &DatabaseError) -> bool {
    match error {
        DatabaseError::Lost { .. } => true,
        error => is_passing(error),
    }
}

/// Whether a connection that was not got may be got a little later.
fn is_passing(error: &DatabaseError) -> bool {
    match error {
        DatabaseError::Lost { .. } | DatabaseError::Busy { .. } => true,
        // The server closed it before it said anything: it is being restarted.
        DatabaseError::Protocol { source, .. } => source.is_closed() || is_io(source),
        DatabaseError::Unreachable { source, .. } => source.retry() != Retry::Never,
        error => error.retry() == Retry::Safe,
    }
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>())
}

/// The tries to get one connection.
#[derive(Default)]
pub(super) struct Patience {
    tries: usize,
}

impl Patience {
    /// Waits before the next try; gives the error back if that is for good, or has come too often.
    pub async fn after(&mut self, error: DatabaseError) -> Result<(), DatabaseError> {
        match PAUSES.get(self.tries) {
            Some(pause) if is_passing(&error) => tokio::time::sleep(*pause).await,
            Some(_) | None => return Err(error),
        }
        self.tries += 1;
        Ok(())
    }
}
