//! The content of a shard in portions that fit into frames, and back.

use super::WireError;
use super::bounded::List;
use super::message::Content;
use super::tree::{Directory, DirectoryPart, Entry, Node, Problem};

/// About how long a portion may get.
const PORTION_BYTES: usize = 128 * 1024;
const PARTS_MAX: usize = 1024;
const ITEMS_MAX: usize = 2048;
/// Entries of one shard, at most; a directory with more cannot be mirrored.
const SHARD_ENTRIES_MAX: usize = 8 << 20;

/// The portions of shard `index`, in order.
pub fn split(index: u64, dirs: Vec<Directory>) -> Vec<Content> {
    let mut contents = Vec::new();
    let (mut parts, mut bytes) = (Vec::new(), 0);
    for part in dirs.into_iter().flat_map(parts_of) {
        let more = part_bytes(&part);
        if !parts.is_empty() && (bytes + more > PORTION_BYTES || parts.len() >= PARTS_MAX) {
            contents.push(Content { index, parts: List(std::mem::take(&mut parts)), last: false });
            bytes = 0;
        }
        bytes += more;
        parts.push(part);
    }
    contents.push(Content { index, parts: List(parts), last: true });
    contents
}

fn parts_of(directory: Directory) -> Vec<DirectoryPart> {
    let Directory { path, meta, entries, leftovers, problems } = directory;
    let mut parts = Vec::new();
    let mut push = |entries, leftovers, problems| {
        parts.push(DirectoryPart {
            path: path.clone(),
            meta,
            entries: List(entries),
            leftovers: List(leftovers),
            problems: List(problems),
            last: false,
        });
    };
    for entries in portions(entries, entry_bytes) {
        push(entries, Vec::new(), Vec::new());
    }
    for leftovers in portions(leftovers, |name| name.as_bytes().len() + 4) {
        push(Vec::new(), leftovers, Vec::new());
    }
    for problems in portions(problems, problem_bytes) {
        push(Vec::new(), Vec::new(), problems);
    }
    if parts.is_empty() {
        parts.push(DirectoryPart {
            path,
            meta,
            entries: List::default(),
            leftovers: List::default(),
            problems: List::default(),
            last: true,
        });
    } else if let Some(part) = parts.last_mut() {
        part.last = true;
    }
    parts
}

fn portions<T>(items: Vec<T>, size: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut portions: Vec<Vec<T>> = Vec::new();
    let mut bytes = 0;
    for item in items {
        bytes += size(&item);
        match portions.last_mut() {
            Some(last) if bytes <= PORTION_BYTES && last.len() < ITEMS_MAX => last.push(item),
            Some(_) | None => {
                bytes = size(&item);
                portions.push(vec![item]);
            }
        }
    }
    portions
}

fn entry_bytes(entry: &Entry) -> usize {
    let text = match &entry.node {
        Node::Link { text, .. } => text.0.len(),
        Node::HardLink { first, .. } => first.as_ref().map_or(0, |path| path.as_bytes().len()),
        Node::File { .. } | Node::Dir | Node::Special => 0,
    };
    entry.name.as_bytes().len() + text + 80
}

fn problem_bytes(problem: &Problem) -> usize {
    problem.path.as_bytes().len() + problem.failure.text.len() + 16
}

fn part_bytes(part: &DirectoryPart) -> usize {
    let entries: usize = part.entries.0.iter().map(entry_bytes).sum();
    let problems: usize = part.problems.0.iter().map(problem_bytes).sum();
    let leftovers: usize = part.leftovers.0.iter().map(|name| name.as_bytes().len() + 4).sum();
    part.path.as_bytes().len() + 64 + entries + problems + leftovers
}

/// Puts portions together again.
#[derive(Debug, Default)]
pub struct Assembler {
    index: Option<u64>,
    dirs: Vec<Directory>,
    entries: usize,
    /// The last directory still gets parts.
    open: bool,
}

impl Assembler {
    /// The whole shard, once its last portion is there.
    pub fn push(&mut self, content: Content) -> Result<Option<Vec<Directory>>, WireError> {
        if *self.index.get_or_insert(content.index) != content.index {
            return Err(WireError::OutOfTurn("a portion of another shard"));
        }
        for part in content.parts.0 {
            self.add(part)?;
        }
        if !content.last {
            return Ok(None);
        }
        if self.open {
            return Err(WireError::Truncated);
        }
        Ok(Some(std::mem::take(self).dirs))
    }

    fn add(&mut self, part: DirectoryPart) -> Result<(), WireError> {
        let DirectoryPart { path, meta, entries, leftovers, problems, last } = part;
        self.entries += 1 + entries.0.len() + leftovers.0.len() + problems.0.len();
        if self.entries > SHARD_ENTRIES_MAX {
            return Err(WireError::OutOfTurn("a shard without end"));
        }
        if !std::mem::replace(&mut self.open, !last) {
            self.dirs.push(Directory {
                path,
                meta,
                entries: entries.0,
                leftovers: leftovers.0,
                problems: problems.0,
            });
            return Ok(());
        }
        let Some(directory) = self.dirs.last_mut().filter(|directory| directory.path == path)
        else {
            return Err(WireError::OutOfTurn("a part of another directory"));
        };
        directory.entries.extend(entries.0);
        directory.leftovers.extend(leftovers.0);
        directory.problems.extend(problems.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::path::{Name, RelPath};
    use super::super::tree::{Failure, FailureKind, Meta};
    use super::*;

    fn directory(path: &str, entries: usize) -> Directory {
        let path = RelPath::new(path.as_bytes()).unwrap();
        let name = |number: usize| Name::new(format!("{number:08}").as_bytes()).unwrap();
        let failure = Failure::new(FailureKind::Denied, "no");
        Directory {
            problems: vec![Problem { path: path.clone(), failure }; entries % 3],
            path,
            meta: Some(Meta { mode: 0o755, ..Meta::default() }),
            entries: (0..entries).map(|n| Entry { name: name(n), node: Node::Dir }).collect(),
            leftovers: (0..entries % 5).map(name).collect(),
        }
    }

    #[test]
    fn what_was_split_is_put_together_and_every_portion_fits_into_a_frame() {
        let dirs =
            vec![directory("", 0), directory("a", 50_004), directory("b", 7), directory("c", 2)];
        let mut assembler = Assembler::default();
        let mut portions = split(3, dirs.clone());
        let last = portions.pop().unwrap();
        for portion in portions {
            assert!(postcard::to_stdvec(&portion).unwrap().len() < super::super::FRAME_BYTES_MAX);
            assert_eq!(assembler.push(portion).unwrap(), None);
        }
        assert_eq!(assembler.push(last).unwrap().unwrap(), dirs);
    }

    #[test]
    fn a_shard_that_ends_inside_a_directory_is_refused() {
        let mut contents = split(0, vec![directory("a", 5000)]);
        let mut first = contents.remove(0);
        first.last = true;
        first.parts.0[0].last = false;
        assert!(Assembler::default().push(first).is_err());
    }
}
