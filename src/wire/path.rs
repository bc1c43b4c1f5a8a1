//! Names and relative paths, as bytes, checked where they are made: one that came from a peer
//! cannot lead out of the root.

use std::cmp::Ordering;
use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::bounded::BlobVisitor;

/// The longest name that Linux file systems take.
pub const NAME_BYTES_MAX: usize = 255;
/// The longest relative path; one more byte and the kernel refuses it anyway.
pub const PATH_BYTES_MAX: usize = 4095;

/// One path component: not empty, not `.` or `..`, without `/` and NUL.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

/// A path below the root, made of [`Name`]s, or the root itself. Its order is that of a walk that
/// visits the highest names first (where names are numbers or dates, the latest) and each
/// directory's content right after it.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct RelPath(Box<[u8]>);

/// Bytes that are no name or no relative path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a path below the root")]
pub struct BadPath;

impl Name {
    pub fn new(bytes: &[u8]) -> Result<Self, BadPath> {
        let good = !bytes.is_empty()
            && bytes.len() <= NAME_BYTES_MAX
            && bytes != b"."
            && bytes != b".."
            && !bytes.iter().any(|byte| matches!(byte, b'/' | 0));
        if good { Ok(Name(bytes.into())) } else { Err(BadPath) }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl RelPath {
    pub fn root() -> Self {
        RelPath::default()
    }

    /// The path with these bytes; no bytes are the root.
    pub fn new(bytes: &[u8]) -> Result<Self, BadPath> {
        if bytes.len() > PATH_BYTES_MAX {
            return Err(BadPath);
        }
        if !bytes.is_empty() {
            for part in bytes.split(|byte| *byte == b'/') {
                Name::new(part)?;
            }
        }
        Ok(RelPath(bytes.into()))
    }

    /// `name` in this directory, unless the path gets too long.
    pub fn join(&self, name: &Name) -> Result<Self, BadPath> {
        if self.is_root() {
            return Ok(RelPath(name.0.clone()));
        }
        let bytes = [&self.0, &b"/"[..], &name.0].concat();
        if bytes.len() > PATH_BYTES_MAX { Err(BadPath) } else { Ok(RelPath(bytes.into())) }
    }

    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The directory it is in and its name there; `None` for the root.
    pub fn split(&self) -> Option<(RelPath, Name)> {
        if self.is_root() {
            return None;
        }
        Some(match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (RelPath(self.0[..at].into()), Name(self.0[at + 1..].into())),
            None => (RelPath::root(), Name(self.0.clone())),
        })
    }

    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/').filter(|part| !part.is_empty())
    }

    /// How many names it is made of.
    pub fn depth(&self) -> usize {
        self.parts().count()
    }

    /// Whether it is `dir` or lies somewhere in it.
    pub fn is_within(&self, dir: &RelPath) -> bool {
        match self.0.strip_prefix(&*dir.0) {
            Some(rest) => dir.is_root() || rest.is_empty() || rest[0] == b'/',
            None => false,
        }
    }
}

impl Ord for RelPath {
    fn cmp(&self, other: &Self) -> Ordering {
        // The root has no separator in front of what is in it.
        if self.is_root() || other.is_root() {
            return other.is_root().cmp(&self.is_root());
        }
        let pairs = self.0.iter().zip(&other.0);
        let shared = pairs.take_while(|(one, other)| one == other).count();
        turn(self.0.get(shared)).cmp(&turn(other.0.get(shared)))
    }
}

/// Of two paths below the root that part with these bytes the one with the lower number comes first: a name that
/// goes on, the highest byte first; then the directory whose name ends here; then what is in it.
pub fn turn(byte: Option<&u8>) -> u16 {
    match byte {
        Some(b'/') => 257,
        Some(byte) => 255 - u16::from(*byte),
        None => 256,
    }
}

impl PartialOrd for RelPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// For people: control bytes and what is not UTF-8 are escaped, so that a name cannot forge a
/// line or drive the terminal.
fn show(bytes: &[u8], out: &mut fmt::Formatter<'_>) -> fmt::Result {
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            if letter.is_control() || letter == '\\' {
                write!(out, "{}", letter.escape_default())?;
            } else {
                write!(out, "{letter}")?;
            }
        }
        write!(out, "{}", chunk.invalid().escape_ascii())?;
    }
    Ok(())
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(&self.0, out)
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() { out.write_str(".") } else { show(&self.0, out) }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "`{self}`")
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "`{self}`")
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        output.serialize_bytes(&self.0)
    }
}

impl Serialize for RelPath {
    fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        output.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let bytes = input.deserialize_bytes(BlobVisitor::<NAME_BYTES_MAX>)?;
        Name::new(&bytes).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for RelPath {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let bytes = input.deserialize_bytes(BlobVisitor::<PATH_BYTES_MAX>)?;
        RelPath::new(&bytes).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_leads_out_of_the_root_is_no_path() {
        for bad in
            ["/etc/passwd", "..", "../x", "a/../b", "a/..", ".", "a/./b", "a//b", "a/", "a\0b"]
        {
            assert_eq!(RelPath::new(bad.as_bytes()), Err(BadPath), "{bad:?}");
        }
        for bad in ["", ".", "..", "a/b", "/", "a\0"] {
            assert_eq!(Name::new(bad.as_bytes()), Err(BadPath), "{bad:?}");
        }
        assert!(RelPath::new(&[b'a'; 256]).is_err());
        assert!(RelPath::new("ab/".repeat(1400).as_bytes()).is_err());
    }

    #[test]
    fn odd_names_are_fine_and_print_on_one_line() {
        let path = RelPath::new(b"...\n/\xff\x1b[0m/caf\xc3\xa9").unwrap();
        assert_eq!(path.to_string(), r"...\n/\xff\u{1b}[0m/café");
        assert_eq!(RelPath::root().to_string(), ".");
    }

    #[test]
    fn a_path_from_the_wire_is_checked_like_any_other() {
        let bytes = postcard::to_stdvec(&super::super::Blob::<99>(b"../etc".to_vec())).unwrap();
        assert!(postcard::from_bytes::<RelPath>(&bytes).is_err());
        assert!(postcard::from_bytes::<Name>(&bytes).is_err());
    }

    #[test]
    fn order_is_that_of_a_walk() {
        let mut paths: Vec<RelPath> = ["b", "a-b", "a/c", "", "a", "a/b/x", "a/b"]
            .map(|path| RelPath::new(path.as_bytes()).unwrap())
            .into();
        paths.sort();
        let paths: Vec<String> = paths.iter().map(RelPath::to_string).collect();
        assert_eq!(paths, [".", "b", "a-b", "a", "a/c", "a/b", "a/b/x"]);
    }

    proptest! {
        /// The law: a path is its directory joined with its name, and lies in it.
        #[test]
        fn joining_undoes_splitting(parts in prop::collection::vec("[^/\0]{1,9}", 1..5)) {
            let Ok(path) = RelPath::new(parts.join("/").as_bytes()) else { return Ok(()) };
            let (dir, name) = path.split().unwrap();
            prop_assert_eq!(dir.join(&name).unwrap(), path.clone());
            prop_assert!(path.is_within(&dir) && path.is_within(&path) && !dir.is_within(&path));
            prop_assert!(dir < path);
        }
    }
}
