//! Rows: one part of a table through `COPY` on both sides, as one transaction on the target, and
//! again where the connection was lost before that was committed.

use bytes::BytesMut;
use futures_util::future::try_join;

use super::super::quote::literal;
use super::super::{DatabaseError, Session};
use super::inventory::Table;
use super::recover::{LOSSES_MAX, is_lost};
use super::schedule::Pages;
use super::seat::{Reader, Writer};
use super::told::Told;

/// Rows are sent on in pieces of about this size.
const PIECE_BYTES: usize = 128 * 1024;

/// One worker: a session on either side.
pub(super) struct Copier<'a> {
    pub reader: Reader<'a>,
    pub writer: Writer<'a>,
    pub encoding: &'a str,
    pub told: &'a Told<'a>,
}

/// A commit that was sent.
struct Commit {
    transaction: i64,
    /// The file that the table has if it happened, where that tells.
    file: Option<u32>,
    rows: u64,
}

impl Copier<'_> {
    /// Copies `pages` of `table`, or all of it; gives the number of rows.
    pub async fn copy(
        &mut self,
        table: &Table,
        pages: Option<Pages>,
    ) -> Result<u64, DatabaseError> {
        let statements = Statements::new(table, pages, self.encoding);
        let mut unanswered = None;
        let mut losses = 0;
        loop {
            let (source, target) = tokio::try_join!(self.reader.session(), self.writer.session())?;
            let copied =
                copy_once(source, target, table, &statements, &mut unanswered, self.told).await;
            match copied {
                Err(error) if is_lost(&error) && losses < LOSSES_MAX => {
                    losses += 1;
                    self.told.lost(&error, &table.name);
                    self.reader.session = None;
                    self.writer.leave();
                }
                copied => return copied,
            }
        }
    }
}

/// Copies the part, unless it turns out that the commit sent before did happen.
async fn copy_once(
    source: &Session,
    target: &Session,
    table: &Table,
    statements: &Statements,
    unanswered: &mut Option<Commit>,
    told: &Told<'_>,
) -> Result<u64, DatabaseError> {
    if let Some(commit) = unanswered {
        if commit.happened(target, table).await? {
            return Ok(commit.rows);
        }
        *unanswered = None;
    }
    let action = "copy rows";
    // Sent together: one wait less for every table.
    let into = try_join(
        target.texts(action, &statements.begin),
        target.copy_in(action, &statements.from_stdin),
    );
    let (mut from, (begun, mut into)) =
        try_join(source.copy_out("read rows", &statements.to_stdout), into).await?;
    let mut piece = BytesMut::with_capacity(PIECE_BYTES);
    let mut bytes = 0;
    while let Some(row) = from.next().await? {
        if piece.len() + row.len() > PIECE_BYTES && !piece.is_empty() {
            bytes += told.moved(&table.name, piece.len());
            into.send(piece.split().freeze()).await?;
            piece.reserve(PIECE_BYTES);
        }
        if row.len() >= PIECE_BYTES {
            bytes += told.moved(&table.name, row.len());
            into.send(row).await?;
        } else {
            piece.extend_from_slice(&row);
        }
    }
    bytes += told.moved(&table.name, piece.len());
    into.send(piece.freeze()).await?;
    let rows = into.finish().await?;
    let (transaction, file) = mark(&begun).ok_or_else(|| target.nonsense(action, "no mark"))?;
    let file = statements.is_whole.then_some(file);
    *unanswered = Some(Commit { transaction, file, rows });
    target.execute("commit rows", "COMMIT").await?;
    told.arrived(bytes);
    Ok(rows)
}

/// The transaction and the table's file, from the answer to [`Statements::begin`].
fn mark(begun: &[Vec<Option<String>>]) -> Option<(i64, u32)> {
    let [Some(transaction), Some(file)] = begun.last()?.as_slice() else { return None };
    Some((transaction.parse().ok()?, file.parse().ok()?))
}

impl Commit {
    /// Whether it did. Its server process is gone, so there is an answer. A crash can lose the
    /// number of a transaction and give it to another one: a table that was emptied first has
    /// another file by which it is told.
    async fn happened(&self, target: &Session, table: &Table) -> Result<bool, DatabaseError> {
        let action = "look whether the last rows were committed";
        let file = "SELECT pg_relation_filenode($1::text::regclass)";
        if let Some(wanted) = self.file {
            let found: Option<u32> = target.value(action, file, &[&table.name]).await?;
            return Ok(found == Some(wanted));
        }
        let status = "SELECT txid_status($1)";
        match target.value::<Option<String>>(action, status, &[&self.transaction]).await {
            Ok(Some(status)) => match status.as_str() {
                "committed" => Ok(true),
                "aborted" => Ok(false),
                other => Err(target.nonsense(action, &format!("it is {other}"))),
            },
            Ok(None) => Err(target.nonsense(action, "it is too long ago")),
            // "is in the future": its number was lost in a crash, and it with that.
            Err(DatabaseError::Sql { source, .. }) if source.code == "22023" => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// What is said to the servers for one part.
struct Statements {
    begin: String,
    to_stdout: String,
    from_stdin: String,
    /// Whether the table is emptied first: nobody else has put anything into it.
    is_whole: bool,
}

impl Statements {
    fn new(table: &Table, pages: Option<Pages>, encoding: &str) -> Statements {
        let Table { name, columns, settings, .. } = table;
        let list = columns.join(", ");
        let listed = if list.is_empty() { String::new() } else { format!(" ({list})") };
        let is_whole = pages.is_none() && settings.is_none();
        // In the binary format text has the encoding of the session: ours is that of the database.
        let format = match table.is_binary {
            true => "FORMAT binary".to_owned(),
            false => format!("ENCODING {}", literal(encoding)),
        };
        let from = match (settings, pages) {
            (Some(condition), _) => format!("(SELECT {list} FROM {name} {condition})"),
            (None, None) => format!("{name}{listed}"),
            (None, Some(pages)) => {
                format!("(SELECT {list} FROM ONLY {name} WHERE {})", condition(pages))
            }
        };
        let (empty, freeze) = match is_whole {
            true => (format!("TRUNCATE ONLY {name}; "), "FREEZE, "),
            false => (String::new(), ""),
        };
        Statements {
            begin: format!(
                "BEGIN; {empty}SELECT txid_current(), pg_relation_filenode({}::regclass)",
                literal(name)
            ),
            to_stdout: format!("COPY {from} TO STDOUT WITH ({format})"),
            from_stdin: format!("COPY {name}{listed} FROM STDIN WITH ({freeze}{format})"),
            is_whole,
        }
    }
}

fn condition(pages: Pages) -> String {
    let from = format!("ctid >= '({},0)'::pg_catalog.tid", pages.start);
    match pages.end {
        Some(end) => format!("{from} AND ctid < '({end},0)'::pg_catalog.tid"),
        None => from,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let columns = vec!["\"id\"".into(), "\"odd \"\"name\"\"\"".into()];
        Table { name: "\"public\".\"it's\"".into(), columns, ..Table::default() }
    }

    #[test]
    fn a_whole_table_is_emptied_and_frozen() {
        let said = Statements::new(&table(), None, "UTF8");
        assert_eq!(
            said.begin,
            "BEGIN; TRUNCATE ONLY \"public\".\"it's\"; \
             SELECT txid_current(), pg_relation_filenode(E'\"public\".\"it''s\"'::regclass)"
        );
        assert_eq!(
            said.to_stdout,
            "COPY \"public\".\"it's\" (\"id\", \"odd \"\"name\"\"\") TO STDOUT WITH (ENCODING E'UTF8')"
        );
        assert_eq!(
            said.from_stdin,
            "COPY \"public\".\"it's\" (\"id\", \"odd \"\"name\"\"\") FROM STDIN \
             WITH (FREEZE, ENCODING E'UTF8')"
        );
    }

    #[test]
    fn a_part_and_the_rows_of_an_extension_are_added() {
        let part = Pages { start: 7, end: Some(9) };
        let said = Statements::new(&table(), Some(part), "UTF8");
        assert!(said.begin.starts_with("BEGIN; SELECT"), "{}", said.begin);
        assert!(!said.from_stdin.contains("FREEZE"), "{}", said.from_stdin);
        assert_eq!(
            said.to_stdout,
            "COPY (SELECT \"id\", \"odd \"\"name\"\"\" FROM ONLY \"public\".\"it's\" WHERE \
             ctid >= '(7,0)'::pg_catalog.tid AND ctid < '(9,0)'::pg_catalog.tid) \
             TO STDOUT WITH (ENCODING E'UTF8')"
        );
        let settings = Some("WHERE id > 5".to_owned());
        let said = Statements::new(&Table { settings, ..table() }, None, "UTF8");
        assert!(said.begin.starts_with("BEGIN; SELECT"), "{}", said.begin);
        assert!(said.to_stdout.contains(" WHERE id > 5) TO"), "{}", said.to_stdout);
    }

    #[test]
    fn a_table_of_plain_types_crosses_in_the_binary_format() {
        let said = Statements::new(&Table { is_binary: true, ..table() }, None, "UTF8");
        assert!(said.to_stdout.ends_with(" TO STDOUT WITH (FORMAT binary)"), "{}", said.to_stdout);
        let ending = " FROM STDIN WITH (FREEZE, FORMAT binary)";
        assert!(said.from_stdin.ends_with(ending), "{}", said.from_stdin);
    }

    #[test]
    fn a_table_without_columns_has_no_list() {
        let said = Statements::new(&Table { columns: Vec::new(), ..table() }, None, "UTF8");
        assert!(said.from_stdin.starts_with("COPY \"public\".\"it's\" FROM STDIN"));
    }
}
