//! Whether the target is a whole copy of the source: objects, rows, sequences, read from the
//! catalogs and heaps of both servers, not from what the copying said.
//!
//! Owners, privileges and object ids are left out: they differ by intention. Nothing else is.

mod catalog;
mod rows;
mod sequences;
pub(super) use sequences::positions;

use std::collections::BTreeMap;
use std::fmt;

use crate::event::Monitor;
use crate::units::{count, counted};

use super::session::{self, Access};
use super::stream::Snapshot;
use super::{DatabaseError, Server};

pub use catalog::Kind;
pub use sequences::Position;

/// How to compare.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Tables counted at the same time; each takes one connection on each side.
    pub jobs: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options { jobs: 2 }
    }
}

/// What was looked at, and every difference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Objects of the source, by kind.
    pub objects: BTreeMap<Kind, u64>,
    pub tables: u64,
    /// Rows of the source.
    pub rows: u64,
    pub sequences: u64,
    pub differences: Vec<Difference>,
}

impl Comparison {
    pub fn is_equal(&self) -> bool {
        self.differences.is_empty()
    }
}

/// In a line: `113 tables with 5,213,442 rows, 118 sequences, 401 indexes, …`.
impl fmt::Display for Comparison {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} with {}, {}",
            counted(self.tables, "table"),
            counted(self.rows, "row"),
            counted(self.sequences, "sequence")
        )?;
        let told = |kind: &Kind| !matches!(kind, Kind::Relation | Kind::Sequence);
        for (kind, number) in self.objects.iter().filter(|(kind, _)| told(kind)) {
            write!(out, ", {} {}", count(*number), kind.noun(*number))?;
        }
        Ok(())
    }
}

/// One thing that is not the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// On the source only.
    Missing { kind: Kind, name: String },
    /// On the target only.
    Extra { kind: Kind, name: String },
    /// Defined otherwise.
    Changed { kind: Kind, name: String, source: String, target: String },
    /// Another number of rows.
    Rows { table: String, source: i64, target: i64 },
    /// Another position; behind, it would give out numbers that are taken.
    Sequence { name: String, source: Position, target: Position },
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Missing { kind, name } => {
                write!(out, "{} {name} is missing on the target", kind.noun(1))
            }
            Difference::Extra { kind, name } => {
                write!(out, "{} {name} is on the target only", kind.noun(1))
            }
            Difference::Changed { kind, name, source, target } => {
                let noun = kind.noun(1);
                write!(out, "{noun} {name} differs: source `{source}`, target `{target}`")
            }
            Difference::Rows { table, source, target } => {
                write!(out, "table {table} has {target} rows on the target, {source} on the source")
            }
            Difference::Sequence { name, source, target } => {
                write!(out, "sequence {name} is at {target} on the target, {source} on the source")
            }
        }
    }
}

/// Compares the databases. With the snapshot of a copy, rows are counted as it saw them, and a
/// sequence may have moved on since; without one, both sides are expected to stand still.
pub async fn compare(
    source: &Server,
    target: &Server,
    snapshot: Option<&Snapshot>,
    options: Options,
    monitor: &dyn Monitor,
) -> Result<Comparison, DatabaseError> {
    let mut comparison = Comparison::default();
    let sessions = tokio::try_join!(
        session::connect(source, Access::Read),
        session::connect(target, Access::Read)
    )?;
    catalog::compare(&sessions.0, &sessions.1, &mut comparison).await?;
    let start = snapshot.map(Snapshot::sequences);
    sequences::compare(&sessions.0, &sessions.1, start, &mut comparison).await?;
    rows::compare(source, target, snapshot, options, monitor, &mut comparison).await?;
    Ok(comparison)
}
