//! Exact row counts of every table and materialized view, both sides at the same time, the
//! largest first.

use std::sync::{Mutex, PoisonError};

use futures_util::future::try_join_all;

use crate::event::{Event, Monitor, Progress};

use super::super::inspect::ours;
use super::super::quote::qualified;
use super::super::session::{self, Access};
use super::super::stream::Snapshot;
use super::super::{DatabaseError, Server, Session};
use super::{Comparison, Difference, Options};

struct Relation {
    name: String,
    /// The query behind a materialized view.
    view: Option<String>,
}

struct Counted {
    name: String,
    is_table: bool,
    source: i64,
    target: i64,
}

/// Counts the rows of all relations that both sides have.
pub(super) async fn compare(
    source: &Server,
    target: &Server,
    snapshot: Option<&Snapshot>,
    options: Options,
    monitor: &dyn Monitor,
    comparison: &mut Comparison,
) -> Result<(), DatabaseError> {
    let jobs = options.jobs.max(1);
    let first = counting_session(source, snapshot).await?;
    let mut relations = relations(&first).await?;
    drop(first);
    let there = session::connect(target, Access::Read).await?;
    let present: Vec<String> =
        self::relations(&there).await?.into_iter().map(|relation| relation.name).collect();
    drop(there);
    relations.retain(|relation| present.contains(&relation.name));
    // Taken from the end: the largest first.
    relations.reverse();
    let total = relations.len() as u64;
    let queue = Mutex::new(relations);
    let work = Work { source, target, snapshot, queue, total, counted: Mutex::default(), monitor };
    try_join_all((0..jobs).map(|_| work.run())).await?;
    let Work { counted, .. } = work;
    let mut counted = counted.into_inner().unwrap_or_else(PoisonError::into_inner);
    counted.sort_by(|one, other| one.name.cmp(&other.name));
    for Counted { name, is_table, source, target } in counted {
        if is_table {
            comparison.tables += 1;
            comparison.rows += source.unsigned_abs();
        }
        if source != target {
            comparison.differences.push(Difference::Rows { table: name, source, target });
        }
    }
    Ok(())
}

/// What the workers share.
struct Work<'a> {
    source: &'a Server,
    target: &'a Server,
    snapshot: Option<&'a Snapshot>,
    queue: Mutex<Vec<Relation>>,
    total: u64,
    counted: Mutex<Vec<Counted>>,
    monitor: &'a dyn Monitor,
}

impl Work<'_> {
    async fn run(&self) -> Result<(), DatabaseError> {
        let (there, here) = tokio::try_join!(
            counting_session(self.source, self.snapshot),
            counting_session(self.target, None)
        )?;
        while let Some(relation) = self.next() {
            let one = count(&there, &here, relation).await?;
            let name = one.name.clone();
            self.monitor.emit(Event::Progress(Progress {
                activity: "compare".into(),
                items_done: self.add(one),
                detail: Some(name),
                items_total: Some(self.total),
                ..Progress::default()
            }));
        }
        Ok(())
    }

    fn next(&self) -> Option<Relation> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Keeps a count; gives how many there are.
    fn add(&self, one: Counted) -> u64 {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.push(one);
        counted.len() as u64
    }
}

/// A session that counts what is in the heap, whatever an index says, and all of it.
async fn counting_session(
    server: &Server,
    snapshot: Option<&Snapshot>,
) -> Result<Session, DatabaseError> {
    let session = match snapshot {
        Some(snapshot) => snapshot.join(server).await?,
        None => session::connect(server, Access::Read).await?,
    };
    let sql = "SET enable_indexscan = off; SET enable_indexonlyscan = off;
               SET enable_bitmapscan = off; SET row_security = off";
    session.execute("prepare to count", sql).await?;
    Ok(session)
}

async fn relations(session: &Session) -> Result<Vec<Relation>, DatabaseError> {
    let action = "list the tables";
    let sql = format!(
        "SELECT n.nspname::text, c.relname::text,
             CASE WHEN c.relkind = 'm' THEN pg_get_viewdef(c.oid) END
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE (c.relkind = 'r' OR c.relkind = 'm' AND c.relispopulated) AND {}
         ORDER BY c.relpages DESC, 1, 2",
        ours("c.oid", "pg_class")
    );
    let rows = session.rows(action, &sql, &[]).await?;
    rows.iter()
        .map(|row| {
            let schema: String = session.get(action, row, 0)?;
            let name: String = session.get(action, row, 1)?;
            Ok(Relation { name: qualified(&schema, &name), view: session.get(action, row, 2)? })
        })
        .collect()
}

async fn count(
    source: &Session,
    target: &Session,
    relation: Relation,
) -> Result<Counted, DatabaseError> {
    let Relation { name, view } = relation;
    let action = "count the rows";
    let only = if view.is_some() { "" } else { "ONLY" };
    let sql = format!("SELECT count(*) FROM {only} {name}");
    let (mut there, here) =
        tokio::try_join!(source.slow_value(action, &sql), target.slow_value(action, &sql))?;
    if let Some(query) = view.as_deref().filter(|_| there != here) {
        // The restore refreshed it; the source's may be older than the rows it is made from.
        let query = query.trim_end().trim_end_matches(';');
        there = source.slow_value(action, &format!("SELECT count(*) FROM ({query}) AS v")).await?;
    }
    Ok(Counted { name, is_table: view.is_none(), source: there, target: here })
}
