//! Which media a pass is about. Mastodon keeps copies of what lies on other servers below `cache/`:
//! most of the bytes, and what can be fetched again. What its own users uploaded lies beside it.

use crate::wire::path::RelPath;
use crate::wire::scope::Scope;

const CACHE: &[u8] = b"cache";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Class {
    /// What was uploaded here: everything but `cache/`
    Local,
    /// Copies of what lies on other servers: `cache/`
    Cache,
    /// Both, the local ones first
    #[default]
    All,
}

impl Class {
    /// The parts of the media directory that a pass walks, in this order. One that keeps hard links
    /// walks everything at once: names of one file may be in both.
    pub fn walks(self, hard_links: bool) -> Vec<Scope> {
        // A name like any other.
        let cache = RelPath::new(CACHE).unwrap_or_default();
        let (local, cache) = (Scope::without(cache.clone()), Scope::only(vec![cache]));
        match self {
            Class::Local => vec![local],
            Class::Cache => cache.into_iter().collect(),
            Class::All if hard_links => Vec::new(),
            Class::All => [local].into_iter().chain(cache).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_belongs_to_one_class_and_the_cache_comes_last() {
        let walks = Class::All.walks(false);
        assert_eq!(walks, [Class::Local.walks(false), Class::Cache.walks(false)].concat());
        for (path, at) in [("accounts/avatars/1", 0), ("cache/accounts/1", 1), ("cached", 0)] {
            let path = RelPath::new(path.as_bytes()).unwrap();
            let admitting: Vec<bool> = walks.iter().map(|scope| scope.admits(&path)).collect();
            assert_eq!(admitting, [at == 0, at == 1], "{path}");
        }
        // Names of one file may be in both.
        assert_eq!(Class::All.walks(true), []);
        assert_eq!(Class::Cache.walks(true), Class::Cache.walks(false));
    }
}
