//! Names of temporary files: recognisable, so that a later pass sweeps what a killed run left;
//! short, whatever the final name; different for each run and each stream in it.

use crate::wire::path::Name;
use crate::wire::tree::RunId;

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
        format!(".transhume-{}-{}.{}", self.run, self.lane, self.next).into_bytes()
    }
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

/// Whether `name` is a temporary file that may be removed by `run`: one of another run.
pub(crate) fn is_leftover(name: &Name, run: RunId) -> bool {
    run_of(name.as_bytes()).is_some_and(|owner| owner != run)
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
        }
    }
}
