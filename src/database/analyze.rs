//! Statistics for the planner, which a dump does not carry: without them the first hours are slow.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use futures_util::future::try_join_all;

use crate::event::{Event, Monitor, Progress};

use super::quote::{ident, qualified};
use super::session::{self, Access};
use super::target::Destination;
use super::{DatabaseError, inspect};

/// Which tables and materialized views.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tables<'a> {
    All,
    /// All but these, by their qualified names.
    AllBut(&'a BTreeSet<String>),
}

/// Runs ANALYZE on `which`, `jobs` at the same time.
pub(super) async fn analyze(
    destination: &Destination,
    which: Tables<'_>,
    jobs: usize,
    monitor: &dyn Monitor,
) -> Result<(), DatabaseError> {
    let session = session::connect(&destination.server, Access::Read).await?;
    let mut tables: Vec<String> = inspect::inspect_database(&session)
        .await?
        .tables
        .iter()
        .map(|table| qualified(&table.schema, &table.name))
        .filter(|table| match which {
            Tables::All => true,
            Tables::AllBut(done) => !done.contains(table),
        })
        .collect();
    drop(session);
    // Taken from the end: the largest first.
    tables.reverse();
    let total = tables.len() as u64;
    let work =
        Work { destination, queue: Mutex::new(tables), done: AtomicU64::new(0), total, monitor };
    try_join_all((0..jobs.max(1)).map(|_| work.run())).await.map(drop)
}

/// What the workers share.
struct Work<'a> {
    destination: &'a Destination,
    queue: Mutex<Vec<String>>,
    done: AtomicU64,
    total: u64,
    monitor: &'a dyn Monitor,
}

impl Work<'_> {
    async fn run(&self) -> Result<(), DatabaseError> {
        let session = session::connect(&self.destination.server, Access::Write).await?;
        let sql = format!("SET ROLE {}", ident(&self.destination.owner));
        session.execute("take on the owner's role", &sql).await?;
        while let Some(table) = self.next() {
            session.execute("analyze a table", &format!("ANALYZE {table}")).await?;
            self.monitor.emit(Event::Progress(Progress {
                activity: "analyze".into(),
                detail: Some(table),
                items_done: self.done.fetch_add(1, Ordering::Relaxed) + 1,
                items_total: Some(self.total),
                ..Progress::default()
            }));
        }
        Ok(())
    }

    fn next(&self) -> Option<String> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}
