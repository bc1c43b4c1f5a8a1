//! Duplicates under unique indexes, which a corrupt index hides and a restore stops at.

use crate::event::{Finding, Level};
use crate::units::{count, counted};

use super::super::{DatabaseError, Session, inspect};
use super::{HEAP_ONLY, name, skipped};

struct UniqueIndex {
    name: String,
    table: String,
    /// Its key expressions, as SQL.
    keys: Vec<String>,
    predicate: Option<String>,
    table_bytes: u64,
    /// Two NULLs are one value too many.
    nulls_are_equal: bool,
}

pub(super) async fn find(
    session: &Session,
    table_bytes_max: u64,
) -> Result<Vec<Finding>, DatabaseError> {
    let (mut findings, mut left_out, mut looked) = (Vec::new(), Vec::new(), 0);
    for index in indexes(session).await? {
        if index.table_bytes > table_bytes_max {
            left_out.push(index.name);
        } else {
            looked += 1;
            findings.extend(duplicates(session, &index).await?);
        }
    }
    let remedy = "the restore stops with the index's name should there be any";
    findings.extend(skipped("unique indexes", "duplicates", &left_out, table_bytes_max, remedy));
    if findings.is_empty() {
        let text = format!("{} looked at, no duplicates", count(looked));
        findings.push(Finding::ok("unique indexes", text));
    }
    Ok(findings)
}

async fn indexes(session: &Session) -> Result<Vec<UniqueIndex>, DatabaseError> {
    let action = "list the unique indexes";
    let nulls = match session.version().major() {
        15.. => "x.indnullsnotdistinct",
        _ => "false",
    };
    let sql = format!(
        "SELECT n.nspname::text, i.relname::text, tn.nspname::text, t.relname::text,
             ARRAY(SELECT pg_get_indexdef(x.indexrelid, k, false)
                   FROM generate_series(1, x.indnkeyatts) k),
             pg_get_expr(x.indpred, x.indrelid), pg_table_size(t.oid), {nulls}
         FROM pg_index x
         JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_namespace n ON n.oid = i.relnamespace
         JOIN pg_class t ON t.oid = x.indrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace
         WHERE x.indisunique AND x.indisvalid AND (t.relkind = 'r' OR t.relkind = 'm' AND t.relispopulated)
             AND i.relkind = 'i' AND {}
         ORDER BY 7, 1, 2",
        inspect::ours("t.oid", "pg_class")
    );
    let rows = session.rows(action, &sql, &[]).await?;
    rows.iter()
        .map(|row| {
            let bytes: i64 = session.get(action, row, 6)?;
            Ok(UniqueIndex {
                name: name(session, action, row, 0)?,
                table: name(session, action, row, 2)?,
                keys: session.get(action, row, 4)?,
                predicate: session.get(action, row, 5)?,
                table_bytes: bytes.unsigned_abs(),
                nulls_are_equal: session.get(action, row, 7)?,
            })
        })
        .collect()
}

async fn duplicates(
    session: &Session,
    index: &UniqueIndex,
) -> Result<Option<Finding>, DatabaseError> {
    let query = index.query();
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
            "on the source: {HEAP_ONLY}; {query}; remove the surplus rows, then REINDEX INDEX {}",
            index.name
        )),
    }))
}

impl UniqueIndex {
    /// The query for values that are there more than once.
    fn query(&self) -> String {
        let mut conditions = Vec::new();
        if !self.nulls_are_equal {
            conditions.extend(self.keys.iter().map(|key| format!("({key}) IS NOT NULL")));
        }
        conditions.extend(self.predicate.iter().map(|predicate| format!("({predicate})")));
        let wherever = match conditions.as_slice() {
            [] => String::new(),
            conditions => format!(" WHERE {}", conditions.join(" AND ")),
        };
        let keys: Vec<String> = self.keys.iter().map(|key| format!("({key})")).collect();
        let (keys, table) = (keys.join(", "), &self.table);
        format!("SELECT {keys} FROM ONLY {table}{wherever} GROUP BY {keys} HAVING count(*) > 1")
    }
}
