//! Values that are longer than an index row of a btree may be: they got in before the index did,
//! or under one that compressed them.

use crate::event::{Finding, Level};
use crate::units::counted;

use super::super::{DatabaseError, Session, inspect};
use super::{name, skipped};

/// The longest value that a btree takes, when compression did not help: a third of a page.
const BTREE_ROW_BYTES_MAX: u32 = 2_692;

pub(super) async fn find(
    session: &Session,
    table_bytes_max: u64,
) -> Result<Vec<Finding>, DatabaseError> {
    let mut findings = long_urls(session).await?;
    let mut left_out = Vec::new();
    for table in tables(session).await? {
        if table.bytes > table_bytes_max {
            left_out.push(table.name);
        } else {
            findings.extend(long_keys(session, &table).await?);
        }
    }
    let remedy = "the restore stops with the index's name should there be any";
    findings.extend(skipped("index rows", "over-long ones", &left_out, table_bytes_max, remedy));
    Ok(findings)
}

/// `preview_cards.url` is indexed whole, and urls grew longer than an index row may be.
async fn long_urls(session: &Session) -> Result<Vec<Finding>, DatabaseError> {
    let action = "look for over-long urls of preview cards";
    let sql = "SELECT n.nspname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'url'
               WHERE c.relname = 'preview_cards' AND c.relkind = 'r' AND n.nspname = 'public'";
    if session.rows(action, sql, &[]).await?.is_empty() {
        return Ok(Vec::new());
    }
    let condition = format!("pg_column_size(url) > {BTREE_ROW_BYTES_MAX}");
    let sql = format!("SELECT count(*) FROM public.preview_cards WHERE {condition}");
    let count: i64 = session.slow_value(action, &sql).await?;
    if count == 0 {
        return Ok(Vec::new());
    }
    Ok(vec![Finding {
        level: Level::Refusal,
        subject: "preview_cards.url".into(),
        text: format!(
            "{} with a url too long for index_preview_cards_on_url: the index would not build",
            counted(count.unsigned_abs(), "row")
        ),
        remedy: Some(format!("on the source: DELETE FROM preview_cards WHERE {condition}")),
    }])
}

struct Table {
    name: String,
    bytes: u64,
    /// Its btree indexes: name, what the row of one takes, whether that is more than a guess.
    indexes: Vec<(String, String, bool)>,
}

/// Tables with btree indexes over values of any length, apart from the one above.
async fn tables(session: &Session) -> Result<Vec<Table>, DatabaseError> {
    let action = "list the indexes of long values";
    let sql = format!(
        "SELECT n.nspname::text, c.relname::text, pg_table_size(c.oid), i.relname::text,
             (SELECT string_agg(format('coalesce(pg_column_size(%s), 0)',
                                       pg_get_indexdef(i.oid, k, false)), ' + ')
              FROM generate_series(1, x.indnatts) k),
             pg_get_expr(x.indpred, x.indrelid), x.indexprs IS NULL
         FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
         JOIN pg_class c ON c.oid = x.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
         JOIN pg_am am ON am.oid = i.relam
         WHERE am.amname = 'btree' AND x.indisvalid AND i.relkind = 'i' AND c.relkind = 'r'
           AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = i.oid AND a.attlen = -1)
           AND NOT (n.nspname = 'public' AND c.relname = 'preview_cards') AND {}
         ORDER BY 3, c.oid, i.relname",
        inspect::ours("c.oid", "pg_class")
    );
    let mut tables: Vec<Table> = Vec::new();
    for row in &session.rows(action, &sql, &[]).await? {
        let name = name(session, action, row, 0)?;
        let bytes: i64 = session.get(action, row, 2)?;
        let size: String = session.get(action, row, 4)?;
        let predicate: Option<String> = session.get(action, row, 5)?;
        let mut condition = format!("{size} > {BTREE_ROW_BYTES_MAX}");
        if let Some(predicate) = predicate {
            condition = format!("{condition} AND ({predicate})");
        }
        let index = (session.get(action, row, 3)?, condition, session.get(action, row, 6)?);
        match tables.last_mut().filter(|table| table.name == name) {
            Some(table) => table.indexes.push(index),
            None => {
                tables.push(Table { name, bytes: bytes.unsigned_abs(), indexes: vec![index] });
            }
        }
    }
    Ok(tables)
}

/// One reading of the table for all its indexes.
async fn long_keys(session: &Session, table: &Table) -> Result<Vec<Finding>, DatabaseError> {
    let action = "look for over-long index rows";
    let counts: Vec<String> = table
        .indexes
        .iter()
        .map(|(_, condition, _)| format!("count(*) FILTER (WHERE {condition})"))
        .collect();
    let sql = format!("SELECT ARRAY[{}] FROM ONLY {}", counts.join(", "), table.name);
    let counts: Vec<i64> = session.slow_value(action, &sql).await?;
    let long = table.indexes.iter().zip(counts).filter(|(_, count)| *count > 0);
    Ok(long
        .map(|((index, condition, is_sure), count)| {
            let rows = counted(count.unsigned_abs(), "row");
            let (level, text) = match is_sure {
                true => (Level::Refusal, "the index would not build"),
                // What is computed is compressed when it is put into the index, not before.
                false => (Level::Warning, "unless they compress well, the index would not build"),
            };
            Finding {
                level,
                subject: format!("index {index}"),
                text: format!("{rows} of {} too long for it: {text}", table.name),
                remedy: Some(format!(
                    "on the source: SELECT * FROM {} WHERE {condition}; shorten or delete them",
                    table.name
                )),
            }
        })
        .collect())
}
