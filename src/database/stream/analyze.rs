//! Statistics for the planner, which a dump does not carry: without them the first hours are slow.

use std::sync::Mutex;

use futures_util::future::try_join_all;

use crate::event::{Event, Monitor, Progress};

use super::super::quote::{ident, qualified};
use super::super::session::{self, Access};
use super::super::target::Destination;
use super::super::{DatabaseError, inspect};

/// Runs ANALYZE on every table and materialized view, `jobs` at the same time.
pub(super) async fn analyze(
    destination: &Destination,
    jobs: usize,
    monitor: &dyn Monitor,
) -> Result<(), DatabaseError> {
    let session = session::connect(&destination.server, Access::Read).await?;
    let mut tables: Vec<String> = inspect::inspect_database(&session)
        .await?
        .tables
        .iter()
        .map(|table| qualified(&table.schema, &table.name))
        .collect();
    drop(session);
    // Taken from the end: the largest first.
    tables.reverse();
    let total = tables.len() as u64;
    let queue = Mutex::new(tables);
    let workers = (0..jobs.max(1)).map(|_| work(destination, &queue, total, monitor));
    try_join_all(workers).await.map(drop)
}

async fn work(
    destination: &Destination,
    queue: &Mutex<Vec<String>>,
    total: u64,
    monitor: &dyn Monitor,
) -> Result<(), DatabaseError> {
    let session = session::connect(&destination.server, Access::Write).await?;
    let sql = format!("SET ROLE {}", ident(&destination.owner));
    session.execute("take on the owner's role", &sql).await?;
    while let Some((table, left)) = pop(queue) {
        session.execute("analyze a table", &format!("ANALYZE {table}")).await?;
        monitor.emit(Event::Progress(Progress {
            activity: "analyze".into(),
            detail: Some(table),
            items_done: total - left,
            items_total: Some(total),
            ..Progress::default()
        }));
    }
    Ok(())
}

fn pop(queue: &Mutex<Vec<String>>) -> Option<(String, u64)> {
    let mut queue = queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let table = queue.pop()?;
    Some((table, queue.len() as u64))
}
