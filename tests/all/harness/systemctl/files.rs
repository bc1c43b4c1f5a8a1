//! What enable, disable, mask and unmask do to files.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::Refusal;
use super::unit::{Dirs, Load, Unit, file_name, is_mask, is_template, template_of};

pub fn enable(dirs: &Dirs, units: &[String]) -> Result<(), Refusal> {
    for name in units {
        let unit = Unit::read(dirs, name);
        match unit.load {
            Load::Loaded => link(dirs, &unit)?,
            Load::NotFound => {
                let text = format!("Failed to enable unit: Unit file {name} does not exist.");
                return Err(Refusal::new(1, text));
            }
            Load::Masked => {
                let path = unit.fragment.unwrap_or_default();
                let text =
                    format!("Failed to enable unit: Unit file {} is masked.", path.display());
                return Err(Refusal::new(1, text));
            }
        }
    }
    Ok(())
}

fn link(dirs: &Dirs, unit: &Unit) -> Result<(), Refusal> {
    let fragment = unit.fragment.clone().unwrap_or_default();
    if is_template(&unit.name) && unit.get("Install", "DefaultInstance").is_none() {
        let text = format!("Failed to enable unit: {} needs an instance name.", unit.name);
        return Err(Refusal::new(1, text));
    }
    for (key, kind) in [("WantedBy", "wants"), ("RequiredBy", "requires")] {
        for target in unit.names("Install", key) {
            let dir = dirs.etc.join(format!("{target}.{kind}"));
            fs::create_dir_all(&dir)?;
            create(&dir.join(&unit.name), &fragment)?;
        }
    }
    for alias in unit.names("Install", "Alias") {
        create(&dirs.etc.join(alias), &fragment)?;
    }
    enable(dirs, &unit.names("Install", "Also"))
}

fn create(path: &Path, target: &Path) -> Result<(), Refusal> {
    if fs::read_link(path).is_ok_and(|current| current == target) {
        return Ok(());
    }
    symlink(target, path)?;
    eprintln!("Created symlink {} → {}.", path.display(), target.display());
    Ok(())
}

pub fn disable(dirs: &Dirs, units: &[String]) -> Result<(), Refusal> {
    for name in units {
        let unit = Unit::read(dirs, name);
        match unit.load {
            Load::Loaded => {}
            Load::Masked => {
                eprintln!("Unit {name} is masked, ignoring.");
                continue;
            }
            Load::NotFound => {
                let text = format!("Failed to disable unit: Unit file {name} does not exist.");
                return Err(Refusal::new(1, text));
            }
        }
        for link in links(dirs, name) {
            fs::remove_file(&link)?;
            eprintln!("Removed \"{}\".", link.display());
            // The real one removes the directory too when this was its last link.
            if let Some(dir) = link.parent().filter(|dir| *dir != dirs.etc) {
                let _ = fs::remove_dir(dir);
            }
        }
        disable(dirs, &unit.names("Install", "Also"))?;
    }
    Ok(())
}

/// The links below `etc` that enable `name`: in `*.wants/` and the like by their name, beside the
/// unit files by what they point to.
fn links(dirs: &Dirs, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in entries(&dirs.etc) {
        let entry_name = file_name(&entry);
        if [".wants", ".requires", ".upholds"].iter().any(|kind| entry_name.ends_with(kind)) {
            let inside = entries(&entry).into_iter().filter(|link| {
                let link = file_name(link);
                link == name || template_of(&link).as_deref() == Some(name)
            });
            found.extend(inside);
        } else if entry_name != name
            && fs::read_link(&entry).is_ok_and(|target| file_name(&target) == name)
        {
            found.push(entry);
        }
    }
    found
}

pub fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

pub fn mask(dirs: &Dirs, units: &[String], runtime: bool) -> Result<(), Refusal> {
    let dir = if runtime { &dirs.run } else { &dirs.etc };
    fs::create_dir_all(dir)?;
    for name in units {
        let path = dir.join(name);
        if path.symlink_metadata().is_ok() && !is_mask(&path) {
            let text = format!("Failed to mask unit: File '{}' already exists.", path.display());
            return Err(Refusal::new(1, text));
        }
        create(&path, Path::new("/dev/null"))?;
    }
    Ok(())
}

pub fn unmask(dirs: &Dirs, units: &[String], runtime: bool) -> Result<(), Refusal> {
    let dir = if runtime { &dirs.run } else { &dirs.etc };
    for name in units {
        let path = dir.join(name);
        if fs::read_link(&path).is_ok_and(|target| target == Path::new("/dev/null")) {
            fs::remove_file(&path)?;
            eprintln!("Removed \"{}\".", path.display());
        }
    }
    Ok(())
}

/// The unit file's state as `is-enabled` prints it; `None` where there is no such unit.
pub fn state(dirs: &Dirs, name: &str) -> Option<&'static str> {
    let unit = Unit::read(dirs, name);
    let fragment = match unit.load {
        Load::NotFound => return None,
        Load::Masked => {
            let runtime = unit.fragment.is_some_and(|path| path.starts_with(&dirs.run));
            return Some(if runtime { "masked-runtime" } else { "masked" });
        }
        Load::Loaded => unit.fragment.clone().unwrap_or_default(),
    };
    if dirs.canonical(name) != name {
        return Some("alias");
    }
    // Only an instance makes a template's links count as its own.
    let own = |link: &PathBuf| !is_template(name) || file_name(link) == name;
    let in_etc = links(dirs, name).iter().any(own);
    let keys = ["WantedBy", "RequiredBy", "Alias", "Also", "UpheldBy"];
    let installable = |key: &&str| !unit.names("Install", key).is_empty();
    Some(if in_etc {
        "enabled"
    } else if fs::read_link(&fragment).is_ok() {
        "linked"
    } else if is_template(name) && !links(dirs, name).is_empty() {
        "indirect"
    } else if keys.iter().any(installable) {
        "disabled"
    } else {
        "static"
    })
}
