//! Which part of a tree is looked at: what lies elsewhere is left alone on both sides, as if it
//! were excluded. Pure.

use serde::{Deserialize, Serialize};

use super::bounded::List;
use super::path::RelPath;

/// Paths that a scope may name.
pub const SCOPE_PATHS_MAX: usize = 4096;

/// A part of a tree. The directories that lead to it belong to it, with nothing else in them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// These paths and whatever is in them, in the order of a walk, none in another one. None at
    /// all: everything.
    only: List<RelPath, SCOPE_PATHS_MAX>,
    /// But not these, and nothing in them.
    without: List<RelPath, SCOPE_PATHS_MAX>,
}

impl Scope {
    /// `paths` and all that is in them; `None` if there are none or too many.
    pub fn only(paths: Vec<RelPath>) -> Option<Self> {
        let only = outermost(paths);
        let fits = (1..=SCOPE_PATHS_MAX).contains(&only.len());
        fits.then(|| Scope { only: List(only), ..Scope::default() })
    }

    /// All but `path` and what is in it.
    pub fn without(path: RelPath) -> Self {
        Scope { without: List(vec![path]), ..Scope::default() }
    }

    /// As it should be, whoever made it.
    pub fn checked(self) -> Self {
        Scope { only: List(outermost(self.only.0)), without: List(outermost(self.without.0)) }
    }

    pub fn is_whole(&self) -> bool {
        self.only.0.is_empty() && self.without.0.is_empty()
    }

    /// What of it lies in `paths`, if anything does.
    pub fn narrowed(&self, paths: Vec<RelPath>) -> Option<Self> {
        let within = |path: &RelPath| {
            if self.only.0.is_empty() || contains(&self.only.0, path) {
                return vec![path.clone()];
            }
            self.only.0.iter().filter(|only| only.is_within(path)).cloned().collect()
        };
        let mut paths: Vec<RelPath> = paths.iter().flat_map(within).collect();
        paths.retain(|path| !contains(&self.without.0, path));
        Scope::only(paths).map(|scope| Scope { without: self.without.clone(), ..scope })
    }

    /// Whether `path` belongs to it, or leads to what does.
    pub fn admits(&self, path: &RelPath) -> bool {
        if contains(&self.without.0, path) {
            return false;
        }
        if self.only.0.is_empty() || contains(&self.only.0, path) {
            return true;
        }
        let next = self.only.0.partition_point(|only| only < path);
        self.only.0.get(next).is_some_and(|only| only.is_within(path))
    }
}

/// Whether `path` is one of `paths`, or in one of them.
fn contains(paths: &[RelPath], path: &RelPath) -> bool {
    let after = paths.partition_point(|outer| outer <= path);
    after.checked_sub(1).is_some_and(|at| path.is_within(&paths[at]))
}

/// In the order of a walk, without what lies in others.
fn outermost(mut paths: Vec<RelPath>) -> Vec<RelPath> {
    paths.sort_unstable();
    paths.dedup_by(|later, earlier| later.is_within(earlier));
    paths
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).unwrap()
    }

    fn paths(texts: &[&str]) -> Vec<RelPath> {
        texts.iter().map(|text| path(text)).collect()
    }

    #[test]
    fn a_scope_is_what_it_names_what_is_in_it_and_what_leads_there() {
        let scope = Scope::only(paths(&["a/b", "c", "a/b/x"])).unwrap();
        for (text, expected) in [
            ("", true),
            ("a", true),
            ("a/b", true),
            ("a/b/x/y", true),
            ("a/bc", false),
            ("a/a", false),
            ("c", true),
            ("c/d", true),
            ("c-d", false),
            ("d", false),
        ] {
            assert_eq!(scope.admits(&path(text)), expected, "{text}");
        }
        let rest = Scope::without(path("c"));
        assert!(
            rest.admits(&path("c-d")) && !rest.admits(&path("c")) && !rest.admits(&path("c/d"))
        );
    }

    #[test]
    fn narrowing_keeps_what_both_hold() {
        let (cache, local) =
            (Scope::only(paths(&["cache"])).unwrap(), Scope::without(path("cache")));
        assert_eq!(cache.narrowed(paths(&["a"])), None);
        assert_eq!(cache.narrowed(paths(&[""])), Some(cache.clone()));
        assert_eq!(cache.narrowed(paths(&["cache/x", "a"])), Scope::only(paths(&["cache/x"])));
        assert_eq!(local.narrowed(paths(&["cache/x"])), None);
        let narrow = local.narrowed(paths(&[""])).unwrap();
        assert!(narrow.admits(&path("a")) && !narrow.admits(&path("cache/x")));
    }

    proptest! {
        /// The law: a scope admits what one of its paths holds or lies in, and nothing else.
        #[test]
        fn admits_what_the_obvious_look_admits(
            only in prop::collection::vec("[ab-](/[ab-]){0,3}", 1..6),
            text in "[ab-](/[ab-]){0,3}",
        ) {
            let only: Vec<RelPath> = only.iter().map(|only| path(only)).collect();
            let at = path(&text);
            let obvious = only.iter().any(|only| at.is_within(only) || only.is_within(&at));
            prop_assert_eq!(Scope::only(only).unwrap().admits(&at), obvious);
        }
    }
}
