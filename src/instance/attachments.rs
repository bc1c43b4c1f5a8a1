//! Which rows speak of files below the media root, where these files are, and which rows have changed
//! lately. Pure: SQL out, answers in.
//!
//! Mastodon (Paperclip) writes a file before it commits the row that names it: what a row speaks of is
//! there once the row can be seen. A video is the exception, whose row changes again when it is done.
//!
//! No table has an index on the time of its last change. What changes is nearly always new, and ids
//! grow: the newest rows of each table are looked at, which its primary key finds. Beside these, the
//! people of this server change their avatars; an index finds who they are.

mod recent;

use std::collections::BTreeSet;

use crate::wire::path::RelPath;
pub use recent::Recent;

/// Rows of each table that are looked at: those of the highest ids.
const NEWEST_ROWS: u32 = 4000;
/// How old a change may be when it is told. Far more than lies between two questions: a row is seen
/// when it is committed, and its time is that of the work before.
const LATELY: &str = "interval '5 minutes'";

/// A kind of file that rows of a table name.
#[derive(Debug, PartialEq, Eq)]
struct Attachment {
    table: &'static str,
    name: &'static str,
    /// Below one that is called like the table.
    dir: &'static str,
    /// Which rows are of other servers' files, where there are such.
    remote: Remote,
}

#[derive(Debug, PartialEq, Eq)]
enum Remote {
    None,
    All,
    /// Those for which this holds of this column.
    Where(&'static str, &'static str),
}

const DOMAIN: Remote = Remote::Where("domain", "IS NOT NULL");
const REMOTE_URL: Remote = Remote::Where("remote_url", "<> ''");

const ATTACHMENTS: [Attachment; 10] = [
    attachment("media_attachments", "file", "files", REMOTE_URL),
    attachment("media_attachments", "thumbnail", "thumbnails", REMOTE_URL),
    attachment("accounts", "avatar", "avatars", DOMAIN),
    attachment("accounts", "header", "headers", DOMAIN),
    attachment("custom_emojis", "image", "images", DOMAIN),
    attachment("preview_cards", "image", "images", Remote::All),
    attachment("preview_card_providers", "icon", "icons", Remote::None),
    attachment("site_uploads", "file", "files", Remote::None),
    attachment("backups", "dump", "dumps", Remote::None),
    attachment("imports", "data", "data", Remote::None),
];

const fn attachment(
    table: &'static str,
    name: &'static str,
    dir: &'static str,
    remote: Remote,
) -> Attachment {
    Attachment { table, name, dir, remote }
}

impl Attachment {
    fn column(&self, end: &str) -> String {
        format!("{}_{end}", self.name)
    }

    /// The column that tells when the file may have changed. Accounts change all the time for other
    /// reasons; a video that is processed changes its row.
    fn changed(&self) -> String {
        match self.table {
            "media_attachments" => "updated_at".to_owned(),
            _ => self.column("updated_at"),
        }
    }

    /// The directory of a row: each style of the file has one in it.
    fn place(&self, id: u64, cached: bool) -> Option<RelPath> {
        let cache = if cached { "cache/" } else { "" };
        let path = format!("{cache}{}/{}/{}", self.table, self.dir, partition(id));
        RelPath::new(path.as_bytes()).ok()
    }
}

/// Paperclip's rule: nine digits, or from a thousand million on twelve and more, by threes. What is
/// left of them is not part of the path.
fn partition(id: u64) -> String {
    const LONG_MIN: u64 = 1_000_000_000;
    let digits = if id < LONG_MIN { format!("{id:09}") } else { format!("{id:012}") };
    let threes: Vec<&str> =
        (3..=digits.len()).step_by(3).map(|end| &digits[end - 3..end]).collect();
    threes.join("/")
}

/// An answer: its columns as text.
type Answer = Vec<Option<String>>;

/// What of all this a database has: versions of Mastodon differ.
#[derive(Debug, Default)]
pub struct Schema(BTreeSet<(String, String)>);

/// What stands for the index that finds the people of this server.
const DOMAIN_INDEX: &str = "(domain)";

impl Schema {
    /// Asks for columns, and for the first columns of indexes, in parentheses.
    pub fn question() -> String {
        let tables: Vec<String> = ATTACHMENTS.iter().map(|it| format!("'{}'", it.table)).collect();
        let tables = tables.join(", ");
        format!(
            "WITH tables AS (
               SELECT c.oid, c.relname FROM pg_catalog.pg_class c
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
               WHERE n.nspname = 'public' AND c.relkind = 'r' AND c.relname IN ({tables})
             ), columns AS (
               SELECT t.oid, t.relname, a.attnum, a.attname FROM tables t
               JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid
               WHERE a.attnum > 0 AND NOT a.attisdropped
             )
             SELECT relname, attname::text FROM columns
             UNION ALL
             SELECT relname, '(' || attname || ')' FROM columns
             JOIN pg_catalog.pg_index i ON i.indrelid = columns.oid AND i.indkey[0] = attnum
             WHERE i.indisvalid AND i.indpred IS NULL"
        )
    }

    /// What the question told.
    pub fn of(answers: Vec<Answer>) -> Self {
        let pair = |answer: Answer| match <[Option<String>; 2]>::try_from(answer) {
            Ok([Some(table), Some(column)]) => Some((table, column)),
            Ok(_) | Err(_) => None,
        };
        Schema(answers.into_iter().filter_map(pair).collect())
    }

    /// The questions for what has changed lately; a [`Recent`] for each takes the answers.
    pub fn questions(&self) -> Vec<String> {
        let known = || ATTACHMENTS.iter().enumerate().filter(|(_, it)| self.knows(it));
        let newest = known().map(|(index, it)| {
            let rows = format!("(SELECT * FROM public.{} ORDER BY id DESC", it.table);
            self.part(index, it, &format!("{rows} LIMIT {NEWEST_ROWS}) AS newest"), "true")
        });
        let newest: Vec<String> = newest.collect();
        let indexed = self.has("accounts", DOMAIN_INDEX);
        let people = known().filter(|(_, it)| indexed && it.table == "accounts");
        let people = people
            .map(|(index, it)| self.part(index, it, "public.accounts", "domain IS NULL"))
            .collect();
        let questions = [newest, people].into_iter().filter(|parts| !parts.is_empty());
        questions.map(|parts| parts.join("\nUNION ALL ")).collect()
    }

    fn has(&self, table: &str, column: &str) -> bool {
        self.0.contains(&(table.to_owned(), column.to_owned()))
    }

    fn knows(&self, it: &Attachment) -> bool {
        let remote = match it.remote {
            Remote::Where(column, _) => self.has(it.table, column),
            Remote::None | Remote::All => true,
        };
        let needed = ["id", &it.column("file_name"), &it.changed()];
        remote && needed.into_iter().all(|column| self.has(it.table, column))
    }

    /// A select of: the kind, the id, whether it is below `cache/`, and what is other after a change.
    fn part(&self, index: usize, it: &Attachment, rows: &str, condition: &str) -> String {
        let (file, changed) = (it.column("file_name"), it.changed());
        let layout = it.column("storage_schema_version");
        let of_others = match it.remote {
            Remote::None => "false".to_owned(),
            Remote::All => "true".to_owned(),
            Remote::Where(column, holds) => format!("{column} {holds}"),
        };
        // Before it was written down with each file how it lies, all lay together.
        let cached = match self.has(it.table, &layout) {
            true => format!("COALESCE({of_others} AND {layout} >= 1, false)"),
            false => "false".to_owned(),
        };
        format!(
            "SELECT {index}, id, {cached}, concat({changed}, ' ', {file}) FROM {rows}
             WHERE {condition} AND {file} IS NOT NULL
               AND {changed} > (now() AT TIME ZONE 'UTC') - {LATELY}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(table: &str, name: &str, id: u64, cached: bool) -> String {
        let of = |it: &&Attachment| it.table == table && it.name == name;
        ATTACHMENTS.iter().find(of).unwrap().place(id, cached).unwrap().to_string()
    }

    #[test]
    fn each_row_has_the_directory_that_paperclip_gives_it() {
        for (table, name, id, cached, path) in [
            // As Mastodon's documentation of its files shows them.
            (
                "media_attachments",
                "file",
                113_982_658_356_113_253,
                false,
                "media_attachments/files/113/982/658/356/113/253",
            ),
            (
                "media_attachments",
                "file",
                113_982_658_356_113_253,
                true,
                "cache/media_attachments/files/113/982/658/356/113/253",
            ),
            (
                "media_attachments",
                "thumbnail",
                113_982_658_356_113_253,
                false,
                "media_attachments/thumbnails/113/982/658/356/113/253",
            ),
            // Ids from before there were snowflakes.
            ("accounts", "avatar", 1, false, "accounts/avatars/000/000/001"),
            ("accounts", "header", 576_636, true, "cache/accounts/headers/000/576/636"),
            ("preview_cards", "image", 999_999_999, true, "cache/preview_cards/images/999/999/999"),
            // More than nine digits are twelve at least.
            (
                "preview_cards",
                "image",
                1_000_000_000,
                true,
                "cache/preview_cards/images/001/000/000/000",
            ),
            // A snowflake of 2017 has 17 digits, of which the last two name no directory.
            (
                "accounts",
                "avatar",
                98_765_432_109_876_543,
                false,
                "accounts/avatars/987/654/321/098/765",
            ),
            ("custom_emojis", "image", 1234, false, "custom_emojis/images/000/001/234"),
            (
                "preview_card_providers",
                "icon",
                7,
                false,
                "preview_card_providers/icons/000/000/007",
            ),
            ("site_uploads", "file", 2, false, "site_uploads/files/000/000/002"),
            ("backups", "dump", 3, false, "backups/dumps/000/000/003"),
            ("imports", "data", 4, false, "imports/data/000/000/004"),
        ] {
            assert_eq!(place(table, name, id, cached), path);
        }
    }

    #[test]
    fn only_what_a_database_has_is_asked_for() {
        let answer = |table: &str, column: &str| vec![Some(table.into()), Some(column.into())];
        let columns = |table: &'static str, columns: &[&str]| {
            columns.iter().map(|column| answer(table, column)).collect::<Vec<_>>()
        };
        assert_eq!(Schema::default().questions(), [""; 0]);
        let avatar = ["id", "domain", "avatar_file_name", "avatar_updated_at"];
        let old = columns("accounts", &avatar);
        let asked = Schema::of(old.clone()).questions();
        assert_eq!(asked.len(), 1);
        assert!(asked[0].contains("SELECT 2, id, false,"), "{}", asked[0]);
        for absent in ["UNION", "header", "storage_schema_version", "media_attachments"] {
            assert!(!asked[0].contains(absent), "{}", asked[0]);
        }
        let new = [old, columns("accounts", &["(domain)", "avatar_storage_schema_version"])];
        let asked = Schema::of(new.concat()).questions();
        let cached = "COALESCE(domain IS NOT NULL AND avatar_storage_schema_version >= 1, false)";
        assert!(asked[0].contains(cached), "{}", asked[0]);
        assert!(asked[1].contains("WHERE domain IS NULL"), "{}", asked[1]);
    }
}
