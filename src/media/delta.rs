//! The rsync algorithm for a file that is on both sides with other content: a signature of the old
//! one, computed where it lies; a delta of the new one against it; a patch of the two into a new
//! file. Files are read in parts, so memory does not grow with them; each step uses the cores there
//! are.
//!
//! Sums are short and only say what is likely equal: whoever patches must verify the whole result
//! by a hash of its own, and have the file sent whole if it is another. A peer's signature and
//! delta are checked before use.

mod diff;
mod encode;
mod index;
mod matching;
mod patch;
mod signature;
mod sums;

pub use diff::{Diffed, diff};
pub use patch::Patcher;
pub use signature::{Basis, signature};

/// Smaller files are sent whole: the delta would cost more round trips than it saves bytes.
pub(crate) const FILE_BYTES_MIN: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs::File;
    use std::io::Write;

    const SEED: u64 = 0x1234_5678_9abc_def0;

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    /// The delta that leads from `old` to `new`, or `None` where it does not pay.
    fn delta(old: &File, old_bytes: u64, new: &[u8]) -> Option<Vec<u8>> {
        let basis = Basis::new(&signature(old, old_bytes, SEED).unwrap()).unwrap();
        let mut delta = Vec::new();
        let emit = |part: Vec<u8>| {
            delta.extend(part);
            true
        };
        match diff(&basis, &file(new), new.len() as u64, |_| {}, emit).unwrap() {
            Diffed::Whole { read_bytes } => {
                assert_eq!(read_bytes, new.len() as u64);
                Some(delta)
            }
            Diffed::Unrelated => None,
        }
    }

    fn patch(old: &File, delta: &[u8], step: usize) -> Vec<u8> {
        let mut new = Vec::new();
        let mut patcher = Patcher::new(old.try_clone().unwrap());
        for part in delta.chunks(step) {
            patcher
                .push(part, &mut |bytes: &[u8]| {
                    new.extend_from_slice(bytes);
                    Ok(())
                })
                .unwrap();
        }
        patcher.finish().unwrap();
        new
    }

    fn noise(length: usize, seed: u8) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn an_insertion_in_a_large_file_costs_little_and_patches_exactly() {
        let old = noise(20 << 20, 1);
        let mut new = old.clone();
        new.splice(5_000_000..5_000_000, *b"inserted");
        new.truncate(new.len() - 77);
        let delta = delta(&file(&old), old.len() as u64, &new).unwrap();
        assert!(delta.len() < 200_000, "{}", delta.len());
        assert!(patch(&file(&old), &delta, 10_007) == new);
    }

    #[test]
    fn unrelated_content_is_given_up_early() {
        let old = noise(2 << 20, 1);
        assert_eq!(delta(&file(&old), old.len() as u64, &noise(2 << 20, 2)), None);
    }

    #[test]
    fn a_block_size_that_would_spin_is_refused() {
        let mut bytes = signature(&file(&[7; 5000]), 5000, SEED).unwrap().to_vec();
        assert!(Basis::new(&bytes).is_ok());
        bytes[4..8].fill(0);
        assert!(Basis::new(&bytes).is_err());
        assert!(Basis::new(b"rs\x016").is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// The law: patching the old file with the delta gives the new one, however it is cut.
        #[test]
        fn patching_undoes_diffing(
            seed in any::<u8>(), length in 0_usize..60_000, at in 0.0..1.0f64,
            insert in prop::collection::vec(any::<u8>(), 0..200), remove in 0_usize..3000, step in 1_usize..5000,
        ) {
            let old = noise(length, seed);
            let at = (length as f64 * at) as usize;
            let mut new = old.clone();
            new.splice(at..(at + remove).min(length), insert);
            if let Some(delta) = delta(&file(&old), old.len() as u64, &new) {
                prop_assert!(patch(&file(&old), &delta, step) == new);
            }
        }
    }
}
