//! Rows that point to nothing, although a foreign key says otherwise: an index that was corrupt let
//! them in, and the restore would stop at them.

use crate::event::{Finding, Level};
use crate::units::{count, counted};

use super::super::quote::ident;
use super::super::{DatabaseError, Session, inspect};
use super::{HEAP_ONLY, name, skipped};

/// There are many foreign keys to the same tables: both together may have this part of what one
/// table may have elsewhere.
const PART: u64 = 8;

struct ForeignKey {
    name: String,
    table: String,
    to: String,
    /// Column, operator, column it points to; all as SQL.
    columns: Vec<(String, String, String)>,
    bytes: u64,
    /// Table and the one it points to, as a query reads them: partitions belong to it, children by
    /// inheritance do not.
    from: (String, String),
}

pub(super) async fn find(
    session: &Session,
    table_bytes_max: u64,
) -> Result<Vec<Finding>, DatabaseError> {
    let bytes_max = table_bytes_max / PART;
    let (mut findings, mut left_out, mut looked) = (Vec::new(), Vec::new(), 0);
    for key in foreign_keys(session).await? {
        if key.bytes > bytes_max {
            left_out.push(key.name);
        } else {
            looked += 1;
            findings.extend(orphans(session, &key).await?);
        }
    }
    let remedy = "the restore stops with the constraint's name should there be any";
    let what = "rows that point to nothing";
    findings.extend(skipped("foreign keys", what, &left_out, bytes_max, remedy));
    if findings.is_empty() && looked > 0 {
        let text = format!("{} looked at, no row points to nothing", count(looked));
        findings.push(Finding::ok("foreign keys", text));
    }
    Ok(findings)
}

/// Those that were validated: a restore validates them again.
async fn foreign_keys(session: &Session) -> Result<Vec<ForeignKey>, DatabaseError> {
    let action = "list the foreign keys";
    let sql = format!(
        "SELECT n.nspname::text, c.relname::text, tn.nspname::text, t.relname::text,
             x.conname::text, pg_table_size(c.oid) + pg_table_size(t.oid),
             ARRAY(SELECT a.attname::text FROM unnest(x.conkey) WITH ORDINALITY k(number, place)
                   JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number ORDER BY place),
             ARRAY(SELECT format('OPERATOR(%I.%s)', o_n.nspname, o.oprname)
                   FROM unnest(x.conpfeqop) WITH ORDINALITY k(id, place)
                   JOIN pg_operator o ON o.oid = k.id
                   JOIN pg_namespace o_n ON o_n.oid = o.oprnamespace ORDER BY place),
             ARRAY(SELECT a.attname::text FROM unnest(x.confkey) WITH ORDINALITY k(number, place)
                   JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.number ORDER BY place),
             c.relkind = 'p', t.relkind = 'p'
         FROM pg_constraint x
         JOIN pg_class c ON c.oid = x.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
         JOIN pg_class t ON t.oid = x.confrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace
         WHERE x.contype = 'f' AND x.convalidated AND x.conparentid = 0 AND {} ORDER BY 6, 1, 2, 5",
        inspect::ours("c.oid", "pg_class")
    );
    let rows = session.rows(action, &sql, &[]).await?;
    rows.iter()
        .map(|row| {
            let bytes: i64 = session.get(action, row, 5)?;
            let from: Vec<String> = session.get(action, row, 6)?;
            let operators: Vec<String> = session.get(action, row, 7)?;
            let to: Vec<String> = session.get(action, row, 8)?;
            let columns = from.iter().zip(operators).zip(&to);
            let (table, target) = (name(session, action, row, 0)?, name(session, action, row, 2)?);
            let whole = |name: &String, is_parted: bool| match is_parted {
                true => name.clone(),
                false => format!("ONLY {name}"),
            };
            Ok(ForeignKey {
                name: session.get(action, row, 4)?,
                from: (
                    whole(&table, session.get(action, row, 9)?),
                    whole(&target, session.get(action, row, 10)?),
                ),
                table,
                to: target,
                columns: columns
                    .map(|((from, operator), to)| (ident(from), operator, ident(to)))
                    .collect(),
                bytes: bytes.unsigned_abs(),
            })
        })
        .collect()
}

async fn orphans(session: &Session, key: &ForeignKey) -> Result<Option<Finding>, DatabaseError> {
    let rest = key.rest();
    let sql = format!("SELECT count(*) {rest}");
    let count: i64 = session.slow_value("look for rows that point to nothing", &sql).await?;
    Ok((count > 0).then(|| Finding {
        level: Level::Refusal,
        subject: format!("foreign key {}", key.name),
        text: format!(
            "{} of {} {} to nothing in {}: it could not be made on the target",
            counted(count.unsigned_abs(), "row"),
            key.table,
            if count == 1 { "points" } else { "point" },
            key.to
        ),
        remedy: Some(format!(
            "on the source: {HEAP_ONLY}; SELECT c.* {rest}; delete these rows or what they point \
             with, and REINDEX TABLE {}",
            key.to
        )),
    }))
}

impl ForeignKey {
    /// The query for rows `c` that point to nothing, from its FROM on.
    fn rest(&self) -> String {
        let given: Vec<String> =
            self.columns.iter().map(|(from, ..)| format!("c.{from} IS NOT NULL")).collect();
        let equal: Vec<String> = self
            .columns
            .iter()
            .map(|(from, operator, to)| format!("p.{to} {operator} c.{from}"))
            .collect();
        format!(
            "FROM {} c WHERE {} AND NOT EXISTS (SELECT FROM {} p WHERE {})",
            self.from.0,
            given.join(" AND "),
            self.from.1,
            equal.join(" AND ")
        )
    }
}
