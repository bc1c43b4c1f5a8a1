//! The session of an endpoint that is reached by SFTP.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::client::Client;
use super::handles::Handles;
use super::known::Known;
use super::meta::{TYPE_DIR, kind, meta_of};
use super::proof::Proof;
use super::reply::{SftpError, attrs, is_done, name};
use super::uploads::Uploads;
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
    Ability, Calls, JOBS_AHEAD_MAX, Lanes, Link, PIECES_AHEAD_MAX, Session, SourceLane, TargetLane,
    Terms, calls_channel,
};
use crate::media::temp::TempNames;
use crate::media::throttle::Throttle;
use crate::wire::bounded::Blob;
use crate::wire::message::{Facts, Manner, ScanSpec, Side};
use crate::wire::path::RelPath;
use crate::wire::sftp::{Attrs, Request, Response, open_flags};
use crate::wire::tree::{Failure, FailureKind, Meta, RunId};

const CALLS_LANE: u32 = u32::MAX;
const PROBE_LANE: u32 = u32::MAX - 1;

/// A tree on an SFTP server.
#[derive(Clone)]
pub(crate) struct Tree {
    pub client: Client,
    pub manner: Manner,
    /// LSETSTAT takes modes too, so a directory gets all it is to have in one request, and no
    /// symlink is followed for it.
    pub sets_all: bool,
    /// What was sent to the tree, where deltas against that can be applied.
    pub known: Option<Known>,
    /// Where it is written down which parts of large files are there.
    pub records: Option<Known>,
    /// Large files on their way.
    pub uploads: Arc<Uploads>,
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
    gentle: bool,
    tree: Tree,
    /// What the root was like when it was opened.
    root: Option<Meta>,
    facts: Facts,
}

impl Sftp {
    /// Opens a first channel and looks at the root.
    pub async fn open(
        link: Arc<Link>,
        host: Arc<dyn Host>,
        opening: Opening,
        connections: usize,
        sent: Option<&Path>,
    ) -> Result<Self, MediaError> {
        let client = Client::open(&link, &*host, host.round_trip()).await?;
        if opening.terms.side == Side::Target && !client.offers("posix-rename@openssh.com") {
            return Err(MediaError::Lacking {
                host: link.host.clone(),
                what: "posix-rename@openssh.com, so files cannot be replaced safely",
            });
        }
        let Opening { root, terms: Terms { side, create, run, gentle, manner, .. } } = opening;
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
        let mut tree = Tree {
            client,
            manner,
            sets_all: false,
            known: None,
            records: None,
            uploads: Arc::default(),
            root: Bytes::new(),
        };
        let root = found.as_ref().map(|root| meta_of(&root.attrs));
        let facts = match found {
            None => missing(),
            Some(Root { path, attrs }) => {
                tree.root = path.clone();
                let can = match side {
                    Side::Target => try_out(&tree, &attrs, create, run).await,
                    Side::Source => Can::default(),
                };
                tree.sets_all = can.set_all;
                if side == Side::Target && create {
                    tree.records = records(&tree, &link.host, sent);
                    // Deltas need a server that copies.
                    let copies = tree.client.offers("copy-data");
                    tree.known = tree.records.clone().filter(|_| copies);
                }
                Facts { exists: true, privileged: can.set_owners, path: Blob(path.to_vec()) }
            }
        };
        Ok(Sftp { host, connections, side, run, gentle, tree, root, facts })
    }

    /// A channel: the first one over the connection that is there, which is warm and has little
    /// else to carry, every other one over a connection of its own.
    async fn lane(&self, lane: u32) -> Result<Tree, MediaError> {
        let link = self.tree.client.link();
        let own = match lane {
            0 => self.host.clone(),
            _ => self.host.dedicated().await.map_err(|source| MediaError::Host {
                host: link.host.clone(),
                source: Box::new(source),
            })?,
        };
        // Measured more than once, unlike that of the new connection.
        let client = Client::open(link, &*own, self.host.round_trip()).await?;
        // What was proved on the first channel is proved again on this one, along the way.
        client.foretell(self.tree.client.foretells().then(Handles::default));
        Ok(Tree { client, ..self.tree.clone() })
    }
}

struct Root {
    /// Canonical.
    path: Bytes,
    attrs: Attrs,
}

/// Looks at the root, and along with it whether handles can be foretold. `None` if there is none.
async fn find_root(client: &Client, root: &[u8], create: bool) -> Result<Option<Root>, Failure> {
    let path = Bytes::copy_from_slice(root);
    let (made, found) = look_at(client, &path, create).await;
    match (made, found) {
        (Some(Err(error)), Err(missing)) if missing.is_missing() => Err(error.failure("make it")),
        (_, found) => found_root(found),
    }
}

fn found_root(found: Result<Root, SftpError>) -> Result<Option<Root>, Failure> {
    match found {
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error.failure("look at it")),
        Ok(root) => root.checked(),
    }
}

impl Root {
    fn checked(self) -> Result<Option<Self>, Failure> {
        if kind(&self.attrs) == TYPE_DIR {
            Ok(Some(self))
        } else {
            Err(Failure::new(FailureKind::Other, "it is not a directory"))
        }
    }
}

/// What came of making it, if that was to be tried, and what it is like.
async fn look_at(
    client: &Client,
    path: &Bytes,
    create: bool,
) -> (Option<Result<(), SftpError>>, Result<Root, SftpError>) {
    let mut proof = None;
    let make = create.then(|| {
        let attrs = Attrs { mode: Some(0o755), ..Attrs::default() };
        // One that is there stays as it is.
        client.post(&Request::MakeDir { path: path.clone(), attrs })
    });
    let replies = client.burst(|burst| {
        burst.post(&Request::Stat { path: path.clone() });
        burst.post(&Request::RealPath { path: path.clone() });
        proof = Proof::post(client, burst, path);
    });
    let mut replies = replies.all().await;
    let proved = replies.split_off(2);
    client.foretell(proof.and_then(|proof| proof.judge(&proved)));
    let (real, stat) = (replies.pop(), replies.pop());
    let answer = |reply: Option<_>| reply.unwrap_or(Err(SftpError::Unexpected));
    let root = || Ok(Root { attrs: attrs(answer(stat)?)?, path: name(answer(real)?)? });
    let made = match make {
        Some(made) => Some(made.done().await),
        None => None,
    };
    (made, root())
}

/// Where it is kept what was sent. Deltas need handles that need not be waited for; and parts a
/// server that brings to its disk what it was sent, which is one that gives such handles.
fn records(tree: &Tree, host: &str, sent: Option<&Path>) -> Option<Known> {
    let able = tree.client.foretells();
    Known::open(sent.filter(|_| able)?, host, &tree.root)
}

/// What the protocol does not tell of a target, so that it has to be tried.
#[derive(Default)]
struct Can {
    set_owners: bool,
    set_all: bool,
}

/// Tries it on a file of our own, or, in a dry run, looks where the login is at home.
async fn try_out(tree: &Tree, root: &Attrs, may_write: bool, run: RunId) -> Can {
    let client = &tree.client;
    if !may_write {
        let home = client.name(Request::RealPath { path: Bytes::from_static(b".") }).await;
        return Can { set_owners: home.is_ok_and(|home| home == "/root"[..]), set_all: false };
    }
    let path = tree.inside(&TempNames::new(run, PROBE_LANE).next());
    let open = Request::Open {
        path: path.clone(),
        flags: open_flags::WRITE | open_flags::CREATE | open_flags::EXCLUSIVE,
        attrs: Attrs { mode: Some(0o600), ..Attrs::default() },
    };
    let mode = Attrs { mode: Some(0o600), ..Attrs::default() };
    let set_all = Request::LsetStat { path: path.clone(), attrs: mode };
    let set_owner = |handle| {
        let attrs = Attrs { owner: Some((65534, 65534)), ..Attrs::default() };
        Request::FsetStat { handle, attrs }
    };
    // One that stays is swept by the next pass. The root gets its time back, so that a pass with
    // nothing to do does nothing; if that fails, the pass sets it.
    let remove = Request::Remove { path };
    let times = Attrs { times: root.times, ..Attrs::default() };
    let restore = Request::SetStat { path: tree.full(&RelPath::root()), attrs: times };
    let has_lsetstat = client.offers("lsetstat@openssh.com");
    if !client.foretells() {
        let mut can = Can::default();
        if let Ok(handle) = client.handle(open).await {
            can.set_owners = client.done(set_owner(handle.clone())).await.is_ok();
            let _ = client.close(handle).await;
            can.set_all = has_lsetstat && client.done(set_all).await.is_ok();
        }
        let _ = client.done(remove).await;
        let _ = client.done(restore).await;
        return can;
    }
    let mut foretold = Bytes::new();
    let replies = client.burst(|burst| {
        foretold = burst.open(&open);
        burst.post(&set_owner(foretold.clone()));
        burst.close(&foretold);
        burst.post(&set_all);
        burst.post(&remove);
        burst.post(&restore);
    });
    let replies = replies.all().await;
    let done = |number: usize| matches!(&replies[number], Ok(status) if is_done(status));
    if !matches!(&replies[0], Ok(Response::Handle(handle)) if *handle == foretold) {
        client.foretell(None);
        return Can::default();
    }
    Can { set_owners: done(1), set_all: has_lsetstat && done(3) }
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
            // The server can copy blocks into a new file only.
            delta: self.tree.known.is_some() && !self.tree.manner.in_place,
            late_dirs: true,
            // Each handle that is waited for makes a lane wait.
            parts: self.side == Side::Target && self.tree.client.foretells(),
            keeps_parts: self.tree.records.is_some(),
            settles: false,
            tells_links: false,
            remote: true,
            lanes: Lanes::to(&*self.host, if self.gentle { 1 } else { self.connections }),
        }
    }

    async fn scan(&self, spec: ScanSpec, listed: Option<&Listed>) -> Result<Scanner, MediaError> {
        if !self.facts.exists {
            return Ok(scan_nothing().await);
        }
        let patterns: Vec<&[u8]> = spec.exclude.0.iter().map(|blob| &blob.0[..]).collect();
        let scan = Scan {
            side: self.side,
            rule: spec.rule,
            checksum: spec.checksum,
            pace: Arc::new(Throttle::new(spec.checksum_rate)),
            filter: Filter::new(&patterns)?,
            listed: listed.cloned(),
            links: spec.hard_links.then(Arc::default),
            scope: spec.scope,
            run: self.run,
            gentle: None,
        };
        if spec.checksum {
            // Files are read on the same channel, each of whose handles is waited for.
            self.tree.client.foretell(None);
        }
        let (scanner, ends) = channels();
        let (sender, shards) = mpsc::channel(2);
        tokio::spawn(hold(shards, ends));
        tokio::spawn(scan::run(self.tree.clone(), scan, self.root, self.gentle, sender));
        Ok(scanner)
    }

    async fn source_lane(&self, lane: u32) -> Result<SourceLane, MediaError> {
        let tree = self.lane(lane).await?;
        let (jobs, receiver) = mpsc::channel(JOBS_AHEAD_MAX);
        let (sender, pieces) = mpsc::channel(PIECES_AHEAD_MAX);
        tokio::spawn(source::run(tree, receiver, sender));
        Ok(SourceLane { jobs, pieces })
    }

    async fn target_lane(&self, lane: u32) -> Result<TargetLane, MediaError> {
        let tree = self.lane(lane).await?;
        let (pieces, receiver) = mpsc::channel(PIECES_AHEAD_MAX);
        let (sender, told) = mpsc::channel(JOBS_AHEAD_MAX);
        let names = TempNames::new(self.run, lane);
        self.link().tasks.spawn(target::run(tree, names, receiver, sender));
        Ok(TargetLane { pieces, told })
    }

    async fn calls(&self) -> Result<Calls, MediaError> {
        let (calls, receiver) = calls_channel();
        let changer = change::Changer::new(self.tree.clone(), TempNames::new(self.run, CALLS_LANE));
        self.link().tasks.spawn(async move { changer.serve(receiver).await });
        Ok(calls)
    }
}
