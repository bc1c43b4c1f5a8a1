//! What a byte costs between the machines: the packed stream of a dump, and the frames of files.
//! Each checks once that what comes out is what went in. `cargo bench` runs them.

use std::hint::black_box;

use divan::counter::{BytesCount, ItemsCount};
use divan::{AllocProfiler, Bencher};
use tokio::runtime::{Builder, Runtime};
use transhume::host::pipe::{PackOptions, pack, unpack};
use transhume::wire::message::{Request, Store};
use transhume::wire::path::RelPath;
use transhume::wire::stream::{FrameQueue, RequestDecoder};
use transhume::wire::tree::{Digest, Meta, Mtime};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const PLAIN_BYTES: usize = 16 << 20;
const FILES: usize = 1024;

fn main() {
    divan::main();
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// Rows as COPY writes them: numbers that go up, words that come again.
fn rows() -> Vec<u8> {
    let words = ["toot", "boost", "favourite", "follow", "public", "unlisted", "private"];
    let mut text = Vec::with_capacity(PLAIN_BYTES + 100);
    let mut number = 108_000_000_000_000_000_u64;
    while text.len() < PLAIN_BYTES {
        number += 7_919 * (1 + text.len() as u64 % 101);
        let word = words[number as usize % words.len()];
        let other = words[number as usize / 7 % words.len()];
        text.extend(format!("{number}\t{word} {other}\t{}\tf\t\\N\n", number % 86_413).bytes());
    }
    text.truncate(PLAIN_BYTES);
    text
}

#[divan::bench(args = [1, 3, 6])]
fn pack_rows(bencher: Bencher, level: i32) {
    let (runtime, plain) = (runtime(), rows());
    let options = PackOptions { level, workers: 2 };
    let packed = |plain: &[u8]| {
        let mut packed = Vec::new();
        runtime.block_on(pack(plain, &mut packed, options)).expect("packed");
        packed
    };
    let mut again = Vec::new();
    runtime.block_on(unpack(&packed(&plain)[..], &mut again)).expect("unpacked");
    assert!(again == plain, "another stream came out");
    bencher.counter(BytesCount::new(PLAIN_BYTES)).bench_local(|| packed(black_box(&plain)));
}

#[divan::bench]
fn unpack_rows(bencher: Bencher) {
    let (runtime, plain) = (runtime(), rows());
    let mut packed = Vec::new();
    let options = PackOptions { level: 3, workers: 2 };
    runtime.block_on(pack(&plain[..], &mut packed, options)).expect("packed");
    bencher.counter(BytesCount::new(PLAIN_BYTES)).bench_local(|| {
        let mut plain = Vec::with_capacity(PLAIN_BYTES);
        runtime.block_on(unpack(black_box(&packed[..]), &mut plain)).expect("unpacked");
        plain
    });
}

/// Whole files of a size, as a lane sends them to a helper: into frames and out again.
#[divan::bench(args = [200, 20_000])]
fn frame_whole_files(bencher: Bencher, bytes: usize) {
    let content = bytes::Bytes::from(vec![7; bytes]);
    let digest = Digest(*blake3::hash(&content).as_bytes());
    let meta =
        Meta { mode: 0o644, uid: 991, gid: 991, mtime: Mtime { secs: 1_700_000_000, nanos: 5 } };
    let path = |number: usize| {
        let text = format!("cache/media_attachments/files/108/{number:03}/original/0f1e2d3c.png");
        RelPath::new(text.as_bytes()).expect("a path")
    };
    let round = || {
        let (mut queue, mut decoder) = (FrameQueue::default(), RequestDecoder::default());
        let mut files = 0;
        for number in 0..FILES {
            let (path, content) = (path(number), content.clone());
            let ticket = number as u64;
            let store = Store::Whole { ticket, path, meta, digest, content };
            queue.request(Request::Store(store)).expect("fits into frames");
            for frame in queue.take(number + 1 == FILES) {
                decoder.push(frame, &mut |_| files += 1).expect("frames of ours");
            }
        }
        files
    };
    assert_eq!(round(), FILES);
    bencher
        .counter(ItemsCount::new(FILES))
        .counter(BytesCount::new(FILES * bytes))
        .bench_local(round);
}
