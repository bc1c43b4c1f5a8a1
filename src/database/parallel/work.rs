//! The workers and what they share: the schedule, moved on by whoever has done something.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::future::try_join_all;
use tokio::sync::watch;

use crate::event::Monitor;

use super::super::DatabaseError;
use super::super::session::Way;
use super::build::Builder;
use super::inventory::{Inventory, Table};
use super::rows::Copier;
use super::schedule::{Next, Part, Schedule, Size, Task};
use super::seat::{Reader, Writer};
use super::sequences;
use super::told::Told;
use super::{DURABLE, Job, foreign_keys};

/// The first major version that reads a range of pages without reading all of them.
const READS_PAGES: u32 = 14;

/// All that the workers do.
pub(super) struct Work<'a> {
    job: &'a Job<'a>,
    inventory: &'a Inventory,
    jobs: usize,
    way: &'a Way,
    settings: &'a str,
    schedule: Mutex<Schedule>,
    /// Told when the schedule has moved on.
    moved_on: watch::Sender<()>,
    /// Rows of each table that are in.
    rows: Vec<AtomicU64>,
    told: Told<'a>,
}

impl<'a> Work<'a> {
    pub fn new(
        job: &'a Job<'a>,
        inventory: &'a Inventory,
        jobs: usize,
        way: &'a Way,
        settings: &'a str,
        before: u64,
        monitor: &'a dyn Monitor,
    ) -> Self {
        let reads_pages = job.snapshot.session().version().major() >= READS_PAGES;
        let sizes: Vec<Size> =
            inventory.tables.iter().map(|table| size(table, reads_pages)).collect();
        Work {
            job,
            inventory,
            jobs,
            way,
            settings,
            schedule: Mutex::new(Schedule::new(&sizes, jobs, job.options.part_bytes_min)),
            moved_on: watch::Sender::new(()),
            rows: sizes.iter().map(|_| AtomicU64::new(0)).collect(),
            told: Told::new(monitor, before, job.snapshot.indexes()),
        }
    }

    /// Copies all rows and builds what is ours; gives the bytes of the rows.
    pub async fn run(&self) -> Result<u64, DatabaseError> {
        let copying = try_join_all((0..self.jobs).map(|_| self.copy()));
        let building = try_join_all((0..self.jobs).map(|_| self.build()));
        tokio::try_join!(copying, building)?;
        self.refill_unlogged().await?;
        Ok(self.told.all_arrived())
    }

    /// Sets the sequences.
    pub async fn set_sequences(&self) -> Result<(), DatabaseError> {
        let source = self.job.snapshot.session();
        let made = &self.job.prepared.extensions_made;
        sequences::set(source, made, &mut self.writer(None, DURABLE), &self.told).await
    }

    /// Makes the foreign keys, which hold for new rows from then on.
    pub async fn add_foreign_keys(&self) -> Result<(), DatabaseError> {
        foreign_keys::add(&self.inventory.foreign_keys, &mut self.builder()).await
    }

    /// Checks them for the rows that are there.
    pub async fn validate_foreign_keys(&self) -> Result<(), DatabaseError> {
        let builders = (0..self.jobs).map(|_| self.builder()).collect();
        foreign_keys::validate(&self.inventory.foreign_keys, builders).await
    }

    /// One worker that copies.
    async fn copy(&self) -> Result<(), DatabaseError> {
        let mut copier = self.copier();
        while let Some(part) = self.next_part() {
            let table = &self.inventory.tables[part.table];
            let rows = copier.copy(table, part.pages).await?;
            self.rows[part.table].fetch_add(rows, Ordering::Relaxed);
            self.schedule().part_done(part);
            self.moved_on.send_replace(());
        }
        Ok(())
    }

    /// One worker that builds.
    async fn build(&self) -> Result<(), DatabaseError> {
        let mut builder = self.builder();
        let mut moved_on = self.moved_on.subscribe();
        loop {
            moved_on.mark_unchanged();
            match self.next_task() {
                Next::Do(task) => {
                    match task {
                        Task::Vacuum { table } => {
                            builder.vacuum(&self.inventory.tables[table]).await?;
                        }
                        Task::Index { table, index } => {
                            builder.build(&self.inventory.tables[table].indexes[index]).await?;
                        }
                        Task::Finish { table } => {
                            builder.finish(&self.inventory.tables[table]).await?;
                        }
                    }
                    self.schedule().task_done(task);
                    self.moved_on.send_replace(());
                }
                // The sender lives as long as we do.
                Next::Wait => drop(moved_on.changed().await),
                Next::Done => return Ok(()),
            }
        }
    }

    /// A crash of the target empties unlogged tables: those are filled again.
    async fn refill_unlogged(&self) -> Result<(), DatabaseError> {
        let mut copier = self.copier();
        for (table, rows) in self.inventory.tables.iter().zip(&self.rows) {
            if !table.is_unlogged {
                continue;
            }
            let sql = format!("SELECT count(*) FROM ONLY {}", table.name);
            let target = copier.writer.session().await?;
            let found: i64 = target.slow_value("count unlogged rows", &sql).await?;
            if found.unsigned_abs() != rows.load(Ordering::Relaxed) {
                copier.copy(table, None).await?;
            }
        }
        Ok(())
    }

    fn copier(&self) -> Copier<'_> {
        let (source, snapshot) = (self.job.source, self.job.snapshot);
        let patience = self.job.options.patience;
        Copier {
            reader: Reader { source, snapshot, patience, session: None },
            writer: self.writer(Some(self.way), DURABLE),
            encoding: &self.inventory.encoding,
            told: &self.told,
        }
    }

    fn builder(&self) -> Builder<'_> {
        Builder { writer: self.writer(None, self.settings), told: &self.told }
    }

    fn writer<'s>(&'s self, bulk: Option<&'s Way>, settings: &'s str) -> Writer<'s> {
        Writer::new(self.job.destination, bulk, settings, self.job.options.patience)
    }

    fn next_part(&self) -> Option<Part> {
        self.schedule().next_part()
    }

    fn next_task(&self) -> Next {
        self.schedule().next_task()
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(table: &Table, reads_pages: bool) -> Size {
    Size {
        bytes: table.bytes,
        pages: table.pages,
        is_divisible: reads_pages && table.settings.is_none(),
        indexes: table.indexes.iter().map(|index| index.bytes).collect(),
    }
}
