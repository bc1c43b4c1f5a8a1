//! Foreign keys, which pg_restore would make one after the other: each keeps all others off both of
//! its tables while it looks at the rows, and most have a table in common. Here all are made at
//! once, not valid, which looks at no row; then several workers check them, at which only those of
//! one table are in each other's way.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use futures_util::future::try_join_all;

use super::super::DatabaseError;
use super::build::Builder;
use super::inventory::ForeignKey;

/// Made in one transaction: each locks two tables, and a server has room for some thousand locks.
const BATCH: usize = 200;

/// Makes `keys` without looking at rows, in the order given: it is the one in which they act.
pub(super) async fn add(
    keys: &[ForeignKey],
    builder: &mut Builder<'_>,
) -> Result<(), DatabaseError> {
    for batch in keys.chunks(BATCH) {
        builder.add_foreign_keys(batch).await?;
    }
    Ok(())
}

/// Checks `keys` with `builders`: the tables with most to read first.
pub(super) async fn validate(
    keys: &[ForeignKey],
    builders: Vec<Builder<'_>>,
) -> Result<(), DatabaseError> {
    let mut tables: Vec<Vec<&ForeignKey>> = by_table(keys).into_values().collect();
    tables.sort_by_key(|keys| keys.iter().map(|key| key.bytes).sum::<u64>());
    let tables = Mutex::new(tables);
    let next = || tables.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let check = async |mut builder: Builder<'_>| {
        while let Some(keys) = next() {
            for key in keys {
                builder.validate(key).await?;
            }
        }
        Ok(())
    };
    try_join_all(builders.into_iter().map(check)).await.map(drop)
}

fn by_table(keys: &[ForeignKey]) -> BTreeMap<&str, Vec<&ForeignKey>> {
    let mut tables: BTreeMap<&str, Vec<&ForeignKey>> = BTreeMap::new();
    for key in keys {
        tables.entry(&key.table).or_default().push(key);
    }
    tables
}
