//! From sizes and speeds to times. Pure.
//!
//! The costs are seconds of one core of the machine that [`REFERENCE`] is about, per byte or row,
//! from copies of a Mastodon-shaped database (docs/benchmarks.md). Reading, crossing and writing
//! happen at the same time, so the slowest of them counts.

use std::time::Duration;

/// What there is to copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Of tables, without indexes.
    pub table_bytes: u64,
    pub index_bytes: u64,
    /// Rows read to check foreign keys: of both tables, for each key.
    pub key_rows: u64,
}

/// How fast both machines and the link are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// Bytes of tables a second that one session reads from the source.
    pub read: f64,
    /// Bytes a second that the link takes; infinite where there is none.
    pub link: f64,
    /// Bytes that cross the link for each byte of a table.
    pub crossing: f64,
    /// A core of the target beside one of the reference.
    pub core: f64,
    pub source_cores: usize,
    pub target_cores: usize,
}

/// What the copy is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    pub is_parallel: bool,
    pub jobs: usize,
    /// Whether contents are compared afterwards, and not only counted.
    pub compares_content: bool,
}

/// How long it will take, roughly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prediction {
    pub rows: Duration,
    pub indexes: Duration,
    pub constraints: Duration,
    pub comparison: Duration,
}

/// How long the question that measures a core takes on the reference.
pub const REFERENCE: Duration = Duration::from_millis(80);

/// Rows from pg_dump into `COPY`, as text; and in the binary format.
const WRITE_TEXT: f64 = 10.0e-9;
const WRITE_BINARY: f64 = 7.0e-9;
/// An index, and all that goes with it: reading the table, statistics.
const INDEX: f64 = 50.0e-9;
const KEY_ROW: f64 = 0.2e-6;
/// Hashing rows and the text of them.
const HASH: f64 = 6.0e-9;
const COUNT: f64 = 0.5e-9;
/// Logins, definitions, and what else does not depend on size.
const START: Duration = Duration::from_secs(2);

impl Prediction {
    pub fn total(&self) -> Duration {
        self.rows + self.indexes + self.constraints + self.comparison
    }
}

/// How long `task` will take.
pub fn predict(size: Size, speed: &Speed, task: Task) -> Prediction {
    let tables = size.table_bytes as f64;
    let at_once = |cores: usize| task.jobs.min(cores).max(1) as f64;
    let (readers, writers) = match task.is_parallel {
        true => (at_once(speed.source_cores), at_once(speed.target_cores)),
        false => (1.0, 1.0),
    };
    let builders = at_once(speed.target_cores);
    let read = tables / (speed.read * readers);
    let cross = tables * speed.crossing / speed.link;
    let write = tables * if task.is_parallel { WRITE_BINARY } else { WRITE_TEXT } / speed.core;
    let index = size.index_bytes as f64 * INDEX / speed.core;
    let filled = read.max(cross).max(write / writers);
    let built = match task.is_parallel {
        // Builders work beside the writers, as far as there are cores: what is left comes after.
        true => ((write + index) / at_once_of_two(task.jobs, speed.target_cores) - filled).max(
            // The largest table is complete only after a while, and has most of the indexes.
            index / builders / 2.0,
        ),
        false => index / builders,
    };
    let keys = size.key_rows as f64 * KEY_ROW / speed.core;
    let keys = if task.is_parallel { keys / builders } else { keys };
    let each = if task.compares_content { HASH } else { COUNT };
    let compared = tables * each / speed.core / builders;
    let time = |secs: f64| Duration::try_from_secs_f64(secs).unwrap_or(Duration::MAX);
    Prediction {
        rows: START.saturating_add(time(filled)),
        indexes: time(built),
        constraints: time(keys),
        comparison: time(compared),
    }
}

/// Cores for workers of two kinds.
fn at_once_of_two(jobs: usize, cores: usize) -> f64 {
    (2 * jobs).min(cores).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: Size =
        Size { table_bytes: 100 << 30, index_bytes: 60 << 30, key_rows: 900_000_000 };
    const SPEED: Speed = Speed {
        read: 100e6,
        link: f64::INFINITY,
        crossing: 0.3,
        core: 1.0,
        source_cores: 8,
        target_cores: 8,
    };
    const TASK: Task = Task { is_parallel: true, jobs: 4, compares_content: false };

    #[test]
    fn what_takes_longest_counts() {
        let slow = Speed { link: 10e6, ..SPEED };
        let time = predict(SIZE, &slow, TASK);
        let crossing = (100u64 << 30) as f64 * 0.3 / 10e6;
        assert!((time.rows.as_secs_f64() - crossing).abs() < 5.0, "{time:?}");
        assert!(time.indexes < predict(SIZE, &SPEED, TASK).total(), "built beside the rows");
        let stream = Task { is_parallel: false, ..TASK };
        assert!(predict(SIZE, &SPEED, stream).total() > predict(SIZE, &SPEED, TASK).total() * 2);
    }

    #[test]
    fn nothing_takes_a_moment() {
        let time = predict(Size::default(), &SPEED, TASK);
        assert_eq!(time.total(), START);
    }

    proptest! {
        /// The law: more to do never takes less time, and faster machines and links never more.
        #[test]
        fn it_grows_with_the_work(
            table_bytes in 0..1u64 << 42, more in 0..1u64 << 40, index_bytes in 0..1u64 << 41,
            key_rows in 0..1u64 << 36, is_parallel: bool, jobs in 1..16_usize,
            link in 1e5..1e9_f64, core in 0.1..4.0_f64,
        ) {
            let size = Size { table_bytes, index_bytes, key_rows };
            let task = Task { is_parallel, jobs, compares_content: true };
            let speed = Speed { link, core, ..SPEED };
            let time = predict(size, &speed, task).total();
            // Floating point may take a nanosecond or two.
            let slack = Duration::from_millis(1);
            let larger = Size { index_bytes: index_bytes + more, ..size };
            prop_assert!(predict(larger, &speed, task).total() + slack >= time);
            let larger = Size { table_bytes: table_bytes + more, ..size };
            prop_assert!(predict(larger, &speed, task).total() + slack >= time);
            let faster = Speed { core: core * 2.0, ..speed };
            prop_assert!(predict(size, &faster, task).total() <= time + slack);
            let faster = Speed { link: link * 2.0, ..speed };
            prop_assert!(predict(size, &faster, task).total() <= time + slack);
        }
    }
}
