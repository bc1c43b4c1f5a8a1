//! A pass over what a list names instead of a whole tree, as with rsync's `--files-from`. Both
//! sides walk the same list, so what is equal is told by digest as ever. In flow the list and what
//! there is of it; out flow directories, in order, whose entries are those that were asked for.
//!
//! A path on the list is itself and what leads to it; a directory on it comes without its content,
//! unless that is asked for. A symlink on the way is not followed.

mod coverage;
mod parse;
pub(crate) mod walk;

use super::filter::Filter;
use crate::wire::message::Extent;
use crate::wire::names::{At, BadNames, Names};
use crate::wire::path::{Name, RelPath};
use crate::wire::tree::{Failure, FailureKind, Meta, Node, Problem};

pub(crate) use coverage::Coverage;
pub use parse::BadList;

/// Missing names of one directory that are told one by one.
const MISSING_TOLD_MAX: usize = 1000;

/// What a pass is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub(crate) names: Names,
    /// All that is in a directory on the list belongs to it.
    pub(crate) recursive: bool,
}

/// What of a directory belongs to a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Visit {
    /// Where names in it are listed.
    at: Option<At>,
    /// All that is directly in it.
    pub content: bool,
    /// All that is anywhere in it.
    pub whole: bool,
}

impl Visit {
    /// A directory of a tree that is not listed.
    pub const EVERYTHING: Visit = Visit { at: None, content: true, whole: true };
}

impl Listed {
    pub(crate) fn extent(&self) -> Extent {
        Extent::Listed { recursive: self.recursive }
    }

    /// The list as it crosses the wire.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.names.as_bytes()
    }

    pub(crate) fn decode(bytes: Vec<u8>, recursive: bool) -> Result<Self, BadNames> {
        Ok(Listed { names: Names::decode(bytes)?, recursive })
    }

    /// What of the root belongs to the pass.
    pub(crate) fn root(&self) -> Visit {
        self.visit(Some(self.names.root()), false)
    }

    fn visit(&self, at: Option<At>, whole: bool) -> Visit {
        let listed = at.is_some_and(|at| self.names.is_listed(at));
        let whole = whole || listed && self.recursive;
        let content = whole || at.is_some_and(|at| self.names.has_content(at));
        Visit { at, content, whole }
    }

    /// The names in a directory that are listed.
    pub(crate) fn names<'a>(&'a self, visit: &Visit) -> impl Iterator<Item = (Name, At)> + use<'a> {
        let below = visit.at.into_iter().flat_map(|at| self.names.below(at));
        below.filter_map(|at| Some((Name::new(self.names.name(at)).ok()?, at)))
    }

    /// What of each of `dirs` belongs to the pass, which are in a directory, in order.
    pub(crate) fn visits<T>(
        &self,
        visit: &Visit,
        dirs: impl IntoIterator<Item = T>,
        name: impl Fn(&T) -> &Name,
    ) -> Vec<(T, Visit)> {
        let mut names = self.names(visit).peekable();
        let dirs = dirs.into_iter().map(|dir| {
            let wanted = name(&dir);
            while names.next_if(|(name, _)| name < wanted).is_some() {}
            let at = names.next_if(|(name, _)| name == wanted).map(|(_, at)| at);
            (dir, self.visit(at, visit.whole))
        });
        dirs.collect()
    }

    /// The root's own mode and time, as they are told: the same on both sides if they do not
    /// belong to the pass.
    pub(crate) fn root_meta(&self, meta: Meta) -> Meta {
        if self.sets_root() { meta } else { Meta { mode: 0o755, ..Meta::default() } }
    }

    /// Whether the root itself is on the list.
    pub(crate) fn sets_root(&self) -> bool {
        self.names.is_listed(self.names.root())
    }

    /// Whether the name `at`, which is of this kind at `path` of the source, belongs to the pass.
    /// What should be below something else than a directory is missing.
    pub(crate) fn found(&self, at: At, path: &RelPath, kind: Kind, missing: &mut Missing) -> bool {
        let why = match kind {
            Kind::Dir => return true,
            Kind::Link => "its directory is a symlink, which is not followed",
            Kind::Other => "there is no such directory",
        };
        self.names.each_listed(at, path, &mut |below| {
            if below != *path {
                missing.add(below, why);
            }
        });
        self.names.is_listed(at)
    }

    /// Whether the name `at`, which was found at `path`, belongs to the pass as far as patterns go:
    /// they apply to what is on the list itself, and not to what leads to it.
    pub(crate) fn admits(&self, at: At, path: &RelPath, is_dir: bool, filter: &Filter) -> bool {
        let leads_on = is_dir && self.names.first_below(at).is_some();
        leads_on || !self.names.is_listed(at) || !filter.excludes(path, is_dir)
    }

    /// Notes that there is nothing at `path`.
    pub(crate) fn missing(&self, at: At, path: &RelPath, missing: &mut Missing) {
        self.names.each_listed(at, path, &mut |path| missing.add(path, "there is no such file"));
    }
}

/// What leads on, or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Dir,
    Link,
    Other,
}

impl From<&Node> for Kind {
    fn from(node: &Node) -> Self {
        match node {
            Node::Dir => Kind::Dir,
            Node::Link { .. } => Kind::Link,
            Node::File { .. } | Node::HardLink { .. } | Node::Special => Kind::Other,
        }
    }
}

/// Names of one directory that are on the list and not there.
#[derive(Debug, Default)]
pub(crate) struct Missing {
    told: Vec<Problem>,
    untold: usize,
}

impl Missing {
    fn add(&mut self, path: RelPath, why: &str) {
        if self.told.len() < MISSING_TOLD_MAX {
            let failure = Failure::new(FailureKind::Vanished, why);
            self.told.push(Problem { path, failure });
        } else {
            self.untold += 1;
        }
    }

    /// What is to be told of them, in the directory at `path`.
    pub fn problems(self, path: &RelPath) -> Vec<Problem> {
        let Missing { mut told, untold } = self;
        if untold > 0 {
            let text = format!("{untold} more names on the list are not there");
            let failure = Failure::new(FailureKind::Vanished, text);
            told.push(Problem { path: path.clone(), failure });
        }
        told
    }
}
