//! Where this program keeps what it can do without.

use std::path::PathBuf;

/// The directory of the listings that scans of this machine's trees leave for the next one; `None`
/// where the process has no cache directory.
pub(super) fn manifests() -> Option<PathBuf> {
    let dir = |variable| std::env::var_os(variable).map(PathBuf::from);
    let absolute = |dir: &PathBuf| dir.is_absolute();
    let cache = dir("XDG_CACHE_HOME").filter(absolute);
    let cache = cache.or_else(|| dir("HOME").filter(absolute).map(|home| home.join(".cache")))?;
    Some(cache.join("transhume/manifests"))
}
