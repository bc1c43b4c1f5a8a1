//! What the servers say they are doing, for the eyes of the operator. Never fails and never ends:
//! whoever wants it races it against the work itself.

use std::convert::Infallible;

use crate::event::{Event, Monitor, Progress};

use super::super::session::{self, Access};
use super::super::target::Destination;
use super::super::{DatabaseError, Server, Session};
use super::{PROGRESS_EVERY, Snapshot};

/// Keeps `table` at the table that pg_dump is reading.
pub(super) async fn tables(
    source: &Server,
    table: &std::sync::Mutex<Option<String>>,
) -> Infallible {
    const SQL: &str = "SELECT max(p.relid::regclass::text) FROM pg_stat_progress_copy p
        JOIN pg_stat_activity a USING (pid) WHERE a.application_name = 'transhume pg_dump'";
    watch(source, async |session| {
        if session.version().major() < 14 {
            return Ok(());
        }
        let name: Option<String> = session.value("watch the dump", SQL, &[]).await?;
        *table.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = name;
        Ok(())
    })
    .await
}

/// Tells how many of the indexes are built.
pub(super) async fn indexes(
    destination: &Destination,
    snapshot: &Snapshot,
    monitor: &dyn Monitor,
) -> Infallible {
    const DONE: &str = "SELECT count(*) FROM pg_index WHERE indexrelid >= 16384 AND indisvalid";
    const NOW: &str = "SELECT string_agg(relid::regclass::text, ', ' ORDER BY pid)
        FROM pg_stat_progress_create_index WHERE datname = current_database()";
    watch(&destination.server, async |session| {
        let done: i64 = session.value("watch the index builds", DONE, &[]).await?;
        let now: Option<String> = match session.version().major() {
            ..12 => None,
            12.. => session.value("watch the index builds", NOW, &[]).await?,
        };
        monitor.emit(Event::Progress(Progress {
            activity: "indexes".into(),
            detail: now,
            items_done: done.unsigned_abs(),
            items_total: Some(snapshot.indexes()),
            ..Progress::default()
        }));
        Ok(())
    })
    .await
}

/// Asks again and again, until something goes wrong: then there is no more to see.
async fn watch(
    server: &Server,
    mut ask: impl AsyncFnMut(&Session) -> Result<(), DatabaseError>,
) -> Infallible {
    if let Ok(session) = session::connect(server, Access::Read).await {
        while ask(&session).await.is_ok() {
            tokio::time::sleep(PROGRESS_EVERY).await;
        }
    }
    std::future::pending().await
}
