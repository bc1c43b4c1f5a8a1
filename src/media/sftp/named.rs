//! Names of a list looked at over SFTP, one by one, instead of what a directory holds.

use std::collections::BTreeSet;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt};

use super::meta::{TYPE_DIR, TYPE_LINK, kind};
use super::reply::SftpError;
use super::scan::Candidate;
use super::session::Tree;
use crate::media::listed::{Kind, Listed, Missing, Visit};
use crate::media::scan::Scan;
use crate::media::temp;
use crate::wire::message::Side;
use crate::wire::path::{Name, RelPath};
use crate::wire::sftp::{Attrs, NameEntry, Request};
use crate::wire::tree::{Directory, Meta, Problem};

/// Names of one directory being looked at.
const NAMES_AHEAD_MAX: usize = 64;

/// The meta of the directory at `path`, as it is to be told.
pub(super) fn meta(scan: &Scan, path: &RelPath, meta: Meta) -> Meta {
    let meta = scan.meta(meta);
    match &scan.listed {
        Some(listed) if path.is_root() => listed.root_meta(meta),
        Some(_) | None => meta,
    }
}

/// What of each of `dirs` is to be looked at, which are in a directory, in order.
pub(super) fn visits(
    scan: &Scan,
    visit: &Visit,
    dirs: Vec<(Name, RelPath, Meta)>,
) -> Vec<(RelPath, Option<Meta>, Visit)> {
    let visits = match &scan.listed {
        None => dirs.into_iter().map(|dir| (dir, Visit::EVERYTHING)).collect(),
        Some(listed) => listed.visits(visit, dirs, |(name, ..)| name),
    };
    visits.into_iter().map(|((_, path, meta), visit)| (path, Some(meta), visit)).collect()
}

/// Whether a directory of which only names are wanted is listed all the same: only so it is told
/// which files have other names.
pub(super) fn lists(scan: &Scan, visit: &Visit) -> bool {
    let names = |listed: &Listed| listed.names(visit).next().is_some();
    scan.links.is_some() && scan.listed.as_ref().is_some_and(names)
}

/// What of `all` that is in a directory may be wanted.
pub(super) fn only(scan: &Scan, visit: &Visit, mut all: Vec<NameEntry>) -> Vec<NameEntry> {
    if let Some(listed) = scan.listed.as_ref().filter(|_| !visit.content) {
        let names: BTreeSet<Name> = listed.names(visit).map(|(name, _)| name).collect();
        all.retain(|entry| Name::new(&entry.name).is_ok_and(|name| names.contains(&name)));
    }
    all
}

/// Adds the listed names to what was found by listing. Fails only if the connection is lost.
pub(super) async fn add(
    tree: &Tree,
    scan: &Scan,
    visit: &Visit,
    directory: &mut Directory,
    candidates: &mut Vec<Candidate>,
) -> Result<(), SftpError> {
    let Some(listed) = &scan.listed else { return Ok(()) };
    candidates.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    let mut missing = Missing::default();
    let mut more = Vec::new();
    {
        let mut found = candidates.iter().peekable();
        for (name, at) in listed.names(visit) {
            while found.next_if(|found| found.name < name).is_some() {}
            match found.next_if(|found| found.name == name) {
                Some(Candidate { path, attrs, .. }) if scan.side == Side::Source => {
                    listed.found(at, path, kind_of(attrs), &mut missing);
                }
                Some(_) => {}
                None => {
                    if let Ok(path) = directory.path.join(&name)
                        && !temp::is_ours(name.as_bytes())
                    {
                        more.push((name, at, path));
                    }
                }
            }
        }
    }
    let look = |path| tree.client.attrs(Request::Lstat { path: tree.full(path) });
    let looking: Vec<BoxFuture<'_, _>> =
        more.iter().map(|(_, _, path)| look(path).boxed()).collect();
    let looked: Vec<_> = stream::iter(looking).buffered(NAMES_AHEAD_MAX).collect().await;
    for ((name, at, path), looked) in more.into_iter().zip(looked) {
        match looked {
            Ok(attrs) => {
                let kind = kind_of(&attrs);
                let wanted =
                    scan.side == Side::Target || listed.found(at, &path, kind, &mut missing);
                if wanted && listed.admits(at, &path, kind == Kind::Dir, &scan.filter) {
                    candidates.push(Candidate { name, path, links: None, attrs });
                }
            }
            Err(SftpError::Lost) => return Err(SftpError::Lost),
            Err(error) if error.is_missing() => {
                if scan.side == Side::Source {
                    listed.missing(at, &path, &mut missing);
                }
            }
            Err(error) => {
                let failure = error.failure("look at it");
                directory.problems.push(Problem { path, failure });
            }
        }
    }
    directory.problems.extend(missing.problems(&directory.path));
    Ok(())
}

fn kind_of(attrs: &Attrs) -> Kind {
    match kind(attrs) {
        TYPE_DIR => Kind::Dir,
        TYPE_LINK => Kind::Link,
        _ => Kind::Other,
    }
}
