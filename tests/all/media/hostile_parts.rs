//! Large files in parts: what does not make one file is not published, and parts are written
//! nowhere else.

use std::os::unix::fs::symlink;
use std::sync::Arc;

use blake3::hazmat::HasherExt;
use bytes::Bytes;
use transhume::event::Recorder;
use transhume::host::Command;
use transhume::media::{Endpoint, Options, sync};
use transhume::wire::message::{
    Ack, CHUNK_BYTES_MAX, Facts, Job, Level, PART_BYTES, PartHead, Parted, Piece, Reply, Request,
    Store, Told, Verdict,
};
use transhume::wire::tree::{Digest, Entry, Failure, FailureKind, Meta, Mtime, Node};
use transhume::wire::{Blob, Name, RelPath};

use super::asker::ask;
use super::fixture::leftovers;
use super::hostile::{pair, untouched};
use super::liar::*;

/// A source with one file of four parts, all zeros; `lie` may change what it tells of one.
fn in_parts(lie: impl Fn(u32, &mut PartHead, &mut Digest) + Send + Sync + 'static) -> Liar {
    const SIZE: u64 = 4 * PART_BYTES;
    let zeros = vec![0; PART_BYTES as usize];
    let meta = Meta { mode: 0o644, ..Meta::default() };
    let large = Entry {
        name: Name::new(b"large").unwrap(),
        node: Node::File { size: SIZE, meta, content: None },
    };
    Liar(Arc::new(move |request| match request {
        Request::Open(_) => {
            let facts = Facts { exists: true, privileged: false, path: Blob::default() };
            vec![Say::Reply(Reply::Opened(Ok(facts)))]
        }
        Request::Scan(_) => one_file(),
        Request::Verdict(Verdict { level: Level::Group, .. }) => shard(one_file()),
        Request::Verdict(Verdict { level: Level::Shard, .. }) => {
            vec![Say::Reply(content(vec![directory("", vec![large.clone()])]))]
        }
        Request::Read(Job { ticket, part: Some(index), .. }) => {
            let (ticket, at) = (*ticket, u64::from(*index) * PART_BYTES);
            let mut hasher = blake3::Hasher::new();
            let chaining = hasher.set_input_offset(at).update(&zeros).finalize_non_root();
            let mut head = PartHead { meta, size: SIZE, inode: 1, changed: (0, 0) };
            let mut digest = Digest(chaining);
            lie(*index, &mut head, &mut digest);
            let chunks = zeros.chunks(CHUNK_BYTES_MAX).map(Bytes::copy_from_slice);
            let begin = std::iter::once(Piece::Part { ticket, head });
            let pieces =
                begin.chain(chunks.map(Piece::Chunk)).chain([Piece::End { ticket, digest }]);
            pieces.map(|piece| Say::Reply(Reply::Piece(piece))).collect()
        }
        // Whole it cannot be had.
        Request::Read(Job { ticket, .. }) => {
            let failure = Failure::new(FailureKind::Changed, "no");
            vec![Say::Reply(Reply::Piece(Piece::Failed { ticket: *ticket, failure }))]
        }
        Request::Names(_) | Request::Store(_) | Request::Call(_) => Vec::new(),
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_do_not_make_one_file_are_not_published() {
    type Lie = fn(u32, &mut PartHead, &mut Digest);
    let lies: [(&str, Lie, bool); 6] = [
        ("the truth", |_, _, _| {}, true),
        ("a wrong digest", |index, _, digest| digest.0[0] ^= u8::from(index == 2), false),
        ("another inode", |index, head, _| head.inode += u64::from(index == 3), false),
        ("another state", |index, head, _| head.changed.1 += u32::from(index == 1), false),
        ("another size", |_, head, _| head.size = u64::MAX, false),
        (
            "the digest of another part",
            |index, _, digest| {
                if index == 1 {
                    let content = vec![0; PART_BYTES as usize];
                    *digest = Digest(blake3::Hasher::new().update(&content).finalize_non_root());
                }
            },
            false,
        ),
    ];
    for (what, lie, well) in lies {
        let pair = pair();
        let source = Endpoint::helper(Arc::new(in_parts(lie)), Command::new(["helper"]), "/srv", 2);
        let target = Endpoint::local(&pair.target);
        let monitor = Recorder::default();
        let outcome = sync(&source, &target, &Options::default(), &monitor).await.unwrap();
        assert_eq!(outcome.problems_total, u64::from(!well), "{what}: {:?}", outcome.problems);
        if well {
            let zeros = vec![0; 4 * PART_BYTES as usize];
            assert!(std::fs::read(pair.target.join("large")).unwrap() == zeros);
        } else {
            untouched(&pair);
        }
        assert_eq!(leftovers(&pair.target), [""; 0], "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_helper_writes_parts_nowhere_but_into_its_own_temporary_file() {
    let pair = pair();
    let outside = pair.dir.path().join("outside");
    std::fs::write(outside.join("victim"), "victim").unwrap();
    let parted = |path, size| Parted { path, size, mtime: Mtime::default() };
    let part = |ticket, file, index| {
        let digest = Digest(*blake3_of(b"evil"));
        let begin = Store::Part { ticket, file, index };
        [begin, Store::Chunk(Bytes::from_static(b"evil")), Store::End { digest }]
            .map(Request::Store)
    };
    let long = 4 * PART_BYTES;
    // The names that the temporary files will have.
    symlink(outside.join("victim"), pair.target.join(partial_name("new", long))).unwrap();
    let linked = pair.target.join(partial_name("new", long + 1));
    std::fs::hard_link(outside.join("victim"), linked).unwrap();
    let meta = Meta { mode: 0o644, ..Meta::default() };
    let join = Store::Join { ticket: 7, file: parted(path("new"), long + 2), meta };
    let requests = [
        part(1, parted(path("new"), long), 0),
        part(2, parted(path("new"), long + 1), 0),
        // Behind the end, more than announced, out of the root, of a file too short for parts.
        part(3, parted(path("new"), long + 2), u32::MAX),
        part(4, parted(path("new"), long + 3), 4),
        part(5, parted(RelPath::root(), long), 0),
        part(6, parted(path("new"), 4), 0),
    ];
    let requests = requests.into_iter().flatten().chain([Request::Store(join)]).collect();
    let replies = ask(&pair.target, requests, 7).await;
    for reply in &replies {
        assert!(matches!(reply, Reply::Told(Told::Ack(Ack { result: Err(_), .. }))), "{reply:?}");
    }
    assert_eq!(std::fs::read(outside.join("victim")).unwrap(), b"victim");
    assert!(!pair.target.join("new").exists());
}

/// The name of the partial file of a file of the time 0.
fn partial_name(name: &str, bytes: u64) -> String {
    let state = [&bytes.to_be_bytes()[..], &[0; 12], name.as_bytes()].concat();
    format!(".transhume-part-{}.0", &blake3::hash(&state).to_hex()[..16])
}
