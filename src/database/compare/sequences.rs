//! Where sequences stand. One that is behind gives out numbers that are taken.

use std::collections::BTreeMap;
use std::fmt;

use super::super::inspect::ours;
use super::super::quote::{literal, qualified};
use super::super::{DatabaseError, Session};
use super::{Comparison, Difference};

/// Sequences asked about in one query.
const BATCH: usize = 200;

/// Where a sequence stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub last_value: i64,
    /// Whether `last_value` has been given out.
    pub is_called: bool,
}

impl fmt::Display for Position {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.last_value)?;
        if self.is_called { Ok(()) } else { out.write_str(" (not given out)") }
    }
}

/// The positions of all sequences, by their qualified name.
pub(in super::super) async fn positions(
    session: &Session,
) -> Result<BTreeMap<String, Position>, DatabaseError> {
    let action = "read the sequences";
    let sql = format!(
        "SELECT n.nspname::text, c.relname::text
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind = 'S' AND {}",
        ours("c.oid", "pg_class")
    );
    let mut names = Vec::new();
    for row in session.rows(action, &sql, &[]).await? {
        let schema: String = session.get(action, &row, 0)?;
        let name: String = session.get(action, &row, 1)?;
        names.push(qualified(&schema, &name));
    }
    let mut found = BTreeMap::new();
    for batch in names.chunks(BATCH) {
        let queries: Vec<String> = batch
            .iter()
            .map(|name| format!("SELECT {}, last_value, is_called FROM {name}", literal(name)))
            .collect();
        for row in session.rows(action, &queries.join(" UNION ALL "), &[]).await? {
            let last_value = session.get(action, &row, 1)?;
            let is_called = session.get(action, &row, 2)?;
            found.insert(session.get(action, &row, 0)?, Position { last_value, is_called });
        }
    }
    Ok(found)
}

/// Compares the sequences that both sides have. Where `start` tells their positions before the
/// copy, the target's may be anything between that and now.
pub(super) async fn compare(
    source: &Session,
    target: &Session,
    start: Option<&BTreeMap<String, Position>>,
    comparison: &mut Comparison,
) -> Result<(), DatabaseError> {
    let (there, here) = tokio::try_join!(positions(source), positions(target))?;
    comparison.sequences = there.len() as u64;
    for (name, now) in there {
        let Some(&copied) = here.get(&name) else { continue };
        let before = start.and_then(|start| start.get(&name)).copied().unwrap_or(now);
        let (low, high) = (before.min(now), before.max(now));
        if copied < low || copied > high {
            comparison.differences.push(Difference::Sequence { name, source: now, target: copied });
        }
    }
    Ok(())
}
