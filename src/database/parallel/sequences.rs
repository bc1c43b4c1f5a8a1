//! Where sequences stand, read from the source when all rows are in, and set on the target.

use super::super::compare::positions;
use super::super::quote::{literal, qualified};
use super::super::{DatabaseError, Session};
use super::seat::Writer;
use super::told::Told;

/// Sequences set in one statement.
const BATCH: usize = 200;

/// Sets all that `source` has, also those that an extension keeps for the operator.
pub(super) async fn set(
    source: &Session,
    extensions_made: &[String],
    target: &mut Writer<'_>,
    told: &Told<'_>,
) -> Result<(), DatabaseError> {
    let mut calls: Vec<String> = positions(source)
        .await?
        .into_iter()
        .map(|(name, at)| call(&name, at.last_value, at.is_called))
        .collect();
    for name in of_extensions(source, extensions_made).await? {
        let action = "read the sequences of the extensions";
        let sql = format!("SELECT last_value, is_called FROM {name}");
        let row = source.row(action, &sql, &[]).await?;
        calls.push(call(&name, source.get(action, &row, 0)?, source.get(action, &row, 1)?));
    }
    for batch in calls.chunks(BATCH) {
        target.again("set the sequences", &format!("SELECT {}", batch.join(", ")), told).await?;
    }
    Ok(())
}

fn call(name: &str, last_value: i64, is_called: bool) -> String {
    // In parentheses: a minus sign and a cast do not go together otherwise.
    format!("pg_catalog.setval({}::regclass, ({last_value}), {is_called})", literal(name))
}

async fn of_extensions(
    source: &Session,
    extensions_made: &[String],
) -> Result<Vec<String>, DatabaseError> {
    let action = "list the sequences of the extensions";
    let sql = "SELECT n.nspname::text, c.relname::text
               FROM pg_extension e, unnest(e.extconfig) x (oid)
               JOIN pg_class c ON c.oid = x.oid JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE c.relkind = 'S' AND e.extname::text <> ALL ($1::text[])";
    let rows = source.rows(action, sql, &[&extensions_made]).await?;
    rows.iter()
        .map(|row| {
            let schema: String = source.get(action, row, 0)?;
            let name: String = source.get(action, row, 1)?;
            Ok(qualified(&schema, &name))
        })
        .collect()
}
