//! An honest helper that is asked by hand: also for what no coordinator would ask.

use std::path::Path;

use futures_util::{SinkExt, StreamExt};
use tokio_util::codec::{FramedRead, FramedWrite};
use transhume::host::{Command, Host, Reader, Writer};
use transhume::wire::hello::Hello;
use transhume::wire::message::{Manner, Open, Reply, Request, Side};
use transhume::wire::stream::{FrameQueue, ReplyDecoder};
use transhume::wire::tree::RunId;
use transhume::wire::{Blob, Frames};

use super::fixture::{Near, bytes};

pub struct Asker {
    output: FramedWrite<Writer, Frames>,
    input: FramedRead<Reader, Frames>,
    decoder: ReplyDecoder,
}

impl Asker {
    /// Exchanges greetings with the helper that reads `stdin` and writes `stdout`.
    pub async fn greet(stdin: Writer, stdout: Reader) -> Self {
        let (mut output, mut input) =
            (FramedWrite::new(stdin, Frames), FramedRead::new(stdout, Frames));
        output.send(Hello::ours().frame()).await.unwrap();
        Hello::accept(&input.next().await.unwrap().unwrap()).unwrap();
        Asker { output, input, decoder: ReplyDecoder::default() }
    }

    /// Has it open `root` as a target.
    pub async fn open(&mut self, root: &Path, create: bool) {
        let open = Open {
            root: Blob(bytes(root)),
            side: Side::Target,
            create,
            run: RunId(1),
            lane: 0,
            manner: Manner::default(),
            gentle: false,
        };
        let replies = self.ask(vec![Request::Open(open)], 1).await;
        assert!(matches!(replies[..], [Reply::Opened(Ok(_))]), "{replies:?}");
    }

    /// Sends `requests` and waits for so many replies.
    pub async fn ask(&mut self, requests: Vec<Request>, replies: usize) -> Vec<Reply> {
        let mut queue = FrameQueue::default();
        for request in requests {
            queue.request(request).unwrap();
        }
        for frame in queue.take(true) {
            self.output.send(frame).await.unwrap();
        }
        let mut all = Vec::new();
        while all.len() < replies {
            let frame = self.input.next().await.unwrap().unwrap();
            self.decoder.push(frame, &mut |reply| all.push(reply)).unwrap();
        }
        all
    }
}

/// What a helper of this process replies that has `root` open.
pub async fn ask(root: &Path, requests: Vec<Request>, replies: usize) -> Vec<Reply> {
    let process = Near(None).spawn(&Command::new(["helper"])).await.unwrap();
    let (stdin, stdout, _ended) = process.split();
    let mut asker = Asker::greet(stdin, stdout).await;
    asker.open(root, false).await;
    asker.ask(requests, replies).await
}
