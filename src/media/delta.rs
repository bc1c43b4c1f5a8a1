//! The rsync algorithm for a file that is on both sides with other content: a signature of the old
//! one, computed where it lies; a delta of the new one against it; a patch of the two into a new
//! file. Files are read in segments, so memory does not grow with them.
//!
//! The matching is that of `fast_rsync` (librsync's format, MD4): whoever patches must verify the
//! whole result by a hash of its own. A peer's signature and delta are checked before use.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use fast_rsync::{Signature, SignatureOptions};

mod patch;

pub(crate) use patch::Patcher;

/// Smaller files are sent whole: the delta would cost more round trips than it saves bytes.
pub(crate) const FILE_BYTES_MIN: u64 = 1 << 20;
const MD4_MAGIC: u32 = 0x7273_0136;
const HASH_BYTES: u32 = 16;
const HEAD_BYTES: usize = 12;
const BLOCK_HEAD_BYTES: usize = 4 + HASH_BYTES as usize;
const BLOCK_BYTES_MIN: u32 = 2 * 1024;
const BLOCK_BYTES_MAX: u32 = 4 << 20;
/// How much of a file is in memory at a time.
const SEGMENT_BYTES: usize = 8 << 20;

/// What a new file is compared with.
pub(crate) struct Basis(Signature);

/// A signature that does not hold together.
#[derive(Debug, thiserror::Error)]
#[error("the signature is damaged")]
pub(crate) struct BadSignature;

/// The block size for a file: about the root of its size, as in rsync.
fn block_bytes(file_bytes: u64) -> u32 {
    let root = u32::try_from(file_bytes.isqrt()).unwrap_or(BLOCK_BYTES_MAX);
    root.next_multiple_of(1024).clamp(BLOCK_BYTES_MIN, BLOCK_BYTES_MAX)
}

/// The signature of the first `file_bytes` of `file`.
pub(crate) fn signature(file: &File, file_bytes: u64) -> io::Result<Bytes> {
    let block_size = block_bytes(file_bytes);
    let options = SignatureOptions { block_size, crypto_hash_size: HASH_BYTES };
    let step = (SEGMENT_BYTES / block_size as usize).max(1) * block_size as usize;
    let mut signature = Vec::new();
    for word in [MD4_MAGIC, block_size, HASH_BYTES] {
        signature.extend_from_slice(&word.to_be_bytes());
    }
    let mut segment = vec![0; step.min(usize::try_from(file_bytes).unwrap_or(step))];
    let mut offset = 0;
    while offset < file_bytes {
        let length = segment.len().min((file_bytes - offset) as usize);
        file.read_exact_at(&mut segment[..length], offset)?;
        // Segments are whole blocks, so their signatures follow each other like those of a file.
        let part = Signature::calculate(&segment[..length], options);
        signature.extend_from_slice(&part.serialized()[HEAD_BYTES..]);
        offset += length as u64;
    }
    Ok(signature.into())
}

impl Basis {
    /// Checks a signature that came from elsewhere: `fast_rsync` trusts the block size.
    pub fn new(signature: &[u8]) -> Result<Self, BadSignature> {
        let words = signature.first_chunk::<HEAD_BYTES>().ok_or(BadSignature)?;
        let word = |at: usize| {
            u32::from_be_bytes([words[at], words[at + 1], words[at + 2], words[at + 3]])
        };
        let plausible = word(0) == MD4_MAGIC
            && (BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&word(4))
            && word(8) == HASH_BYTES
            && (signature.len() - HEAD_BYTES).is_multiple_of(BLOCK_HEAD_BYTES);
        if !plausible {
            return Err(BadSignature);
        }
        Signature::deserialize(signature.to_vec()).map(Basis).map_err(|_| BadSignature)
    }
}

/// What came of a try to send a delta.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Diffed {
    /// All of the file was given on, as so many bytes of delta.
    Whole { read_bytes: u64 },
    /// The files have too little in common; what was given on is to be forgotten.
    Unrelated,
}

/// Reads `file` and gives its delta against `basis` to `emit`, piece by piece; `see` is given the
/// content itself. `emit` says whether to go on.
pub(crate) fn diff(
    basis: &Basis,
    file: &File,
    file_bytes: u64,
    mut see: impl FnMut(&[u8]),
    mut emit: impl FnMut(Vec<u8>) -> bool,
) -> io::Result<Diffed> {
    let index = basis.0.index();
    let mut segment =
        vec![0; SEGMENT_BYTES.min(usize::try_from(file_bytes).unwrap_or(SEGMENT_BYTES))];
    let (mut offset, mut delta_bytes) = (0, 0);
    while offset < file_bytes {
        let length = segment.len().min((file_bytes - offset) as usize);
        let length = read_full_at(file, &mut segment[..length], offset)?;
        if length == 0 {
            break;
        }
        see(&segment[..length]);
        let mut delta = Vec::new();
        fast_rsync::diff(&index, &segment[..length], &mut delta).map_err(io::Error::other)?;
        offset += length as u64;
        delta_bytes += delta.len() as u64;
        // Searching content that has nothing in common is slower than sending it.
        if delta_bytes > offset / 2 || !emit(delta) {
            return Ok(Diffed::Unrelated);
        }
    }
    Ok(Diffed::Whole { read_bytes: offset })
}

/// Fills `buffer` from `offset`; less only at the end of the file.
fn read_full_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    /// The delta that leads from `old` to `new`, or `None` where it does not pay.
    fn delta(old: &File, old_bytes: u64, new: &[u8]) -> Option<Vec<u8>> {
        let basis = Basis::new(&signature(old, old_bytes).unwrap()).unwrap();
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
        let mut bytes = signature(&file(&[7; 5000]), 5000).unwrap().to_vec();
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
