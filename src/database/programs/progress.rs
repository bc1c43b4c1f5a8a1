//! What the servers say they are doing, for the eyes of the operator. Never fails and never ends:
//! whoever wants it races it against the work itself.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::event::{Event, Monitor, Progress};

use super::super::Snapshot;
use super::super::session::{self, Access};
use super::super::target::Destination;
use super::super::{DatabaseError, Server, Session};

/// How often progress is looked up on a server.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Keeps `table` at the table that pg_dump is reading.
pub(super) async fn tables(source: &Server, table: &Mutex<Option<String>>) -> Infallible {
    const SQL: &str = "SELECT max(p.relid::regclass::text) FROM pg_stat_progress_copy p
        JOIN pg_stat_activity a USING (pid) WHERE a.application_name = 'transhume pg_dump'";
    if let Some(session) = watcher(source, 14).await {
        while let Ok(name) = session.value("watch the dump", SQL, &[]).await {
            *table.lock().unwrap_or_else(PoisonError::into_inner) = name;
            tokio::time::sleep(PROGRESS_EVERY).await;
        }
    }
    std::future::pending().await
}

/// Tells how many of the indexes are built.
pub(super) async fn indexes(
    destination: &Destination,
    snapshot: &Snapshot,
    monitor: &dyn Monitor,
) -> Infallible {
    if let Some(session) = watcher(&destination.server, 12).await {
        while let Ok((done, now)) = index_builds(&session).await {
            monitor.emit(Event::Progress(Progress {
                activity: "indexes".into(),
                detail: now,
                items_done: done,
                items_total: Some(snapshot.indexes()),
                ..Progress::default()
            }));
            tokio::time::sleep(PROGRESS_EVERY).await;
        }
    }
    std::future::pending().await
}

/// How many are built, and which are being built.
async fn index_builds(session: &Session) -> Result<(u64, Option<String>), DatabaseError> {
    const DONE: &str = "SELECT count(*) FROM pg_index WHERE indexrelid >= 16384 AND indisvalid";
    const NOW: &str = "SELECT string_agg(relid::regclass::text, ', ' ORDER BY pid)
        FROM pg_stat_progress_create_index WHERE datname = current_database()";
    let action = "watch the index builds";
    let done: i64 = session.value(action, DONE, &[]).await?;
    Ok((done.unsigned_abs(), session.value(action, NOW, &[]).await?))
}

/// A session to ask, if the server can be reached and is of the major version that can tell.
async fn watcher(server: &Server, major: u32) -> Option<Session> {
    let session = session::connect(server, Access::Read).await.ok()?;
    (session.version().major() >= major).then_some(session)
}
