//! The scan of a tree over SFTP: directories in the order of a walk, many of them being listed at
//! once. The next ones in the order are always under way, and what is in those, so a directory's
//! round trips are paid together with those of its neighbours, also in deep and narrow trees.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, FuturesUnordered};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;

use super::client::SftpError;
use super::session::Tree;
use super::{named, source};
use crate::media::listed::{Listed, Visit};
use crate::media::scan::Scan;
use crate::media::shard::{Cutter, Shard};
use crate::wire::bounded::Blob;
use crate::wire::path::{Name, RelPath};
use crate::wire::sftp::{Attrs, NameEntry, Request};
use crate::wire::tree::{
    Directory, Entry, Failure, FailureKind, LINK_BYTES_MAX, Meta, Mtime, Node, Problem,
};

/// Directories being listed at once.
const LISTED_AT_ONCE_MAX: usize = 64;
/// How far ahead in the order of the walk: so many listings may wait for their turn.
const AHEAD_MAX: usize = 512;
/// Symlinks and hashes of one directory under way at once.
const NODES_AHEAD_MAX: usize = 16;

/// A directory in the order of the walk.
enum Pending {
    Waiting(RelPath, Option<Meta>, Visit),
    Started(u64),
    Listed(Box<Directory>),
}

/// A name that belongs to the tree.
pub(super) struct Candidate {
    pub name: Name,
    pub path: RelPath,
    /// How many names the file has, if that was told.
    pub links: Option<u32>,
    pub attrs: Attrs,
}

/// A directory and those in it, with what the listing tells of them.
struct Looked {
    directory: Directory,
    dirs: Vec<(RelPath, Option<Meta>, Visit)>,
}

type Listing<'a> = FuturesUnordered<BoxFuture<'a, (u64, Result<Looked, SftpError>)>>;

/// Walks the tree and gives its shards. Ends without the final `None` if the connection is lost.
pub(super) async fn run(tree: Tree, scan: Scan, shards: mpsc::Sender<Option<Shard>>) {
    let mut cutter = Cutter::new(scan.side, scan.rule);
    let visit = scan.listed.as_ref().map_or(Visit::EVERYTHING, Listed::root);
    let mut order = VecDeque::from([Pending::Waiting(RelPath::root(), None, visit)]);
    let mut listing = Listing::new();
    let mut number = 0;
    while !order.is_empty() {
        start(&tree, &scan, &mut order, &mut listing, &mut number);
        match order.pop_front() {
            Some(Pending::Listed(directory)) => {
                if let Some(shard) = cutter.push(*directory)
                    && shards.send(Some(shard)).await.is_err()
                {
                    return;
                }
                continue;
            }
            Some(unlisted @ (Pending::Waiting(..) | Pending::Started(_))) => {
                order.push_front(unlisted);
            }
            None => {}
        }
        let Some((id, Ok(Looked { directory, dirs }))) = listing.next().await else { return };
        let started = |pending: &Pending| matches!(pending, Pending::Started(at) if *at == id);
        let Some(at) = order.iter().position(started) else { return };
        order[at] = Pending::Listed(Box::new(directory));
        // Those in it come next in the order, and are listed ahead like all others.
        for (path, meta, visit) in dirs.into_iter().rev() {
            order.insert(at + 1, Pending::Waiting(path, meta, visit));
        }
    }
    if let Some(shard) = cutter.end()
        && shards.send(Some(shard)).await.is_err()
    {
        return;
    }
    // If nobody listens any more, nobody needs to know.
    let _ = shards.send(None).await;
}

/// Starts listing the next directories in the order, as many as may be under way.
fn start<'a>(
    tree: &'a Tree,
    scan: &'a Scan,
    order: &mut VecDeque<Pending>,
    listing: &mut Listing<'a>,
    number: &mut u64,
) {
    if listing.len() >= LISTED_AT_ONCE_MAX {
        return;
    }
    for pending in order.iter_mut().take(AHEAD_MAX) {
        let Pending::Waiting(path, meta, visit) = pending else { continue };
        *number += 1;
        let (path, meta, visit, id) = (path.clone(), *meta, *visit, *number);
        listing.push(Box::pin(async move { (id, list(tree, scan, path, meta, visit).await) }));
        *pending = Pending::Started(id);
        if listing.len() >= LISTED_AT_ONCE_MAX {
            return;
        }
    }
}

/// The meta of a file or directory as SFTP tells it.
pub(super) fn meta_of(attrs: &Attrs) -> Meta {
    let (uid, gid) = attrs.owner.unwrap_or_default();
    let (_, secs) = attrs.times.unwrap_or_default();
    Meta {
        mode: attrs.mode.unwrap_or_default() & 0o7777,
        mtime: Mtime { secs: secs.into(), nanos: 0 },
        uid,
        gid,
    }
}

/// Fails only if the connection is lost.
async fn list(
    tree: &Tree,
    scan: &Scan,
    path: RelPath,
    meta: Option<Meta>,
    visit: Visit,
) -> Result<Looked, SftpError> {
    let mut listed = Looked {
        directory: Directory {
            path: path.clone(),
            meta: None,
            entries: Vec::new(),
            leftovers: Vec::new(),
            problems: Vec::new(),
        },
        dirs: Vec::new(),
    };
    let meta = match meta {
        Some(meta) => Ok(meta),
        None => tree
            .client
            .attrs(Request::Stat { path: tree.full(&path) })
            .await
            .map(|attrs| meta_of(&attrs)),
    };
    let names = match meta {
        Ok(meta) => {
            let names = match visit.content || named::lists(scan, &visit) {
                true => read_names(tree, &path).await,
                false => Ok(Vec::new()),
            };
            let names = names.map(|names| named::only(scan, &visit, names));
            if names.is_ok() {
                listed.directory.meta = Some(named::meta(scan, &path, meta));
            }
            names
        }
        Err(error) => Err(error),
    };
    let names = match names {
        Ok(names) => names,
        Err(SftpError::Lost) => return Err(SftpError::Lost),
        Err(error) => {
            let failure = error.failure("list the directory");
            listed.directory.problems.push(Problem { path, failure });
            return Ok(listed);
        }
    };
    let mut candidates = admit(scan, &mut listed, names);
    named::add(tree, scan, &visit, &mut listed.directory, &mut candidates).await?;
    let mut dirs = Vec::new();
    let looking: Vec<BoxFuture<'_, _>> =
        candidates.iter().map(|one| node(tree, scan, one).boxed()).collect();
    let nodes: Vec<_> = stream::iter(looking).buffered(NODES_AHEAD_MAX).collect().await;
    for (Candidate { name, path, attrs, .. }, node) in candidates.into_iter().zip(nodes) {
        match node {
            Ok(node) => {
                if node == Node::Dir {
                    dirs.push((name.clone(), path, meta_of(&attrs)));
                }
                listed.directory.entries.push(Entry { name, node });
            }
            Err(Failure { kind: FailureKind::Lost, .. }) => return Err(SftpError::Lost),
            Err(failure) => listed.directory.problems.push(Problem { path, failure }),
        }
    }
    listed.directory.entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    dirs.sort_unstable_by(|(one, ..), (other, ..)| one.cmp(other));
    listed.dirs = named::visits(scan, &visit, dirs);
    Ok(listed)
}

async fn read_names(tree: &Tree, path: &RelPath) -> Result<Vec<NameEntry>, SftpError> {
    let handle = tree.client.handle(Request::OpenDir { path: tree.full(path) }).await?;
    let mut all = Vec::new();
    let result = loop {
        match tree.client.names(Request::ReadDir { handle: handle.clone() }).await {
            Ok(Some(names)) => all.extend(names),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    tree.client.close(handle).await?;
    result.map(|()| all)
}

/// The names that belong to the tree, checked: a server may send anything.
fn admit(scan: &Scan, listed: &mut Looked, names: Vec<NameEntry>) -> Vec<Candidate> {
    let directory = &mut listed.directory;
    let mut admitted = Vec::new();
    for NameEntry { name: bytes, links, attrs } in names {
        if matches!(&bytes[..], b"." | b"..") {
            continue;
        }
        let name = Name::new(&bytes);
        let path = name.as_ref().map_err(|bad| *bad).and_then(|name| directory.path.join(name));
        let (Ok(name), Ok(path)) = (name, path) else {
            let text = format!("a name that cannot be used: {}", bytes.escape_ascii());
            let failure = Failure::new(FailureKind::Other, text);
            directory.problems.push(Problem { path: directory.path.clone(), failure });
            continue;
        };
        let is_dir = kind(&attrs) == 0o040_000;
        if scan.admits(&directory.path, &name, is_dir, &mut directory.leftovers) {
            admitted.push(Candidate { name, path, links, attrs });
        }
    }
    admitted
}

pub(super) fn kind(attrs: &Attrs) -> u32 {
    attrs.mode.unwrap_or_default() & 0o170_000
}

async fn node(tree: &Tree, scan: &Scan, candidate: &Candidate) -> Result<Node, Failure> {
    let Candidate { path, attrs, links, .. } = candidate;
    let meta = scan.meta(meta_of(attrs));
    match kind(attrs) {
        0o040_000 => Ok(Node::Dir),
        0o100_000 => {
            let content =
                if scan.checksum { Some(source::digest_of(tree, path).await?) } else { None };
            let size = attrs.size.unwrap_or_default();
            // Which ones its other names are is not told.
            let linked = scan.links.is_some() && links.is_some_and(|links| links > 1);
            Ok(match linked {
                true => Node::HardLink { size, meta, content, first: None },
                false => Node::File { size, meta, content },
            })
        }
        0o120_000 => {
            let link = Request::ReadLink { path: tree.full(path) };
            let text: Bytes =
                tree.client.name(link).await.map_err(|error| error.failure("read the symlink"))?;
            if text.len() > LINK_BYTES_MAX {
                return Err(Failure::new(FailureKind::Other, "the symlink's text is too long"));
            }
            Ok(Node::Link { meta, text: Blob(text.to_vec()) })
        }
        _ => Ok(Node::Special),
    }
}
