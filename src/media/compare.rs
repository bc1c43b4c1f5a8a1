//! Compares a directory of the source with that of the target and says what is to be done. Pure:
//! two listings in, a plan out; nothing is looked at or touched.

pub(crate) mod hard_link;

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::change::{Action, Change, Differs, NodeKind};
use super::delta;
use super::temp;
use super::transfer::is_long;
use crate::wire::message::Op;
use crate::wire::path::{Name, RelPath};
use crate::wire::tree::{Digest, Directory, Entry, Failure, FailureKind, Meta, Node, Problem};

/// How to compare.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Times of symlinks exist on both sides.
    pub link_times: bool,
    /// Files can be patched on the target.
    pub delta: bool,
    /// New directories of the target get their owner and mode last.
    pub late_dirs: bool,
    /// Things that are only on the target go.
    pub delete: bool,
    /// Files are written into the old ones.
    pub in_place: bool,
    /// The target knows which parts of a large file a transfer that broke off has left there.
    pub keeps_parts: bool,
}

/// What is to be done about one directory, in this order.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Makes the directory, unless it is there, and lets it be worked in.
    pub make: Option<Op>,
    /// Makes room for directories; symlinks, modes and times of what is in it.
    pub ops: Vec<Op>,
    pub files: Vec<Transfer>,
    /// Names, and the first name of the file that each is one of. For the end of the pass.
    pub hard_links: Vec<(RelPath, RelPath)>,
    /// The same, of names that are as they should be if the first name of the file is.
    pub likely_links: Vec<(RelPath, RelPath)>,
    /// First names of files that other names on the target cannot be links to.
    pub new_firsts: Vec<RelPath>,
    /// The directory's own mode and time, for when all that is in it is there.
    pub last: Option<Op>,
    /// Something makes room for a directory: nothing later may be done before that.
    pub clears: bool,
    /// For the end of the pass, when what is in the way is gone.
    pub conflicts: Vec<Conflict>,
    pub deletions: Vec<Deletion>,
    pub changes: Vec<Change>,
    pub problems: Vec<Problem>,
}

/// A file to copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transfer {
    pub path: RelPath,
    pub size: u64,
    /// What may serve as the basis of a delta: the old file, or what a transfer that broke off
    /// left of this one.
    pub basis: Option<RelPath>,
    /// What such a transfer has left, to be gone on with in its place.
    pub kept: Option<RelPath>,
}

/// Something for whose name the target still has a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Conflict {
    File(Transfer),
    Link(Op),
}

impl Conflict {
    pub fn path(&self) -> &RelPath {
        match self {
            Conflict::File(file) => &file.path,
            Conflict::Link(op) => op.path(),
        }
    }
}

/// Something only the target has, in the order of the walk. Done backwards, a directory's content
/// goes before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Deletion {
    File(RelPath),
    Dir(RelPath),
    /// Our own temporary file of an earlier run; goes in any case.
    Leftover(RelPath, Name),
    /// Not a deletion: gives a directory back the time it has on the source.
    Restore(RelPath, Meta),
}

/// A directory that both sides have.
pub(crate) fn both(source: &Directory, target: &Directory, rules: &Rules) -> Plan {
    let mut plan = Plan::default();
    plan.problems.extend(source.problems.iter().chain(&target.problems).cloned());
    let Some(wanted) = source.meta else { return plan };
    // What could not be read may be there after all.
    let delete = rules.delete && source.problems.is_empty();
    let (mut removes, mut new_dirs) = (!target.leftovers.is_empty(), false);
    for pair in merge(&source.entries, &target.entries) {
        let name = pair.0.or(pair.1).map(|entry| &entry.name);
        let Some(Ok(path)) = name.map(|name| source.path.join(name)) else { continue };
        match pair {
            (Some(one), other) => {
                let other = other.map(|entry| &entry.node);
                new_dirs |= one.node == Node::Dir && other != Some(&Node::Dir);
                entry(&mut plan, path, &one.node, other, rules);
                resume(&mut plan, one, target, rules);
            }
            (None, Some(Entry { node: Node::Dir, .. })) => removes |= delete,
            (
                None,
                Some(Entry {
                    node:
                        Node::File { .. } | Node::HardLink { .. } | Node::Link { .. } | Node::Special,
                    ..
                }),
            ) => {
                if delete {
                    removes = true;
                    plan.deletions.push(Deletion::File(path));
                }
            }
            (None, None) => {}
        }
    }
    leftovers(&mut plan, target);
    let touched = new_dirs || !plan.files.is_empty() || !plan.ops.is_empty();
    let differs = match target.meta {
        Some(present) => meta_differs(wanted, present),
        None => Differs { mode: true, ..Differs::default() },
    };
    let usable = target.meta.is_some_and(is_usable);
    if touched && !usable {
        plan.make = Some(Op::MakeDir { path: source.path.clone(), meta: wanted });
    }
    if touched || differs.any() {
        plan.last = Some(Op::SetDir { path: source.path.clone(), meta: wanted });
    }
    if differs.any() {
        plan.changes.push(change(&source.path, NodeKind::Dir, Action::Adjust(differs), None));
    }
    if removes || !plan.conflicts.is_empty() || !plan.hard_links.is_empty() {
        // In front of what is removed in it, because removals are done backwards.
        plan.deletions.insert(0, Deletion::Restore(source.path.clone(), wanted));
    }
    plan
}

/// A directory that only the source has; its parent's plan has made room for it.
pub(crate) fn source_only(source: &Directory, rules: &Rules) -> Plan {
    let mut plan = Plan { problems: source.problems.clone(), ..Plan::default() };
    let Directory { path, meta, .. } = source;
    // One that cannot be opened has no place yet: the next pass may see what it is.
    let Some(meta) = *meta else { return plan };
    plan.make = Some(Op::MakeDir { path: path.clone(), meta });
    for one in &source.entries {
        if let Ok(path) = source.path.join(&one.name) {
            entry(&mut plan, path, &one.node, None, rules);
        }
    }
    plan.last = Some(if is_usable(meta) && !rules.late_dirs {
        Op::SetDirTime { path: path.clone(), mtime: meta.mtime }
    } else {
        Op::SetDir { path: path.clone(), meta }
    });
    if !plan.hard_links.is_empty() {
        plan.deletions.push(Deletion::Restore(path.clone(), meta));
    }
    plan
}

/// Whether its owner can do everything in a directory.
pub(crate) fn is_usable(meta: Meta) -> bool {
    meta.mode & 0o700 == 0o700
}

/// A directory that only the target has.
pub(crate) fn target_only(target: &Directory, delete: bool) -> Plan {
    let mut plan = Plan { problems: target.problems.clone(), ..Plan::default() };
    if delete {
        plan.deletions.push(Deletion::Dir(target.path.clone()));
        for entry in target.entries.iter().filter(|entry| entry.node != Node::Dir) {
            if let Ok(path) = target.path.join(&entry.name) {
                plan.deletions.push(Deletion::File(path));
            }
        }
    }
    leftovers(&mut plan, target);
    plan
}

/// Looks whether an earlier run has left a part of the file that was just planned.
fn resume(plan: &mut Plan, source: &Entry, target: &Directory, rules: &Rules) {
    let Entry { name, node } = source;
    let (Node::File { size, meta, .. } | Node::HardLink { size, meta, .. }) = node else { return };
    let goes_on = rules.keeps_parts && is_long(*size);
    if target.leftovers.is_empty() || rules.in_place || !(rules.delta || goes_on) {
        return;
    }
    let Some(file) = plan.files.last_mut() else { return };
    let Some((dir, planned)) = file.path.split() else { return };
    if planned != *name || file.basis.is_some() && !goes_on {
        return;
    }
    let names = temp::partial_names(name, *size, meta.mtime);
    let part = names.into_iter().flatten().find(|name| target.leftovers.contains(name));
    let part = part.and_then(|part| dir.join(&part).ok());
    if goes_on {
        file.kept = part;
    } else {
        file.basis = part;
    }
}

fn leftovers(plan: &mut Plan, target: &Directory) {
    // What is about to be used is removed by the transfer that uses it.
    let used = |file| {
        let Transfer { basis, kept, .. }: &Transfer = file;
        basis.iter().chain(kept)
    };
    let used: Vec<&RelPath> = plan.files.iter().flat_map(used).collect();
    let unused = |name: &&Name| target.path.join(name).is_ok_and(|path| !used.contains(&&path));
    let names: Vec<Name> = target.leftovers.iter().filter(unused).cloned().collect();
    let leftover = |name| Deletion::Leftover(target.path.clone(), name);
    plan.deletions.extend(names.into_iter().map(leftover));
}

/// Pairs entries of the same name; both lists are in order.
fn merge<'a>(
    source: &'a [Entry],
    target: &'a [Entry],
) -> impl Iterator<Item = (Option<&'a Entry>, Option<&'a Entry>)> {
    let (mut source, mut target) = (source.iter().peekable(), target.iter().peekable());
    std::iter::from_fn(move || {
        let order = match (source.peek(), target.peek()) {
            (Some(one), Some(other)) => one.name.cmp(&other.name),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return None,
        };
        Some(match order {
            Ordering::Less => (source.next(), None),
            Ordering::Greater => (None, target.next()),
            Ordering::Equal => (source.next(), target.next()),
        })
    })
}

fn entry(plan: &mut Plan, path: RelPath, source: &Node, target: Option<&Node>, rules: &Rules) {
    match source {
        Node::File { size, meta, content } => {
            file(plan, path, source, (*size, *meta, *content), target, rules);
        }
        Node::HardLink { first: Some(first), .. } if *first != path => {
            hard_link::link(plan, path, first, source, target);
        }
        Node::HardLink { size, meta, content, .. } => {
            let (planned, first) = (plan.files.len(), path.clone());
            file(plan, path, source, (*size, *meta, *content), target, rules);
            let is_linked = matches!(target, Some(Node::HardLink { .. }));
            if !is_linked || plan.files.len() > planned {
                plan.new_firsts.push(first);
            }
        }
        Node::Link { meta, text } => {
            let op = Op::Link { path: path.clone(), meta: *meta, text: text.clone() };
            link(plan, path, op, source, target, rules);
        }
        Node::Dir => dir(plan, path, target),
        Node::Special => {
            let failure = Failure::new(FailureKind::Other, "neither file nor symlink: skipped");
            plan.problems.push(Problem { path, failure });
        }
    }
}

fn file(
    plan: &mut Plan,
    path: RelPath,
    source: &Node,
    (size, meta, content): (u64, Meta, Option<Digest>),
    target: Option<&Node>,
    rules: &Rules,
) {
    let new = Transfer { path: path.clone(), size, basis: None, kept: None };
    match target {
        Some(
            old @ (Node::File { size: old_size, meta: old_meta, content: old_content }
            | Node::HardLink { size: old_size, meta: old_meta, content: old_content, .. }),
        ) => {
            let mut differs = meta_differs(meta, *old_meta);
            differs.size = size != *old_size;
            let transfer = match (content, old_content) {
                (Some(new), Some(old)) => {
                    differs.content = new != *old;
                    differs.content
                }
                (Some(_) | None, _) => differs.size || differs.time,
            };
            let broken = hard_link::is_to_be_broken(&path, source, old);
            if broken {
                differs = hard_link::broken(differs);
                if rules.in_place {
                    // Written into, it would stay one file with the others.
                    plan.ops.push(Op::Remove { path: path.clone() });
                }
            }
            if transfer || broken {
                let delta = rules.delta
                    && !(broken && rules.in_place)
                    && size >= delta::FILE_BYTES_MIN
                    && *old_size >= delta::FILE_BYTES_MIN;
                plan.changes.push(change(&path, NodeKind::File, Action::Update(differs), None));
                let basis = delta.then_some(path);
                plan.files.push(Transfer { basis, ..new });
            } else if differs.any() {
                plan.changes.push(change(&path, NodeKind::File, Action::Adjust(differs), None));
                plan.ops.push(Op::SetFile { path, meta });
            }
        }
        Some(Node::Dir) => {
            plan.changes.push(change(&path, NodeKind::File, Action::Create, None));
            plan.conflicts.push(Conflict::File(new));
        }
        Some(Node::Link { .. } | Node::Special) | None => {
            plan.changes.push(change(&path, NodeKind::File, Action::Create, None));
            plan.files.push(new);
        }
    }
}

fn link(
    plan: &mut Plan,
    path: RelPath,
    op: Op,
    source: &Node,
    target: Option<&Node>,
    rules: &Rules,
) {
    let Node::Link { meta, text } = source else { return };
    let change = |action| change(&path, NodeKind::Link, action, Some(text.0.clone()));
    match target {
        Some(Node::Link { meta: old_meta, text: old_text }) => {
            let mut differs = meta_differs(*meta, *old_meta);
            differs.mode = false;
            differs.time &= rules.link_times;
            differs.content = text != old_text;
            if differs.content {
                plan.changes.push(change(Action::Update(differs)));
                plan.ops.push(op);
            } else if differs.any() {
                plan.changes.push(change(Action::Adjust(differs)));
                plan.ops.push(Op::SetLink { path, meta: *meta });
            }
        }
        Some(Node::Dir) => {
            plan.changes.push(change(Action::Create));
            plan.conflicts.push(Conflict::Link(op));
        }
        Some(Node::File { .. } | Node::HardLink { .. } | Node::Special) | None => {
            plan.changes.push(change(Action::Create));
            plan.ops.push(op);
        }
    }
}

fn dir(plan: &mut Plan, path: RelPath, target: Option<&Node>) {
    match target {
        Some(Node::Dir) => return,
        Some(Node::File { .. } | Node::HardLink { .. } | Node::Link { .. } | Node::Special) => {
            plan.ops.push(Op::Remove { path: path.clone() });
            plan.clears = true;
        }
        None => {}
    }
    plan.changes.push(change(&path, NodeKind::Dir, Action::Create, None));
}

fn change(path: &RelPath, node: NodeKind, action: Action, link_text: Option<Vec<u8>>) -> Change {
    Change { path: path.clone(), node, action, link_text }
}

fn meta_differs(wanted: Meta, present: Meta) -> Differs {
    Differs {
        content: false,
        size: false,
        time: wanted.mtime != present.mtime,
        mode: wanted.mode != present.mode,
        owner: wanted.uid != present.uid,
        group: wanted.gid != present.gid,
    }
}

#[cfg(test)]
mod tests;
