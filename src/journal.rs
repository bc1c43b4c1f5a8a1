//! A durable list of records: JSON lines, each on disk before `append` returns.
//!
//! It knows nothing of what the records mean; whoever owns them folds them into a state.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Advice;

/// An open journal, locked against a second writer for as long as it lives.
#[derive(Debug)]
pub struct Journal<R> {
    file: File,
    path: PathBuf,
    records: PhantomData<fn(R) -> R>,
}

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("cannot {action} the journal {path}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("the journal {path} is in use by another transhume")]
    Locked { path: PathBuf },
    #[error("line {line} of the journal {path} is damaged")]
    Damaged { path: PathBuf, line: usize, source: serde_json::Error },
}

impl Advice for JournalError {
    fn hint(&self) -> Option<String> {
        match self {
            JournalError::Io { path, .. } => Some(format!(
                "check that the disk is not full and that {} is yours",
                path.display()
            )),
            JournalError::Locked { .. } => {
                Some("wait for the other run, or end it (`transhume status` shows it)".into())
            }
            JournalError::Damaged { path, .. } => Some(format!(
                "nothing but the end of a journal may be torn; keep a copy of {} and look at that \
                 line before going on",
                path.display()
            )),
        }
    }
}

impl<R: Serialize + DeserializeOwned> Journal<R> {
    /// Opens or creates the journal (mode 0600), locks it, and gives the records it holds. A torn
    /// last line, left by a crash during an append, is cut off.
    pub fn open(path: &Path) -> Result<(Self, Vec<R>), JournalError> {
        let fail =
            |action| move |source| JournalError::Io { action, path: path.to_owned(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(fail("open"))?;
        lock(&file, path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(fail("read"))?;
        let (records, whole) = parse(&bytes, path)?;
        if whole < bytes.len() {
            file.set_len(whole as u64).map_err(fail("repair"))?;
            file.seek(SeekFrom::End(0)).map_err(fail("repair"))?;
        }
        sync_parent(path).map_err(fail("sync"))?;
        Ok((Journal { file, path: path.to_owned(), records: PhantomData }, records))
    }

    /// Writes one record; it is durable when this returns.
    pub fn append(&mut self, record: &R) -> Result<(), JournalError> {
        let result = serde_json::to_vec(record).map_err(io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            self.file.write_all(&line)?;
            self.file.sync_data()
        });
        result.map_err(|source| JournalError::Io {
            action: "write to",
            path: self.path.clone(),
            source,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The records of a journal that may be in use, without a lock; empty where there is none.
pub fn read<R: DeserializeOwned>(path: &Path) -> Result<Vec<R>, JournalError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(parse(&bytes, path)?.0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(JournalError::Io { action: "read", path: path.to_owned(), source }),
    }
}

/// The whole lines of `bytes` as records, and how many bytes they take.
fn parse<R: DeserializeOwned>(bytes: &[u8], path: &Path) -> Result<(Vec<R>, usize), JournalError> {
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let mut records = Vec::new();
    for (index, line) in bytes[..whole].split_inclusive(|byte| *byte == b'\n').enumerate() {
        let record = serde_json::from_slice(line).map_err(|source| JournalError::Damaged {
            path: path.to_owned(),
            line: index + 1,
            source,
        })?;
        records.push(record);
    }
    Ok((records, whole))
}

fn lock(file: &File, path: &Path) -> Result<(), JournalError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(JournalError::Locked { path: path.to_owned() })
        }
        Err(std::fs::TryLockError::Error(source)) => {
            Err(JournalError::Io { action: "lock", path: path.to_owned(), source })
        }
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        Some(_) | None => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn write(path: &Path, records: &[String]) {
        let (mut journal, _) = Journal::<String>::open(path).unwrap();
        for record in records {
            journal.append(record).unwrap();
        }
    }

    #[test]
    fn a_second_writer_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let _first = Journal::<String>::open(&path).unwrap();
        assert!(matches!(Journal::<String>::open(&path), Err(JournalError::Locked { .. })));
    }

    #[test]
    fn damage_before_the_end_is_told_by_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        std::fs::write(&path, "\"a\"\nnonsense\n\"b\"\n").unwrap();
        let error = Journal::<String>::open(&path).unwrap_err();
        assert!(matches!(error, JournalError::Damaged { line: 2, .. }), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// The law: cut the file anywhere, and what remains is a prefix of what was written, to
        /// which one can append.
        #[test]
        fn a_torn_journal_is_a_prefix(records in prop::collection::vec(".{0,8}", 1..6), cut in 0.0..1.0f64) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("journal");
            write(&path, &records);
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(&path, &bytes[..(bytes.len() as f64 * cut) as usize]).unwrap();
            write(&path, &["after".to_owned()]);
            let mut left = read::<String>(&path).unwrap();
            prop_assert_eq!(left.pop().unwrap(), "after");
            prop_assert_eq!(&left[..], &records[..left.len()]);
        }
    }
}
