//! Which foreign keys are ours to make, and how.

use std::collections::BTreeSet;

use super::super::super::quote::{ident, qualified};
use super::super::super::{DatabaseError, Session};
use super::super::contents::{Object, PG_CONSTRAINT};
use super::Table;

/// A foreign key between two tables whose rows and indexes come from us.
#[derive(Clone, Debug)]
pub(in super::super) struct ForeignKey {
    /// Its name alone, as messages of the server have it.
    pub label: String,
    /// Of the table that points, qualified and quoted.
    pub table: String,
    /// `FOREIGN KEY … REFERENCES …`
    pub definition: String,
    /// What is read to check it: both tables.
    pub bytes: u64,
    oid: u32,
}

impl ForeignKey {
    /// The statement that makes it and looks at no row.
    pub fn add(&self) -> String {
        let ForeignKey { table, definition, .. } = self;
        format!(
            "ALTER TABLE ONLY {table} ADD CONSTRAINT {} {definition} NOT VALID",
            ident(&self.label)
        )
    }

    /// The statement that looks at all rows.
    pub fn validate(&self) -> String {
        format!("ALTER TABLE ONLY {} VALIDATE CONSTRAINT {}", self.table, ident(&self.label))
    }

    /// The entry of an archive that would make it.
    pub fn entry(&self) -> Object {
        (PG_CONSTRAINT, self.oid)
    }
}

/// Those of `tables`, in the order in which they were made. Left to pg_restore is what is not
/// validated, belongs to a partitioned table, or stands on an index that is not ours.
pub(super) async fn read(
    session: &Session,
    tables: &[Table],
) -> Result<Vec<ForeignKey>, DatabaseError> {
    let action = "list the foreign keys";
    let is_own = match session.version().major() {
        ..11 => "true",
        11.. => "k.conparentid = 0",
    };
    let ours = tables.iter().filter(|table| table.settings.is_none());
    let tables: Vec<u32> = ours.clone().map(|table| table.oid).collect();
    let indexes: BTreeSet<u32> =
        ours.flat_map(|table| table.indexes.iter().map(super::Index::oid)).collect();
    let sql = format!(
        "SELECT k.oid, k.conindid, n.nspname::text, c.relname::text, k.conname::text,
             pg_get_constraintdef(k.oid),
             coalesce(pg_table_size(k.conrelid) + pg_table_size(k.confrelid), 0)
         FROM pg_constraint k
         JOIN pg_class c ON c.oid = k.conrelid AND c.relkind = 'r'
         JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE k.contype = 'f' AND k.convalidated AND {is_own} AND k.conrelid = ANY ($1::oid[])
         AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_constraint'::regclass
             AND d.objid = k.oid AND d.deptype IN ('e', 'x'))
         ORDER BY k.oid"
    );
    let mut found = Vec::new();
    for row in session.rows(action, &sql, &[&tables]).await? {
        if !indexes.contains(&session.get(action, &row, 1)?) {
            continue;
        }
        let schema: String = session.get(action, &row, 2)?;
        let table: String = session.get(action, &row, 3)?;
        let bytes: i64 = session.get(action, &row, 6)?;
        found.push(ForeignKey {
            oid: session.get(action, &row, 0)?,
            table: qualified(&schema, &table),
            label: session.get(action, &row, 4)?,
            definition: session.get(action, &row, 5)?,
            bytes: bytes.unsigned_abs(),
        });
    }
    Ok(found)
}
