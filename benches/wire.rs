//! What a byte costs between the machines: the packed stream of a dump, frames (beside tokio-util's
//! codec of lengths, which has no kinds), and whole small files packed together (beside the tar crate).
//! Each checks once that what comes out is what went in. `cargo bench --bench wire` runs them.

use std::hint::black_box;
use std::io::Read;

use bytes::{Bytes, BytesMut};
use divan::counter::{BytesCount, ItemsCount};
use divan::{AllocProfiler, Bencher};
use tokio::runtime::{Builder, Runtime};
use tokio_util::codec::{Decoder, Encoder, LengthDelimitedCodec};
use transhume::host::pipe::{PackOptions, pack, unpack};
use transhume::wire::frame::{Frame, FrameKind, Frames};
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

/// Frames of a size into one buffer and out again.
fn frames<T, C: Encoder<T> + Decoder>(
    bencher: Bencher,
    bytes: usize,
    codec: impl Fn() -> C,
    item: impl Fn(Bytes) -> T,
    body: impl Fn(C::Item) -> Bytes,
) {
    let content = Bytes::from(vec![7; bytes]);
    let round = |see: &mut dyn FnMut(Bytes)| {
        let (mut codec, mut stream) = (codec(), BytesMut::new());
        for _ in 0..FILES {
            let written = codec.encode(item(content.clone()), &mut stream);
            assert!(written.is_ok(), "too long");
        }
        while let Ok(Some(frame)) = codec.decode(&mut stream) {
            see(body(frame));
        }
    };
    let mut same = 0;
    round(&mut |body| same += usize::from(body == content));
    assert_eq!(same, FILES, "other frames came out");
    bencher
        .counter(ItemsCount::new(FILES))
        .counter(BytesCount::new(FILES * bytes))
        .bench_local(|| round(&mut |body| drop(black_box(body))));
}

#[divan::bench(args = [200, 20_000])]
fn frames_ours(bencher: Bencher, bytes: usize) {
    frames(bencher, bytes, || Frames, |body| Frame::new(FrameKind::Data, body), |frame| frame.body);
}

#[divan::bench(args = [200, 20_000])]
fn frames_tokio_util(bencher: Bencher, bytes: usize) {
    frames(bencher, bytes, LengthDelimitedCodec::new, |body| body, BytesMut::freeze);
}

fn path(number: usize) -> String {
    format!("cache/media_attachments/files/108/{number:03}/original/0f1e2d3c.png")
}

/// Whole files of a size, as a lane sends them to a helper: into frames and out again.
#[divan::bench(args = [200, 20_000])]
fn pack_small_files_ours(bencher: Bencher, bytes: usize) {
    let content = Bytes::from(vec![7; bytes]);
    let digest = Digest(*blake3::hash(&content).as_bytes());
    let meta =
        Meta { mode: 0o644, uid: 991, gid: 991, mtime: Mtime { secs: 1_700_000_000, nanos: 5 } };
    let path = |number| RelPath::new(path(number).as_bytes()).expect("a path");
    let round = |see: &mut dyn FnMut(Request)| {
        let (mut queue, mut decoder) = (FrameQueue::default(), RequestDecoder::default());
        for number in 0..FILES {
            let (path, content) = (path(number), content.clone());
            let ticket = number as u64;
            let store = Store::Whole { ticket, path, meta, digest, content };
            queue.request(Request::Store(store)).expect("fits into frames");
            for frame in queue.take(number + 1 == FILES) {
                decoder.push(frame, &mut |request| see(request)).expect("frames of ours");
            }
        }
    };
    let mut same = 0;
    round(&mut |request| {
        let Request::Store(Store::Whole { path: at, content: read, .. }) = request else { return };
        same += usize::from(at == path(same) && read == content);
    });
    assert_eq!(same, FILES, "other files came out");
    bencher
        .counter(ItemsCount::new(FILES))
        .counter(BytesCount::new(FILES * bytes))
        .bench_local(|| round(&mut |request| drop(black_box(request))));
}

/// The same as an archive, without digests.
#[divan::bench(args = [200, 20_000])]
fn pack_small_files_tar(bencher: Bencher, bytes: usize) {
    let content = vec![7; bytes];
    let round = |see: &mut dyn FnMut(String, Vec<u8>)| {
        let mut archive = tar::Builder::new(Vec::new());
        for number in 0..FILES {
            let mut head = tar::Header::new_ustar();
            head.set_size(bytes as u64);
            head.set_mode(0o644);
            head.set_mtime(1_700_000_000);
            archive.append_data(&mut head, path(number), &content[..]).expect("a file");
        }
        let archive = archive.into_inner().expect("an archive");
        for entry in tar::Archive::new(&archive[..]).entries().expect("its files") {
            let mut entry = entry.expect("a file");
            let path = entry.path().expect("its path").to_string_lossy().into_owned();
            let mut content = Vec::with_capacity(bytes);
            entry.read_to_end(&mut content).expect("its content");
            see(path, content);
        }
    };
    let mut same = 0;
    round(&mut |at, read| same += usize::from(at == path(same) && read == content));
    assert_eq!(same, FILES, "other files came out");
    bencher
        .counter(ItemsCount::new(FILES))
        .counter(BytesCount::new(FILES * bytes))
        .bench_local(|| round(&mut |path, content| drop(black_box((path, content)))));
}
