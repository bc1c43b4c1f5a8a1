//! What a lost connection means, and how one is got again: a few tries with growing pauses.

use std::time::Duration;

use tokio::time::Instant;

use super::super::DatabaseError;
use crate::error::{Advice, Retry};

/// Between the tries: a server comes back from a crash, or a link from a hiccup.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(8);
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
        DatabaseError::Host(source) => source.retry() != Retry::Never,
        error => error.retry() == Retry::Safe,
    }
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>())
}

/// The tries to get one connection.
pub(super) struct Patience {
    end: Instant,
    pause: Duration,
}

impl Patience {
    pub fn new(limit: Duration) -> Self {
        Patience { end: Instant::now() + limit, pause: PAUSE_FIRST }
    }

    /// Waits before the next try; gives the error back if that is for good, or it took too long.
    pub async fn after(&mut self, error: DatabaseError) -> Result<(), DatabaseError> {
        if !is_passing(&error) || Instant::now() + self.pause > self.end {
            return Err(error);
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::HostError;

    fn lost() -> DatabaseError {
        DatabaseError::Lost { server: "there".into(), action: "copy rows" }
    }

    #[test]
    fn a_lost_link_is_tried_again_and_a_full_disk_is_not() {
        assert!(is_lost(&lost()));
        let link = HostError::Lost { host: "there".into(), command: "helper".into() };
        assert!(is_lost(&DatabaseError::Host(link)));
        let full = DatabaseError::DiskFull { server: "there".into(), cause: "no space".into() };
        assert!(!is_lost(&full));
        assert!(!is_lost(&DatabaseError::SnapshotLost { server: "there".into() }));
    }

    #[tokio::test(start_paused = true)]
    async fn patience_has_an_end() {
        let mut patience = Patience::new(Duration::from_secs(60));
        let start = Instant::now();
        let mut tries = 0;
        while patience.after(lost()).await.is_ok() {
            tries += 1;
        }
        assert!((8..20).contains(&tries), "{tries}");
        assert!(start.elapsed() <= Duration::from_secs(60));
    }
}
