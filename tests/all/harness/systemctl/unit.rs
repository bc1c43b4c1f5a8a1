//! Unit names, and unit files as they take effect: the fragment with its drop-ins.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The directories that hold unit files, the strongest first.
pub struct Dirs {
    pub etc: PathBuf,
    pub run: PathBuf,
    pub lib: PathBuf,
}

impl Dirs {
    pub fn new(root: &Path) -> Self {
        Dirs {
            etc: root.join("etc/systemd/system"),
            run: root.join("run/systemd/system"),
            lib: root.join("usr/lib/systemd/system"),
        }
    }

    pub fn all(&self) -> [&PathBuf; 3] {
        [&self.etc, &self.run, &self.lib]
    }

    /// The file or link that defines `name`, of its own or through its template.
    pub fn find(&self, name: &str) -> Option<PathBuf> {
        let names = [Some(name.to_owned()), template_of(name)];
        names.into_iter().flatten().find_map(|name| {
            let paths = self.all().map(|dir| dir.join(&name));
            paths.into_iter().find(|path| path.symlink_metadata().is_ok())
        })
    }

    /// The name that `name` is an alias of, or `name`.
    pub fn canonical(&self, name: &str) -> String {
        let Some(path) = self.find(name) else { return name.to_owned() };
        let Ok(target) = fs::read_link(&path) else { return name.to_owned() };
        let target = file_name(&target);
        let known = self.all().iter().any(|dir| dir.join(&target).is_file());
        if known && target != name && Some(&target) != template_of(name).as_ref() {
            self.canonical(&target)
        } else {
            name.to_owned()
        }
    }

    /// The links in `NAME.wants/` or the like that belong to `name`.
    pub fn linked(&self, name: &str, kind: &str) -> Vec<String> {
        let dirs = self.all().map(|dir| dir.join(format!("{name}.{kind}")));
        let entries = dirs.iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn drop_ins(&self, name: &str) -> Vec<PathBuf> {
        let mut by_name = BTreeMap::new();
        for unit in [template_of(name), Some(name.to_owned())].into_iter().flatten() {
            for dir in self.all().into_iter().rev() {
                let entries = fs::read_dir(dir.join(format!("{unit}.d"))).ok();
                for entry in entries.into_iter().flatten().flatten() {
                    let path = entry.path();
                    if path.extension().is_some_and(|extension| extension == "conf") {
                        by_name.insert(entry.file_name(), path);
                    }
                }
            }
        }
        by_name.into_values().collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Load {
    Loaded,
    NotFound,
    Masked,
}

/// A unit as it takes effect.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Unit {
    pub name: String,
    pub load: Load,
    pub fragment: Option<PathBuf>,
    pub drop_ins: Vec<PathBuf>,
    /// Section, key and value, in file order.
    lines: Vec<(String, String, String)>,
}

impl Unit {
    /// Reads `name` from the unit files.
    pub fn read(dirs: &Dirs, name: &str) -> Unit {
        let mut unit = Unit {
            name: name.to_owned(),
            load: Load::NotFound,
            fragment: dirs.find(name),
            drop_ins: Vec::new(),
            lines: Vec::new(),
        };
        let Some(path) = unit.fragment.clone() else { return unit };
        if is_mask(&path) {
            unit.load = Load::Masked;
            return unit;
        }
        let Some(text) = read_in_root(dirs, &path) else { return unit };
        unit.load = Load::Loaded;
        unit.lines = parse(&text);
        unit.drop_ins = dirs.drop_ins(name);
        for path in &unit.drop_ins {
            unit.lines.extend(parse(&fs::read_to_string(path).unwrap_or_default()));
        }
        unit
    }

    /// The last value of a key, specifiers expanded.
    pub fn get(&self, section: &str, key: &str) -> Option<String> {
        self.values(section, key).pop()
    }

    /// Every value of a key; an empty assignment forgets the earlier ones.
    pub fn values(&self, section: &str, key: &str) -> Vec<String> {
        let mut values = Vec::new();
        for (in_section, name, value) in &self.lines {
            if in_section == section && name == key {
                if value.is_empty() {
                    values.clear();
                } else {
                    values.push(self.expand(value));
                }
            }
        }
        values
    }

    /// The words of a list of unit names.
    pub fn names(&self, section: &str, key: &str) -> Vec<String> {
        let values = self.values(section, key);
        values.iter().flat_map(|value| value.split_whitespace()).map(str::to_owned).collect()
    }

    fn expand(&self, value: &str) -> String {
        let stem = self.name.rsplit_once('.').map_or(self.name.as_str(), |(stem, _)| stem);
        let (prefix, instance) = stem.split_once('@').unwrap_or((stem, ""));
        let mut text = String::new();
        let mut chars = value.chars();
        while let Some(char) = chars.next() {
            if char != '%' {
                text.push(char);
                continue;
            }
            match chars.next() {
                Some('i' | 'I') => text.push_str(instance),
                Some('n') => text.push_str(&self.name),
                Some('N') => text.push_str(stem),
                Some('p' | 'P') => text.push_str(prefix),
                Some('%') => text.push('%'),
                Some(other) => text.extend(['%', other]),
                None => text.push('%'),
            }
        }
        text
    }
}

/// Whether the file at `path` masks its unit: a link to /dev/null, or an empty file.
pub fn is_mask(path: &Path) -> bool {
    match fs::read_link(path) {
        Ok(target) => target == Path::new("/dev/null"),
        Err(_) => fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == 0),
    }
}

/// A unit file's text; a link that leads nowhere is tried by its name in the unit directories.
fn read_in_root(dirs: &Dirs, path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().or_else(|| {
        let target = file_name(&fs::read_link(path).ok()?);
        dirs.all().into_iter().find_map(|dir| fs::read_to_string(dir.join(&target)).ok())
    })
}

fn parse(text: &str) -> Vec<(String, String, String)> {
    let mut lines = Vec::new();
    let mut section = String::new();
    let joined = text.replace("\\\n", " ");
    for line in joined.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else if let Some((key, value)) = line.split_once('=') {
            lines.push((section.clone(), key.trim().to_owned(), value.trim().to_owned()));
        }
    }
    lines
}

/// `web` as systemctl takes it: `web.service`. Patterns and typed names stay as they are.
pub fn mangle(name: &str) -> String {
    const TYPES: [&str; 11] = [
        "service",
        "socket",
        "target",
        "timer",
        "path",
        "mount",
        "automount",
        "swap",
        "slice",
        "scope",
        "device",
    ];
    let typed = name.rsplit_once('.').is_some_and(|(_, kind)| TYPES.contains(&kind));
    if typed || name.contains(['*', '?', '[']) {
        name.to_owned()
    } else {
        format!("{name}.service")
    }
}

/// The template of an instance; `None` for anything else.
pub fn template_of(name: &str) -> Option<String> {
    let (stem, kind) = name.rsplit_once('.')?;
    let (prefix, instance) = stem.split_once('@')?;
    (!instance.is_empty()).then(|| format!("{prefix}@.{kind}"))
}

pub fn is_template(name: &str) -> bool {
    name.contains("@.")
}

/// Whether `name` matches a shell pattern of `*` and `?`.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    fn rest(pattern: &[char], name: &[char]) -> bool {
        match (pattern.first(), name.first()) {
            (None, None) => true,
            (Some('*'), _) => {
                rest(&pattern[1..], name) || (!name.is_empty() && rest(pattern, &name[1..]))
            }
            (Some('?'), Some(_)) => rest(&pattern[1..], &name[1..]),
            (Some(left), Some(right)) => left == right && rest(&pattern[1..], &name[1..]),
            (None, Some(_)) | (Some(_), None) => false,
        }
    }
    rest(&pattern, &name)
}

pub fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
