//! The files that an `Include` line of ssh_config(5) means.

use std::io;
use std::path::{Component, Path, PathBuf};

use super::config_file::Source;
use super::pattern::matches;

/// The readable files that match `pattern`, sorted. What is relative is relative to `dir`. None
/// is fine; one that cannot be read is a problem, told in words.
pub fn find(pattern: &str, dir: &Path, home: &Path) -> Result<Vec<Source>, String> {
    let pattern = match pattern.strip_prefix("~/") {
        Some(rest) => home.join(rest),
        None => dir.join(pattern),
    };
    let mut sources = Vec::new();
    for path in glob(&pattern) {
        match std::fs::read_to_string(&path) {
            Ok(text) => sources.push(Source { name: path.display().to_string(), text }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
        }
    }
    Ok(sources)
}

fn glob(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        found = match component {
            Component::Normal(name) if name.to_string_lossy().contains(['*', '?']) => {
                let name = name.to_string_lossy();
                found.iter().flat_map(|dir| entries(dir, &name)).collect()
            }
            Component::Normal(_)
            | Component::RootDir
            | Component::CurDir
            | Component::ParentDir
            | Component::Prefix(_) => found.into_iter().map(|path| path.join(component)).collect(),
        };
    }
    found
}

fn entries(dir: &Path, pattern: &str) -> Vec<PathBuf> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        // As in a shell, hidden files must be named as such.
        .filter(|name| pattern.starts_with('.') || !name.starts_with('.'))
        .filter(|name| matches(pattern, name))
        .collect();
    names.sort();
    names.into_iter().map(|name| dir.join(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_files_in_order_and_leaves_hidden_ones() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join(".ssh/conf.d");
        std::fs::create_dir_all(&dir).unwrap();
        for name in ["b.conf", "a.conf", ".c.conf", "d.txt"] {
            std::fs::write(dir.join(name), name).unwrap();
        }
        let ssh = home.path().join(".ssh");
        let texts = |pattern: &str| -> Vec<String> {
            find(pattern, &ssh, home.path()).unwrap().into_iter().map(|s| s.text).collect()
        };
        assert_eq!(texts("conf.d/*.conf"), ["a.conf", "b.conf"]);
        assert_eq!(texts("~/.ssh/conf.?/d*"), ["d.txt"]);
        assert!(texts("absent/*").is_empty());
        assert!(find("conf.d", &ssh, home.path()).is_err(), "a directory is not a file");
    }
}
