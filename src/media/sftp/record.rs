//! Which parts of a large file a server has said to have on its disk: written down as they come, so
//! that the next pass goes on with what is left there if this one breaks off. One file for each,
//! beside what is [known](super::known) of whole ones: a head, then an entry for each part, the
//! latest of which counts. Nothing here has to be durable: of what is damaged or missing the parts
//! are sent again. Whoever writes one holds a lock on it; without the lock nothing is written down.
//! Blocking.

use std::fs::File;
use std::io::{BufReader, Read, Write};

use bytes::{Buf, BufMut, Bytes};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};

use super::known::{HASH_BYTES, Known};
use crate::media::manifest::ENDING_PARTS;
use crate::wire::message::{PART_BYTES, Parted};
use crate::wire::path::RelPath;
use crate::wire::tree::Mtime;

const MAGIC: [u8; 8] = *b"tsparts1";
const CHECK_BYTES: usize = 8;
const HEAD_BYTES: usize = MAGIC.len() + HASH_BYTES + 8 + 8 + 4 + 4 + 8 + 4 + CHECK_BYTES;
/// More sums a part cannot have: those of its blocks of 64 KiB.
const SUMS_BYTES_MAX: usize = (PART_BYTES / (64 * 1024)) as usize * 12;
/// A longer record than that of so many times all parts is not read.
const ROUNDS_MAX: usize = 4;

/// What is said of a file that is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub size: u64,
    pub mtime: Mtime,
    /// The time that the temporary file has whenever nobody but us has written to it.
    pub mark: u32,
    /// Of the sums of its blocks.
    pub seed: u64,
    /// How long the sums of a part are, if its blocks are summed.
    pub sums_bytes: usize,
}

/// A part that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Done {
    /// The hash of its content, as a subtree of that of the file.
    pub chaining: [u8; HASH_BYTES],
    pub sums: Bytes,
}

/// By the numbers of the parts.
pub(super) type Parts = Vec<Option<Done>>;

/// A record that is being written.
#[derive(Debug)]
pub(super) struct Record {
    file: File,
    key: [u8; HASH_BYTES],
    sums_bytes: usize,
}

pub(super) fn part_count(size: u64) -> usize {
    size.div_ceil(PART_BYTES) as usize
}

impl Record {
    /// Begins the record of the temporary file `at`. `None` if there can be none.
    pub fn begin(known: &Known, at: &RelPath, head: &Head) -> Option<Self> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::APPEND;
        let (file, key) = open(known, at, flags)?;
        file.set_len(0).ok()?;
        let mut record = Record { file, key, sums_bytes: head.sums_bytes };
        record.file.write_all(&encode_head(&key, head)).ok()?;
        Some(record)
    }

    /// Goes on with one: what it says, and where to write more of it.
    pub fn resume(known: &Known, at: &RelPath, file: &Parted) -> Option<(Self, Head, Parts)> {
        let (opened, key) = open(known, at, OFlags::RDWR | OFlags::APPEND)?;
        let (head, parts, good_bytes) = read(&opened, &key, file)?;
        // What was being written at the end would shift what follows.
        opened.set_len(good_bytes).ok()?;
        Some((Record { file: opened, key, sums_bytes: head.sums_bytes }, head, parts))
    }

    /// Writes down a part, or that nothing is known of it any more. Whether it could.
    pub fn note(&mut self, index: usize, done: Option<&Done>) -> bool {
        let entry = encode_entry(&self.key, self.sums_bytes, index, done);
        self.file.write_all(&entry).is_ok()
    }
}

/// What is said of the temporary file `at`, whoever writes it.
pub(super) fn look(known: &Known, at: &RelPath) -> Option<(Head, Parts)> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let name = known.name_of(at, ENDING_PARTS);
    let file = File::from(rustix::fs::openat(known.dir(), name, flags, Mode::empty()).ok()?);
    let (head, parts, _) = read_any(&file, &known.key(at))?;
    Some((head, parts))
}

/// Forgets the temporary file `at`.
pub(super) fn forget(known: &Known, at: &RelPath) {
    // What stays is of a file that is not there any more.
    let _ = rustix::fs::unlinkat(known.dir(), known.name_of(at, ENDING_PARTS), AtFlags::empty());
}

fn open(known: &Known, at: &RelPath, flags: OFlags) -> Option<(File, [u8; HASH_BYTES])> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let (name, mode) = (known.name_of(at, ENDING_PARTS), Mode::from_raw_mode(0o600));
    let file = rustix::fs::openat(known.dir(), name, flags, mode).ok()?;
    // Another pass that sends the same file must not go on with what this one is writing.
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some((File::from(file), known.key(at)))
}

fn read(file: &File, key: &[u8; HASH_BYTES], parted: &Parted) -> Option<(Head, Parts, u64)> {
    let read = read_any(file, key)?;
    (read.0.size == parted.size && read.0.mtime == parted.mtime).then_some(read)
}

fn read_any(file: &File, key: &[u8; HASH_BYTES]) -> Option<(Head, Parts, u64)> {
    let mut input = BufReader::new(file);
    let mut bytes = [0; HEAD_BYTES];
    input.read_exact(&mut bytes).ok()?;
    let head = decode_head(key, &bytes)?;
    let count = part_count(head.size);
    let mut parts: Parts = vec![None; count];
    let mut entry = vec![0; entry_bytes(head.sums_bytes)];
    let mut good_bytes = HEAD_BYTES as u64;
    for _ in 0..count.saturating_mul(ROUNDS_MAX) {
        if input.read_exact(&mut entry).is_err() {
            break;
        }
        let Some((index, done)) = decode_entry(key, &entry) else { break };
        *parts.get_mut(index)? = done;
        good_bytes += entry.len() as u64;
    }
    Some((head, parts, good_bytes))
}

fn check(key: &[u8; HASH_BYTES], bytes: &[u8]) -> [u8; CHECK_BYTES] {
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&blake3::keyed_hash(key, bytes).as_bytes()[..CHECK_BYTES]);
    check
}

fn encode_head(key: &[u8; HASH_BYTES], head: &Head) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.put_slice(key);
    bytes.put_u64(head.size);
    bytes.put_i64(head.mtime.secs);
    bytes.put_u32(head.mtime.nanos);
    bytes.put_u32(head.mark);
    bytes.put_u64(head.seed);
    bytes.put_u32(head.sums_bytes as u32);
    bytes.extend(check(key, &bytes));
    bytes
}

fn decode_head(key: &[u8; HASH_BYTES], bytes: &[u8; HEAD_BYTES]) -> Option<Head> {
    let (body, sum) = bytes.split_at(HEAD_BYTES - CHECK_BYTES);
    let mut rest = body.strip_prefix(&MAGIC[..])?.strip_prefix(&key[..])?;
    if sum != check(key, body) {
        return None;
    }
    let head = Head {
        size: rest.get_u64(),
        mtime: Mtime { secs: rest.get_i64(), nanos: rest.get_u32() },
        mark: rest.get_u32(),
        seed: rest.get_u64(),
        sums_bytes: rest.get_u32() as usize,
    };
    (head.sums_bytes <= SUMS_BYTES_MAX && u32::try_from(part_count(head.size)).is_ok())
        .then_some(head)
}

/// Number, whether it is there, hash, length of the sums, sums, check.
fn entry_bytes(sums_bytes: usize) -> usize {
    4 + 1 + HASH_BYTES + 4 + sums_bytes + CHECK_BYTES
}

fn encode_entry(
    key: &[u8; HASH_BYTES],
    sums_bytes: usize,
    index: usize,
    done: Option<&Done>,
) -> Vec<u8> {
    let mut entry = Vec::with_capacity(entry_bytes(sums_bytes));
    let sums = done.map(|done| &done.sums[..sums_bytes.min(done.sums.len())]).unwrap_or_default();
    entry.put_u32(index as u32);
    entry.put_u8(done.is_some().into());
    entry.put_slice(&done.map(|done| done.chaining).unwrap_or_default());
    entry.put_u32(sums.len() as u32);
    entry.put_slice(sums);
    entry.resize(entry_bytes(sums_bytes) - CHECK_BYTES, 0);
    entry.extend(check(key, &entry));
    entry
}

fn decode_entry(key: &[u8; HASH_BYTES], entry: &[u8]) -> Option<(usize, Option<Done>)> {
    let (body, sum) = entry.split_at_checked(entry.len().checked_sub(CHECK_BYTES)?)?;
    if sum != check(key, body) {
        return None;
    }
    let mut rest = body;
    let (index, there) = (rest.try_get_u32().ok()?, rest.try_get_u8().ok()?);
    let (chaining, mut rest) = rest.split_first_chunk::<HASH_BYTES>()?;
    let length = rest.try_get_u32().ok()? as usize;
    let sums = Bytes::copy_from_slice(rest.get(..length)?);
    Some((index as usize, (there == 1).then_some(Done { chaining: *chaining, sums })))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUMS_BYTES: usize = 24;

    fn path(name: &str) -> RelPath {
        RelPath::new(name.as_bytes()).unwrap()
    }

    fn file() -> Parted {
        let mtime = Mtime { secs: 1_700_000_000, nanos: 9 };
        Parted { path: path("a/large"), size: 3 * PART_BYTES + 1, mtime }
    }

    fn head() -> Head {
        let Parted { size, mtime, .. } = file();
        Head { size, mtime, mark: 1_000, seed: 5, sums_bytes: SUMS_BYTES }
    }

    fn done(number: u8, sums_bytes: usize) -> Done {
        Done { chaining: [number; 32], sums: vec![number; sums_bytes].into() }
    }

    fn known(dir: &tempfile::TempDir) -> Known {
        Known::open(&dir.path().join("cache"), "new.example", b"/srv").unwrap()
    }

    /// A record of the first part, and of the last, which is shorter.
    fn written(known: &Known) -> Parts {
        let mut record = Record::begin(known, &path("a/temp"), &head()).unwrap();
        assert!(record.note(0, Some(&done(8, SUMS_BYTES))));
        assert!(record.note(1, Some(&done(2, SUMS_BYTES))));
        assert!(record.note(3, Some(&done(3, 0))));
        assert!(record.note(0, Some(&done(1, SUMS_BYTES))) && record.note(1, None));
        vec![Some(done(1, SUMS_BYTES)), None, None, Some(done(3, 0))]
    }

    #[test]
    fn what_was_noted_last_counts_and_can_be_gone_on_with() {
        let dir = tempfile::tempdir().unwrap();
        let known = known(&dir);
        let parts = written(&known);
        let at = path("a/temp");
        assert_eq!(look(&known, &at), Some((head(), parts.clone())));
        let (mut record, found, left) = Record::resume(&known, &at, &file()).unwrap();
        assert_eq!((found, left), (head(), parts));
        record.note(2, Some(&done(4, SUMS_BYTES)));
        assert_eq!(look(&known, &at).unwrap().1[2], Some(done(4, SUMS_BYTES)));
        drop(record);
        forget(&known, &at);
        assert_eq!(look(&known, &at), None);
    }

    #[test]
    fn of_another_state_of_the_file_nothing_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let known = known(&dir);
        written(&known);
        let Parted { path: name, size, mtime } = file();
        for other in [
            Parted { size: size + 1, ..file() },
            Parted { mtime: Mtime { nanos: 8, ..mtime }, ..file() },
        ] {
            assert!(Record::resume(&known, &path("a/temp"), &other).is_none());
        }
        assert!(Record::resume(&known, &name, &file()).is_none());
    }

    #[test]
    fn two_passes_do_not_write_one_record() {
        let dir = tempfile::tempdir().unwrap();
        let known = known(&dir);
        written(&known);
        let at = path("a/temp");
        let first = Record::resume(&known, &at, &file());
        assert!(first.is_some());
        assert!(Record::resume(&known, &at, &file()).is_none());
        assert!(Record::begin(&known, &at, &head()).is_none());
        drop(first);
        assert!(Record::resume(&known, &at, &file()).is_some());
    }

    #[test]
    fn damage_costs_what_comes_behind_it_and_makes_nothing_up() {
        let dir = tempfile::tempdir().unwrap();
        let known = known(&dir);
        written(&known);
        let at = path("a/temp");
        let place = dir.path().join("cache").join(known.name_of(&at, ENDING_PARTS));
        let good = std::fs::read(&place).unwrap();
        let notes = [
            vec![None; 4],
            vec![Some(done(8, SUMS_BYTES)), None, None, None],
            vec![Some(done(8, SUMS_BYTES)), Some(done(2, SUMS_BYTES)), None, None],
            vec![Some(done(8, SUMS_BYTES)), Some(done(2, SUMS_BYTES)), None, Some(done(3, 0))],
            vec![Some(done(1, SUMS_BYTES)), Some(done(2, SUMS_BYTES)), None, Some(done(3, 0))],
        ];
        for damaged in 0..good.len() {
            let whole = damaged.checked_sub(HEAD_BYTES).map(|at| at / entry_bytes(SUMS_BYTES));
            let expected = whole.map(|whole| notes[whole].clone());
            let mut flipped = good.clone();
            flipped[damaged] ^= 1;
            for bytes in [&flipped[..], &good[..damaged]] {
                std::fs::write(&place, bytes).unwrap();
                let found = Record::resume(&known, &at, &file());
                assert_eq!(found.as_ref().map(|(_, _, parts)| parts.clone()), expected);
                // And what is written behind it is found again.
                if let Some((mut record, ..)) = found {
                    record.note(2, Some(&done(4, 0)));
                    let (_, parts) = look(&known, &at).unwrap();
                    assert_eq!(parts[2], Some(done(4, 0)), "{damaged}");
                }
            }
        }
    }
}
