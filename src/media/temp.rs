//! Names of temporary files: recognisable, so that a later pass sweeps what a killed run left;
//! short, whatever the final name; different for each run and each stream in it.
//!
//! A long file that is not yet on the target is written under a name that says which file it is
//! going to be. If the run breaks off, the next one finds it again and sends only what is missing;
//! if the file is another by then, nobody claims it, and it is swept like the others.

use crate::wire::path::Name;
use crate::wire::tree::{Mtime, RunId};

/// Shorter files start over.
pub(crate) const PARTIAL_FILE_BYTES_MIN: u64 = 16 << 20;
const PARTIAL_PREFIX: &[u8] = b".transhume-part-";
const PARTIAL_DIGITS: usize = 16;
const PREFIX: &[u8] = b".transhume-";
const RUN_DIGITS: usize = 16;

/// The names of one stream of one run.
#[derive(Debug)]
pub(crate) struct TempNames {
    run: RunId,
    lane: u32,
    next: u64,
}

impl TempNames {
    pub fn new(run: RunId, lane: u32) -> Self {
        TempNames { run, lane, next: 0 }
    }

    /// The names of somebody else who works on the same stream.
    pub fn sibling(&self) -> Self {
        TempNames { next: 1 << 63, ..*self }
    }

    pub fn next(&mut self) -> Vec<u8> {
        self.next += 1;
        name(self.run, self.lane, self.next)
    }
}

fn name(run: RunId, lane: u32, number: u64) -> Vec<u8> {
    format!(".transhume-{run}-{lane}.{number}").into_bytes()
}

/// A name that is part of no tree.
pub(crate) fn nobody() -> Option<Name> {
    Name::new(&name(RunId(0), 0, 0)).ok()
}

/// The run that made a temporary file of this name, if it is one.
pub(crate) fn run_of(name: &[u8]) -> Option<RunId> {
    let rest = name.strip_prefix(PREFIX)?;
    let (run, rest) = rest.split_at_checked(RUN_DIGITS)?;
    let (lane, number) = std::str::from_utf8(rest.strip_prefix(b"-")?).ok()?.split_once('.')?;
    lane.parse::<u32>().ok()?;
    number.parse::<u64>().ok()?;
    u64::from_str_radix(std::str::from_utf8(run).ok()?, 16).ok().map(RunId)
}

/// The names that a partial file may have: one that grows out of another has the other name. None for a file that is too short.
pub(crate) fn partial_names(name: &Name, bytes: u64, mtime: Mtime) -> Option<[Name; 2]> {
    if bytes < PARTIAL_FILE_BYTES_MIN {
        return None;
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&bytes.to_be_bytes());
    hasher.update(&mtime.secs.to_be_bytes());
    hasher.update(&mtime.nanos.to_be_bytes());
    hasher.update(name.as_bytes());
    let hex = hasher.finalize().to_hex();
    let name = |number| {
        let name = format!(".transhume-part-{}.{number}", &hex[..PARTIAL_DIGITS]);
        Name::new(name.as_bytes()).ok()
    };
    Some([name(0)?, name(1)?])
}

/// Whether `name` is that of a partial file.
pub(crate) fn is_partial(name: &[u8]) -> bool {
    let parts =
        name.strip_prefix(PARTIAL_PREFIX).and_then(|rest| rest.split_at_checked(PARTIAL_DIGITS));
    parts.is_some_and(|(hex, number)| {
        hex.iter().all(u8::is_ascii_hexdigit) && matches!(number, b".0" | b".1")
    })
}

/// Whether `name` is one of ours, of whatever run.
pub(crate) fn is_ours(name: &[u8]) -> bool {
    is_partial(name) || run_of(name).is_some()
}

/// Whether `name` is a temporary file that may be removed by `run`: one of another run, or a partial
/// file that nobody claims.
pub(crate) fn is_leftover(name: &Name, run: RunId) -> bool {
    is_partial(name.as_bytes()) || run_of(name.as_bytes()).is_some_and(|owner| owner != run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_names_are_known_again_and_others_are_left_alone() {
        let mut names = TempNames::new(RunId(0xab), 3);
        let name = names.next();
        assert_eq!(name, b".transhume-00000000000000ab-3.1");
        assert_ne!(name, names.next());
        assert_eq!(run_of(&name), Some(RunId(0xab)));
        assert!(!is_leftover(&Name::new(&name).unwrap(), RunId(0xab)));
        assert!(is_leftover(&Name::new(&name).unwrap(), RunId(0xcd)));
        for other in [".transhume-", ".transhume-00000000000000ab-notes.txt", ".transhume-x-1.1"] {
            assert_eq!(run_of(other.as_bytes()), None, "{other}");
            assert!(!is_ours(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn a_partial_file_is_found_again_by_the_file_it_is_of_and_by_no_other() {
        let name = Name::new(b"dump").unwrap();
        let mtime = Mtime { secs: 1_700_000_000, nanos: 5 };
        let names = partial_names(&name, 1 << 30, mtime).unwrap();
        assert_eq!(partial_names(&name, 1 << 30, mtime).unwrap(), names);
        assert!(names.iter().all(|name| is_ours(name.as_bytes()) && is_leftover(name, RunId(1))));
        let later = Mtime { nanos: 6, ..mtime };
        for other in [
            partial_names(&Name::new(b"dump2").unwrap(), 1 << 30, mtime),
            partial_names(&name, (1 << 30) + 1, mtime),
            partial_names(&name, 1 << 30, later),
        ] {
            assert_ne!(other.unwrap(), names);
        }
        assert_eq!(partial_names(&name, 1 << 20, mtime), None);
        let lookalike =
            [b".transhume-part-0123456789abcdef.notes", b".transhume-part-0123456789abcdeg.00001"];
        assert!(lookalike.iter().all(|name| !is_ours(*name)));
    }
}
