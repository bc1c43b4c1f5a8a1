//! How long a copy will take, before it is made: sizes from the source's catalogs, speeds from
//! short samples. Reads a few megabytes of the source's largest table, sends some to the target's
//! machine, and lets the target sort a little; writes nothing.

mod model;

use std::fmt;
use std::time::{Duration, Instant};

use super::inspect::ours;
use super::programs::{Link, PIPE_SESSIONS, cores};
use super::quote::qualified;
use super::session::Access;
use super::target::Destination;
use super::{DatabaseError, Server, Session, session};
use crate::units::duration;

pub use model::Prediction;
use model::{REFERENCE, Size, Speed, Task};

/// What is read of the largest table.
const SAMPLE_BYTES: u64 = 32 << 20;
/// A smaller one says nothing about a disk, and takes no time anyway.
const SAMPLE_BYTES_MIN: u64 = 1 << 20;
/// What of it is compressed, to see what crosses.
const PACKED_BYTES: usize = 4 << 20;
/// Bytes of tables a second, where no sample can be taken.
const READ_DEFAULT: f64 = 100e6;
/// How often the target sorts.
const TRIES: usize = 3;
/// A busy or slow source is not asked for longer.
const SAMPLE_WAIT: &str = "5s";

/// The copy to be made.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub is_parallel: bool,
    /// 0 for one per core of the target.
    pub jobs: usize,
    pub packing: Packing,
    /// Whether contents are compared afterwards, and not only counted.
    pub compares_content: bool,
}

/// What is done to the bytes that cross.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Nothing crosses a network.
    Local,
    None,
    /// By zstd, or by gzip, which comes to about the same.
    Level(i32),
    /// As the link asks.
    Fitting,
}

/// How long [`super::transfer`] will take for what is `wanted`, as far as can be told now.
pub async fn predict(
    source: &Server,
    destination: &Destination,
    wanted: Wanted,
) -> Result<Prediction, DatabaseError> {
    let session = session::connect(source, Access::Read).await?;
    let size = size(&session).await?;
    let sample = sample(&session).await?;
    drop(session);
    let host = &*destination.server.host;
    let target_cores = cores(host).await?;
    let jobs = if wanted.jobs == 0 { target_cores } else { wanted.jobs };
    let link = match wanted.packing {
        Packing::Local => None,
        Packing::None | Packing::Level(_) | Packing::Fitting => {
            Some(Link::measure(host, if wanted.is_parallel { jobs } else { PIPE_SESSIONS }).await)
        }
    };
    let level = match wanted.packing {
        Packing::Local | Packing::None => None,
        Packing::Level(level) => Some(level),
        Packing::Fitting => link.and_then(|link| link.level),
    };
    let speed = Speed {
        read: sample.read,
        link: match link.map(|link| link.bytes_a_second) {
            Some(rate @ 1..) => rate as f64,
            Some(0) | None => f64::INFINITY,
        },
        crossing: sample.written * level.map_or(1.0, |level| sample.packed(level)),
        core: core(destination).await?,
        source_cores: cores(&*source.host).await?,
        target_cores,
    };
    let Wanted { is_parallel, compares_content, .. } = wanted;
    Ok(model::predict(size, &speed, Task { is_parallel, jobs, compares_content }))
}

impl fmt::Display for Prediction {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "about {}: rows {}, indexes {}, foreign keys {}, comparison {}",
            duration(self.total()),
            duration(self.rows),
            duration(self.indexes),
            duration(self.constraints),
            duration(self.comparison)
        )
    }
}

async fn size(session: &Session) -> Result<Size, DatabaseError> {
    let action = "read how large the database is";
    let sql = format!(
        "WITH ours AS (
             SELECT c.oid, greatest(c.reltuples, 0) AS rows
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind IN ('r', 'm') AND {})
         SELECT coalesce(sum(pg_table_size(oid)), 0)::bigint,
             coalesce(sum(pg_indexes_size(oid)), 0)::bigint,
             (SELECT coalesce(sum(c.rows + t.rows), 0)::bigint
              FROM pg_constraint k JOIN ours c ON c.oid = k.conrelid JOIN ours t ON t.oid = k.confrelid
              WHERE k.contype = 'f' AND k.convalidated)
         FROM ours",
        ours("c.oid", "pg_class")
    );
    let row = session.row(action, &sql, &[]).await?;
    let number = |column| -> Result<u64, DatabaseError> {
        Ok(session.get::<i64>(action, &row, column)?.unsigned_abs())
    };
    Ok(Size { table_bytes: number(0)?, index_bytes: number(1)?, key_rows: number(2)? })
}

/// What was read of the largest table.
struct Sample {
    /// Bytes of the table a second.
    read: f64,
    /// Bytes of rows, as they cross, for each byte of the table.
    written: f64,
    /// The first of them.
    rows: Vec<u8>,
}

impl Sample {
    /// What is left of a byte that crosses.
    fn packed(&self, level: i32) -> f64 {
        match zstd::bulk::compress(&self.rows, level) {
            Ok(packed) if !self.rows.is_empty() => packed.len() as f64 / self.rows.len() as f64,
            Ok(_) | Err(_) => 1.0,
        }
    }
}

/// Reads the first pages of the largest table as a copy would.
async fn sample(session: &Session) -> Result<Sample, DatabaseError> {
    let none = Sample { read: READ_DEFAULT, written: 1.0, rows: Vec::new() };
    let action = "find the largest table";
    let sql = format!(
        "SELECT n.nspname::text, c.relname::text, pg_relation_size(c.oid),
             current_setting('block_size')::bigint
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND {}
         ORDER BY pg_relation_size(c.oid) DESC NULLS LAST LIMIT 1",
        ours("c.oid", "pg_class")
    );
    let rows = session.rows(action, &sql, &[]).await?;
    let Some(row) = rows.first() else { return Ok(none) };
    let (schema, name): (String, String) =
        (session.get(action, row, 0)?, session.get(action, row, 1)?);
    let bytes = session.get::<Option<i64>>(action, row, 2)?.unwrap_or(0).unsigned_abs();
    let block = session.get::<i64>(action, row, 3)?.unsigned_abs().max(1);
    if bytes < SAMPLE_BYTES_MIN || session.version().major() < 14 {
        return Ok(none);
    }
    let pages = bytes.min(SAMPLE_BYTES) / block;
    let sql = format!(
        "COPY (SELECT * FROM ONLY {} WHERE ctid < '({pages},0)') TO STDOUT",
        qualified(&schema, &name)
    );
    session.execute("limit a sample", &format!("SET statement_timeout = '{SAMPLE_WAIT}'")).await?;
    match read(session, &sql).await {
        Ok((took, bytes, rows)) => {
            let table_bytes = (pages * block) as f64;
            let read = table_bytes / took.as_secs_f64().max(1e-3);
            Ok(Sample { read, written: bytes as f64 / table_bytes, rows })
        }
        // Too slow, or not ours to read: the copy itself will say.
        Err(DatabaseError::Sql { .. }) => Ok(none),
        Err(error) => Err(error),
    }
}

async fn read(session: &Session, sql: &str) -> Result<(Duration, u64, Vec<u8>), DatabaseError> {
    let start = Instant::now();
    let mut from = session.copy_out("read a sample", sql).await?;
    let (mut bytes, mut kept) = (0, Vec::new());
    while let Some(row) = from.next().await? {
        bytes += row.len() as u64;
        if kept.len() < PACKED_BYTES {
            kept.extend_from_slice(&row);
        }
    }
    Ok((start.elapsed(), bytes, kept))
}

/// A core of the target beside one of the reference: both sort the same.
async fn core(destination: &Destination) -> Result<f64, DatabaseError> {
    let session = destination.admin_session(Access::Read).await?;
    let action = "measure a core";
    session.execute(action, "SET work_mem = '64MB'; SET jit = off").await?;
    // Its own clock: the way there and back does not count.
    let sql = "SELECT extract(epoch FROM clock_timestamp() - statement_timestamp())::float8
               FROM (SELECT count(*) FROM (SELECT md5(i::text) COLLATE \"C\" AS x
                     FROM generate_series(1, 60000) i ORDER BY 1 OFFSET 0) s) c";
    let mut fastest = f64::INFINITY;
    // What else runs there takes from one more than from another.
    for _ in 0..TRIES {
        fastest = session.slow_value::<f64>(action, sql).await?.min(fastest);
    }
    Ok(REFERENCE.as_secs_f64() / fastest.max(1e-3))
}
