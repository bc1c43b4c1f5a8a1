//! What `initdb` makes, kept beside the test binary: a copy takes a tenth of the time. One for each
//! version, locale and encoding; made by the first test that wants it, also by two at once.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown};
use std::path::{Path, PathBuf};

use super::{Options, bin_dir};

/// Where the data directory for `options` is kept; `None` where it depends on more than its name
/// tells, or where we are not in a build directory.
pub fn place(options: &Options) -> Option<PathBuf> {
    if !options.env.is_empty() {
        return None;
    }
    let bin_dir = bin_dir(options.major);
    let server = fs::metadata(bin_dir.join("postgres")).ok()?;
    let name: String = format!(
        "{} {} {} {} {}",
        bin_dir.display(),
        server.len(),
        server.mtime(),
        options.locale,
        options.encoding
    )
    .chars()
    .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
    .collect();
    let program = std::env::current_exe().ok()?;
    let profile = program.ancestors().nth(2)?;
    profile.join(".fingerprint").is_dir().then(|| profile.join("clusters").join(name))
}

/// Keeps the fresh data directory `data` at `place`. Where that does not work, nothing is kept.
pub fn keep(data: &Path, place: &Path) {
    let Some(parent) = place.parent() else { return };
    let kept = || -> io::Result<()> {
        fs::create_dir_all(parent)?;
        let making = tempfile::tempdir_in(parent)?;
        let copy = making.path().join("data");
        copy_tree(data, &copy, None)?;
        // Another test may have been faster.
        fs::rename(&copy, place)
    };
    let _ = kept();
}

/// Copies a tree of directories and files with their modes, for `owner` where there is one.
pub fn copy_tree(from: &Path, to: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    let give = |path: &Path| owner.map_or(Ok(()), |(uid, gid)| chown(path, Some(uid), Some(gid)));
    fs::DirBuilder::new().mode(fs::metadata(from)?.mode() & 0o777).create(to)?;
    give(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let copy = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &copy, owner)?;
        } else {
            fs::copy(entry.path(), &copy)?;
            give(&copy)?;
        }
    }
    Ok(())
}
