//! The scan of a tree over SFTP: directories in the order of a walk, many of them being listed at
//! once. The next ones in the order are always under way, and what is in those, so a directory's
//! round trips are paid together with those of its neighbours, also in deep and narrow trees.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, FuturesUnordered};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;

use super::meta::{TYPE_DIR, TYPE_FILE, TYPE_LINK, kind, meta_of};
use super::named;
use super::reply::{self, SftpError};
use super::session::Tree;
use super::source;
use crate::media::listed::{Listed, Visit};
use crate::media::scan::Scan;
use crate::media::shard::{Cutter, Shard};
use crate::wire::bounded::Blob;
use crate::wire::path::{Name, RelPath};
use crate::wire::sftp::{Attrs, NameEntry, Request};
use crate::wire::tree::{
    Directory, Entry, Failure, FailureKind, LINK_BYTES_MAX, Meta, Node, Problem,
};

/// Directories being listed at once.
const LISTED_AT_ONCE_MAX: usize = 240;
const LISTED_GENTLY_MAX: usize = 4;
/// How far ahead in the order of the walk: so many listings may wait for their turn.
const AHEAD_MAX: usize = 1024;
/// Replies that a directory takes mostly: the names, and that there are no more.
const READS_MIN: usize = 2;
/// A directory with more names than come in so many replies is listed step by step.
const READS_MAX: usize = 1024;
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
    /// In byte order: the walk comes to the last one first.
    dirs: Vec<(RelPath, Option<Meta>, Visit)>,
}

type Listing<'a> = FuturesUnordered<BoxFuture<'a, (u64, Result<Looked, SftpError>)>>;

/// Walks the tree and gives its shards. Ends without the final `None` if the connection is lost.
pub(super) async fn run(
    tree: Tree,
    scan: Scan,
    root: Option<Meta>,
    gentle: bool,
    shards: mpsc::Sender<Option<Shard>>,
) {
    let at_once = if gentle { LISTED_GENTLY_MAX } else { LISTED_AT_ONCE_MAX };
    let mut cutter = Cutter::new(scan.side, scan.rule);
    let visit = scan.listed.as_ref().map_or(Visit::EVERYTHING, Listed::root);
    let mut order = VecDeque::from([Pending::Waiting(RelPath::root(), root, visit)]);
    let mut listing = Listing::new();
    let mut number = 0;
    while !order.is_empty() {
        start(&tree, &scan, at_once, &mut order, &mut listing, &mut number);
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
        for (path, meta, visit) in dirs {
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
    at_once: usize,
    order: &mut VecDeque<Pending>,
    listing: &mut Listing<'a>,
    number: &mut u64,
) {
    // Not for every one that ends: looking for the next ones takes longer than that.
    if listing.len() > at_once / 4 * 3 {
        return;
    }
    for pending in order.iter_mut().take(AHEAD_MAX) {
        let Pending::Waiting(path, meta, visit) = pending else { continue };
        *number += 1;
        let (path, meta, visit, id) = (path.clone(), *meta, *visit, *number);
        listing.push(Box::pin(async move { (id, list(tree, scan, path, meta, visit).await) }));
        *pending = Pending::Started(id);
        if listing.len() >= at_once {
            return;
        }
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
    let mut listed = Looked { directory: Directory::unread(path.clone()), dirs: Vec::new() };
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
    let mut reads = READS_MIN;
    while tree.client.foretells() {
        match read_in_burst(tree, path, reads).await? {
            Some(names) => return Ok(names),
            None if reads >= READS_MAX => tree.client.foretell(None),
            None => reads = READS_MAX.min(reads * 8),
        }
    }
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

/// The names of a directory, if they come in so many replies; without waiting in between.
async fn read_in_burst(
    tree: &Tree,
    path: &RelPath,
    reads: usize,
) -> Result<Option<Vec<NameEntry>>, SftpError> {
    let client = &tree.client;
    client.room().await;
    let mut foretold = Bytes::new();
    let replies = client.burst(|burst| {
        foretold = burst.open(&Request::OpenDir { path: tree.full(path) });
        (0..reads).for_each(|_| burst.post(&Request::ReadDir { handle: foretold.clone() }));
        burst.close(&foretold);
    });
    let mut replies = replies.all().await.into_iter();
    if !client.is_foretold(replies.next(), &foretold).await? {
        return Ok(None);
    }
    let mut all = Vec::new();
    for reply in replies.take(reads) {
        match reply::names(reply?)? {
            Some(names) => all.extend(names),
            None => return Ok(Some(all)),
        }
    }
    Ok(None)
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
        let is_dir = kind(&attrs) == TYPE_DIR;
        if scan.admits(&directory.path, &name, is_dir, &mut directory.leftovers) {
            admitted.push(Candidate { name, path, links, attrs });
        }
    }
    admitted
}

async fn node(tree: &Tree, scan: &Scan, candidate: &Candidate) -> Result<Node, Failure> {
    let Candidate { path, attrs, links, .. } = candidate;
    let meta = scan.meta(meta_of(attrs));
    match kind(attrs) {
        TYPE_DIR => Ok(Node::Dir),
        TYPE_FILE => {
            let content = if scan.checksum {
                Some(source::digest_of(tree, path, &scan.pace).await?)
            } else {
                None
            };
            let size = attrs.size.unwrap_or_default();
            // Which ones its other names are is not told.
            let linked = scan.links.is_some() && links.is_some_and(|links| links > 1);
            Ok(match linked {
                true => Node::HardLink { size, meta, content, first: None },
                false => Node::File { size, meta, content },
            })
        }
        TYPE_LINK => {
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
