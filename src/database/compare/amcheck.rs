//! Every btree index of a database against its table, by PostgreSQL's extension `amcheck`: that
//! its order is right, and that each row is in it. Reads everything once more, so it is done when
//! asked for only.
//!
//! The extension is made in a transaction that is never committed: whatever happens to us, it is
//! not left behind.

use crate::event::{Event, Monitor, Progress};

use super::super::inspect::ours;
use super::super::session::{self, Access};
use super::super::{DatabaseError, Server, Session};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    pub indexes: u64,
    /// Each names its index.
    pub problems: Vec<String>,
}

struct Index {
    oid: u32,
    name: String,
}

/// Checks the indexes of the database that `login`, a superuser there, is for.
pub async fn amcheck(login: &Server, monitor: &dyn Monitor) -> Result<Checked, DatabaseError> {
    let session = session::connect(login, Access::Write).await?;
    session.execute("begin", "BEGIN").await?;
    let schema = extension(&session).await?;
    let indexes = indexes(&session).await?;
    let mut checked = Checked { indexes: indexes.len() as u64, ..Checked::default() };
    for (number, index) in (1..).zip(&indexes) {
        let sql = format!("SELECT {schema}.bt_index_check({}::oid::regclass, true)", index.oid);
        session.execute("check an index", "SAVEPOINT one").await?;
        match session.execute("check an index", &sql).await {
            Ok(()) => session.execute("check an index", "RELEASE one").await?,
            Err(DatabaseError::Sql { source, .. }) => {
                session.execute("check an index", "ROLLBACK TO one").await?;
                checked.problems.push(format!("index {}: {source}", index.name));
            }
            Err(error) => return Err(error),
        }
        monitor.emit(Event::Progress(Progress {
            activity: "amcheck".into(),
            items_done: number,
            items_total: Some(checked.indexes),
            detail: Some(index.name.clone()),
            ..Progress::default()
        }));
    }
    session.execute("end", "ROLLBACK").await?;
    Ok(checked)
}

/// The schema of the extension, which is made for now where it is not there.
async fn extension(session: &Session) -> Result<String, DatabaseError> {
    const SCHEMA: &str = "transhume_amcheck";
    let action = "look for amcheck";
    let sql = "SELECT quote_ident(n.nspname) FROM pg_extension e
               JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'amcheck'";
    if let Some(row) = session.rows(action, sql, &[]).await?.first() {
        return session.get(action, row, 0);
    }
    let sql = format!("CREATE SCHEMA {SCHEMA}; CREATE EXTENSION amcheck SCHEMA {SCHEMA}");
    session.execute("make the extension amcheck for the time of the check", &sql).await?;
    Ok(SCHEMA.into())
}

async fn indexes(session: &Session) -> Result<Vec<Index>, DatabaseError> {
    let action = "list the indexes";
    let sql = format!(
        "SELECT i.oid, format('%I.%I', n.nspname, i.relname)
         FROM pg_index k JOIN pg_class i ON i.oid = k.indexrelid
         JOIN pg_namespace n ON n.oid = i.relnamespace JOIN pg_am a ON a.oid = i.relam
         WHERE a.amname = 'btree' AND i.relkind = 'i' AND i.relpersistence <> 't'
           AND k.indisvalid AND k.indisready AND {} ORDER BY 2",
        ours("k.indrelid", "pg_class")
    );
    let rows = session.rows(action, &sql, &[]).await?;
    rows.iter()
        .map(|row| {
            Ok(Index { oid: session.get(action, row, 0)?, name: session.get(action, row, 1)? })
        })
        .collect()
}
