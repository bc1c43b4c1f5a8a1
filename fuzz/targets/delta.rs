//! Signatures and deltas of a peer: any bytes are refused or used, in bounded memory, and with
//! whatever signature a delta is made, patching never panics. With a true signature it gives the
//! new file, and another implementation reads the delta to the same end.

#![no_main]

use std::fs::File;
use std::io::{self, Write};

use libfuzzer_sys::fuzz_target;
use transhume::media::delta::{Basis, Diffed, Patcher, diff, signature};

const OUTPUT_BYTES_MAX: usize = 4 << 20;
const STRETCHED_BYTES_MAX: usize = 64 << 10;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    // Two byte strings in one: the first byte of the rest says where the second begins.
    let at = bytes.first().map_or(0, |share| bytes.len() * usize::from(*share) / 256);
    let (one, other) = bytes.split_at(at);
    match kind % 3 {
        0 => lying_signature(one, other),
        1 => drop(patch(one, other)),
        2.. => there_and_back(&stretched(one), &stretched(other)),
    }
});

fn file(content: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(content).expect("written");
    file
}

/// Long enough for some blocks, and short enough for many runs.
fn stretched(bytes: &[u8]) -> Vec<u8> {
    let runs =
        bytes.iter().flat_map(|byte| std::iter::repeat_n(*byte, 37 * usize::from(*byte % 64)));
    runs.take(STRETCHED_BYTES_MAX).collect()
}

fn delta(basis: &Basis, new: &[u8]) -> Vec<u8> {
    let mut delta = Vec::new();
    let emit = |part: Vec<u8>| {
        delta.extend(part);
        true
    };
    let diffed = diff(basis, &file(new), new.len() as u64, |_| {}, emit).expect("it can be read");
    if diffed == Diffed::Unrelated { Vec::new() } else { delta }
}

fn patch(old: &[u8], delta: &[u8]) -> io::Result<Vec<u8>> {
    let mut new = Vec::new();
    let mut patcher = Patcher::new(file(old));
    patcher.push(delta, &mut |part: &[u8]| {
        new.extend_from_slice(part);
        if new.len() > OUTPUT_BYTES_MAX { Err(io::Error::other("too much")) } else { Ok(()) }
    })?;
    patcher.finish()?;
    Ok(new)
}

fn lying_signature(signature: &[u8], new: &[u8]) {
    if let Ok(basis) = Basis::new(signature) {
        // What comes out is wrong or, if the old file is too short, an error.
        let _ = patch(new, &delta(&basis, &stretched(new)));
    }
}

fn there_and_back(old: &[u8], new: &[u8]) {
    let signature = signature(&file(old), old.len() as u64, 1).expect("it can be read");
    let delta = delta(&Basis::new(&signature).expect("one of ours"), new);
    if delta.is_empty() {
        return;
    }
    assert!(patch(old, &delta).expect("a delta of ours") == new);
    let mut theirs = Vec::new();
    fast_rsync::apply(old, &delta, &mut theirs).expect("a delta of librsync's format");
    assert!(theirs == new);
}
