//! What in the source's rows would make a restore fail: found by asking the source, which is only
//! read. These questions look at whole tables; larger ones than a limit are left out and named.

mod foreign_keys;
mod long_keys;
mod unique;

use crate::event::Finding;
use crate::units::Bytes;

use super::session::Access;
use super::{DatabaseError, Server, Session, session};

/// Findings about rows of the source. Tables above `table_bytes_max` are not looked at.
pub async fn find(server: &Server, table_bytes_max: u64) -> Result<Vec<Finding>, DatabaseError> {
    let session = session::connect(server, Access::Read).await?;
    // The truth is in the heap: a corrupt index would hide what is wrong with it.
    session.execute("switch index scans off", &format!("{HEAP_ONLY}; SET jit = off")).await?;
    let mut findings = long_keys::find(&session, table_bytes_max).await?;
    findings.extend(unique::find(&session, table_bytes_max).await?);
    findings.extend(foreign_keys::find(&session, table_bytes_max).await?);
    Ok(findings)
}

/// Makes a session read tables, not indexes.
const HEAP_ONLY: &str = "SET enable_indexscan = off; SET enable_indexonlyscan = off; \
                         SET enable_bitmapscan = off";

/// Says what was not looked at, if anything, because it is too large.
fn skipped(
    subject: &str,
    what: &str,
    names: &[String],
    bytes_max: u64,
    remedy: &str,
) -> Option<Finding> {
    (!names.is_empty()).then(|| {
        let text = format!(
            "not searched for {what}, because their tables are larger than {}: {}",
            Bytes(bytes_max),
            names.join(", ")
        );
        Finding::warning(subject, text, Some(remedy.into()))
    })
}

/// `schema.name` from two columns of a row.
fn name(
    session: &Session,
    action: &'static str,
    row: &tokio_postgres::Row,
    column: usize,
) -> Result<String, DatabaseError> {
    let schema: String = session.get(action, row, column)?;
    let name: String = session.get(action, row, column + 1)?;
    Ok(super::quote::qualified(&schema, &name))
}
