//! Our half of the helper transport: one SSH channel with a helper on it for the scan, one for
//! calls, and one for each lane, most of them on connections of their own.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use super::ahead::Ahead;
use super::stream::{Accept, Opening, Stream, at_host};
use crate::host::{Command, Host};
use crate::media::error::MediaError;
use crate::media::group::{Heading, SHARDS_KEPT_MAX, Scanner, channels};
use crate::media::listed::Listed;
use crate::media::session::local::scan_nothing;
use crate::media::session::{
    Ability, Bunch, Calls, JOBS_AHEAD_MAX, LANES_NEAR, Lanes, Link, PIECES_AHEAD_MAX, Session,
    SourceLane, TargetLane, calls_channel,
};
use crate::wire::WireError;
use crate::wire::bounded::Blob;
use crate::wire::content::Assembler;
use crate::wire::message::{Answer, Facts, Reply, Request, ScanSpec, Told};
use crate::wire::names::NAMES_CHUNK_BYTES;
use crate::wire::tree::Directory;

const CALLS_LANE: u32 = u32::MAX;

/// The session of an endpoint with a helper.
pub(crate) struct Helper {
    way: WayIn,
    connections: usize,
    facts: Facts,
    /// The stream that told the facts; it becomes that of the first scan. The lock is for the compiler:
    /// a stream cannot be shared.
    first: Mutex<Option<Stream>>,
    ahead: Ahead,
}

impl Helper {
    /// Starts a first helper and opens the root.
    pub async fn open(
        link: Arc<Link>,
        host: Arc<dyn Host>,
        command: Command,
        opening: Opening,
        connections: usize,
    ) -> Result<Self, MediaError> {
        let way = WayIn { link: link.clone(), host, command, opening };
        let ahead = if way.opening.terms.expectant && Lanes::is_far(&*way.host) {
            let lanes = 0..Lanes::to(&*way.host, connections).max as u32;
            let open = |lane| {
                let way = way.clone();
                tokio::spawn(async move { way.target_lane(lane).await })
            };
            let calls = way.clone();
            let calls = tokio::spawn(async move { calls.stream(&*calls.host, CALLS_LANE).await });
            Ahead::new(lanes.map(open).collect(), calls)
        } else {
            Ahead::default()
        };
        let opened = Stream::open(&link, &*way.host, &way.command, &way.opening, 0).await;
        let (first, facts) = opened?;
        Ok(Helper { way, connections, facts, first: Mutex::new(Some(first)), ahead })
    }
}

/// What it takes to open a stream.
#[derive(Clone)]
struct WayIn {
    link: Arc<Link>,
    host: Arc<dyn Host>,
    command: Command,
    opening: Opening,
}

impl WayIn {
    async fn stream(&self, host: &dyn Host, lane: u32) -> Result<Stream, MediaError> {
        let opened = Stream::open(&self.link, host, &self.command, &self.opening, lane).await?;
        Ok(opened.0)
    }

    /// A stream over a connection of its own.
    async fn lane(&self, lane: u32) -> Result<Stream, MediaError> {
        let own = self.host.dedicated().await.map_err(|error| at_host(&self.link, error))?;
        self.stream(&*own, lane).await
    }

    /// The first goes over the connection that is there, over a short way the first ones: a small
    /// pass needs no other. (What is told back is little; a source's content, if nobody took it,
    /// would hold up the rest.)
    async fn target_lane(&self, lane: u32) -> Result<Stream, MediaError> {
        let shared = if Lanes::is_far(&*self.host) { 1 } else { LANES_NEAR };
        match (lane as usize) < shared {
            true => self.stream(&*self.host, lane).await,
            false => self.lane(lane).await,
        }
    }
}

const STRAY: WireError = WireError::OutOfTurn("a reply to something else");

struct ToScanner {
    heads: mpsc::Sender<Heading>,
    contents: mpsc::Sender<Vec<Directory>>,
    assembler: Assembler,
}

#[async_trait]
impl Accept for ToScanner {
    async fn accept(&mut self, reply: Reply) -> Result<bool, WireError> {
        match reply {
            Reply::Group(head) => Ok(self.heads.send(Heading::Group(head)).await.is_ok()),
            Reply::Shard(head) => Ok(self.heads.send(Heading::Shard(head)).await.is_ok()),
            Reply::ScanEnd => Ok(self.heads.send(Heading::End).await.is_ok()),
            Reply::Content(content) => match self.assembler.push(content)? {
                Some(dirs) => Ok(self.contents.send(dirs).await.is_ok()),
                None => Ok(true),
            },
            Reply::Opened(_)
            | Reply::Piece(_)
            | Reply::Told(_)
            | Reply::Answer(_)
            | Reply::Fatal(_) => Err(STRAY),
        }
    }
}

/// Gives pieces on while somebody takes them.
struct ToReader(mpsc::Sender<Bunch>);

#[async_trait]
impl Accept for ToReader {
    async fn accept(&mut self, reply: Reply) -> Result<bool, WireError> {
        self.accept_all(vec![reply]).await
    }

    async fn accept_all(&mut self, replies: Vec<Reply>) -> Result<bool, WireError> {
        let pieces = replies.into_iter().map(|reply| match reply {
            Reply::Piece(piece) => Ok(piece),
            _ => Err(STRAY),
        });
        let bunch: Bunch = pieces.collect::<Result<_, _>>()?;
        Ok(bunch.is_empty() || self.0.send(bunch).await.is_ok())
    }
}

/// Gives on what the target tells. When nobody takes it any more it still tells that the helper is
/// at work, so its end is waited for.
struct ToStorer(mpsc::Sender<Told>);

#[async_trait]
impl Accept for ToStorer {
    async fn accept(&mut self, reply: Reply) -> Result<bool, WireError> {
        let Reply::Told(told) = reply else { return Err(STRAY) };
        // Whoever waited for it may have given up.
        let _ = self.0.send(told).await;
        Ok(true)
    }
}

/// Gives answers to those who asked, in order; like acknowledgements, to the helper's end.
struct ToCallers(mpsc::Receiver<oneshot::Sender<Answer>>);

#[async_trait]
impl Accept for ToCallers {
    async fn accept(&mut self, reply: Reply) -> Result<bool, WireError> {
        let Reply::Answer(answer) = reply else { return Err(STRAY) };
        let caller = self.0.try_recv().map_err(|_| STRAY)?;
        // Whoever asked may have given up.
        let _ = caller.send(answer);
        Ok(true)
    }
}

#[async_trait]
impl Session for Helper {
    fn link(&self) -> &Arc<Link> {
        &self.way.link
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn ability(&self) -> Ability {
        Ability {
            whole_secs: false,
            delta: true,
            late_dirs: false,
            parts: true,
            keeps_parts: false,
            settles: true,
            tells_links: true,
            remote: true,
            lanes: Lanes::to(&*self.way.host, self.connections),
        }
    }

    async fn scan(&self, spec: ScanSpec, listed: Option<&Listed>) -> Result<Scanner, MediaError> {
        if !self.facts.exists {
            return Ok(scan_nothing().await);
        }
        let first = self.first.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        let stream = match first {
            Some(stream) => stream,
            None => self.way.stream(&*self.way.host, 0).await?,
        };
        let (scanner, ends) = channels();
        let (requests, receiver) = mpsc::channel(2 * SHARDS_KEPT_MAX + 1);
        let mut verdicts = ends.verdicts;
        let listed = listed.cloned();
        tokio::spawn(async move {
            let list = listed.as_ref().map_or(&[][..], Listed::as_bytes);
            for bytes in list.chunks(NAMES_CHUNK_BYTES) {
                if requests.send(Request::Names(Blob(bytes.to_vec()))).await.is_err() {
                    return;
                }
            }
            drop(listed);
            let mut next = Some(Request::Scan(spec));
            while let Some(request) = next {
                if requests.send(request).await.is_err() {
                    return;
                }
                next = verdicts.recv().await.map(Request::Verdict);
            }
        });
        let to = ToScanner {
            heads: ends.heads,
            contents: ends.contents,
            assembler: Assembler::default(),
        };
        stream.run(receiver, |request| request, to);
        Ok(scanner)
    }

    async fn source_lane(&self, lane: u32) -> Result<SourceLane, MediaError> {
        let stream = self.way.lane(lane).await?;
        let (jobs, receiver) = mpsc::channel(JOBS_AHEAD_MAX);
        let (sender, pieces) = mpsc::channel(PIECES_AHEAD_MAX);
        stream.run(receiver, Request::Read, ToReader(sender));
        Ok(SourceLane { jobs, pieces })
    }

    async fn target_lane(&self, lane: u32) -> Result<TargetLane, MediaError> {
        let stream = match self.ahead.lane(lane).await {
            Some(stream) => stream,
            None => self.way.target_lane(lane).await?,
        };
        let (pieces, receiver) = mpsc::channel(PIECES_AHEAD_MAX);
        let (sender, told) = mpsc::channel(JOBS_AHEAD_MAX);
        stream.run(receiver, Request::Store, ToStorer(sender));
        Ok(TargetLane { pieces, told })
    }

    /// If none was opened ahead, the stream comes up with the first call: most passes need none.
    async fn calls(&self) -> Result<Calls, MediaError> {
        let (calls, mut waiting) = calls_channel();
        let way = self.way.clone();
        let ahead = self.ahead.calls();
        self.way.link.tasks.spawn(async move {
            let Some(first) = waiting.recv().await else { return };
            let opened = match ahead {
                Some(opening) => opening.await.ok().and_then(Result::ok),
                None => None,
            };
            let opened = match opened {
                Some(stream) => Ok(stream),
                None => way.stream(&*way.host, CALLS_LANE).await,
            };
            let stream = match opened {
                Ok(stream) => stream,
                // Whoever calls sees the channel closed, and asks why.
                Err(error) => return way.link.fail(error),
            };
            let (requests, receiver) = mpsc::channel(1);
            let (callers, caller_receiver) = mpsc::channel(8);
            stream.run(receiver, Request::Call, ToCallers(caller_receiver));
            let mut next = Some(first);
            while let Some((call, caller)) = next {
                if callers.send(caller).await.is_err() || requests.send(call).await.is_err() {
                    return;
                }
                next = waiting.recv().await;
            }
        });
        Ok(calls)
    }
}
