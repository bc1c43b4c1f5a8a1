//! SQL that makes 64 bits of a row, the same ones on two servers where, and only where, a dump of
//! the row would be the same text. Pure: columns and a [`Way`] in, expressions out.
//!
//! The traps: PostgreSQL's own hashes follow its equality, so they are the same for `1.0` and
//! `1.00`, `0.0` and `-0.0`, blanks at the end of a `char(n)`; those of 64-bit numbers keep 32
//! bits; object ids, as of an enum's labels, differ between servers; and the hash of a record is a
//! sum over its columns, so that sums of it would not see two rows that swapped values. Hence each
//! type has a form that loses nothing, and the hash of a record is stirred before it is summed.

use super::super::quote::ident;

/// How a row becomes 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `hash_record_extended`, the cheapest: PostgreSQL 14 and newer.
    Record,
    /// The hash of the binary form: PostgreSQL 11 and newer.
    Sent,
    /// A digest of the binary form: for servers whose hashes differ, as those of machines with
    /// another order of bytes do. Takes three times as long.
    Digest,
}

/// A column, as far as it matters here. Two tables can be compared where these are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub name: String,
    /// With length and precision.
    pub type_name: String,
    /// Its type in `pg_catalog`, or the one behind its domain; none where it is made of others or
    /// of somebody's making.
    pub base: Option<String>,
    pub is_domain: bool,
}

/// What of a value is hashed.
enum Form {
    /// The value: its hash is over all of it.
    Value,
    /// The characters, whatever the collation makes of them.
    Text,
    /// All 64 bits of an integer.
    Long,
    /// What this function sends.
    Sent(&'static str),
    /// What is printed.
    Printed,
}

/// Columns hashed at once: a row constructor takes 1664 entries, a long number two.
const COLUMNS_AT_ONCE: usize = 800;

/// A `bigint` for each row.
pub(super) fn row_hash(columns: &[Column], way: Way) -> String {
    if columns.is_empty() {
        return "0::bigint".into();
    }
    match way {
        Way::Record => {
            let parts: Vec<String> = columns.chunks(COLUMNS_AT_ONCE).map(record).collect();
            text_hash(&parts.join(" || ' ' || "), way)
        }
        Way::Sent => format!("hash_array_extended(ARRAY[{}], 0)", sent(columns)),
        Way::Digest => digest(&sent(columns)),
    }
}

/// As [`row_hash`], whatever the size of a row: one column after the other, so that no two of them
/// are in one piece of memory, and none in a form that is longer than what a dump holds.
pub(super) fn row_hash_apart(columns: &[Column], way: Way) -> String {
    let parts: Vec<String> = columns.iter().map(Column::apart).collect();
    text_hash(&format!("array_to_string(ARRAY[{}]::text[], ' ')", parts.join(", ")), way)
}

/// The column by which large objects are known.
pub(super) const OBJECT_ID: &str = "oid";
/// Large objects are read in pieces of this size.
const PIECE_BYTES: u32 = 1 << 20;

/// A `bigint` for each large object: of its number, its length, and its bytes as whoever opens it
/// reads them. What was never written within it reads as zeros, and is stored as such by a restore,
/// so the pages of `pg_largeobject` would not tell.
pub(super) fn object_hash(way: Way) -> String {
    let piece = |number: &str, beside: &str| {
        let value = format!("int8send({number}) || d");
        let hash = match way {
            Way::Record | Way::Sent => format!("hash_array_extended(ARRAY[{value}], 0)"),
            Way::Digest => digest(&format!("({value})")),
        };
        // OFFSET keeps the planner from reading once for the hash and once for the length.
        format!(
            "SELECT {number}, {hash}, length(d) FROM {beside}(SELECT lo_get({OBJECT_ID}, \
             {number} * {PIECE_BYTES}, {PIECE_BYTES}) AS d OFFSET 0) AS x"
        )
    };
    let (first, next) = (piece("0::bigint", ""), piece("(p.number + 1)", "p CROSS JOIN LATERAL "));
    let sums = format!(
        "(WITH RECURSIVE p(number, hash, length) AS ({first} UNION ALL {next} \
         WHERE p.length = {PIECE_BYTES}) \
         SELECT concat_ws(' ', {OBJECT_ID}, sum(p.length), sum(p.hash)) FROM p)"
    );
    text_hash(&sums, way)
}

/// A `bigint` for each value of the SQL expression `text`.
pub(super) fn text_hash(text: &str, way: Way) -> String {
    match way {
        Way::Record | Way::Sent => format!("hashtextextended(({text}) COLLATE \"C\", 0)"),
        Way::Digest => digest(&format!("({text})")),
    }
}

fn digest(value: &str) -> String {
    format!("('x' || substr(md5({value}), 1, 16))::bit(64)::bigint")
}

/// The hash of some columns, as text.
fn record(columns: &[Column]) -> String {
    let mut entries = Vec::new();
    let mut printed = Vec::new();
    for column in columns {
        let value = column.value();
        match form(column.base.as_deref()) {
            Form::Value => entries.push(value),
            Form::Text => entries.push(format!("{value} COLLATE \"C\"")),
            // The hash takes both halves as one; with one of them given, it tells the other.
            Form::Long => entries.extend([value.clone(), format!("{value} >> 32")]),
            Form::Sent(function) => entries.push(format!("{function}({value})")),
            Form::Printed => printed.push(ident(&column.name)),
        }
    }
    entries.extend(as_printed(&printed).map(|text| format!("{text} COLLATE \"C\"")));
    format!("hash_record_extended(ROW({}), 0)::text", entries.join(", "))
}

/// The binary form of a row.
fn sent(columns: &[Column]) -> String {
    let (printed, entries): (Vec<&Column>, Vec<&Column>) =
        columns.iter().partition(|column| matches!(form(column.base.as_deref()), Form::Printed));
    let printed: Vec<String> = printed.iter().map(|column| ident(&column.name)).collect();
    let mut entries: Vec<String> = entries.into_iter().map(Column::value).collect();
    entries.extend(as_printed(&printed));
    format!("record_send(ROW({}))", entries.join(", "))
}

/// What is printed of several columns. A record tells NULL from nothing, and prints with the
/// functions that a dump prints with, whatever casts to text there may be.
fn as_printed(columns: &[String]) -> Option<String> {
    (!columns.is_empty()).then(|| format!("ROW({})::text", columns.join(", ")))
}

impl Column {
    /// Whether it is NULL, and a digest of what is printed of it; of bytes, which are printed at
    /// twice their length, of themselves.
    fn apart(&self) -> String {
        let name = ident(&self.name);
        let value = match self.base.as_deref() {
            Some("bytea") => self.value(),
            Some(_) | None => format!("concat({name})"),
        };
        format!("num_nulls({name}) || coalesce(md5({value}), '')")
    }

    /// The column, of its base type.
    fn value(&self) -> String {
        let name = ident(&self.name);
        match &self.base {
            Some(base) if self.is_domain => format!("{name}::pg_catalog.{}", ident(base)),
            Some(_) | None => name,
        }
    }
}

/// Arrays are printed: their binary form tells of NULLs that once were in them.
fn form(base: Option<&str>) -> Form {
    match base {
        Some(
            "bool" | "int2" | "int4" | "oid" | "name" | "date" | "uuid" | "bytea" | "macaddr"
            | "macaddr8" | "inet" | "cidr",
        ) => Form::Value,
        Some("text" | "varchar") => Form::Text,
        Some("int8") => Form::Long,
        // Its hash depends on whether the processor takes a character for signed.
        Some("char") => Form::Sent("charsend"),
        Some("bpchar") => Form::Sent("bpcharsend"),
        Some("numeric") => Form::Sent("numeric_send"),
        Some("timestamp") => Form::Sent("timestamp_send"),
        Some("timestamptz") => Form::Sent("timestamptz_send"),
        Some("time") => Form::Sent("time_send"),
        Some("timetz") => Form::Sent("timetz_send"),
        Some("interval") => Form::Sent("interval_send"),
        Some("json") => Form::Sent("json_send"),
        Some("jsonb") => Form::Sent("jsonb_send"),
        Some("money") => Form::Sent("cash_send"),
        Some("bit") => Form::Sent("bit_send"),
        Some("varbit") => Form::Sent("varbit_send"),
        // Floats among them: the bits of what is not a number may differ.
        Some(_) | None => Form::Printed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, base: Option<&str>, is_domain: bool) -> Column {
        let base = base.map(str::to_owned);
        Column { name: name.into(), type_name: "t".into(), base, is_domain }
    }

    #[test]
    fn each_type_is_hashed_in_a_form_that_loses_nothing() {
        let columns = [
            column("id", Some("int8"), false),
            column("n", Some("numeric"), false),
            column("s", Some("varchar"), true),
            column("f", Some("float8"), false),
            column("odd \"one\"", None, false),
        ];
        assert_eq!(
            row_hash(&columns, Way::Record),
            r#"hashtextextended((hash_record_extended(ROW("id", "id" >> 32, numeric_send("n"), "s"::pg_catalog."varchar" COLLATE "C", ROW("f", "odd ""one""")::text COLLATE "C"), 0)::text) COLLATE "C", 0)"#
        );
        assert_eq!(
            row_hash(&columns, Way::Sent),
            r#"hash_array_extended(ARRAY[record_send(ROW("id", "n", "s"::pg_catalog."varchar", ROW("f", "odd ""one""")::text))], 0)"#
        );
        assert_eq!(
            row_hash(&columns[..1], Way::Digest),
            r#"('x' || substr(md5(record_send(ROW("id"))), 1, 16))::bit(64)::bigint"#
        );
        assert_eq!(row_hash(&[], Way::Record), "0::bigint");
    }

    #[test]
    fn apart_no_two_columns_are_in_one_value() {
        let columns = [column("b", Some("bytea"), true), column("x", None, false)];
        assert_eq!(
            row_hash_apart(&columns, Way::Record),
            r#"hashtextextended((array_to_string(ARRAY[num_nulls("b") || coalesce(md5("b"::pg_catalog."bytea"), ''), num_nulls("x") || coalesce(md5(concat("x")), '')]::text[], ' ')) COLLATE "C", 0)"#
        );
    }

    #[test]
    fn a_row_constructor_is_never_too_long() {
        let columns: Vec<Column> =
            (0..1600).map(|i| column(&format!("c{i}"), Some("int8"), false)).collect();
        let sql = row_hash(&columns, Way::Record);
        let longest = sql.split("ROW(").skip(1).map(|row| row.matches(", \"").count()).max();
        assert!(longest.unwrap() < 1664, "{longest:?}");
    }
}
