use proptest::prelude::*;

use super::super::bounded::Blob;
use super::super::message::{Extent, Level, Manner, Op, Side, Trust};
use super::super::path::Name;
use super::super::scope::Scope;
use super::super::tree::{
    DirectoryPart, Entry, FailureKind, MetaRule, Mtime, Node, OwnerRule, Problem, RunId,
};
use super::*;

fn name() -> impl Strategy<Value = Name> {
    prop::collection::vec(any::<u8>(), 1..12)
        .prop_filter_map("a name", |bytes| Name::new(&bytes).ok())
}

fn path() -> impl Strategy<Value = RelPath> {
    prop::collection::vec(name(), 0..4)
        .prop_map(|names| names.iter().fold(RelPath::root(), |path, name| path.join(name).unwrap()))
}

fn meta() -> impl Strategy<Value = Meta> {
    (0_u32..0o10000, any::<i64>(), 0_u32..1_000_000_000, any::<u32>(), any::<u32>()).prop_map(
        |(mode, secs, nanos, uid, gid)| Meta { mode, mtime: Mtime { secs, nanos }, uid, gid },
    )
}

fn content() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest)
}

fn failure() -> impl Strategy<Value = Failure> {
    ".{0,20}".prop_map(|text| Failure::new(FailureKind::Changed, text))
}

fn file_head() -> impl Strategy<Value = FileHead> {
    (meta(), any::<u64>(), any::<bool>()).prop_map(|(meta, size, delta)| FileHead {
        meta,
        size,
        delta,
    })
}

fn op() -> impl Strategy<Value = Op> {
    let text = prop::collection::vec(any::<u8>(), 0..20).prop_map(Blob);
    prop_oneof![
        (path(), meta()).prop_map(|(path, meta)| Op::MakeDir { path, meta }),
        (path(), meta()).prop_map(|(path, meta)| Op::SetDirTime { path, mtime: meta.mtime }),
        (path(), meta(), text).prop_map(|(path, meta, text)| Op::Link { path, meta, text }),
        (path(), meta()).prop_map(|(path, meta)| Op::SetDir { path, meta }),
        (path(), name()).prop_map(|(path, name)| Op::Sweep { path, name }),
        (path(), path()).prop_map(|(path, first)| Op::HardLink { path, first }),
    ]
}

/// Requests as a stream may hold them: chunks only inside a file.
fn requests() -> impl Strategy<Value = Vec<Request>> {
    let rule = MetaRule { whole_secs: false, owner: OwnerRule::Fixed { uid: 1, gid: 2 } };
    let group = prop_oneof![
        (path(), any::<u64>()).prop_map(|(path, ticket)| vec![Request::Read(Job {
            size: 0,
            ticket,
            path,
            signature: None,
            part: ticket.is_multiple_of(2).then_some(ticket as u32),
        })]),
        (path(), prop::collection::vec(any::<u8>(), 1..600_000)).prop_map(|(path, bytes)| {
            vec![Request::Read(Job {
                ticket: 9,
                path,
                size: 0,
                signature: Some(bytes.into()),
                part: None,
            })]
        }),
        (path(), meta(), digest(), content()).prop_map(|(path, meta, digest, content)| {
            vec![Request::Store(Store::Whole { ticket: 1, path, meta, digest, content })]
        }),
        (
            path(),
            file_head(),
            digest(),
            prop::collection::vec(content().prop_filter("some", |c| !c.is_empty()), 0..3)
        )
            .prop_map(|(path, head, digest, chunks)| {
                let mut requests = vec![Request::Store(Store::Begin { ticket: 2, path, head })];
                requests
                    .extend(chunks.into_iter().map(|chunk| Request::Store(Store::Chunk(chunk))));
                requests.push(Request::Store(Store::End { digest }));
                requests
            }),
        prop::collection::vec(op(), 0..5)
            .prop_map(|ops| vec![Request::Call(Call::Apply(List(ops)))]),
        Just(vec![
            Request::Open(Open {
                root: Blob(b"/srv".to_vec()),
                side: Side::Target,
                create: true,
                run: RunId(5),
                lane: 3,
                manner: Manner { sparse: true, in_place: false },
                gentle: true,
            }),
            Request::Names(Blob(vec![7; 100_000])),
            Request::Scan(ScanSpec {
                rule,
                checksum: true,
                checksum_rate: Some(1 << 20),
                trust: Trust::QuietFiles { secs: 7 },
                exclude: List(vec![Blob(b"*.tmp".to_vec())]),
                extent: Extent::Listed { recursive: true },
                hard_links: true,
                scope: Scope::without(RelPath::new(b"cache").unwrap()),
            }),
            Request::Verdict(Verdict { level: Level::Group, index: 4, take: false }),
            Request::Store(Store::Abort),
            Request::Store(Store::Flush),
            Request::Store(Store::Apply(List(vec![Op::Remove { path: RelPath::root() }]))),
            Request::Store(Store::Settle(List(vec![Op::Remove { path: RelPath::root() }]))),
        ]),
        (path(), meta(), digest(), content().prop_filter("some", |c| !c.is_empty())).prop_map(
            |(path, meta, digest, content)| {
                let file = Parted { path, size: 1 << 40, mtime: meta.mtime };
                [
                    Store::Part { ticket: 4, file: file.clone(), index: u32::MAX },
                    Store::Chunk(content),
                    Store::End { digest },
                    Store::Join { ticket: 5, file: file.clone(), meta },
                    Store::Drop(file),
                ]
                .map(Request::Store)
                .into()
            }
        ),
    ];
    prop::collection::vec(group, 0..6).prop_map(|groups| groups.concat())
}

fn replies() -> impl Strategy<Value = Vec<Reply>> {
    let entry = (name(), meta(), any::<u64>()).prop_map(|(name, meta, size)| Entry {
        name,
        node: Node::File { size, meta, content: None },
    });
    let part = (path(), prop::collection::vec(entry, 0..4), failure()).prop_map(
        |(path, entries, failure)| DirectoryPart {
            path: path.clone(),
            meta: None,
            entries: List(entries),
            leftovers: List::default(),
            problems: List(vec![Problem { path, failure }]),
            last: true,
        },
    );
    let group = prop_oneof![
        part.prop_map(|part| vec![Reply::Content(Content {
            index: 3,
            parts: List(vec![part]),
            last: true
        })]),
        (meta(), digest(), content()).prop_map(|(meta, digest, content)| {
            vec![Reply::Piece(Piece::Whole { ticket: 1, meta, digest, content })]
        }),
        (file_head(), failure()).prop_map(|(head, failure)| {
            vec![
                Reply::Piece(Piece::Begin { ticket: 2, head }),
                Reply::Piece(Piece::Chunk(Bytes::from_static(b"part"))),
                Reply::Piece(Piece::Failed { ticket: 2, failure }),
            ]
        }),
        (meta(), any::<(u64, u64, i64, u32)>(), digest()).prop_map(|(meta, numbers, digest)| {
            let (size, inode, secs, nanos) = numbers;
            let head = PartHead { meta, size, inode, changed: (secs, nanos) };
            vec![
                Reply::Piece(Piece::Part { ticket: 2, head }),
                Reply::Piece(Piece::Chunk(Bytes::from_static(b"part"))),
                Reply::Piece(Piece::End { ticket: 2, digest }),
            ]
        }),
        prop::collection::vec(any::<u8>(), 1..600_000)
            .prop_map(|bytes| vec![Reply::Answer(Answer::Signature(Ok(bytes.into())))]),
        failure().prop_map(|failure| {
            vec![
                Reply::Told(Told::Ack(Ack { ticket: 7, result: Err(failure.clone()) })),
                Reply::Told(Told::Applied(vec![Err(failure.clone()), Ok(())])),
                Reply::Told(Told::Settled(vec![Ok(()), Err(failure.clone())])),
                Reply::Answer(Answer::Applied(vec![Ok(()), Err(failure.clone())])),
                Reply::Answer(Answer::Signature(Err(failure.clone()))),
                Reply::Answer(Answer::Synced(Ok(()))),
                Reply::ScanEnd,
                Reply::Opened(Err(failure)),
            ]
        }),
    ];
    prop::collection::vec(group, 0..6).prop_map(|groups| groups.concat())
}

fn decode_requests(frames: Vec<Frame>) -> Result<Vec<Request>, WireError> {
    let (mut decoder, mut requests) = (RequestDecoder::default(), Vec::new());
    for frame in frames {
        decoder.push(frame, &mut |request| requests.push(request))?;
    }
    Ok(requests)
}

fn decode_replies(frames: Vec<Frame>) -> Result<Vec<Reply>, WireError> {
    let (mut decoder, mut replies) = (ReplyDecoder::default(), Vec::new());
    for frame in frames {
        decoder.push(frame, &mut |reply| replies.push(reply))?;
    }
    Ok(replies)
}

fn frames() -> impl Strategy<Value = Vec<Frame>> {
    let kind = prop::sample::select(vec![FrameKind::Message, FrameKind::Data, FrameKind::Pack]);
    let frame = (kind, prop::collection::vec(any::<u8>(), 0..80))
        .prop_map(|(kind, body)| Frame::new(kind, body));
    prop::collection::vec(frame, 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn requests_come_out_as_they_went_in(requests in requests()) {
        let mut queue = FrameQueue::default();
        for request in &requests {
            queue.request(request.clone()).unwrap();
        }
        prop_assert_eq!(decode_requests(queue.take(true)).unwrap(), requests);
    }

    #[test]
    fn replies_come_out_as_they_went_in(replies in replies()) {
        let mut queue = FrameQueue::default();
        for reply in &replies {
            queue.reply(reply.clone()).unwrap();
        }
        prop_assert_eq!(decode_replies(queue.take(true)).unwrap(), replies);
    }
}

proptest! {
    #[test]
    fn garbage_is_a_value_or_an_error(frames in frames()) {
        let _ = decode_requests(frames.clone());
        let _ = decode_replies(frames);
    }
}

#[test]
fn a_signature_over_the_limit_is_refused_by_its_head() {
    let head = RequestHead::Read {
        ticket: 1,
        path: RelPath::new(b"a").unwrap(),
        signature_bytes: Some(SIGNATURE_BYTES_MAX + 1),
    };
    let frame = Frame::new(FrameKind::Message, postcard::to_stdvec(&head).unwrap());
    assert!(matches!(decode_requests(vec![frame]), Err(WireError::FrameTooLong { .. })));
}

#[test]
fn content_that_no_message_announced_is_refused() {
    let stray = Frame::new(FrameKind::Data, &b"bytes"[..]);
    assert!(matches!(decode_requests(vec![stray.clone()]), Err(WireError::OutOfTurn("data"))));
    assert!(matches!(decode_replies(vec![stray]), Err(WireError::OutOfTurn("data"))));
}

#[test]
fn a_packed_file_that_claims_more_than_the_frame_holds_is_refused() {
    let head = PieceWhole { ticket: 1, meta: Meta::default(), digest: Digest([0; 32]), size: 900 };
    let frame = Frame::new(FrameKind::Pack, postcard::to_stdvec(&head).unwrap());
    assert!(matches!(decode_replies(vec![frame]), Err(WireError::Truncated)));
}

/// One of each, as a real stream would carry them.
fn conversation() -> (Vec<Request>, Vec<Reply>) {
    let path = RelPath::new(b"cache/a\n\xff").unwrap();
    let name = Name::new(b"a\n\xff").unwrap();
    let meta =
        Meta { mode: 0o600, mtime: Mtime { secs: 1_600_000_000, nanos: 7 }, uid: 990, gid: 991 };
    let rule = MetaRule { whole_secs: false, owner: OwnerRule::Keep };
    let content = Bytes::from_static(b"content");
    let digest = Digest(*blake3::hash(&content).as_bytes());
    let head = FileHead { meta, size: 7, delta: false };
    let failure = Failure::new(FailureKind::Vanished, "cannot open it");
    let open = Open {
        root: Blob(b"/srv".to_vec()),
        side: Side::Target,
        create: true,
        run: RunId(1),
        lane: 0,
        manner: Manner::default(),
        gentle: false,
    };
    let exclude = List(vec![Blob(b"/cache/**".to_vec())]);
    let ops = vec![
        Op::MakeDir { path: path.clone(), meta: Meta::default() },
        Op::Link { path: path.clone(), meta, text: Blob(b"../b".to_vec()) },
        Op::RemoveDir { path: path.clone() },
        Op::Sweep { path: path.clone(), name: name.clone() },
    ];
    let store = |store| Request::Store(store);
    let requests = vec![
        Request::Open(open),
        Request::Scan(ScanSpec {
            rule,
            checksum: true,
            checksum_rate: None,
            trust: Trust::Names,
            exclude,
            extent: Extent::Whole,
            hard_links: false,
            scope: Scope::default(),
        }),
        Request::Verdict(Verdict { level: Level::Group, index: 1, take: true }),
        Request::Read(Job {
            size: 0,
            ticket: 1,
            path: path.clone(),
            signature: Some(content.clone()),
            part: None,
        }),
        store(Store::Whole {
            ticket: 2,
            path: path.clone(),
            meta,
            digest,
            content: content.clone(),
        }),
        store(Store::Begin { ticket: 3, path: path.clone(), head }),
        store(Store::Chunk(content.clone())),
        store(Store::End { digest }),
        store(Store::Flush),
        store(Store::Apply(List(vec![Op::Remove { path: path.clone() }]))),
        store(Store::Settle(List(vec![Op::SetDirTime { path: path.clone(), mtime: meta.mtime }]))),
        Request::Call(Call::Apply(List(ops))),
        Request::Call(Call::Signature(path.clone())),
    ];
    let entry = Entry { name, node: Node::File { size: 7, meta, content: Some(digest) } };
    let part = DirectoryPart {
        path: path.clone(),
        meta: Some(meta),
        entries: List(vec![entry]),
        leftovers: List::default(),
        problems: List(vec![Problem { path: path.clone(), failure: failure.clone() }]),
        last: true,
    };
    let shard = ShardHead {
        index: 0,
        first: RelPath::root(),
        last: path,
        digest: [9; 16],
        files: 1,
        dirs: 2,
        bytes: 7,
    };
    let facts = Facts { exists: true, privileged: false, path: Blob(b"/srv".to_vec()) };
    let replies = vec![
        Reply::Opened(Ok(facts)),
        Reply::Group(GroupHead { whole: shard.clone(), shards: 3 }),
        Reply::Shard(shard),
        Reply::Content(Content { index: 0, parts: List(vec![part]), last: true }),
        Reply::ScanEnd,
        Reply::Piece(Piece::Whole { ticket: 1, meta, digest, content: content.clone() }),
        Reply::Piece(Piece::Begin { ticket: 2, head }),
        Reply::Piece(Piece::Chunk(content.clone())),
        Reply::Piece(Piece::End { ticket: 2, digest }),
        Reply::Told(Told::Ack(Ack { ticket: 2, result: Err(failure.clone()) })),
        Reply::Told(Told::Applied(vec![Ok(())])),
        Reply::Told(Told::Settled(vec![Ok(())])),
        Reply::Answer(Answer::Applied(vec![Ok(()), Err(failure)])),
        Reply::Answer(Answer::Signature(Ok(content))),
    ];
    (requests, replies)
}

/// The seeds of the fuzz targets are a real conversation, as long as this holds.
#[test]
fn the_seeds_of_the_fuzz_targets_are_of_this_version() {
    let (requests, replies) = conversation();
    let (mut asked, mut answered) = (FrameQueue::default(), FrameQueue::default());
    requests.into_iter().for_each(|request| asked.request(request).unwrap());
    replies.into_iter().for_each(|reply| answered.reply(reply).unwrap());
    for (file, queue) in [("requests", &mut asked), ("replies", &mut answered)] {
        let mut stream = BytesMut::new();
        for frame in queue.take(true) {
            tokio_util::codec::Encoder::encode(&mut super::super::Frames, frame, &mut stream)
                .unwrap();
        }
        let seed = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz/seeds/wire_frames")
            .join(file);
        if std::fs::read(&seed).unwrap_or_default() != stream {
            let new = seed.with_extension("new");
            std::fs::write(&new, &stream).unwrap();
            panic!("{} is of another version; see {}", seed.display(), new.display());
        }
    }
}
