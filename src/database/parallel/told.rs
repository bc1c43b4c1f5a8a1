//! What the workers tell the operator, together and not too often.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::event::{Event, Monitor, Progress};

use super::super::DatabaseError;

const TELL_EVERY: Duration = Duration::from_millis(250);

/// How far the workers are.
pub(super) struct Told<'a> {
    monitor: &'a dyn Monitor,
    /// What went over before: definitions.
    before: u64,
    /// Sent, also what had to be sent again.
    moved: AtomicU64,
    /// Committed.
    arrived: AtomicU64,
    told: Mutex<Instant>,
    /// Of the source.
    indexes: u64,
    built: AtomicU64,
}

/// A monitor of a part of the work, to which the bytes that went over before are no news.
pub(super) struct Further<'a> {
    pub monitor: &'a dyn Monitor,
    pub before: u64,
}

impl Monitor for Further<'_> {
    fn emit(&self, event: Event) {
        self.monitor.emit(match event {
            Event::Progress(progress) => Event::Progress(Progress {
                bytes_done: progress.bytes_done + self.before,
                ..progress
            }),
            other => other,
        });
    }
}

impl<'a> Told<'a> {
    pub fn new(monitor: &'a dyn Monitor, before: u64, indexes: u64) -> Self {
        Told {
            monitor,
            before,
            moved: AtomicU64::new(0),
            arrived: AtomicU64::new(0),
            told: Mutex::new(Instant::now()),
            indexes,
            built: AtomicU64::new(0),
        }
    }

    /// `bytes` of `table` went over; gives their number.
    pub fn moved(&self, table: &str, bytes: usize) -> u64 {
        let bytes = bytes as u64;
        let total = self.moved.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.elapsed() >= TELL_EVERY {
            *told = Instant::now();
            self.tell(Some(table.to_owned()), total);
        }
        bytes
    }

    pub fn arrived(&self, bytes: u64) {
        self.arrived.fetch_add(bytes, Ordering::Relaxed);
    }

    /// All rows are in; gives their bytes.
    pub fn all_arrived(&self) -> u64 {
        let total = self.arrived.load(Ordering::Relaxed);
        self.tell(None, total);
        total
    }

    /// An index is built.
    pub fn built(&self, name: &str) {
        self.monitor.emit(Event::Progress(Progress {
            activity: "indexes".into(),
            detail: Some(name.to_owned()),
            items_done: self.built.fetch_add(1, Ordering::Relaxed) + 1,
            items_total: Some(self.indexes),
            ..Progress::default()
        }));
    }

    /// A connection was lost while it was at `what`, which is done again.
    pub fn lost(&self, error: &DatabaseError, what: &str) {
        let text = format!("{}; once more: {what}", crate::error::one_line(error));
        self.monitor.emit(Event::Note { text });
    }

    fn tell(&self, table: Option<String>, bytes: u64) {
        self.monitor.emit(Event::Progress(Progress {
            activity: "database".into(),
            detail: table,
            bytes_done: self.before + bytes,
            ..Progress::default()
        }));
    }
}
