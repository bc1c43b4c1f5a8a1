//! The events of a run on disk, `events.jsonl`: what `report` and `status` draw from.
//!
//! The file is for people: it is not synced, progress in it is thinned, and a line that was torn
//! by a crash is skipped when it is read. What recovery needs is in the journal.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::json;
use super::outlet::{Outlet, Sink};
use super::view::span;
use crate::error::Advice;
use crate::event::{Event, Progress, Stamped};

/// How often progress of one activity is recorded.
const PROGRESS_SECS: u64 = 1;
/// A longer line is no event of ours.
const LINE_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    #[error("cannot {action} the events file {path}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

impl Advice for EventsError {
    fn hint(&self) -> Option<String> {
        let EventsError::Io { path, .. } = self;
        Some(format!("check that the disk is not full and that {} is yours", path.display()))
    }
}

/// A monitor that appends every event to the file at `path` (created 0600). A file that ends in
/// the middle of a line, after a crash, is gone on with on a new one.
pub fn record(path: &Path) -> Result<Outlet, EventsError> {
    let fail = |action| move |source| EventsError::Io { action, path: path.to_owned(), source };
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(fail("open"))?;
    end_torn_line(&mut file).map_err(fail("repair"))?;
    let record = Record { file: Some(file), thinned: HashMap::new() };
    Outlet::start(record).map_err(fail("start writing to"))
}

fn end_torn_line(file: &mut File) -> io::Result<()> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(());
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    if last != *b"\n" {
        file.write_all(b"\n")?;
    }
    Ok(())
}

/// What a file of events holds.
#[derive(Debug, Default, PartialEq)]
pub struct Recording {
    pub events: Vec<Stamped>,
    /// Lines that were torn, damaged or written by a newer transhume.
    pub skipped_lines: usize,
}

/// Reads the events at `path`; none where there is no file.
pub fn read(path: &Path) -> Result<Recording, EventsError> {
    let fail = |source| EventsError::Io { action: "read", path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Recording::default()),
        Err(error) => return Err(fail(error)),
    };
    let mut reader = BufReader::new(file);
    let mut recording = Recording::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        let count = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        if count.map_err(fail)? == 0 {
            return Ok(recording);
        }
        match serde_json::from_slice(&line) {
            Ok(stamped) => recording.events.push(stamped),
            Err(_) => recording.skipped_lines += 1,
        }
    }
}

/// The part of `events` that belongs to the newest run, from its first start on.
pub fn newest_run(events: &[Stamped]) -> &[Stamped] {
    let mut current: Option<&str> = None;
    let mut start = 0;
    for (index, stamped) in events.iter().enumerate() {
        if let Event::RunStarted { run, .. } = &stamped.event
            && current != Some(run)
        {
            current = Some(run);
            start = index;
        }
    }
    &events[start..]
}

struct Record {
    file: Option<File>,
    /// For each activity: when its progress was last written, and what came since.
    thinned: HashMap<String, (Timestamp, Option<Stamped>)>,
}

impl Sink for Record {
    fn take(&mut self, stamped: &Stamped) {
        if let Event::Progress(progress) = &stamped.event {
            self.thin(stamped, progress);
        } else {
            self.write_held_back();
            self.write(stamped);
        }
    }

    fn finish(&mut self) {
        self.write_held_back();
    }
}

impl Record {
    fn thin(&mut self, stamped: &Stamped, progress: &Progress) {
        match self.thinned.get_mut(&progress.activity) {
            Some((written, held)) if span(*written, stamped.at).as_secs() < PROGRESS_SECS => {
                *held = Some(stamped.clone());
            }
            Some(_) | None => {
                self.thinned.insert(progress.activity.clone(), (stamped.at, None));
                self.write(stamped);
            }
        }
    }

    /// The last figures before something happens are kept: they are the totals.
    fn write_held_back(&mut self) {
        let mut held: Vec<Stamped> =
            self.thinned.drain().filter_map(|(_, (_, held))| held).collect();
        held.sort_by_key(|stamped| stamped.at);
        for stamped in held {
            self.write(&stamped);
        }
    }

    fn write(&mut self, stamped: &Stamped) {
        let Some(file) = &mut self.file else { return };
        // Each event is one write, so that a killed process leaves what it told.
        if json::line(stamped, None).and_then(|line| file.write_all(&line)).is_err() {
            // A full disk must not end a move; the journal notices it where it matters.
            self.file = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Monitor;
    use std::os::unix::fs::PermissionsExt;

    fn note(text: &str) -> Event {
        Event::Note { text: text.into() }
    }

    fn texts(recording: &Recording) -> Vec<&str> {
        let texts = recording.events.iter().map(|stamped| match &stamped.event {
            Event::Note { text } => text.as_str(),
            other => panic!("{other:?}"),
        });
        texts.collect()
    }

    #[test]
    fn a_torn_line_costs_itself_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let first = record(&path).unwrap();
        first.emit(note("one"));
        first.finish();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut bytes = std::fs::read(&path).unwrap();
        let half = bytes.len() / 2;
        bytes.extend_from_within(..half);
        std::fs::write(&path, bytes).unwrap();
        let recording = read(&path).unwrap();
        assert_eq!((texts(&recording), recording.skipped_lines), (vec!["one"], 1));

        let second = record(&path).unwrap();
        second.emit(note("two"));
        drop(second);
        let recording = read(&path).unwrap();
        assert_eq!((texts(&recording), recording.skipped_lines), (vec!["one", "two"], 1));
    }

    #[test]
    fn a_missing_file_is_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(&dir.path().join("events.jsonl")).unwrap(), Recording::default());
    }

    #[test]
    fn progress_is_thinned_but_its_last_figures_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let file = File::create(&path).unwrap();
        let mut sink = Record { file: Some(file), thinned: HashMap::new() };
        for items_done in 0..1000u64 {
            let at = Timestamp::from_millisecond(items_done as i64 * 10).unwrap();
            let progress = Progress { activity: "media".into(), items_done, ..Progress::default() };
            sink.take(&Stamped { at, event: Event::Progress(progress) });
        }
        sink.take(&Stamped::now(Event::PointOfNoReturn));
        let events = read(&path).unwrap().events;
        let done: Vec<u64> = events
            .iter()
            .filter_map(|stamped| match &stamped.event {
                Event::Progress(progress) => Some(progress.items_done),
                _ => None,
            })
            .collect();
        assert_eq!(done, [0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 999]);
        assert_eq!(events.last().unwrap().event, Event::PointOfNoReturn);
    }

    #[test]
    fn the_newest_run_starts_where_it_was_first_started() {
        let start = |run: &str| Event::RunStarted { run: run.into(), verb: "migrate".into() };
        let events: Vec<Stamped> =
            [start("a"), note("old"), start("b"), note("cut off"), start("b"), note("new")]
                .map(Stamped::now)
                .into();
        assert_eq!(newest_run(&events), &events[2..]);
    }
}
