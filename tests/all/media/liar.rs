//! A machine whose helper lies: it follows a script, which says what it sends for each request.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio_util::codec::{FramedRead, FramedWrite};
use transhume::host::{Address, Command, Ended, Exit, Host, HostError, Process, Stream};
use transhume::wire::hello::Hello;
use transhume::wire::message::{Content, Facts, Level, Piece, Reply, Request, Verdict};
use transhume::wire::stream::{FrameQueue, RequestDecoder};
use transhume::wire::tree::{Digest, DirectoryPart, Entry, GroupHead, Meta, Node, ShardHead};
use transhume::wire::{Blob, Frame, Frames, List, Name, RelPath};

/// What a lying helper sends for a request.
pub enum Say {
    Reply(Reply),
    /// A frame as it is.
    Frame(Frame),
    Bytes(Vec<u8>),
    /// The end of the stream.
    End,
}

pub type Saying = fn() -> Vec<Say>;
pub type Script = Arc<dyn Fn(&Request) -> Vec<Say> + Send + Sync>;

/// A machine whose helper follows a script.
#[derive(Clone)]
pub struct Liar(pub Script);

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

pub async fn lie(script: Script, input: DuplexStream, output: DuplexStream) {
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

pub fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).unwrap()
}

pub fn head(first: &str, last: &str) -> Reply {
    let whole = ShardHead {
        index: 0,
        first: path(first),
        last: path(last),
        digest: [1; 16],
        files: 1,
        // Of one with a single directory the content would be expected unasked.
        dirs: 2,
        bytes: 1,
    };
    Reply::Group(GroupHead { whole, shards: 1 })
}

/// The one shard of the group that is told in `said`.
pub fn shard(said: Vec<Say>) -> Vec<Say> {
    let shard = |said| match said {
        Say::Reply(Reply::Group(head)) => Some(Say::Reply(Reply::Shard(head.whole))),
        Say::Reply(_) | Say::Frame(_) | Say::Bytes(_) | Say::End => None,
    };
    said.into_iter().find_map(shard).into_iter().collect()
}

pub fn file(name: &str) -> Entry {
    let meta = Meta { mode: 0o644, ..Meta::default() };
    Entry {
        name: Name::new(name.as_bytes()).unwrap(),
        node: Node::File { size: 4, meta, content: None },
    }
}

pub fn directory(at: &str, entries: Vec<Entry>) -> DirectoryPart {
    DirectoryPart {
        path: path(at),
        meta: Some(Meta { mode: 0o755, ..Meta::default() }),
        entries: List(entries),
        leftovers: List::default(),
        problems: List::default(),
        last: true,
    }
}

pub fn content(parts: Vec<DirectoryPart>) -> Reply {
    Reply::Content(Content { index: 0, parts: List(parts), last: true })
}

/// The frame of `reply` with every `from` in it replaced: what no honest half could encode.
pub fn forged(reply: Reply, from: &[u8], to: &[u8]) -> Say {
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
pub fn source(
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

pub fn one_file() -> Vec<Say> {
    vec![Say::Reply(head("", "")), Say::Reply(Reply::ScanEnd)]
}

pub fn piece(ticket: u64, text: &'static str, digest: Digest) -> Vec<Say> {
    let meta = Meta { mode: 0o644, ..Meta::default() };
    let content = Bytes::from_static(text.as_bytes());
    vec![Say::Reply(Reply::Piece(Piece::Whole { ticket, meta, digest, content }))]
}

pub fn honest(ticket: u64) -> Vec<Say> {
    piece(ticket, "text", Digest(*blake3_of(b"text")))
}

pub fn blake3_of(bytes: &[u8]) -> Box<[u8; 32]> {
    Box::new(*blake3::hash(bytes).as_bytes())
}
