//! Peers that lie: nothing is written outside of the root, nothing damaged is published.

use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use transhume::event::Recorder;
use transhume::host::{Address, Command, Host, HostError, Process, Stream};
use transhume::media::{Endpoint, MediaError, Options, Outcome, sync};
use transhume::wire::message::{
    Ack, Answer, Call, FileHead, Op, Piece, Reply, Request, Store, Told,
};
use transhume::wire::tree::{Digest, DirectoryPart, FailureKind, Meta};
use transhume::wire::{Blob, Frame, FrameKind, List, Name, RelPath};

use super::asker::ask;
use super::fixture::{Pair, WAYS, Way, deleting, leftovers, when_told};
use super::liar::*;
use super::tree::read;

pub async fn pull(liar: Liar, pair: &Pair) -> Result<Outcome, MediaError> {
    let source = Endpoint::helper(Arc::new(liar), Command::new(["helper"]), "/srv", 1);
    let target = Endpoint::local(&pair.target);
    sync(&source, &target, &deleting(), &Recorder::default()).await
}

/// A target with a file, beside a directory that nobody may touch.
pub fn pair() -> Pair {
    let pair = Pair::near();
    pair.target().file("kept", "kept", 0o644);
    std::fs::create_dir(pair.dir.path().join("outside")).unwrap();
    pair
}

pub fn untouched(pair: &Pair) {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_sends_another_file_than_asked_is_not_followed() {
    let pair = pair();
    let taken = || vec![Say::Reply(content(vec![directory("", vec![file("a"), file("kept")])]))];
    let error = pull(source(one_file, taken, |ticket| honest(ticket + 7)), &pair).await;
    assert!(error.is_err());
    untouched(&pair);
}

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
