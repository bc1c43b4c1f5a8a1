use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::Command;

use proptest::prelude::*;

use super::*;

const SEED: u64 = 0x1234_5678_9abc_def0;

fn file(content: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file
}

fn basis(old: &[u8]) -> Basis {
    Basis::new(&signature(&file(old), old.len() as u64, SEED).unwrap()).unwrap()
}

/// The delta that leads from `old` to `new`, or `None` where it does not pay.
fn delta(old: &[u8], new: &[u8]) -> Option<Vec<u8>> {
    let mut delta = Vec::new();
    let mut seen = Vec::new();
    let emit = |part: Vec<u8>| {
        delta.extend(part);
        true
    };
    let see = |part: &[u8]| seen.extend_from_slice(part);
    match diff(&basis(old), &file(new), new.len() as u64, see, emit).unwrap() {
        Diffed::Whole { read_bytes } => {
            assert_eq!(read_bytes, new.len() as u64);
            assert!(seen == new, "what was read is told once, in order");
            Some(delta)
        }
        Diffed::Unrelated => None,
    }
}

fn patch(old: &[u8], delta: &[u8], step: usize) -> Vec<u8> {
    let mut new = Vec::new();
    let mut patcher = Patcher::new(file(old));
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

/// The delta for a patch of the old file in its place.
fn delta_in_place(old: &[u8], new: &[u8]) -> Option<Vec<u8>> {
    let basis = Basis { in_place: true, ..basis(old) };
    let mut delta = Vec::new();
    let emit = |part: Vec<u8>| {
        delta.extend(part);
        true
    };
    match diff(&basis, &file(new), new.len() as u64, |_| {}, emit).unwrap() {
        Diffed::Whole { .. } => Some(delta),
        Diffed::Unrelated => None,
    }
}

/// Writes over what is read.
fn patch_in_place(old: &[u8], delta: &[u8]) -> Vec<u8> {
    let shared = file(old);
    let mut patcher = Patcher::new(shared.try_clone().unwrap());
    let mut length = 0;
    let mut write = |bytes: &[u8]| {
        shared.write_all_at(bytes, length)?;
        length += bytes.len() as u64;
        Ok(())
    };
    patcher.push(delta, &mut write).unwrap();
    patcher.finish().unwrap();
    let mut new = vec![0; length as usize];
    shared.read_exact_at(&mut new, 0).unwrap();
    new
}

fn noise(length: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

/// A change of a file, where `at` is a share of its length.
#[derive(Clone, Debug)]
enum Edit {
    Insert {
        at: f64,
        bytes: Vec<u8>,
    },
    Overwrite {
        at: f64,
        bytes: Vec<u8>,
    },
    Remove {
        at: f64,
        length: usize,
    },
    /// Sparse files and databases are full of it.
    Blank {
        at: f64,
        length: usize,
    },
    /// Something that was elsewhere.
    Repeat {
        from: f64,
        length: usize,
        at: f64,
    },
    Cut {
        at: f64,
    },
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = || 0.0..1.0_f64;
    let bytes = || prop::collection::vec(any::<u8>(), 1..3000);
    prop_oneof![
        (at(), bytes()).prop_map(|(at, bytes)| Edit::Insert { at, bytes }),
        (at(), bytes()).prop_map(|(at, bytes)| Edit::Overwrite { at, bytes }),
        (at(), 1_usize..9000).prop_map(|(at, length)| Edit::Remove { at, length }),
        (at(), 1_usize..20_000).prop_map(|(at, length)| Edit::Blank { at, length }),
        (at(), 1_usize..9000, at()).prop_map(|(from, length, at)| Edit::Repeat {
            from,
            length,
            at
        }),
        at().prop_map(|at| Edit::Cut { at }),
    ]
}

fn apply(content: &mut Vec<u8>, edit: &Edit) {
    let whole = content.len();
    let place = |at: &f64| (whole as f64 * at) as usize;
    let range = |at: &f64, length: usize| place(at)..(place(at) + length).min(whole);
    match edit {
        Edit::Insert { at, bytes } => drop(content.splice(place(at)..place(at), bytes.clone())),
        Edit::Overwrite { at, bytes } => {
            content.splice(range(at, bytes.len()), bytes.clone());
        }
        Edit::Remove { at, length } => drop(content.drain(range(at, *length))),
        Edit::Blank { at, length } => content[range(at, *length)].fill(0),
        Edit::Repeat { from, length, at } => {
            let bytes = content[range(from, *length)].to_vec();
            content.splice(place(at)..place(at), bytes);
        }
        Edit::Cut { at } => content.truncate(place(at)),
    }
}

#[test]
fn an_insertion_in_a_large_file_costs_little_and_patches_exactly() {
    let old = noise(20 << 20, 1);
    let mut new = old.clone();
    new.splice(5_000_000..5_000_000, *b"inserted");
    new.truncate(new.len() - 77);
    let delta = delta(&old, &new).unwrap();
    assert!(delta.len() < 10_000, "{}", delta.len());
    assert!(patch(&old, &delta, 10_007) == new);
}

#[test]
fn a_rewritten_part_costs_itself_and_two_blocks_at_most_wherever_it_is() {
    let old = noise(20 << 20, 1);
    // Stretches and segments begin at whole megabytes.
    for at in [0, 1000, (8 << 20) - 50, 2 << 20, (16 << 20) - 2048, (20 << 20) - 100] {
        let mut new = old.clone();
        new[at..at + 100].fill(7);
        let delta = delta(&old, &new).unwrap();
        assert!(delta.len() < 100 + 2 * 2048 + 200, "{} at {at}", delta.len());
        assert!(patch(&old, &delta, 10_007) == new);
    }
}

#[test]
fn a_file_that_grew_costs_what_it_grew_by_and_one_that_was_cut_nothing() {
    let new = noise(9 << 20, 1);
    let old = &new[..5_000_123];
    let grown = delta(old, &new).unwrap();
    assert!(grown.len() < new.len() - old.len() + 200, "{}", grown.len());
    assert!(patch(old, &grown, 10_007) == new);
    let cut = delta(&new, old).unwrap();
    assert!(cut.len() < 2048 + 200, "{}", cut.len());
    assert!(patch(&new, &cut, 10_007) == old);
}

#[test]
fn content_that_moved_far_is_found_after_much_that_is_new() {
    let moved = noise(6 << 20, 1);
    let old = [noise(6 << 20, 2), moved.clone()].concat();
    let new = [noise(20 << 20, 3), moved].concat();
    let delta = delta(&old, &new).unwrap();
    assert!(delta.len() < (20 << 20) + 10_000, "{}", delta.len());
    assert!(patch(&old, &delta, 100_000) == new);
}

#[test]
fn unrelated_content_is_given_up_early() {
    assert_eq!(delta(&noise(2 << 20, 1), &noise(2 << 20, 2)), None);
}

#[test]
fn a_signature_that_does_not_hold_together_is_refused() {
    let good = signature(&file(&[7; 5000]), 5000, SEED).unwrap().to_vec();
    assert!(Basis::new(&good).is_ok());
    let damage: [(usize, &[u8]); 7] = [
        (0, b"rs\x016"),
        // No block size, a tiny one, a huge one.
        (4, &[0; 4]),
        (4, &[0, 0, 0, 1]),
        (4, &[0xff; 4]),
        // Strong sums of no bytes, of too many.
        (8, &[0]),
        (8, &[9]),
        // More blocks than there are sums.
        (17, &[0xff; 8]),
    ];
    for (at, bytes) in damage {
        let mut bad = good.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        assert!(Basis::new(&bad).is_err(), "{bytes:?} at {at}");
    }
    for length in 0..good.len() {
        assert!(Basis::new(&good[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn sums_that_lie_give_a_delta_that_is_only_wrong() {
    let old = noise(3 << 20, 1);
    let mut lying = signature(&file(&old), old.len() as u64, SEED).unwrap().to_vec();
    let sums = lying.len() - 7 * 500;
    lying[sums..].fill(0xa5);
    let basis = Basis::new(&lying).unwrap();
    let mut delta = Vec::new();
    let emit = |part: Vec<u8>| {
        delta.extend(part);
        true
    };
    diff(&basis, &file(&old), old.len() as u64, |_| {}, emit).unwrap();
    assert!(patch(&old, &delta, 1000).len() == old.len());
}

#[test]
fn rdiff_makes_the_same_of_our_delta() {
    if Command::new("rdiff").arg("--version").output().is_err() {
        eprintln!("left out: rdiff is not installed");
        return;
    }
    let old = noise(5 << 20, 1);
    let mut new = old.clone();
    new.splice(3_000_000..3_000_500, noise(4000, 2));
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("old"), &old).unwrap();
    // rdiff takes one delta, not several in a row; this file is shorter than a stretch.
    std::fs::write(path("delta"), delta(&old, &new).unwrap()).unwrap();
    let mut command = Command::new("rdiff");
    let status = command.arg("patch").arg(path("old")).arg(path("delta")).arg(path("new")).status();
    assert!(status.unwrap().success());
    assert!(std::fs::read(path("new")).unwrap() == new);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The law: patching the old file with the delta gives the new one, however the delta is cut;
    /// and another implementation reads our deltas, and we its, to the same end.
    #[test]
    fn patching_undoes_diffing(
        length in 0_usize..200_000, edits in prop::collection::vec(edit(), 0..6), step in 1_usize..5000,
    ) {
        let old = noise(length, 1);
        let mut new = old.clone();
        edits.iter().for_each(|edit| apply(&mut new, edit));
        let ours = delta(&old, &new).expect("short files are not sampled");
        prop_assert!(patch(&old, &ours, step) == new);
        let mut theirs = Vec::new();
        fast_rsync::apply(&old, &ours, &mut theirs).unwrap();
        prop_assert!(theirs == new);
        let in_place = delta_in_place(&old, &new).expect("short files are not sampled");
        prop_assert!(patch_in_place(&old, &in_place) == new);
        let options = fast_rsync::SignatureOptions { block_size: 2048, crypto_hash_size: 16 };
        let signature = fast_rsync::Signature::calculate(&old, options);
        let mut theirs = Vec::new();
        fast_rsync::diff(&signature.index(), &new, &mut theirs).unwrap();
        prop_assert!(patch(&old, &theirs, step) == new);
        prop_assert!(ours.len() <= theirs.len() + 2048 * edits.len() + 200);
    }
}
