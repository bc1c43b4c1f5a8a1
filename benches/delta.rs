//! What a changed file costs on each side: signature, delta, patch, each beside `fast_rsync`, and
//! beside librsync's rdiff where it is installed. Each checks once that the new file comes out.
//! Ours reads files and hashes, as in a pass; `fast_rsync` has everything in memory; rdiff also
//! starts and writes. `cargo bench --bench delta` runs them.

use std::fs::{self, File};
use std::hint::black_box;
use std::path::PathBuf;
use std::process::Command;

use divan::Bencher;
use divan::counter::BytesCount;
use fast_rsync::{Signature, SignatureOptions};
use tempfile::TempDir;
use transhume::media::delta::{Basis, Diffed, Patcher, diff, signature};

const FILE_BYTES: usize = 64 << 20;
const SEED: u64 = 7;
/// What ours chooses for such a file.
const BLOCK_BYTES: u32 = 2048;
const OPTIONS: SignatureOptions = SignatureOptions { block_size: BLOCK_BYTES, crypto_hash_size: 8 };

fn main() {
    divan::main();
}

/// An old file, a new one with scattered edits and an insertion, and one of other content.
struct Files {
    dir: TempDir,
    old: Vec<u8>,
    new: Vec<u8>,
    other: Vec<u8>,
}

fn noise(length: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

impl Files {
    fn new() -> Self {
        let old = noise(FILE_BYTES, 1);
        let mut new = old.clone();
        for (edit, part) in noise(16 * 4096, 2).chunks(4096).enumerate() {
            let at = edit * (FILE_BYTES / 16) + 12_345;
            new[at..at + part.len()].copy_from_slice(part);
        }
        new.splice(FILE_BYTES / 3..FILE_BYTES / 3, noise(1000, 3));
        let files = Files {
            dir: tempfile::tempdir().expect("a directory"),
            old,
            new,
            other: noise(FILE_BYTES, 4),
        };
        for (name, content) in [("old", &files.old), ("new", &files.new), ("other", &files.other)] {
            fs::write(files.path(name), content).expect("a file");
        }
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn open(&self, name: &str) -> File {
        File::open(self.path(name)).expect("a file")
    }

    fn basis(&self) -> Basis {
        let signature = signature(&self.open("old"), FILE_BYTES as u64, SEED).expect("a signature");
        Basis::new(&signature).expect("a signature of ours")
    }

    /// The delta to the file `name`, and the hash that is made on the way.
    fn diff(&self, basis: &Basis, name: &str) -> (Diffed, Vec<u8>) {
        let file = self.open(name);
        let bytes = file.metadata().expect("its size").len();
        let (mut hasher, mut delta) = (blake3::Hasher::new(), Vec::new());
        let see = |part: &[u8]| {
            hasher.update(part);
        };
        let emit = |part: Vec<u8>| {
            delta.extend(part);
            true
        };
        let diffed = diff(basis, &file, bytes, see, emit).expect("a delta");
        black_box(hasher.finalize());
        (diffed, delta)
    }

    fn patch(&self, delta: &[u8]) -> Vec<u8> {
        let (mut patcher, mut new) = (Patcher::new(self.open("old")), Vec::new());
        let mut write = |part: &[u8]| {
            new.extend_from_slice(part);
            Ok(())
        };
        patcher.push(delta, &mut write).and_then(|()| patcher.finish()).expect("patched");
        new
    }

    fn rdiff(&self, command: &str, names: &[&str]) {
        let mut rdiff = Command::new("rdiff");
        rdiff.args(["-f", command]).args(names.iter().map(|name| self.path(name)));
        assert!(rdiff.status().expect("rdiff starts").success());
    }
}

fn has_rdiff() -> bool {
    let found = Command::new("rdiff").arg("--version").output().is_ok();
    if !found {
        eprintln!("rdiff is left out: it is not installed");
    }
    found
}

#[divan::bench(sample_count = 20)]
fn signature_ours(bencher: Bencher) {
    let files = Files::new();
    let old = files.open("old");
    bencher
        .counter(BytesCount::new(FILE_BYTES))
        .bench_local(|| signature(black_box(&old), FILE_BYTES as u64, SEED).expect("a signature"));
}

#[divan::bench(sample_count = 20)]
fn signature_fast_rsync(bencher: Bencher) {
    let files = Files::new();
    bencher
        .counter(BytesCount::new(FILE_BYTES))
        .bench_local(|| Signature::calculate(black_box(&files.old), OPTIONS));
}

#[divan::bench(sample_count = 5)]
fn signature_rdiff(bencher: Bencher) {
    if has_rdiff() {
        let files = Files::new();
        let bencher = bencher.counter(BytesCount::new(FILE_BYTES));
        bencher.bench_local(|| files.rdiff("signature", &["old", "signature"]));
    }
}

#[divan::bench(sample_count = 20)]
fn diff_similar_ours(bencher: Bencher) {
    let files = Files::new();
    let basis = files.basis();
    let (diffed, delta) = files.diff(&basis, "new");
    assert_eq!(diffed, Diffed::Whole { read_bytes: files.new.len() as u64 });
    assert!(files.patch(&delta) == files.new, "another file came out");
    bencher
        .counter(BytesCount::new(FILE_BYTES))
        .bench_local(|| files.diff(black_box(&basis), "new"));
}

#[divan::bench(sample_count = 20)]
fn diff_similar_fast_rsync(bencher: Bencher) {
    let files = Files::new();
    let signature = Signature::calculate(&files.old, OPTIONS);
    let index = signature.index();
    let diff = || {
        let mut delta = Vec::new();
        fast_rsync::diff(&index, black_box(&files.new), &mut delta).expect("a delta");
        delta
    };
    let (delta, mut new) = (diff(), Vec::new());
    fast_rsync::apply(&files.old, &delta, &mut new).expect("a new file");
    assert!(new == files.new, "another file came out");
    bencher.counter(BytesCount::new(FILE_BYTES)).bench_local(diff);
}

#[divan::bench(sample_count = 5)]
fn diff_similar_rdiff(bencher: Bencher) {
    if has_rdiff() {
        let files = Files::new();
        files.rdiff("signature", &["old", "signature"]);
        let bencher = bencher.counter(BytesCount::new(FILE_BYTES));
        bencher.bench_local(|| files.rdiff("delta", &["signature", "new", "delta"]));
        files.rdiff("patch", &["old", "delta", "patched"]);
        assert!(fs::read(files.path("patched")).expect("a file") == files.new);
    }
}

/// Ours gives up, which is the point.
#[divan::bench(sample_count = 5)]
fn diff_unrelated_ours(bencher: Bencher) {
    let files = Files::new();
    let basis = files.basis();
    assert_eq!(files.diff(&basis, "other").0, Diffed::Unrelated);
    bencher
        .counter(BytesCount::new(FILE_BYTES))
        .bench_local(|| files.diff(black_box(&basis), "other"));
}

/// Where a little is in common, so that ours does not give up, and nearly all is searched.
#[divan::bench(sample_count = 5)]
fn diff_mostly_other_ours(bencher: Bencher) {
    let files = Files::new();
    let mut content = files.other.clone();
    content[..FILE_BYTES / 32].copy_from_slice(&files.old[..FILE_BYTES / 32]);
    fs::write(files.path("mostly"), content).expect("a file");
    let basis = files.basis();
    assert!(matches!(files.diff(&basis, "mostly").0, Diffed::Whole { .. }));
    bencher
        .counter(BytesCount::new(FILE_BYTES))
        .bench_local(|| files.diff(black_box(&basis), "mostly"));
}

#[divan::bench(sample_count = 5)]
fn diff_unrelated_fast_rsync(bencher: Bencher) {
    let files = Files::new();
    let signature = Signature::calculate(&files.old, OPTIONS);
    let index = signature.index();
    bencher.counter(BytesCount::new(FILE_BYTES)).bench_local(|| {
        let mut delta = Vec::new();
        fast_rsync::diff(&index, black_box(&files.other), &mut delta).expect("a delta");
        delta
    });
}

#[divan::bench(sample_count = 20)]
fn patch_ours(bencher: Bencher) {
    let files = Files::new();
    let delta = files.diff(&files.basis(), "new").1;
    assert!(files.patch(&delta) == files.new, "another file came out");
    bencher.counter(BytesCount::new(FILE_BYTES)).bench_local(|| files.patch(black_box(&delta)));
}

#[divan::bench(sample_count = 20)]
fn patch_fast_rsync(bencher: Bencher) {
    let files = Files::new();
    let signature = Signature::calculate(&files.old, OPTIONS);
    let mut delta = Vec::new();
    fast_rsync::diff(&signature.index(), &files.new, &mut delta).expect("a delta");
    let patch = || {
        let mut new = Vec::new();
        fast_rsync::apply(&files.old, black_box(&delta), &mut new).expect("a new file");
        new
    };
    assert!(patch() == files.new, "another file came out");
    bencher.counter(BytesCount::new(FILE_BYTES)).bench_local(patch);
}

#[divan::bench(sample_count = 5)]
fn patch_rdiff(bencher: Bencher) {
    if has_rdiff() {
        let files = Files::new();
        files.rdiff("signature", &["old", "signature"]);
        files.rdiff("delta", &["signature", "new", "delta"]);
        let bencher = bencher.counter(BytesCount::new(FILE_BYTES));
        bencher.bench_local(|| files.rdiff("patch", &["old", "delta", "patched"]));
        assert!(fs::read(files.path("patched")).expect("a file") == files.new);
    }
}
