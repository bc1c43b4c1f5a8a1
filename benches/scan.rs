//! What a pass with nothing to do costs over both sides of a local tree in Mastodon's layout:
//! listing everything, with what the last pass found, and believing that of old files; beside plain
//! walks over one side after the other, with `std::fs`, walkdir and jwalk (two threads), which look at
//! each entry and compare nothing. Each checks what it found. `cargo bench --bench scan`.

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use transhume::event::Silent;
use transhume::media::{Endpoint, Options, Stats, sync};

const ROWS: u64 = 4000;
const FILES: u64 = 2 * ROWS;

fn main() {
    divan::main();
}

/// Two equal trees.
struct Trees {
    runtime: Runtime,
    dir: TempDir,
    entries: u64,
}

impl Trees {
    fn new(remembering: bool) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        for row in 0..ROWS {
            let id = format!("{:018}", 108_000_000_000_000_000 + row * 1_499_977_777_777);
            let groups = [&id[..3], &id[3..6], &id[6..9], &id[9..12], &id[12..15], &id[15..]];
            for style in ["original", "small"] {
                let at = dir.path().join("source/files").join(groups.join("/")).join(style);
                fs::create_dir_all(&at).expect("directories");
                fs::write(at.join(format!("{row:016x}.png")), style).expect("a file");
            }
        }
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let trees = Trees { runtime: runtime.expect("a runtime"), dir, entries: 0 };
        let first = trees.pass(remembering, None);
        assert_eq!(first.transferred_files, FILES);
        if remembering {
            // What changed just now is not remembered.
            std::thread::sleep(Duration::from_millis(2100));
            trees.pass(remembering, None);
        }
        Trees { entries: 2 * (first.source_files + first.source_dirs), ..trees }
    }

    fn side(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn pass(&self, remembering: bool, quiet: Option<Duration>) -> Stats {
        let manifests = remembering.then(|| self.side("manifests"));
        let end = |name| Endpoint::remembered(self.side(name), manifests.clone());
        let options = Options { delete: true, quiet, ..Options::default() };
        let (source, target) = (end("source"), end("target"));
        let pass = sync(&source, &target, &options, &Silent);
        self.runtime.block_on(pass).expect("a pass").stats
    }

    fn bench(&self, bencher: Bencher, remembering: bool, quiet: Option<Duration>) {
        bencher.counter(ItemsCount::new(self.entries)).bench_local(|| {
            let stats = self.pass(remembering, quiet);
            assert_eq!((stats.source_files, stats.target_files), (FILES, FILES));
            assert_eq!(stats.transferred_files + stats.changed_entries, 0);
        });
    }
}

#[divan::bench(sample_count = 20)]
fn listing_everything(bencher: Bencher) {
    Trees::new(false).bench(bencher, false, None);
}

#[divan::bench(sample_count = 20)]
fn remembering_names(bencher: Bencher) {
    Trees::new(true).bench(bencher, true, None);
}

#[divan::bench(sample_count = 20)]
fn remembering_old_files(bencher: Bencher) {
    Trees::new(true).bench(bencher, true, Some(Duration::ZERO));
}

/// A walk over both sides; what `entries` counts below and with a root.
fn walk(bencher: Bencher, entries: impl Fn(&Path) -> u64) {
    let trees = Trees::new(false);
    bencher.counter(ItemsCount::new(trees.entries)).bench_local(|| {
        assert_eq!(entries(&trees.side("source")) + entries(&trees.side("target")), trees.entries);
    });
}

#[divan::bench(sample_count = 20)]
fn walk_std(bencher: Bencher) {
    fn entries(dir: &Path) -> u64 {
        let mut count = 1;
        for entry in fs::read_dir(dir).expect("a directory") {
            let entry = entry.expect("an entry");
            match entry.metadata().expect("its status").is_dir() {
                true => count += entries(&entry.path()),
                false => count += 1,
            }
        }
        count
    }
    walk(bencher, entries);
}

#[divan::bench(sample_count = 20)]
fn walk_walkdir(bencher: Bencher) {
    walk(bencher, |root| {
        let entries = walkdir::WalkDir::new(root).sort_by_file_name().into_iter();
        entries.map(|entry| look(entry.expect("an entry").metadata().expect("its status"))).sum()
    });
}

/// It looks at the entries of a directory where it lists it, on one of two threads.
#[divan::bench(sample_count = 20)]
fn walk_jwalk(bencher: Bencher) {
    walk(bencher, |root| {
        let threads = jwalk::Parallelism::RayonNewPool(2);
        let walk = jwalk::WalkDirGeneric::<((), u64)>::new(root).skip_hidden(false).sort(true);
        let walk = walk.parallelism(threads).process_read_dir(|_, _, _, entries| {
            for entry in entries.iter_mut().flatten() {
                entry.client_state = look(entry.metadata().expect("its status"));
            }
        });
        walk.into_iter().map(|entry| entry.expect("an entry").client_state).sum()
    });
}

fn look(status: fs::Metadata) -> u64 {
    black_box(status);
    1
}
