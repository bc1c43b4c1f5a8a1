//! A list of paths as a tree of names, in one run of bytes: what crosses the wire is what is walked.
//! Pure; what came from a peer is checked once, as a whole, and makes sense afterwards.
//!
//! A name is a record: what is said of it, its length, how many bytes the records below it take,
//! and the name. Records below follow at once, names in byte order; the first record is the root.

use std::sync::Arc;

use super::path::{NAME_BYTES_MAX, Name, PATH_BYTES_MAX, RelPath};

/// The longest list.
pub const NAMES_BYTES_MAX: usize = 256 << 20;
/// How much of one travels in one message.
pub const NAMES_CHUNK_BYTES: usize = 128 * 1024;
/// The most paths in a list.
pub const NAMES_MAX: usize = 8 << 20;

const HEAD_BYTES: usize = 6;
/// The path itself is on the list, and not only on the way to others.
const LISTED: u8 = 1;
/// So is what is directly in it.
const CONTENT: u8 = 2;

/// A list.
#[derive(Clone, PartialEq, Eq)]
pub struct Names(Arc<Vec<u8>>);

/// A place in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At(u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadNames {
    #[error("the list of names is damaged")]
    Damaged,
    #[error("the list holds more than {NAMES_MAX} names, or more than {} MiB", NAMES_BYTES_MAX >> 20)]
    TooLong,
}

impl Names {
    pub fn decode(bytes: Vec<u8>) -> Result<Self, BadNames> {
        if bytes.len() > NAMES_BYTES_MAX {
            return Err(BadNames::TooLong);
        }
        check(&bytes).ok_or(BadNames::Damaged)?;
        Ok(Names(Arc::new(bytes)))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn root(&self) -> At {
        At(0)
    }

    pub fn is_listed(&self, at: At) -> bool {
        self.record(at).flags & LISTED != 0
    }

    /// Whether what is directly in the directory is on the list too.
    pub fn has_content(&self, at: At) -> bool {
        self.record(at).flags & CONTENT != 0
    }

    pub fn name(&self, at: At) -> &[u8] {
        self.record(at).name
    }

    /// The first of the names below, in byte order.
    pub fn first_below(&self, at: At) -> Option<At> {
        let record = self.record(at);
        (record.below > 0).then(|| At(at.0 + (HEAD_BYTES + record.name.len()) as u32))
    }

    /// The names directly below.
    pub fn below(&self, at: At) -> impl Iterator<Item = At> + use<'_> {
        let record = self.record(at);
        let mut next = at.0 + (HEAD_BYTES + record.name.len()) as u32;
        let end = next + record.below;
        std::iter::from_fn(move || {
            let at = (next < end).then_some(At(next))?;
            next = self.behind(at).0;
            Some(at)
        })
    }

    /// The place behind a record and all that is below it: the next one in the same directory, if
    /// the directory does not end there.
    pub fn behind(&self, at: At) -> At {
        let record = self.record(at);
        At(at.0 + (HEAD_BYTES + record.name.len()) as u32 + record.below)
    }

    /// Gives every listed path at or below `at`, which is at `path`, to `visit`.
    pub fn each_listed(&self, at: At, path: &RelPath, visit: &mut impl FnMut(RelPath)) {
        let mut todo = vec![(at, path.clone())];
        while let Some((at, path)) = todo.pop() {
            let below = self.below(at).filter_map(|at| {
                // What is in a list has no path that is too long.
                let name = Name::new(self.name(at)).ok()?;
                Some((at, path.join(&name).ok()?))
            });
            let from = todo.len();
            todo.extend(below);
            todo[from..].reverse();
            if self.is_listed(at) {
                visit(path);
            }
        }
    }

    fn record(&self, at: At) -> Record<'_> {
        // Places come from records that were checked.
        record(&self.0, at.0 as usize).unwrap_or(Record { flags: 0, below: 0, name: &[] })
    }
}

impl std::fmt::Debug for Names {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Names({} bytes)", self.0.len())
    }
}

struct Record<'a> {
    flags: u8,
    below: u32,
    name: &'a [u8],
}

fn record(bytes: &[u8], at: usize) -> Option<Record<'_>> {
    let [flags, length, below @ ..]: [u8; HEAD_BYTES] = *bytes.get(at..)?.first_chunk()?;
    let name = bytes.get(at + HEAD_BYTES..)?.get(..usize::from(length))?;
    Some(Record { flags, below: u32::from_le_bytes(below), name })
}

/// Whether all of `bytes` is one list.
fn check(bytes: &[u8]) -> Option<()> {
    let root = record(bytes, 0)?;
    let end = HEAD_BYTES.checked_add(root.below as usize)?;
    let sound = root.name.is_empty() && root.flags & !(LISTED | CONTENT) == 0;
    (sound && end == bytes.len()).then_some(())?;
    // The directories that the walk is in: where each ends, how long its path is, and the last
    // name in it.
    let mut open: Vec<(usize, usize, &[u8])> = vec![(end, 0, &[])];
    let mut at = HEAD_BYTES;
    while let Some((end, path_bytes, last)) = open.last_mut() {
        if at == *end {
            open.pop();
            continue;
        }
        let Record { flags, below, name } = record(bytes, at)?;
        let path_bytes = *path_bytes + usize::from(*path_bytes > 0) + name.len();
        Name::new(name).ok()?;
        at += HEAD_BYTES + name.len();
        let below_end = at.checked_add(below as usize)?;
        // Nothing is only on the way to nothing.
        let sound = flags & !(LISTED | CONTENT) == 0 && (flags != 0 || below > 0);
        if !sound || *last >= name || below_end > *end || path_bytes > PATH_BYTES_MAX {
            return None;
        }
        *last = name;
        open.push((below_end, path_bytes, &[]));
    }
    (at == bytes.len()).then_some(())
}

/// Collects paths for a list. In no order, and twice is as good as once.
#[derive(Debug, Default)]
pub struct NamesBuilder {
    bytes: Vec<u8>,
    /// Where in `bytes` each path begins, how long it is, and what is said of it.
    paths: Vec<(u32, u16, u8)>,
}

impl NamesBuilder {
    /// Adds a path; with `content` also what is directly in it.
    pub fn add(&mut self, path: &RelPath, content: bool) -> Result<(), BadNames> {
        let path = path.as_bytes();
        if self.paths.len() >= NAMES_MAX || self.bytes.len() + path.len() > NAMES_BYTES_MAX {
            return Err(BadNames::TooLong);
        }
        let flags = if content { LISTED | CONTENT } else { LISTED };
        // A path is at most `PATH_BYTES_MAX` long, and all of them `NAMES_BYTES_MAX`.
        self.paths.push((self.bytes.len() as u32, path.len() as u16, flags));
        self.bytes.extend_from_slice(path);
        Ok(())
    }

    pub fn finish(self) -> Result<Names, BadNames> {
        let NamesBuilder { bytes, mut paths } = self;
        let path = |(at, length, _): (u32, u16, u8)| &bytes[at as usize..][..usize::from(length)];
        let key = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
        paths.sort_unstable_by(|one, other| {
            path(*one).iter().map(key).cmp(path(*other).iter().map(key))
        });
        let mut list = Writing::default();
        for entry in paths {
            list.go_to(path(entry))?;
            list.say(entry.2);
        }
        Ok(Names(Arc::new(list.finish()?)))
    }
}

/// A list being written, in order.
struct Writing<'a> {
    list: Vec<u8>,
    /// The records that are not complete: the root, and one for each name of the path.
    open: Vec<(usize, &'a [u8])>,
}

impl Default for Writing<'_> {
    fn default() -> Self {
        Writing { list: vec![0; HEAD_BYTES], open: vec![(0, &[])] }
    }
}

impl<'a> Writing<'a> {
    /// Goes on to `path`, which comes after all before it.
    fn go_to(&mut self, path: &'a [u8]) -> Result<(), BadNames> {
        let mut parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).peekable();
        let mut kept = 1;
        while let Some((_, name)) = self.open.get(kept)
            && parts.next_if(|part| part == name).is_some()
        {
            kept += 1;
        }
        self.close(kept)?;
        for part in parts {
            let at = self.list.len();
            debug_assert!(part.len() <= NAME_BYTES_MAX, "it is a name");
            self.list.extend_from_slice(&[0, part.len() as u8, 0, 0, 0, 0]);
            self.list.extend_from_slice(part);
            self.open.push((at, part));
        }
        Ok(())
    }

    fn say(&mut self, flags: u8) {
        if let Some((at, _)) = self.open.last() {
            self.list[*at] |= flags;
        }
    }

    /// Ends all records but the first ones.
    fn close(&mut self, kept: usize) -> Result<(), BadNames> {
        while self.open.len() > kept
            && let Some((at, name)) = self.open.pop()
        {
            let below = self.list.len() - at - HEAD_BYTES - name.len();
            if self.list.len() > NAMES_BYTES_MAX {
                return Err(BadNames::TooLong);
            }
            self.list[at + 2..][..4].copy_from_slice(&(below as u32).to_le_bytes());
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<u8>, BadNames> {
        self.close(0)?;
        Ok(self.list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(paths: &[&str]) -> Names {
        let mut builder = NamesBuilder::default();
        for path in paths {
            let (path, content) = match path.strip_suffix('/') {
                Some(path) => (path, true),
                None => (*path, false),
            };
            builder.add(&RelPath::new(path.as_bytes()).unwrap(), content).unwrap();
        }
        builder.finish().unwrap()
    }

    fn listed(names: &Names) -> Vec<String> {
        let mut all = Vec::new();
        names.each_listed(names.root(), &RelPath::root(), &mut |path| all.push(path.to_string()));
        all
    }

    #[test]
    fn a_list_is_a_tree_in_byte_order() {
        let names = list(&["b", "a-b", "a/c", "a/b/x", "a/b/", "a/c"]);
        assert_eq!(listed(&names), ["a/b", "a/b/x", "a/c", "a-b", "b"]);
        let below: Vec<&[u8]> = names.below(names.root()).map(|at| names.name(at)).collect();
        assert_eq!(below, [&b"a"[..], b"a-b", b"b"]);
        let a = names.first_below(names.root()).unwrap();
        assert!(!names.is_listed(a));
        let b = names.first_below(a).unwrap();
        assert!(names.is_listed(b) && names.has_content(b));
        assert_eq!(listed(&list(&["/"])), ["."]);
        assert_eq!(listed(&list(&[])), [""; 0]);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let bytes = list(&["a/b/x", "c"]).as_bytes().to_vec();
        for cut in 0..bytes.len() {
            assert!(Names::decode(bytes[..cut].to_vec()).is_err(), "{cut}");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x80;
            // A name may be any other; all the rest must make sense.
            let name = damaged[at] & 0x7f >= b'a';
            assert!(name || Names::decode(damaged).is_err(), "{at}");
        }
        let mut up = list(&["aa/b"]).as_bytes().to_vec();
        up[12..14].copy_from_slice(b"..");
        assert_eq!(Names::decode(up), Err(BadNames::Damaged));
    }

    proptest! {
        /// The law: a list holds what was put into it, whatever crossed the wire.
        #[test]
        fn what_was_added_is_listed(paths in prop::collection::btree_set("[ab/-]{1,6}", 0..12)) {
            let good = |path: &String| RelPath::new(path.as_bytes()).ok();
            let mut paths: Vec<RelPath> = paths.iter().filter_map(good).collect();
            let mut builder = NamesBuilder::default();
            for path in &paths {
                builder.add(path, false).unwrap();
            }
            let names = builder.finish().unwrap();
            let names = Names::decode(names.as_bytes().to_vec()).unwrap();
            paths.sort_by_key(|path| path.parts().map(<[u8]>::to_vec).collect::<Vec<_>>());
            let mut found = Vec::new();
            names.each_listed(names.root(), &RelPath::root(), &mut |path| found.push(path));
            prop_assert_eq!(found, paths);
        }

        #[test]
        fn any_bytes_are_a_list_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(names) = Names::decode(bytes) {
                listed(&names);
            }
        }
    }
}
