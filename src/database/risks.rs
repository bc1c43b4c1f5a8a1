//! What in the source's rows would make a restore fail: found by asking the source, which is only
//! read. These questions look at whole tables; larger ones than a limit are left out and named.

use crate::event::Level;
use crate::units::{Bytes, count, counted};

use super::quote::qualified;
use super::session::Access;
use crate::event::Finding;

use super::{DatabaseError, Server, Session, inspect, session};

/// The longest value that a btree takes, when compression did not help: a third of a page.
const BTREE_ROW_BYTES_MAX: u32 = 2_692;

/// Findings about rows of the source. Tables above `table_bytes_max` are not looked at.
pub async fn find(server: &Server, table_bytes_max: u64) -> Result<Vec<Finding>, DatabaseError> {
    let session = session::connect(server, Access::Read).await?;
    // The truth is in the heap: a corrupt index would hide what is wrong with it.
    session
        .execute(
            "switch index scans off",
            "SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off",
        )
        .await?;
    let mut findings = long_urls(&session).await?;
    let (mut skipped, mut looked) = (Vec::new(), 0);
    for index in unique_text_indexes(&session).await? {
        if index.table_bytes > table_bytes_max {
            skipped.push(index.name);
        } else {
            looked += 1;
            findings.extend(duplicates(&session, &index).await?);
        }
    }
    if !skipped.is_empty() {
        findings.push(Finding::warning(
            "unique indexes",
            format!(
                "not searched for duplicates, because their tables are larger than {}: {}",
                Bytes(table_bytes_max),
                skipped.join(", ")
            ),
            Some("the restore stops with the index's name should there be any".into()),
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            "unique indexes",
            format!("{} over texts, no duplicates", count(looked)),
        ));
    }
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

struct UniqueIndex {
    name: String,
    table: String,
    /// Its key expressions, as SQL.
    keys: Vec<String>,
    predicate: Option<String>,
    table_bytes: u64,
}

/// Unique indexes over text: those that a changed collation corrupts.
async fn unique_text_indexes(session: &Session) -> Result<Vec<UniqueIndex>, DatabaseError> {
    let action = "list the unique indexes on text";
    let sql = format!(
        "SELECT n.nspname::text, i.relname::text, tn.nspname::text, t.relname::text,
             ARRAY(SELECT pg_get_indexdef(x.indexrelid, k, false)
                   FROM generate_series(1, x.indnkeyatts) k),
             pg_get_expr(x.indpred, x.indrelid), pg_table_size(t.oid)
         FROM pg_index x
         JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_namespace n ON n.oid = i.relnamespace
         JOIN pg_class t ON t.oid = x.indrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace
         WHERE x.indisunique AND x.indisvalid AND t.relkind IN ('r', 'm') AND i.relkind = 'i'
           AND EXISTS (SELECT FROM unnest(x.indcollation) c WHERE c <> 0) AND {}
         ORDER BY 7, 1, 2",
        inspect::ours("t.oid", "pg_class")
    );
    let rows = session.rows(action, &sql, &[]).await?;
    rows.iter()
        .map(|row| {
            let name = |schema, name| -> Result<String, DatabaseError> {
                let schema: String = session.get(action, row, schema)?;
                let name: String = session.get(action, row, name)?;
                Ok(qualified(&schema, &name))
            };
            let bytes: i64 = session.get(action, row, 6)?;
            Ok(UniqueIndex {
                name: name(0, 1)?,
                table: name(2, 3)?,
                keys: session.get(action, row, 4)?,
                predicate: session.get(action, row, 5)?,
                table_bytes: bytes.unsigned_abs(),
            })
        })
        .collect()
}

async fn duplicates(
    session: &Session,
    index: &UniqueIndex,
) -> Result<Option<Finding>, DatabaseError> {
    let mut conditions: Vec<String> =
        index.keys.iter().map(|key| format!("({key}) IS NOT NULL")).collect();
    conditions.extend(index.predicate.iter().map(|predicate| format!("({predicate})")));
    let conditions = conditions.join(" AND ");
    let keys: Vec<String> = index.keys.iter().map(|key| format!("({key})")).collect();
    let query = format!(
        "SELECT {} FROM {} WHERE {conditions} GROUP BY {} HAVING count(*) > 1",
        keys.join(", "),
        index.table,
        keys.join(", "),
    );
    let sql = format!("SELECT count(*) FROM ({query}) AS d");
    let count: i64 = session.slow_value("look for duplicates under a unique index", &sql).await?;
    Ok((count > 0).then(|| Finding {
        level: Level::Refusal,
        subject: index.name.clone(),
        text: format!(
            "{} in {} more than once: the index is corrupt and would not build on the target",
            counted(count.unsigned_abs(), "value"),
            index.table
        ),
        remedy: Some(format!(
            "on the source: SET enable_indexscan=off; SET enable_indexonlyscan=off; SET \
             enable_bitmapscan=off; {query}; remove the surplus rows, then REINDEX INDEX {}",
            index.name
        )),
    }))
}
