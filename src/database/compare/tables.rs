//! What is to be counted and hashed on one side: tables, their columns, keys and sizes. Large
//! objects count as one more table, whose rows are the objects.

use std::collections::BTreeMap;

use super::super::inspect::ours;
use super::super::quote::qualified;
use super::super::{DatabaseError, Session};
use super::difference::Holder;
use super::expression::{Column, OBJECT_ID};

/// Something that has rows.
#[derive(Clone, Debug)]
pub(super) struct Relation {
    pub name: String,
    pub sort: Sort,
    pub columns: Vec<Column>,
    /// The columns of its primary key; none without one.
    pub key: Vec<String>,
    pub blocks: i64,
    /// With TOAST.
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Table,
    /// A materialized view, with the query behind it.
    View(String),
    LargeObjects,
}

impl Relation {
    /// As messages name it.
    pub fn holder(&self) -> Holder {
        match self.sort {
            Sort::Table => Holder::Table(self.name.clone()),
            Sort::View(_) => Holder::View(self.name.clone()),
            Sort::LargeObjects => Holder::LargeObjects,
        }
    }

    /// What a query that reads its rows says after FROM.
    pub fn source(&self) -> String {
        match self.sort {
            Sort::Table | Sort::LargeObjects => format!("ONLY {}", self.name),
            Sort::View(_) => self.name.clone(),
        }
    }
}

/// All that have rows of their own, the largest first.
pub(super) async fn relations(session: &Session) -> Result<Vec<Relation>, DatabaseError> {
    let action = "list the tables";
    let mut columns = columns(session).await?;
    let sql = format!(
        "SELECT n.nspname::text, c.relname::text,
             CASE WHEN c.relkind = 'm' THEN pg_get_viewdef(c.oid) END,
             coalesce(pg_relation_size(c.oid), 0) / current_setting('block_size')::bigint,
             coalesce(pg_table_size(c.oid), 0),
             ARRAY(SELECT a.attname::text FROM pg_index x, unnest(x.indkey::int2[])
                       WITH ORDINALITY AS k(number, position)
                   JOIN pg_attribute a ON a.attnum = k.number
                   WHERE x.indrelid = c.oid AND x.indisprimary AND a.attrelid = c.oid
                     AND k.position <= x.indnkeyatts
                   ORDER BY k.position)
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE (c.relkind = 'r' OR c.relkind = 'm' AND c.relispopulated) AND {}
         ORDER BY 5 DESC, 1, 2",
        ours("c.oid", "pg_class")
    );
    let rows = session.rows(action, &sql, &[]).await?;
    let objects = large_objects(session).await?;
    let tables = rows.iter().map(|row| {
        let schema: String = session.get(action, row, 0)?;
        let name: String = session.get(action, row, 1)?;
        let name = qualified(&schema, &name);
        let view: Option<String> = session.get(action, row, 2)?;
        let bytes: i64 = session.get(action, row, 4)?;
        Ok(Relation {
            columns: columns.remove(&name).unwrap_or_default(),
            name,
            sort: view.map_or(Sort::Table, Sort::View),
            blocks: session.get(action, row, 3)?,
            bytes: bytes.unsigned_abs(),
            key: session.get(action, row, 5)?,
        })
    });
    tables.chain([Ok(objects)]).collect()
}

/// The large objects, in the order of the catalog that everybody may read; also where there are
/// none.
async fn large_objects(session: &Session) -> Result<Relation, DatabaseError> {
    let action = "look for large objects";
    let sql = "SELECT coalesce(pg_relation_size('pg_largeobject_metadata'), 0)
                   / current_setting('block_size')::bigint,
                   coalesce(pg_table_size('pg_largeobject'), 0)";
    let row = session.row(action, sql, &[]).await?;
    let bytes: i64 = session.get(action, &row, 1)?;
    Ok(Relation {
        name: qualified("pg_catalog", "pg_largeobject_metadata"),
        sort: Sort::LargeObjects,
        columns: Vec::new(),
        key: vec![OBJECT_ID.into()],
        blocks: session.get(action, &row, 0)?,
        bytes: bytes.unsigned_abs(),
    })
}

async fn columns(session: &Session) -> Result<BTreeMap<String, Vec<Column>>, DatabaseError> {
    let action = "list the columns";
    let sql = format!(
        "WITH RECURSIVE behind(type, base) AS (
             SELECT oid, oid FROM pg_type WHERE typtype <> 'd'
             UNION ALL SELECT t.oid, b.base FROM pg_type t JOIN behind b ON t.typbasetype = b.type
             WHERE t.typtype = 'd')
         SELECT n.nspname::text, c.relname::text, a.attname::text,
             format_type(a.atttypid, a.atttypmod),
             CASE WHEN t.typtype = 'b' AND t.typcategory <> 'A'
                   AND t.typnamespace = 'pg_catalog'::regnamespace THEN t.typname::text END,
             a.atttypid <> t.oid
         FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
         JOIN pg_namespace n ON n.oid = c.relnamespace
         JOIN behind b ON b.type = a.atttypid JOIN pg_type t ON t.oid = b.base
         WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'm') AND {}
         ORDER BY c.oid, a.attnum",
        ours("c.oid", "pg_class")
    );
    let mut found: BTreeMap<String, Vec<Column>> = BTreeMap::new();
    for row in session.rows(action, &sql, &[]).await? {
        let schema: String = session.get(action, &row, 0)?;
        let table: String = session.get(action, &row, 1)?;
        found.entry(qualified(&schema, &table)).or_default().push(Column {
            name: session.get(action, &row, 2)?,
            type_name: session.get(action, &row, 3)?,
            base: session.get(action, &row, 4)?,
            is_domain: session.get(action, &row, 5)?,
        });
    }
    Ok(found)
}
