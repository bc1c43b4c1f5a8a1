//! Peers that lie: nothing is written outside of the root, nothing damaged is published.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use blake3::hazmat::HasherExt;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio_util::codec::{FramedRead, FramedWrite};
use transhume::event::Recorder;
use transhume::host::{Address, Command, Ended, Exit, Host, HostError, Process, Stream};
use transhume::media::{Endpoint, MediaError, Options, Outcome, sync};
use transhume::wire::hello::Hello;
use transhume::wire::message::{
    Ack, Answer, CHUNK_BYTES_MAX, Call, Content, Facts, FileHead, Job, Level, Manner, Op, Open,
    PART_BYTES, PartHead, Parted, Piece, Reply, Request, Side, Store, Told, Verdict,
};
use transhume::wire::stream::{FrameQueue, ReplyDecoder, RequestDecoder};
use transhume::wire::tree::{
    Digest, DirectoryPart, Entry, Failure, FailureKind, GroupHead, Meta, Mtime, Node, RunId,
    ShardHead,
};
use transhume::wire::{Blob, Frame, FrameKind, Frames, List, Name, RelPath};

use super::fixture::{Near, Pair, WAYS, Way, bytes, deleting, leftovers, when_told};
use super::tree::read;

/// What a lying helper sends for a request.
enum Say {
    Reply(Reply),
    /// A frame as it is.
    Frame(Frame),
    Bytes(Vec<u8>),
    /// The end of the stream.
    End,
}

type Saying = fn() -> Vec<Say>;
type Script = Arc<dyn Fn(&Request) -> Vec<Say> + Send + Sync>;

/// A machine whose helper follows a script.
#[derive(Clone)]
struct Liar(Script);

impl std::fmt::Debug for Liar {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Liar")
    }
}

#[async_trait]
impl Host for Liar {
    fn name(&self) -> &str {
        "liar.example"
    }

    async fn spawn(&self, _: &Command) -> Result<Process, HostError> {
        let (stdin, input) = tokio::io::duplex(64 * 1024);
        let (output, stdout) = tokio::io::duplex(64 * 1024);
        let lying = tokio::spawn(lie(self.0.clone(), input, output));
        Ok(Process::new(Box::pin(stdin), Box::pin(stdout), async move {
            let _ = lying.await;
            Ok(Ended { exit: Exit::Code(0), stderr_tail: String::new() })
        }))
    }

    async fn connect(&self, _: &Address) -> Result<Stream, HostError> {
        unreachable!("the file engine forwards nothing")
    }

    async fn subsystem(&self, _: &str) -> Result<Stream, HostError> {
        unreachable!("these tests use the helper")
    }

    async fn dedicated(&self) -> Result<Arc<dyn Host>, HostError> {
        Ok(Arc::new(self.clone()))
    }
}

async fn lie(script: Script, input: DuplexStream, output: DuplexStream) {
    let mut input = FramedRead::new(input, Frames);
    let mut output = FramedWrite::new(output, Frames);
    let _ = output.send(Hello::ours().frame()).await;
    let mut decoder = RequestDecoder::default();
    let _ = input.next().await;
    while let Some(Ok(frame)) = input.next().await {
        let mut requests = Vec::new();
        decoder.push(frame, &mut |request| requests.push(request)).unwrap();
        for say in requests.iter().flat_map(|request| script(request)) {
            let frames = match say {
                Say::Reply(reply) => {
                    let mut queue = FrameQueue::default();
                    queue.reply(reply).unwrap();
                    queue.take(true)
                }
                Say::Frame(frame) => vec![frame],
                Say::Bytes(bytes) => {
                    let _ = output.get_mut().write_all(&bytes).await;
                    Vec::new()
                }
                Say::End => return,
            };
            for frame in frames {
                if output.send(frame).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).unwrap()
}

fn head(first: &str, last: &str) -> Reply {
    let whole = ShardHead {
        index: 0,
        first: path(first),
        last: path(last),
        digest: [1; 16],
        files: 1,
        dirs: 1,
        bytes: 1,
    };
    Reply::Group(GroupHead { whole, shards: 1 })
}

/// The one shard of the group that is told in `said`.
fn shard(said: Vec<Say>) -> Vec<Say> {
    let shard = |said| match said {
        Say::Reply(Reply::Group(head)) => Some(Say::Reply(Reply::Shard(head.whole))),
        Say::Reply(_) | Say::Frame(_) | Say::Bytes(_) | Say::End => None,
    };
    said.into_iter().find_map(shard).into_iter().collect()
}

fn file(name: &str) -> Entry {
    let meta = Meta { mode: 0o644, ..Meta::default() };
    Entry {
        name: Name::new(name.as_bytes()).unwrap(),
        node: Node::File { size: 4, meta, content: None },
    }
}

fn directory(at: &str, entries: Vec<Entry>) -> DirectoryPart {
    DirectoryPart {
        path: path(at),
        meta: Some(Meta { mode: 0o755, ..Meta::default() }),
        entries: List(entries),
        leftovers: List::default(),
        problems: List::default(),
        last: true,
    }
}

fn content(parts: Vec<DirectoryPart>) -> Reply {
    Reply::Content(Content { index: 0, parts: List(parts), last: true })
}

/// The frame of `reply` with every `from` in it replaced: what no honest half could encode.
fn forged(reply: Reply, from: &[u8], to: &[u8]) -> Say {
    assert_eq!(from.len(), to.len());
    let mut queue = FrameQueue::default();
    queue.reply(reply).unwrap();
    let frame = queue.take(true).remove(0);
    let mut body = frame.body.to_vec();
    for at in 0..=body.len() - from.len() {
        if body[at..].starts_with(from) {
            body[at..at + to.len()].copy_from_slice(to);
        }
    }
    Say::Frame(Frame::new(frame.kind, body))
}

/// A source that opens properly; `scan`, `taken` and `read` say what it tells then.
fn source(
    scan: impl Fn() -> Vec<Say> + Send + Sync + 'static,
    taken: impl Fn() -> Vec<Say> + Send + Sync + 'static,
    read: impl Fn(u64) -> Vec<Say> + Send + Sync + 'static,
) -> Liar {
    Liar(Arc::new(move |request| match request {
        Request::Open(_) => {
            let facts = Facts { exists: true, privileged: false, path: Blob::default() };
            vec![Say::Reply(Reply::Opened(Ok(facts)))]
        }
        Request::Scan(_) => scan(),
        Request::Verdict(Verdict { level: Level::Group, .. }) => shard(scan()),
        Request::Verdict(Verdict { level: Level::Shard, .. }) => taken(),
        Request::Read(job) => read(job.ticket),
        Request::Names(_) | Request::Store(_) | Request::Call(_) => Vec::new(),
    }))
}

async fn pull(liar: Liar, pair: &Pair) -> Result<Outcome, MediaError> {
    let source = Endpoint::helper(Arc::new(liar), Command::new(["helper"]), "/srv", 1);
    let target = Endpoint::local(&pair.target);
    sync(&source, &target, &deleting(), &Recorder::default()).await
}

fn one_file() -> Vec<Say> {
    vec![Say::Reply(head("", "")), Say::Reply(Reply::ScanEnd)]
}

fn piece(ticket: u64, text: &'static str, digest: Digest) -> Vec<Say> {
    let meta = Meta { mode: 0o644, ..Meta::default() };
    let content = Bytes::from_static(text.as_bytes());
    vec![Say::Reply(Reply::Piece(Piece::Whole { ticket, meta, digest, content }))]
}

fn honest(ticket: u64) -> Vec<Say> {
    piece(ticket, "text", Digest(*blake3_of(b"text")))
}

fn blake3_of(bytes: &[u8]) -> Box<[u8; 32]> {
    Box::new(*blake3::hash(bytes).as_bytes())
}

/// A target with a file, beside a directory that nobody may touch.
fn pair() -> Pair {
    let pair = Pair::near();
    pair.target().file("kept", "kept", 0o644);
    std::fs::create_dir(pair.dir.path().join("outside")).unwrap();
    pair
}

fn untouched(pair: &Pair) {
    assert_eq!(read(&pair.dir.path().join("outside")).len(), 1);
    let names: Vec<Vec<u8>> = read(&pair.target).into_keys().collect();
    assert_eq!(names, [&b""[..], b"kept"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_liar_can_also_be_honest() {
    let pair = pair();
    let taken = || vec![Say::Reply(content(vec![directory("", vec![file("a")])]))];
    let outcome = pull(source(one_file, taken, honest), &pair).await.unwrap();
    assert_eq!(outcome.problems, []);
    assert_eq!(std::fs::read(pair.target.join("a")).unwrap(), b"text");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_paths_that_lead_out_are_refused_by_the_decoder() {
    let cases: [(&str, &[u8], &[u8]); 4] = [
        ("a name `..`", b"xx", b".."),
        ("a name with a slash", b"xx", b"a/"),
        ("a NUL", b"xx", b"a\0"),
        ("an empty part", b"xx", b"//"),
    ];
    for (what, from, to) in cases {
        let pair = pair();
        let (from, to) = (from.to_vec(), to.to_vec());
        let taken =
            move || vec![forged(content(vec![directory("", vec![file("xx")])]), &from, &to)];
        let error = pull(source(one_file, taken, honest), &pair).await.unwrap_err();
        assert!(matches!(error, MediaError::Wire { .. }), "{what}: {error:?}");
        untouched(&pair);
    }
    for path in ["xetc", "xx/x"] {
        let pair = pair();
        let bad: &[u8] = if path == "xetc" { b"/etc" } else { b"../x" };
        let scan = move || vec![forged(head("", path), path.as_bytes(), bad)];
        let error = pull(source(scan, Vec::new, honest), &pair).await.unwrap_err();
        assert!(matches!(error, MediaError::Wire { .. }), "{path}: {error:?}");
        untouched(&pair);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_streams_are_errors_and_delete_nothing() {
    let endings: [(&str, Saying); 6] = [
        ("ends before the scan does", || vec![Say::Reply(head("", "")), Say::End]),
        ("ends inside a frame", || vec![Say::Bytes(vec![0, 0, 1, 0, 2, 7]), Say::End]),
        ("announces a huge frame", || vec![Say::Bytes(vec![0xff, 0xff, 0xff, 0xff])]),
        ("announces a huge list", || {
            vec![Say::Frame(Frame::new(
                FrameKind::Message,
                vec![2, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            ))]
        }),
        ("sends content that nobody asked for", || {
            vec![Say::Frame(Frame::new(FrameKind::Data, vec![0; 100]))]
        }),
        ("answers something else", || vec![Say::Reply(Reply::Answer(Answer::Synced(Ok(()))))]),
    ];
    for (what, ending) in endings {
        let pair = pair();
        let taken = || vec![Say::Reply(content(vec![directory("", Vec::new())]))];
        let error = pull(source(ending, taken, honest), &pair).await.unwrap_err();
        let told = matches!(error, MediaError::Wire { .. } | MediaError::Lost { .. });
        assert!(told, "{what}: {error:?}");
        untouched(&pair);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_out_of_order_is_refused() {
    let parts: [fn() -> Vec<DirectoryPart>; 3] = [
        || vec![directory("other", Vec::new())],
        || vec![directory("", vec![file("b"), file("a")])],
        || vec![directory("", vec![file("a"), file("a")])],
    ];
    for part in parts {
        let pair = pair();
        let taken = move || vec![Say::Reply(content(part()))];
        let error = pull(source(one_file, taken, honest), &pair).await.unwrap_err();
        assert!(matches!(error, MediaError::Disorder { .. }), "{error:?}");
        untouched(&pair);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_is_not_what_its_hash_says_is_not_published() {
    let liars: [fn(u64) -> Vec<Say>; 3] = [
        |ticket| piece(ticket, "text", Digest([7; 32])),
        |ticket| {
            let meta = Meta::default();
            let begin = Piece::Begin { ticket, head: FileHead { meta, size: 2, delta: false } };
            let chunk = Piece::Chunk(Bytes::from_static(b"more than two"));
            let end = Piece::End { ticket, digest: Digest(*blake3_of(b"more than two")) };
            [begin, chunk, end].map(|piece| Say::Reply(Reply::Piece(piece))).into()
        },
        |ticket| {
            let meta = Meta::default();
            let begin = Piece::Begin { ticket, head: FileHead { meta, size: 9, delta: true } };
            let chunk = Piece::Chunk(Bytes::from_static(b"no delta at all"));
            let end = Piece::End { ticket, digest: Digest([0; 32]) };
            [begin, chunk, end].map(|piece| Say::Reply(Reply::Piece(piece))).into()
        },
    ];
    for liar in liars {
        let pair = pair();
        let taken = || vec![Say::Reply(content(vec![directory("", vec![file("kept")])]))];
        let outcome = pull(source(one_file, taken, liar), &pair).await.unwrap();
        assert_eq!(outcome.problems_total, 1);
        assert_eq!(
            outcome.problems[0].failure.kind,
            FailureKind::Corrupt,
            "{:?}",
            outcome.problems
        );
        assert_eq!(std::fs::read(pair.target.join("kept")).unwrap(), b"kept");
        untouched(&pair);
    }
}

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

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_sends_another_file_than_asked_is_not_followed() {
    let pair = pair();
    let taken = || vec![Say::Reply(content(vec![directory("", vec![file("a"), file("kept")])]))];
    let error = pull(source(one_file, taken, |ticket| honest(ticket + 7)), &pair).await;
    assert!(error.is_err());
    untouched(&pair);
}

/// The honest helper, driven by a coordinator that asks for what it must not do.
/// A machine whose SFTP server greets and then ends its output, but takes whatever comes.
#[derive(Debug)]
struct Mute;

#[async_trait]
impl Host for Mute {
    fn name(&self) -> &str {
        "mute.example"
    }

    async fn spawn(&self, _: &Command) -> Result<Process, HostError> {
        unreachable!("this test uses SFTP")
    }

    async fn connect(&self, _: &Address) -> Result<Stream, HostError> {
        unreachable!("the file engine forwards nothing")
    }

    async fn subsystem(&self, _: &str) -> Result<Stream, HostError> {
        let version: &[u8] = &[0, 0, 0, 5, 2, 0, 0, 0, 3];
        Ok(Box::new(tokio::io::join(version, tokio::io::sink())))
    }

    async fn dedicated(&self) -> Result<Arc<dyn Host>, HostError> {
        Ok(Arc::new(Mute))
    }
}

/// The request was queued after the last reply had been read, and waited for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_to_an_sftp_server_that_says_no_more_is_lost_and_does_not_wait() {
    let pair = pair();
    let (source, target) =
        (Endpoint::sftp(Arc::new(Mute), "/srv", 1), Endpoint::local(&pair.target));
    let (options, monitor) = (deleting(), Recorder::default());
    let pass = sync(&source, &target, &options, &monitor);
    let ended = tokio::time::timeout(Duration::from_secs(30), pass).await;
    let error = ended.expect("the pass ends").unwrap_err();
    assert!(matches!(error, MediaError::Lost { .. }), "{error:?}");
    untouched(&pair);
}

async fn ask(root: &Path, requests: Vec<Request>, replies: usize) -> Vec<Reply> {
    let process = Near(None).spawn(&Command::new(["helper"])).await.unwrap();
    let (stdin, stdout, _ended) = process.split();
    let mut output = FramedWrite::new(stdin, Frames);
    let mut input = FramedRead::new(stdout, Frames);
    output.send(Hello::ours().frame()).await.unwrap();
    let open = Open {
        root: Blob(bytes(root)),
        side: Side::Target,
        create: false,
        run: RunId(1),
        lane: 0,
        manner: Manner::default(),
        gentle: false,
    };
    let mut queue = FrameQueue::default();
    queue.request(Request::Open(open)).unwrap();
    for request in requests {
        queue.request(request).unwrap();
    }
    for frame in queue.take(true) {
        output.send(frame).await.unwrap();
    }
    let (mut decoder, mut all) = (ReplyDecoder::default(), Vec::new());
    Hello::accept(&input.next().await.unwrap().unwrap()).unwrap();
    while all.len() < replies + 1 {
        let frame = input.next().await.unwrap().unwrap();
        decoder.push(frame, &mut |reply| all.push(reply)).unwrap();
    }
    all.split_off(1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_helper_follows_no_symlink_out_of_its_root_whatever_it_is_asked() {
    let pair = pair();
    let outside = pair.dir.path().join("outside");
    std::fs::write(outside.join("victim"), "victim").unwrap();
    symlink(&outside, pair.target.join("link")).unwrap();
    symlink(outside.join("victim"), pair.target.join("leaf")).unwrap();
    let before = read(&outside);
    let meta = Meta { mode: 0o777, ..Meta::default() };
    let ops = vec![
        Op::MakeDir { path: path("link/new"), meta },
        Op::MakeDir { path: path("link"), meta },
        Op::SetDirTime { path: path("link/new"), mtime: meta.mtime },
        Op::Link { path: path("link/new"), meta, text: Blob(b"x".to_vec()) },
        Op::SetFile { path: path("link/victim"), meta },
        Op::SetFile { path: path("leaf"), meta },
        Op::SetDir { path: path("link"), meta },
        Op::Remove { path: path("link/victim") },
        Op::RemoveDir { path: path("link") },
        Op::Remove { path: RelPath::root() },
        Op::RemoveDir { path: RelPath::root() },
        Op::Sweep {
            path: path("link"),
            name: Name::new(b".transhume-0000000000000001-0.1").unwrap(),
        },
        Op::Sweep { path: RelPath::root(), name: Name::new(b"kept").unwrap() },
    ];
    let count = ops.len();
    let replies = ask(&pair.target, vec![Request::Call(Call::Apply(List(ops)))], 1).await;
    let [Reply::Answer(Answer::Applied(results))] = &replies[..] else { panic!("{replies:?}") };
    assert_eq!(results.len(), count);
    for (number, result) in results.iter().enumerate() {
        assert!(result.is_err(), "operation {number} worked");
    }
    let content = Bytes::from_static(b"evil");
    let digest = Digest(*blake3_of(b"evil"));
    let store = |path: RelPath| {
        Request::Store(Store::Whole { ticket: 1, path, meta, digest, content: content.clone() })
    };
    let requests = vec![store(path("link/victim")), Request::Store(Store::Flush)];
    let replies = ask(&pair.target, requests, 1).await;
    let [Reply::Told(Told::Ack(Ack { result: Err(failure), .. }))] = &replies[..] else {
        panic!("{replies:?}")
    };
    assert_eq!(failure.kind, FailureKind::Confined);
    assert_eq!(read(&outside), before);
    // A symlink at the end of the path is replaced, not written through.
    let requests = vec![store(path("leaf")), Request::Store(Store::Flush)];
    ask(&pair.target, requests, 1).await;
    assert_eq!(read(&outside), before);
    assert_eq!(std::fs::read(pair.target.join("leaf")).unwrap(), b"evil");
    assert_eq!(leftovers(&pair.target), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_swapped_for_a_symlink_during_the_pass_is_not_followed() {
    for way in WAYS {
        // SFTP has only paths: it refuses what it sees, and cannot do more.
        if way == Way::PushSftp {
            continue;
        }
        let pair = Pair::near();
        let outside = pair.dir.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        pair.source().file("dir/new", "x", 0o644).file("dir/sub/new", "x", 0o644);
        pair.target().dir("dir/sub", 0o755);
        let (target, out) = (pair.target.join("dir"), outside.clone());
        let swap = move || {
            std::fs::rename(&target, target.with_extension("away")).unwrap();
            symlink(&out, &target).unwrap();
        };
        let options = when_told("dir/new", swap, Options::default());
        let outcome = pair.sync(way, &options).await.unwrap();
        assert!(outcome.problems_total > 0, "{way:?}");
        let confined = |kind| kind == FailureKind::Confined;
        assert!(outcome.problems.iter().any(|problem| confined(problem.failure.kind)), "{way:?}");
        assert_eq!(read(&outside).len(), 1, "{way:?}");
    }
}
