//! Mode `parallel`: one snapshot, several workers, each with a session on either side and an SSH
//! connection of its own.
//!
//! Definitions go through `pg_dump | pg_restore`. Rows go by `COPY`, the largest table first, big
//! tables cut into ranges of pages. As soon as all of a table is in, other workers build its plain
//! indexes, put its constraints on them and take its statistics. What is left (foreign keys,
//! triggers, odd indexes, refreshes and so on) pg_restore makes from the post-data archive, in its
//! own order. A lost link costs the parts that were under way, as long as the snapshot is held.

mod build;
pub mod contents;
mod foreign_keys;
mod inventory;
mod recover;
mod rows;
pub mod schedule;
mod seat;
mod sequences;
mod told;
mod work;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::event::Monitor;

use super::analyze::{self, Tables};
use super::copied::{Copied, millis};
use super::programs::{self, Compression, Programs};
use super::session::Way;
use super::target::{Destination, Prepared};
use super::tuning::Tuning;
use super::{DatabaseError, Server, Snapshot};
use inventory::Inventory;
use work::Work;

/// More workers than this are not started unless somebody says so.
const JOBS_MAX_DEFAULT: usize = 8;
/// A commit that was answered is on the disk: what is told as done stays done through a crash.
const DURABLE: &str = "SET synchronous_commit = on";
/// How long it may take until it shows that the snapshot went with what failed.
const CAUSE_WAIT: Duration = Duration::from_millis(600);

/// How to copy.
#[derive(Clone, Debug)]
pub struct Options {
    /// Of rows only zstd by our helper makes the stream smaller.
    pub compression: Compression,
    /// Workers that copy, and workers that build indexes; 0 for one per core of the target.
    pub jobs: usize,
    /// How long to wait for a table that somebody else has locked.
    pub lock_wait: Duration,
    /// How long a connection that was lost is tried again.
    pub patience: Duration,
    /// Tables up to this size are copied at one go.
    pub part_bytes_min: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            compression: Compression::None,
            jobs: 0,
            lock_wait: Duration::from_secs(60),
            patience: Duration::from_secs(60),
            part_bytes_min: 64 << 20,
        }
    }
}

/// Fills the prepared database with what `snapshot` sees of the source. When this fails, or is
/// dropped, the target holds a part: it stays marked as half-done.
pub async fn copy(
    source: &Server,
    destination: &Destination,
    snapshot: &Snapshot,
    prepared: &Prepared,
    options: &Options,
    monitor: &dyn Monitor,
) -> Result<Copied, DatabaseError> {
    let found = Programs::find(source, destination, snapshot, prepared, options.lock_wait);
    let programs = found.await?;
    let job = Job { source, destination, snapshot, prepared, options, programs: &programs };
    let result = tokio::select! {
        result = job.run(monitor) => result,
        lost = snapshot.lost() => return Err(lost),
    };
    match result {
        Ok(copied) => Ok(copied),
        // What follows from the loss of the snapshot may be told before the loss.
        Err(error) => match tokio::time::timeout(CAUSE_WAIT, snapshot.lost()).await {
            Ok(lost) => Err(lost),
            Err(_) => Err(error),
        },
    }
}

struct Job<'a> {
    source: &'a Server,
    destination: &'a Destination,
    snapshot: &'a Snapshot,
    prepared: &'a Prepared,
    options: &'a Options,
    programs: &'a Programs<'a>,
}

impl Job<'_> {
    async fn run(&self, monitor: &dyn Monitor) -> Result<Copied, DatabaseError> {
        let start = Instant::now();
        let target = &*self.destination.server.host;
        let cores = programs::cores(target).await?;
        let jobs = match self.options.jobs {
            0 => cores.min(JOBS_MAX_DEFAULT),
            jobs => jobs,
        };
        let mut copied = Copied::default();
        let made = &self.prepared.extensions_made;
        let inventory = inventory::take(self.snapshot, made, self.options.lock_wait).await?;
        // Definitions are so short that the link can be measured beside them.
        let wanted = &self.options.compression;
        let short = match wanted {
            Compression::Helper { .. } => Compression::Archive { level: 1 },
            Compression::None | Compression::Archive { .. } => wanted.clone(),
        };
        let ((compression, link), poured) = tokio::join!(
            wanted.fitted(target, jobs),
            self.pour(&["pre-data"], &[], &short, &mut copied, monitor),
        );
        poured?;
        copied.link = link;

        let way = self.way(&compression);
        let version = self.prepared.version();
        let tuning = Tuning::measure(target, version, cores, jobs).await;
        let settings = format!("{DURABLE}; {}", tuning.sql());
        let work = Work::new(self, &inventory, jobs, &way, &settings, copied.bytes, monitor);
        let (bytes, archive) = tokio::try_join!(work.run(), self.programs.post_data())?;
        copied.bytes += bytes;
        if inventory.has_large_objects {
            let only = ["--blobs", "--exclude-table-data=*.*"];
            self.pour(&["data"], &only, &compression, &mut copied, monitor).await?;
        }
        work.set_sequences().await?;
        copied.data_millis = millis(start);

        let start = Instant::now();
        let built = built(&inventory);
        let pick = |list: &str| contents::without(list, &built);
        // What is left of the archive may comment on them.
        work.add_foreign_keys().await?;
        let restored = self.programs.restore(&archive, Some(&pick), jobs, &tuning, monitor);
        let (warnings, ()) = tokio::try_join!(restored, work.validate_foreign_keys())?;
        copied.problems.extend(warnings);
        copied.post_data_millis = millis(start);

        let start = Instant::now();
        let done = analyzed(&inventory);
        analyze::analyze(self.destination, Tables::AllBut(&done), jobs, monitor).await?;
        copied.analyze_millis = millis(start);
        Ok(copied)
    }

    async fn pour(
        &self,
        sections: &[&str],
        more: &[&str],
        compression: &Compression,
        copied: &mut Copied,
        monitor: &dyn Monitor,
    ) -> Result<(), DatabaseError> {
        let further = told::Further { monitor, before: copied.bytes };
        let (bytes, warnings) = self.programs.pour(sections, more, compression, &further).await?;
        copied.bytes += bytes;
        copied.problems.extend(warnings);
        Ok(())
    }

    /// How rows travel: packed if the target is another machine and can unpack.
    fn way(&self, compression: &Compression) -> Way {
        match compression.helper() {
            Some((helper, level)) if !self.destination.server.host.is_local() => {
                Way::Packed { helper: helper.clone(), level }
            }
            Some(_) | None => Way::Plain,
        }
    }
}

/// The entries of the archive that are there already.
fn built(inventory: &Inventory) -> BTreeSet<contents::Object> {
    let indexes = inventory.tables.iter().flat_map(|table| &table.indexes);
    let keys = inventory.foreign_keys.iter().map(inventory::ForeignKey::entry);
    indexes.map(inventory::Index::entry).chain(keys).collect()
}

/// The tables whose statistics are complete.
fn analyzed(inventory: &Inventory) -> BTreeSet<String> {
    let tables = inventory.tables.iter();
    let done = tables.filter(|table| !table.has_more && table.settings.is_none());
    done.map(|table| table.name.clone()).collect()
}
