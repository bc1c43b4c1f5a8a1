//! The order of the layers and the other walls of the architecture, read from the sources: what a
//! reviewer would otherwise have to look for in every change.

use std::fs;
use std::path::{Path, PathBuf};

/// Lowest first. Modules of one layer must not import each other, apart from the vocabulary.
const LAYERS: [&[&str]; 7] = [
    &["error", "event", "secret", "units", "config", "journal"],
    &["wire"],
    &["host"],
    &["media", "database", "instance"],
    &["migration"],
    &["render"],
    &["cli"],
];

const LINES_MAX: usize = 600;

#[test]
fn each_layer_imports_only_lower_ones() {
    let mut wrong = Vec::new();
    for source in sources() {
        let Some(own) = source.module.first() else { continue };
        let Some(rank) = rank(own) else {
            wrong.push(format!("{}: `{own}` is in no layer: see tests/all/layers.rs", source.name));
            continue;
        };
        for (line, used) in source.uses() {
            let allowed = match self::rank(&used) {
                Some(other) => used == *own || other < rank || (other == 0 && rank == 0),
                None => true,
            };
            if !allowed {
                wrong.push(format!("{}:{line}: `{own}` imports `{used}`", source.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_command_line_reads_arguments_and_environment_prints_and_exits() {
    let words = [
        "std::env::args",
        "env::args_os",
        "std::env::var",
        "env::var(",
        "env::var_os",
        "process::exit",
        "println!",
        "eprintln!",
        "print!(",
        "eprint!(",
        "io::stdin(",
        "dbg!(",
    ];
    let allowed = |module: &[String]| match module.join("::").as_str() {
        // Whose keys and agent SSH uses is a property of the process, as in OpenSSH.
        "" | "host::ssh::surroundings" => true,
        name => name == "cli" || name.starts_with("cli::"),
    };
    let wrong = lines_with(&words, allowed);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_host_layer_starts_programs() {
    let words = ["process::Command::new", "std::process::Command", "tokio::process"];
    let wrong = lines_with(&words, |module| module.first().is_some_and(|first| first == "host"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_panics_without_a_reason_beside_it() {
    let mut wrong = Vec::new();
    for source in sources() {
        let lines: Vec<&str> = source.code.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let code = without_comment(line);
            let panics = code.contains(".unwrap()") || code.contains(".expect(");
            // A comment on the line, or above the statement it belongs to.
            let mut above = lines[..index].iter().rev().map(|line| line.trim());
            let reason = line.contains("//")
                || above
                    .by_ref()
                    .find(|line| line.starts_with("//") || line.ends_with([';', '{', '}']))
                    .is_some_and(|line| line.starts_with("//"));
            if panics && !reason {
                wrong.push(format!("{}:{}: {}", source.name, index + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_are_short_and_modules_have_names() {
    let mut wrong = Vec::new();
    for path in files_below(&root().join("src")) {
        let lines = fs::read_to_string(&path).expect("a source").lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{}: {lines} lines", path.display()));
        }
        if path.ends_with("mod.rs") {
            wrong.push(format!("{}: name it after the module", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A source file without its tests.
struct Source {
    /// Relative to the package.
    name: String,
    /// `host`, `ssh`, `auth` for `src/host/ssh/auth.rs`; empty for `lib.rs` and `main.rs`.
    module: Vec<String>,
    code: String,
}

impl Source {
    /// The top-level modules that the code names, with the lines.
    fn uses(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for (index, line) in self.code.lines().enumerate() {
            let line = without_comment(line);
            for (at, _) in line.match_indices("crate::") {
                let names = heads(&line[at + "crate::".len()..]);
                found.extend(names.into_iter().map(|name| (index + 1, name)));
            }
            // As many `super` as the module is deep lead to the root.
            let up = "super::".repeat(self.module.len());
            for (at, _) in line.match_indices(&up) {
                let inner = line[..at].ends_with("super::");
                if !inner {
                    found.extend(
                        heads(&line[at + up.len()..]).into_iter().map(|name| (index + 1, name)),
                    );
                }
            }
        }
        found
    }
}

/// The first names of `a::b::{…}` or of `{a::b, c}`.
fn heads(path: &str) -> Vec<String> {
    let name = |text: &str| {
        let text = text.trim();
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        text[..end].to_owned()
    };
    match path.strip_prefix('{') {
        Some(list) => {
            let mut depth = 0;
            let top = |c: char| {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                c == ',' && depth == 0
            };
            list.split(top).map(name).filter(|name| !name.is_empty()).collect()
        }
        None => vec![name(path)],
    }
}

fn rank(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The lines of code that hold one of `words`, outside the modules that are `allowed`.
fn lines_with(words: &[&str], allowed: impl Fn(&[String]) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources().into_iter().filter(|source| !allowed(&source.module)) {
        for (index, line) in source.code.lines().enumerate() {
            let code = without_comment(line);
            if words.iter().any(|word| code.contains(word)) {
                found.push(format!("{}:{}: {}", source.name, index + 1, line.trim()));
            }
        }
    }
    found
}

fn without_comment(line: &str) -> &str {
    if line.trim_start().starts_with("//") { "" } else { line.split(" // ").next().unwrap_or(line) }
}

fn sources() -> Vec<Source> {
    let src = root().join("src");
    let tests = |path: &PathBuf| path.with_extension("").iter().any(|part| part == "tests");
    let files = files_below(&src).into_iter().filter(|path| !tests(path));
    files
        .map(|path| {
            let relative = path.strip_prefix(&src).expect("below src").with_extension("");
            let parts = relative.iter().map(|part| part.to_string_lossy().into_owned());
            let module = parts.filter(|part| part != "lib" && part != "main").collect();
            let text = fs::read_to_string(&path).expect("a source");
            let name = format!("src/{}.rs", relative.display());
            Source { name, module, code: without_tests(&text) }
        })
        .collect()
}

/// Blanks each item under `#[cfg(test)]`; the line numbers stay.
fn without_tests(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if !line.trim_start().starts_with("#[cfg(test)]") {
            kept.push_str(line);
            kept.push('\n');
            continue;
        }
        kept.push('\n');
        // The item is one line, or ends at a brace of the same indentation.
        let indent = &line[..line.len() - line.trim_start().len()];
        let end = format!("{indent}}}");
        for line in lines.by_ref() {
            kept.push('\n');
            if line == end || (line.starts_with("mod ") && line.ends_with(';')) {
                break;
            }
        }
    }
    kept
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).expect("list sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The package; another one for trying this test on it.
fn root() -> PathBuf {
    let other = std::env::var_os("TRANSHUME_LAYERS_OF").map(PathBuf::from);
    other.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")))
}
