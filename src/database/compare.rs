//! Whether the target is a whole copy of the source: objects, rows, large objects, sequences, read
//! from the catalogs and heaps of both servers, not from what the copying said.
//!
//! Owners, privileges and object ids are left out: they differ by intention. Nothing else is left
//! out. What could not be compared is told, and never taken for equal.

mod amcheck;
mod catalog;
mod collations;
mod difference;
mod expression;
mod narrow;
mod rows;
mod scan;
mod sequences;
mod tables;
mod views;
pub(super) use sequences::positions;

use std::collections::BTreeMap;
use std::fmt;

use crate::event::Monitor;
use crate::units::{count, counted};

use super::session::{self, Access};
use super::stream::Snapshot;
use super::{DatabaseError, Server};

pub use amcheck::{Checked, amcheck};
pub use catalog::Kind;
pub use difference::{Difference, Holder, Keys};
pub use expression::Way;
pub use sequences::Position;

/// How to compare.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Connections that read rows on each side; 0 for one for each core of its machine, up to
    /// [`JOBS_MAX`].
    pub jobs: usize,
    pub depth: Depth,
    /// How rows are hashed: the cheapest way in which both servers agree, unless it is named.
    pub way: Option<Way>,
}

/// How closely rows are looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// Counted.
    Rows,
    /// Counted, and hashed with every value in them.
    #[default]
    Content,
}

/// What may become a trouble, though both sides are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub text: String,
    pub remedy: &'static str,
}

const REFRESH_REMEDY: &str = "on the target: REFRESH MATERIALIZED VIEW makes it anew, now or later";
const COLLATION_REMEDY: &str = "on the target: REINDEX what uses it, then ALTER DATABASE or \
                                    COLLATION … REFRESH VERSION";

/// More connections are not taken unless they are asked for.
pub const JOBS_MAX: usize = 4;

/// What was looked at, and every difference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Objects of the source, by kind.
    pub objects: BTreeMap<Kind, u64>,
    pub tables: u64,
    /// Rows of the source.
    pub rows: u64,
    /// Tables whose rows were hashed, not just counted.
    pub tables_hashed: u64,
    pub sequences: u64,
    /// Of the source.
    pub large_objects: u64,
    pub differences: Vec<Difference>,
    pub warnings: Vec<Warning>,
}

impl Comparison {
    pub fn is_equal(&self) -> bool {
        self.differences.is_empty()
    }
}

/// In a line: `113 tables with 5,213,442 rows and their content, 118 sequences, 401 indexes, …`.
impl fmt::Display for Comparison {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} with {}{}, {}",
            counted(self.tables, "table"),
            counted(self.rows, "row"),
            if self.tables_hashed > 0 { " and their content" } else { "" },
            counted(self.sequences, "sequence")
        )?;
        if self.large_objects > 0 {
            write!(out, ", {}", counted(self.large_objects, "large object"))?;
        }
        let told = |kind: &Kind| !matches!(kind, Kind::Relation | Kind::Sequence);
        for (kind, number) in self.objects.iter().filter(|(kind, _)| told(kind)) {
            write!(out, ", {} {}", count(*number), kind.noun(*number))?;
        }
        Ok(())
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
    let collations = collations::warnings(&sessions.1).await?;
    let warning = |text| Warning { text, remedy: COLLATION_REMEDY };
    comparison.warnings.extend(collations.into_iter().map(warning));
    drop(sessions);
    rows::compare(source, target, snapshot, options, monitor, &mut comparison).await?;
    Ok(comparison)
}
