//! Files with several names. A scan tells of each name which one of the file comes first in the
//! walk; so two trees can be compared, although their inodes have other numbers. Names are linked
//! at the end of a pass, when what they are names of is there. Memory: that of the paths of files
//! with several names.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::batch::Hands;
use super::error::MediaError;
use super::manifest::format::Found;
use crate::wire::message::Op;
use crate::wire::path::RelPath;
use crate::wire::tree::{Failure, FailureKind, Meta, Node, Problem};

/// What a file is known by, and how many names it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inode {
    pub device: u64,
    pub number: u64,
    pub links: u32,
}

/// The first name of each file that has several, as far as a walk has come.
#[derive(Debug, Default)]
pub(crate) struct FirstNames(Mutex<HashMap<(u64, u64), First>>);

#[derive(Debug)]
struct First {
    path: RelPath,
    /// Names that were not met yet.
    missing: u32,
}

impl FirstNames {
    /// Tells of the entries of a directory, which are in order, which of them are names of files
    /// with several. Directories come in the order of the walk.
    pub fn see(&self, dir: &RelPath, found: &mut [Found]) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for Found { entry, inode, .. } in found {
            let Some(inode) = inode.filter(|inode| inode.links > 1) else { continue };
            let Node::File { size, meta, content } = entry.node else { continue };
            let Ok(path) = dir.join(&entry.name) else { continue };
            let key = (inode.device, inode.number);
            let first = known.entry(key).or_insert(First { path, missing: inode.links });
            first.missing = first.missing.saturating_sub(1);
            let path = first.path.clone();
            if first.missing == 0 {
                known.remove(&key);
            }
            entry.node = Node::HardLink { size, meta, content, first: Some(path) };
        }
    }
}

/// The longest list of names to link. What does not fit is left for the next pass.
const BYTES_MAX: usize = 64 << 20;
/// Links that are asked for at once.
const STEP: usize = 4096;

/// What is to be linked at the end of a pass.
#[derive(Debug, Default)]
pub(crate) struct HardLinks {
    bytes: Vec<u8>,
    left: u64,
}

#[derive(Serialize, Deserialize)]
enum Work {
    /// Lets the directory be worked in.
    Enter(RelPath, Meta),
    Link {
        path: RelPath,
        first: RelPath,
    },
}

impl HardLinks {
    pub fn enter(&mut self, path: RelPath, meta: Meta) {
        self.push(&Work::Enter(path, meta));
    }

    pub fn push_link(&mut self, path: RelPath, first: RelPath) {
        self.push(&Work::Link { path, first });
    }

    fn push(&mut self, work: &Work) {
        // Paths that came out of a scan can always be written down.
        let Ok(record) = postcard::to_stdvec(work) else { return };
        if self.bytes.len() + record.len() > BYTES_MAX {
            self.left += 1;
            return;
        }
        self.bytes.extend_from_slice(&record);
    }

    /// Makes the links.
    pub async fn make(self, hands: Hands<'_>) -> Result<(), MediaError> {
        let mut rest = &self.bytes[..];
        let mut ops = Vec::new();
        while let Ok((work, more)) = postcard::take_from_bytes(rest) {
            rest = more;
            ops.push(match work {
                Work::Enter(path, meta) => Op::MakeDir { path, meta },
                Work::Link { path, first } => Op::HardLink { path, first },
            });
            if ops.len() >= STEP {
                let sent = hands.send_ops(std::mem::take(&mut ops)).await?;
                hands.ops_done(sent).await?;
            }
        }
        let sent = hands.send_ops(ops).await?;
        hands.ops_done(sent).await?;
        if self.left > 0 {
            let text = format!("{} hard links are left for the next pass", self.left);
            let failure = Failure::new(FailureKind::Other, text);
            hands.board.problem(Problem { path: RelPath::root(), failure });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::path::Name;
    use crate::wire::tree::Entry;

    fn found(name: &str, number: u64, links: u32) -> Found {
        let name = Name::new(name.as_bytes()).unwrap();
        let node = Node::File { size: 1, meta: Meta::default(), content: None };
        let inode = Some(Inode { device: 1, number, links });
        Found { entry: Entry { name, node }, mark: None, inode }
    }

    #[test]
    fn each_name_tells_the_first_one_and_what_is_complete_is_forgotten() {
        let names = FirstNames::default();
        let mut firsts = Vec::new();
        for dir in ["", "d"] {
            let dir = RelPath::new(dir.as_bytes()).unwrap();
            let mut all = [found("a", 1, 4), found("b", 2, 1), found("c", 1, 4)];
            names.see(&dir, &mut all);
            firsts.extend(all.map(|found| match found.entry.node {
                Node::HardLink { first, .. } => first.map(|path| path.to_string()),
                _ => None,
            }));
        }
        let a = Some("a".to_owned());
        assert_eq!(firsts, [a.clone(), None, a.clone(), a.clone(), None, a]);
        assert!(names.0.lock().unwrap().is_empty());
    }
}
