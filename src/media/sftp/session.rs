//! The session of an endpoint that is reached by SFTP.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::client::{Client, SftpError};
use super::{change, scan, source, target};
use crate::host::Host;
use crate::media::error::MediaError;
use crate::media::filter::Filter;
use crate::media::group::{Scanner, channels, hold};
use crate::media::helper::stream::Opening;
use crate::media::listed::Listed;
use crate::media::scan::Scan;
use crate::media::session::local::{missing, scan_nothing};
use crate::media::session::{
    Ability, Calls, JOBS_AHEAD_MAX, Link, PIECES_AHEAD_MAX, Session, SourceLane, TargetLane,
    calls_channel,
};
use crate::media::temp::TempNames;
use crate::wire::bounded::Blob;
use crate::wire::message::{Facts, Manner, ScanSpec, Side};
use crate::wire::path::RelPath;
use crate::wire::sftp::{Attrs, Request, open_flags};
use crate::wire::tree::{Failure, FailureKind, RunId};

const CALLS_LANE: u32 = u32::MAX;
const PROBE_LANE: u32 = u32::MAX - 1;
const TYPE_BITS: u32 = 0o170_000;
const TYPE_DIR: u32 = 0o040_000;

/// A tree on an SFTP server.
#[derive(Clone)]
pub(crate) struct Tree {
    pub client: Client,
    pub manner: Manner,
    /// The canonical path of the root.
    root: Bytes,
}

impl Tree {
    /// The path that the server knows `path` by.
    pub fn full(&self, path: &RelPath) -> Bytes {
        if path.is_root() { self.root.clone() } else { self.inside(path.as_bytes()) }
    }

    /// The file `name` in the directory of `path`.
    pub fn beside(&self, path: &RelPath, name: &[u8]) -> Bytes {
        match path.split() {
            Some((dir, _)) if !dir.is_root() => {
                self.inside(&[dir.as_bytes(), &b"/"[..], name].concat())
            }
            Some(_) | None => self.inside(name),
        }
    }

    fn inside(&self, path: &[u8]) -> Bytes {
        let slash: &[u8] = if self.root.ends_with(b"/") { b"" } else { b"/" };
        [&self.root[..], slash, path].concat().into()
    }
}

pub(crate) struct Sftp {
    host: Arc<dyn Host>,
    connections: usize,
    side: Side,
    run: RunId,
    tree: Tree,
    facts: Facts,
}

impl Sftp {
    /// Opens a first channel and looks at the root.
    pub async fn open(
        link: Arc<Link>,
        host: Arc<dyn Host>,
        opening: Opening,
        connections: usize,
    ) -> Result<Self, MediaError> {
        let client = Client::open(&link, &*host).await?;
        if opening.side == Side::Target && !client.offers("posix-rename@openssh.com") {
            return Err(MediaError::Lacking {
                host: link.host.clone(),
                what: "posix-rename@openssh.com, so files cannot be replaced safely",
            });
        }
        let Opening { root, side, create, run, manner } = opening;
        let found = find_root(&client, &root, create).await;
        let found = found.map_err(|error| match link.take_failure() {
            Some(failure) => failure,
            None => MediaError::Root {
                host: link.host.clone(),
                path: root.escape_ascii().to_string(),
                role: if side == Side::Source { "source" } else { "target" },
                source: error,
            },
        })?;
        let tree = Tree { client, manner, root: found.clone().unwrap_or_default() };
        let facts = match found {
            None => missing(),
            Some(path) => Facts {
                exists: true,
                privileged: side == Side::Target && is_privileged(&tree, create, run).await,
                path: Blob(path.to_vec()),
            },
        };
        Ok(Sftp { host, connections, side, run, tree, facts })
    }

    /// A channel over a connection of its own.
    async fn lane(&self) -> Result<Tree, MediaError> {
        let link = self.tree.client.link();
        let own = self.host.dedicated().await.map_err(|source| MediaError::Host {
            host: link.host.clone(),
            source: Box::new(source),
        })?;
        let client = Client::open(link, &*own).await?;
        Ok(Tree { client, ..self.tree.clone() })
    }
}

/// The canonical path of the root; `None` if there is none.
async fn find_root(client: &Client, root: &[u8], create: bool) -> Result<Option<Bytes>, Failure> {
    let path = Bytes::copy_from_slice(root);
    let attrs = match client.attrs(Request::Stat { path: path.clone() }).await {
        Ok(attrs) => attrs,
        Err(error) if error.is_missing() && create => {
            let attrs = Attrs { mode: Some(0o755), ..Attrs::default() };
            let made = client.done(Request::MakeDir { path: path.clone(), attrs }).await;
            made.map_err(|error| error.failure("make it"))?;
            let made = client.attrs(Request::Stat { path: path.clone() }).await;
            made.map_err(|error| error.failure("look at it"))?
        }
        Err(error) if error.is_missing() => return Ok(None),
        Err(error) => return Err(error.failure("look at it")),
    };
    if attrs.mode.unwrap_or(0) & TYPE_BITS != TYPE_DIR {
        return Err(Failure::new(FailureKind::Other, "it is not a directory"));
    }
    let real = client.name(Request::RealPath { path }).await;
    real.map(Some).map_err(|error| error.failure("find its full path"))
}

/// Whether owners can be set. The protocol does not tell; so we try it on a file of our own, or,
/// in a dry run, look where the login is at home.
async fn is_privileged(tree: &Tree, may_write: bool, run: RunId) -> bool {
    if !may_write {
        let home = tree.client.name(Request::RealPath { path: Bytes::from_static(b".") }).await;
        return home.is_ok_and(|home| home == "/root"[..]);
    }
    let path = tree.inside(&TempNames::new(run, PROBE_LANE).next());
    let root = tree.full(&RelPath::root());
    let before = tree.client.attrs(Request::Stat { path: root.clone() }).await;
    let probe = async {
        let flags = open_flags::WRITE | open_flags::CREATE | open_flags::EXCLUSIVE;
        let attrs = Attrs { mode: Some(0o600), ..Attrs::default() };
        let open = Request::Open { path: path.clone(), flags, attrs };
        let handle = tree.client.handle(open).await?;
        let nobody = Attrs { owner: Some((65534, 65534)), ..Attrs::default() };
        let set =
            tree.client.done(Request::FsetStat { handle: handle.clone(), attrs: nobody }).await;
        tree.client.close(handle).await?;
        Ok::<bool, SftpError>(set.is_ok())
    };
    let privileged = probe.await.unwrap_or(false);
    // One that stays is swept by the next pass.
    let _ = tree.client.done(Request::Remove { path }).await;
    if let Ok(Attrs { times, .. }) = before {
        // So that a pass with nothing to do does nothing. If it fails, the pass sets the time.
        let attrs = Attrs { times, ..Attrs::default() };
        let _ = tree.client.done(Request::SetStat { path: root, attrs }).await;
    }
    privileged
}

#[async_trait]
impl Session for Sftp {
    fn link(&self) -> &Arc<Link> {
        self.tree.client.link()
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn ability(&self) -> Ability {
        Ability {
            whole_secs: true,
            delta: false,
            parts: false,
            tells_links: false,
            remote: true,
            lanes: self.connections,
        }
    }

    async fn scan(
        &mut self,
        spec: ScanSpec,
        listed: Option<&Listed>,
    ) -> Result<Scanner, MediaError> {
        if !self.facts.exists {
            return Ok(scan_nothing().await);
        }
        let patterns: Vec<&[u8]> = spec.exclude.0.iter().map(|blob| &blob.0[..]).collect();
        let scan = Scan {
            side: self.side,
            rule: spec.rule,
            checksum: spec.checksum,
            filter: Filter::new(&patterns)?,
            listed: listed.cloned(),
            links: spec.hard_links.then(Arc::default),
            run: self.run,
        };
        let (scanner, ends) = channels();
        let (sender, shards) = mpsc::channel(2);
        tokio::spawn(hold(shards, ends));
        tokio::spawn(scan::run(self.tree.clone(), scan, sender));
        Ok(scanner)
    }

    async fn source_lane(&self, _lane: u32) -> Result<SourceLane, MediaError> {
        let tree = self.lane().await?;
        let (jobs, receiver) = mpsc::channel(JOBS_AHEAD_MAX);
        let (sender, pieces) = mpsc::channel(PIECES_AHEAD_MAX);
        tokio::spawn(source::run(tree, receiver, sender));
        Ok(SourceLane { jobs, pieces })
    }

    async fn target_lane(&self, lane: u32) -> Result<TargetLane, MediaError> {
        let tree = self.lane().await?;
        let (pieces, receiver) = mpsc::channel(PIECES_AHEAD_MAX);
        let (sender, told) = mpsc::channel(JOBS_AHEAD_MAX);
        let names = TempNames::new(self.run, lane);
        self.link().tasks.spawn(target::run(tree, names, receiver, sender));
        Ok(TargetLane { pieces, told })
    }

    async fn calls(&mut self) -> Result<Calls, MediaError> {
        let (calls, mut receiver) = calls_channel();
        let changer = change::Changer::new(self.tree.clone(), TempNames::new(self.run, CALLS_LANE));
        self.link().tasks.spawn(async move {
            while let Some((call, answer)) = receiver.recv().await {
                // Whoever asked may have given up, before or meanwhile.
                if !answer.is_closed() {
                    let _ = answer.send(changer.answer(call).await);
                }
            }
        });
        Ok(calls)
    }
}
