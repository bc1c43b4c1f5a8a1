//! Which indexes are ours to build, and how.

use super::super::super::quote::{ident, qualified};
use super::super::super::{DatabaseError, Session};
use super::super::contents::{Object, PG_CLASS, PG_CONSTRAINT};

/// A plain index, which the statements here make just as pg_restore would.
#[derive(Clone, Debug)]
pub(in super::super) struct Index {
    /// Its name alone, as messages of the server have it.
    pub label: String,
    /// Qualified and quoted.
    pub name: String,
    /// `CREATE INDEX …`
    pub definition: String,
    pub constraint: Option<Constraint>,
    pub bytes: u64,
    oid: u32,
}

/// A primary key or unique constraint that stands on an index.
#[derive(Clone, Debug)]
pub(in super::super) struct Constraint {
    /// `ADD CONSTRAINT … USING INDEX …`
    pub definition: String,
    oid: u32,
}

impl Index {
    pub(super) fn oid(&self) -> u32 {
        self.oid
    }

    /// The entry of an archive that would make it.
    pub fn entry(&self) -> Object {
        match &self.constraint {
            Some(constraint) => (PG_CONSTRAINT, constraint.oid),
            None => (PG_CLASS, self.oid),
        }
    }
}

/// All indexes of ordinary tables by the oid of the table; `None` for one that is left to
/// pg_restore.
pub(super) async fn read(session: &Session) -> Result<Vec<(u32, Option<Index>)>, DatabaseError> {
    let action = "list the indexes";
    let nulls = match session.version().major() {
        ..15 => "false",
        15.. => "i.indnullsnotdistinct",
    };
    let sql = SQL.replace("{nulls}", nulls);
    let rows = session.rows(action, &sql, &[]).await?;
    let mut found = Vec::new();
    for row in rows {
        let table: u32 = session.get(action, &row, 0)?;
        let is_plain: bool = session.get(action, &row, 1)?;
        if !is_plain {
            found.push((table, None));
            continue;
        }
        let schema: String = session.get(action, &row, 3)?;
        let label: String = session.get(action, &row, 4)?;
        let bytes: i64 = session.get(action, &row, 5)?;
        let constraint: Option<u32> = session.get(action, &row, 7)?;
        let constraint = match constraint {
            Some(oid) => {
                let kind: String = session.get(action, &row, 8)?;
                let deferral: String = session.get(action, &row, 9)?;
                let name = ident(&label);
                let definition =
                    format!("ADD CONSTRAINT {name} {kind} USING INDEX {name}{deferral}");
                Some(Constraint { definition, oid })
            }
            None => None,
        };
        let index = Index {
            oid: session.get(action, &row, 2)?,
            name: qualified(&schema, &label),
            definition: session.get(action, &row, 6)?,
            bytes: bytes.unsigned_abs(),
            label,
            constraint,
        };
        found.push((table, Some(index)));
    }
    Ok(found)
}

/// Plain is what one statement makes as it is. Whatever hangs on an index in an archive's entry
/// (clustering, replica identity, statistics targets, dependence on an extension), belongs to a
/// partitioned one, excludes, or lies elsewhere is not. Nor is one on a function that is written
/// in a procedural language: it may read tables that are not there yet.
const SQL: &str = "
    SELECT i.indrelid,
        NOT i.indisclustered AND NOT i.indisreplident AND c.reltablespace = 0
        AND NOT c.relispartition
        AND NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = c.oid)
        AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attstattarget >= 0)
        AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
            AND d.objid = c.oid AND d.deptype IN ('e', 'x'))
        AND NOT EXISTS (SELECT FROM pg_depend d
            JOIN pg_proc p ON d.refclassid = 'pg_proc'::regclass AND p.oid = d.refobjid
            JOIN pg_language l ON l.oid = p.prolang
            WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
            AND l.lanname NOT IN ('internal', 'c'))
        AND (k.oid IS NULL OR k.contype IN ('p', 'u') AND m.amname = 'btree' AND NOT {nulls}
            AND k.conname = c.relname
            AND NOT EXISTS (SELECT FROM unnest(i.indoption::int2[]) o WHERE o <> 0)
            AND NOT EXISTS (SELECT FROM unnest(i.indclass::oid[]) o JOIN pg_opclass s ON s.oid = o
                WHERE NOT s.opcdefault)),
        i.indexrelid, n.nspname::text, c.relname::text, coalesce(pg_relation_size(c.oid), 0),
        pg_get_indexdef(c.oid), k.oid,
        CASE k.contype WHEN 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END,
        CASE WHEN NOT coalesce(k.condeferrable, false) THEN ''
             WHEN k.condeferred THEN ' DEFERRABLE INITIALLY DEFERRED' ELSE ' DEFERRABLE' END
    FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid AND c.relkind = 'i'
    JOIN pg_class t ON t.oid = i.indrelid AND t.relkind = 'r'
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_am m ON m.oid = c.relam
    LEFT JOIN pg_constraint k ON k.conindid = c.oid AND k.conrelid = i.indrelid
        AND k.contype IN ('p', 'u', 'x')
    WHERE i.indisvalid AND i.indisready AND n.nspname !~ '^pg_'
    ORDER BY i.indrelid, i.indexrelid";
