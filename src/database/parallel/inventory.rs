//! What there is to copy: read from the source's catalogs in the snapshot, every table locked
//! against changes of its definition for as long as the snapshot is held.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::inspect::ours;
use super::super::quote::{ident, qualified};
use super::super::{DatabaseError, Session, Snapshot};

mod foreign_keys;
mod indexes;

pub(super) use foreign_keys::ForeignKey;
pub(super) use indexes::Index;

/// A day, in milliseconds: zero would be for ever.
const LOCK_WAIT_MAX: u128 = 86_400_000;

/// The types whose binary format has been the same since PostgreSQL 10, on every machine, and holds
/// no numbers of types of one's own. It takes half of the time that text takes: no number or date
/// is spelled out to be read again.
const BINARY_TYPES: &[&str] = &[
    "bigint",
    "bit varying",
    "bit",
    "boolean",
    "bytea",
    "character varying",
    "character",
    "cidr",
    "date",
    "double precision",
    "inet",
    "integer",
    "interval",
    "json",
    "jsonb",
    "macaddr",
    "numeric",
    "oid",
    "real",
    "smallint",
    "text",
    "time with time zone",
    "time without time zone",
    "timestamp with time zone",
    "timestamp without time zone",
    "uuid",
];

/// A table whose rows are copied.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    pub oid: u32,
    /// Qualified and quoted.
    pub name: String,
    /// Those that are stored, quoted; none for a table that has none.
    pub columns: Vec<String>,
    /// Whether both servers write and read all of them alike in PostgreSQL's binary format.
    pub is_binary: bool,
    /// The rows of an extension's table that are the operator's: `WHERE …`, or nothing for all.
    pub settings: Option<String>,
    pub is_unlogged: bool,
    pub bytes: u64,
    pub pages: u32,
    /// Those that we build.
    pub indexes: Vec<Index>,
    /// Whether something that statistics are kept for comes after it: an index that is not ours,
    /// a statistics object.
    pub has_more: bool,
}

/// All of it.
#[derive(Clone, Debug)]
pub(super) struct Inventory {
    pub tables: Vec<Table>,
    /// Those that we make.
    pub foreign_keys: Vec<ForeignKey>,
    /// The encoding of the database: rows cross in it as they are.
    pub encoding: String,
    pub has_large_objects: bool,
}

/// Reads what `snapshot` sees, without the tables of the extensions that are already there.
pub(super) async fn take(
    snapshot: &Snapshot,
    extensions_made: &[String],
    lock_wait: Duration,
) -> Result<Inventory, DatabaseError> {
    let session = snapshot.session();
    let limit = lock_wait.as_millis().clamp(1, LOCK_WAIT_MAX);
    let sql = format!("SET LOCAL lock_timeout = {limit}");
    session.execute("wait for locks", &sql).await?;
    let mut tables = tables(session, extensions_made).await?;
    lock(session, &tables).await?;
    // The indexes of an extension's table come with the extension.
    let ours = tables.iter().enumerate().filter(|(_, table)| table.settings.is_none());
    let places: BTreeMap<u32, usize> = ours.map(|(place, table)| (table.oid, place)).collect();
    for (table, index) in indexes::read(session).await? {
        let Some(place) = places.get(&table) else { continue };
        match index {
            Some(index) => tables[*place].indexes.push(index),
            None => tables[*place].has_more = true,
        }
    }
    let foreign_keys = foreign_keys::read(session, &tables).await?;
    let encoding = "SELECT current_setting('server_encoding')";
    let objects = "SELECT EXISTS (SELECT FROM pg_largeobject_metadata)";
    Ok(Inventory {
        tables,
        foreign_keys,
        encoding: session.value("read the encoding", encoding, &[]).await?,
        has_large_objects: session.value("look for large objects", objects, &[]).await?,
    })
}

async fn tables(
    session: &Session,
    extensions_made: &[String],
) -> Result<Vec<Table>, DatabaseError> {
    let action = "list the tables to copy";
    let is_stored = match session.version().major() {
        ..12 => "true",
        12.. => "a.attgenerated = ''",
    };
    let sql = format!(
        "WITH wanted AS (
             SELECT c.oid, NULL::text AS settings
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {}
             UNION ALL
             SELECT x.oid, coalesce(x.condition, '')
             FROM pg_extension e, unnest(e.extconfig, e.extcondition) x (oid, condition)
             WHERE e.extname::text <> ALL ($1::text[]))
         SELECT c.oid, n.nspname::text, c.relname::text, w.settings, c.relpersistence = 'u',
             coalesce(pg_table_size(c.oid), 0),
             coalesce(pg_relation_size(c.oid) / current_setting('block_size')::bigint, 0),
             ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid
                   AND a.attnum > 0 AND NOT a.attisdropped AND {is_stored} ORDER BY a.attnum),
             EXISTS (SELECT FROM pg_statistic_ext s WHERE s.stxrelid = c.oid),
             current_setting('server_encoding') = 'UTF8'
             AND current_setting('server_version_num')::int >= 100000 AND NOT EXISTS (
                 SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0
                 AND NOT a.attisdropped AND a.atttypid::regtype::text <> ALL ($2::text[]))
         FROM wanted w JOIN pg_class c ON c.oid = w.oid JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind = 'r' AND c.relpersistence IN ('p', 'u')
         ORDER BY n.nspname, c.relname",
        ours("c.oid", "pg_class")
    );
    let names: Vec<String> =
        BINARY_TYPES.iter().flat_map(|name| [(*name).to_owned(), format!("{name}[]")]).collect();
    let rows = session.rows(action, &sql, &[&extensions_made, &names]).await?;
    rows.iter()
        .map(|row| {
            let schema: String = session.get(action, row, 1)?;
            let name: String = session.get(action, row, 2)?;
            let bytes: i64 = session.get(action, row, 5)?;
            let pages: i64 = session.get(action, row, 6)?;
            let columns: Vec<String> = session.get(action, row, 7)?;
            Ok(Table {
                oid: session.get(action, row, 0)?,
                name: qualified(&schema, &name),
                columns: columns.iter().map(|column| ident(column)).collect(),
                settings: session.get(action, row, 3)?,
                is_unlogged: session.get(action, row, 4)?,
                bytes: bytes.unsigned_abs(),
                pages: u32::try_from(pages).unwrap_or(u32::MAX),
                indexes: Vec::new(),
                has_more: session.get(action, row, 8)?,
                is_binary: session.get(action, row, 9)?,
            })
        })
        .collect()
}

/// As pg_dump does: nobody can drop, change or empty a table before it is read.
async fn lock(session: &Session, tables: &[Table]) -> Result<(), DatabaseError> {
    if tables.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = tables.iter().map(|table| format!("ONLY {}", table.name)).collect();
    let sql = format!("LOCK TABLE {} IN ACCESS SHARE MODE", names.join(", "));
    session.execute("lock the tables against changes", &sql).await
}
