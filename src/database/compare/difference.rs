//! What may differ, and how that is said. Rows are named by their keys, never by their content,
//! which may be private.

use std::fmt;

use super::{Kind, Position};

/// One thing that is not the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// On the source only.
    Missing { kind: Kind, name: String },
    /// On the target only.
    Extra { kind: Kind, name: String },
    /// Defined otherwise.
    Changed { kind: Kind, name: String, source: String, target: String },
    /// Another number of rows.
    Rows { of: Holder, source: i64, target: i64, keys: Keys },
    /// As many rows, but not the same ones.
    Content { of: Holder, keys: Keys },
    /// As many rows; whether they are the same ones, a server could not find out.
    Unread { of: Holder, cause: String },
    /// Another position; behind, it would give out numbers that are taken.
    Sequence { name: String, source: Position, target: Position },
}

/// What holds rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// By its qualified name.
    Table(String),
    /// A materialized one.
    View(String),
    LargeObjects,
}

impl fmt::Display for Holder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Holder::Table(name) => write!(out, "table {name}"),
            Holder::View(name) => write!(out, "materialized view {name}"),
            Holder::LargeObjects => out.write_str("the store of large objects"),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Missing { kind, name } => {
                write!(out, "{} {name} is missing on the target", kind.noun(1))
            }
            Difference::Extra { kind, name } => {
                write!(out, "{} {name} is on the target only", kind.noun(1))
            }
            Difference::Changed { kind, name, source, target } => {
                let noun = kind.noun(1);
                write!(out, "{noun} {name} differs: source `{source}`, target `{target}`")
            }
            Difference::Rows { of: Holder::LargeObjects, source, target, keys } => {
                write!(out, "the target has {target} large objects, the source {source}{keys}")
            }
            Difference::Rows { of, source, target, keys } => {
                write!(out, "{of} has {target} rows on the target, {source} on the source{keys}")
            }
            Difference::Content { of, keys } => {
                write!(out, "{of} holds other values on the target{keys}")
            }
            Difference::Unread { of, cause } => {
                write!(
                    out,
                    "{of} has rows that are too large to be hashed, so they were counted only: {cause}; \
                     to take the number for enough, compare `rows` (--verify, database.verify)"
                )
            }
            Difference::Sequence { name, source, target } => {
                write!(out, "sequence {name} is at {target} on the target, {source} on the source")
            }
        }
    }
}

/// Which rows of a table differ, by their primary key: a few of them. Empty where it has none, or
/// where nobody looked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// The columns of the key, as in `(tag_id, status_id)`.
    pub columns: String,
    /// On the source only.
    pub missing: Vec<String>,
    /// On the target only.
    pub extra: Vec<String>,
    /// On both sides, with other values.
    pub changed: Vec<String>,
    /// There are more than are named.
    pub more: bool,
}

impl Keys {
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.extra.is_empty() && self.changed.is_empty()
    }
}

/// `: id 7, 9 missing; id 8 changed; and more`, or nothing.
impl fmt::Display for Keys {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds =
            [(&self.missing, "missing"), (&self.extra, "extra"), (&self.changed, "changed")];
        let mut before = ": ";
        for (keys, word) in kinds.into_iter().filter(|(keys, _)| !keys.is_empty()) {
            write!(out, "{before}{} {} {word}", self.columns, keys.join(", "))?;
            before = "; ";
        }
        if self.more && !self.is_empty() { out.write_str("; and more") } else { Ok(()) }
    }
}
