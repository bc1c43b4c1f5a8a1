//! Which rows of a table differ: found by two more readings of it on each side, whatever its size,
//! and without trusting an index.
//!
//! The first parts the rows into buckets by a hash of their key and sums up each; the second
//! fetches keys and hashes from a few of the buckets that differ. No value of a row leaves its
//! server, apart from its primary key.

use std::collections::BTreeMap;

use super::super::quote::ident;
use super::super::{DatabaseError, Session};
use super::Keys;
use super::expression::{Way, text_hash};
use super::scan::{Tally, sum};
use super::tables::Relation;

/// Rows named for each table.
const KEYS_MAX: usize = 10;
/// Characters of a key that are shown.
const KEY_CHARS_MAX: usize = 100;
/// A bucket is to hold about this many bytes of the table, but there are no more buckets than can
/// be sent at once.
const BUCKET_BYTES: u64 = 256 << 10;
const BUCKETS_MAX: u64 = 1 << 16;

/// The keys of rows in which the table differs, `hash` being the hash of a row.
pub(super) async fn keys(
    source: &Session,
    target: &Session,
    table: &Relation,
    hash: &str,
    way: Way,
) -> Result<Keys, DatabaseError> {
    if table.key.is_empty() {
        return Ok(Keys::default());
    }
    let columns: Vec<String> = table.key.iter().map(|column| ident(column)).collect();
    let columns = columns.join(", ");
    // Printed as a dump prints it; a key holds no NULL.
    let key = match table.key.len() {
        1 => format!("concat({columns})"),
        _ => format!("ROW({columns})::text"),
    };
    let buckets = (table.bytes / BUCKET_BYTES).clamp(16, BUCKETS_MAX).next_power_of_two();
    let bucket = format!("{} & {}", text_hash(&key, way), buckets - 1);
    let from = table.source();
    let sql = format!(
        "SELECT b, count(*), sum(h)::text FROM (
             SELECT {bucket} AS b, {hash} AS h FROM {from}) AS x GROUP BY b"
    );
    let (there, here) = tokio::try_join!(in_buckets(source, &sql), in_buckets(target, &sql))?;
    let mut differing: Vec<i64> = there
        .keys()
        .chain(here.keys())
        .copied()
        .filter(|bucket| there.get(bucket) != here.get(bucket))
        .collect();
    differing.sort_unstable();
    differing.dedup();
    let more = differing.len() > KEYS_MAX;
    differing.truncate(KEYS_MAX);
    let differing: Vec<String> = differing.iter().map(i64::to_string).collect();
    let sql =
        format!("SELECT {key}, {hash} FROM {from} WHERE ({bucket}) IN ({})", differing.join(", "));
    if differing.is_empty() {
        // What differed does so no more: it is being written to.
        return Ok(Keys::default());
    }
    let (there, here) = tokio::try_join!(rows(source, &sql), rows(target, &sql))?;
    let mut found = sorted(there, here);
    found.more |= more;
    found.columns = match table.key.as_slice() {
        [column] => column.clone(),
        _ => format!("({columns})"),
    };
    Ok(found)
}

async fn in_buckets(session: &Session, sql: &str) -> Result<BTreeMap<i64, Tally>, DatabaseError> {
    let action = "look in which part of a table it differs";
    let rows = session.slow_rows(action, sql).await?;
    rows.iter()
        .map(|row| {
            let hash = sum(session, action, &session.get::<String>(action, row, 2)?)?;
            Ok((session.get(action, row, 0)?, Tally { rows: session.get(action, row, 1)?, hash }))
        })
        .collect()
}

/// The hashes of rows by their key. A key may be there more than once: under an index that is
/// corrupt.
type Hashes = BTreeMap<String, Vec<i64>>;

async fn rows(session: &Session, sql: &str) -> Result<Hashes, DatabaseError> {
    let action = "look which rows of a table differ";
    let mut found = Hashes::new();
    for row in session.slow_rows(action, sql).await? {
        let hashes = found.entry(session.get(action, &row, 0)?).or_default();
        hashes.push(session.get(action, &row, 1)?);
    }
    found.values_mut().for_each(|hashes| hashes.sort_unstable());
    Ok(found)
}

fn sorted(source: Hashes, mut target: Hashes) -> Keys {
    let mut found = Keys::default();
    for (key, hashes) in source {
        match target.remove(&key) {
            None => found.missing.push(key),
            Some(here) if here == hashes => {}
            Some(_) => found.changed.push(key),
        }
    }
    found.extra.extend(target.into_keys());
    let mut left = KEYS_MAX;
    for keys in [&mut found.missing, &mut found.extra, &mut found.changed] {
        // Numbers by their size.
        keys.sort_by_key(|key| (key.len(), key.clone()));
        found.more |= keys.len() > left;
        keys.truncate(left);
        left -= keys.len();
        keys.iter_mut().for_each(|key| *key = shown(key));
    }
    found
}

fn shown(key: &str) -> String {
    let clean: String = key.chars().take(KEY_CHARS_MAX).map(printable).collect();
    if key.chars().nth(KEY_CHARS_MAX).is_some() { clean + "…" } else { clean }
}

fn printable(c: char) -> char {
    if c.is_control() { ' ' } else { c }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(rows: &[(&str, i64)]) -> Hashes {
        let mut found = Hashes::new();
        for (key, hash) in rows {
            found.entry((*key).to_owned()).or_default().push(*hash);
        }
        found
    }

    #[test]
    fn keys_are_sorted_by_what_happened_to_them() {
        let found = sorted(
            hashes(&[("1", 1), ("2", 2), ("3", 3), ("4", 4), ("4", 4)]),
            hashes(&[("1", 1), ("2", 5), ("9", 9), ("4", 4)]),
        );
        assert_eq!(found.missing, ["3"]);
        assert_eq!(found.changed, ["2", "4"]);
        assert_eq!(found.extra, ["9"]);
        assert!(!found.more);
    }

    #[test]
    fn no_more_than_a_few_keys_are_named() {
        let many: Vec<(String, i64)> = (0..30).map(|i| (i.to_string(), i)).collect();
        let many: Vec<(&str, i64)> = many.iter().map(|(key, hash)| (&**key, *hash)).collect();
        let found = sorted(hashes(&many), Hashes::new());
        assert_eq!(found.missing.len(), KEYS_MAX);
        assert!(found.more);
        assert_eq!(shown("a\nb"), "a b");
        assert_eq!(shown(&"x".repeat(200)), "x".repeat(KEY_CHARS_MAX) + "…");
    }
}
