//! One moment of the source, held by a session of ours and shared with all that read it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::compare::{Position, positions};
use super::quote::literal;
use super::session::{self, Access};
use super::{DatabaseError, Server, Session};

/// How often we look whether it is still held.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// invalid_parameter_value, undefined_object, object_not_in_prerequisite_state
const GONE: [&str; 3] = ["22023", "42704", "55000"];

/// An exported snapshot. It lives as long as this does and the link holds.
pub struct Snapshot {
    id: String,
    sequences: BTreeMap<String, Position>,
    indexes: u64,
    session: Session,
}

impl Snapshot {
    /// Takes a snapshot of the source's database.
    pub async fn take(source: &Server) -> Result<Snapshot, DatabaseError> {
        let session = session::connect(source, Access::Read).await?;
        // Sequences stand outside snapshots; where they stand now is the least that a copy has.
        let sequences = positions(&session).await?;
        let action = "export a snapshot";
        session.execute(action, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let id = session.value(action, "SELECT pg_export_snapshot()", &[]).await?;
        let sql = "SELECT count(*) FROM pg_index WHERE indexrelid >= 16384 AND indisvalid";
        let indexes: i64 = session.value("count the indexes", sql, &[]).await?;
        Ok(Snapshot { id, sequences, indexes: indexes.unsigned_abs(), session })
    }

    /// What `pg_dump --snapshot` takes.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where the sequences stood just before.
    pub fn sequences(&self) -> &BTreeMap<String, Position> {
        &self.sequences
    }

    /// The indexes of the source.
    pub(super) fn indexes(&self) -> u64 {
        self.indexes
    }

    /// The session that holds it, in its transaction.
    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// Ends when the session that holds it is gone, and with it the snapshot.
    pub(super) async fn lost(&self) -> DatabaseError {
        while !self.session.is_closed() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.is_lost()
    }

    fn is_lost(&self) -> DatabaseError {
        DatabaseError::SnapshotLost { server: self.session.server().to_owned() }
    }

    /// A new session with the source that sees what the snapshot sees.
    pub async fn join(&self, source: &Server) -> Result<Session, DatabaseError> {
        let session = session::connect(source, Access::Read).await?;
        let action = "join the snapshot";
        let sql = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}",
            literal(&self.id)
        );
        match session.execute(action, &sql).await {
            Ok(()) => Ok(session),
            // Whoever exported it is gone; versions have said so in several ways.
            Err(DatabaseError::Sql { source, .. }) if GONE.contains(&source.code.as_str()) => {
                Err(self.is_lost())
            }
            Err(error) => Err(error),
        }
    }
}
