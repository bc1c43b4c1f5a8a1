//! Files with several names compared. The first name of a file is a file like others; each further
//! one is a link to it. Over SFTP it is only known whether a file on the target has other names.

use std::collections::HashSet;

use super::super::change::{Action, Differs, NodeKind};
use super::{Conflict, Deletion, Plan, change, meta_differs};
use crate::wire::message::Op;
use crate::wire::path::RelPath;
use crate::wire::tree::{Meta, Node};

/// Whether the file at `path` must be written anew, because the target's has names that the source's
/// does not have.
pub(super) fn is_to_be_broken(path: &RelPath, source: &Node, target: &Node) -> bool {
    let Node::HardLink { first, .. } = target else { return false };
    match (first, source) {
        (Some(first), _) => first != path,
        (None, Node::HardLink { .. }) => false,
        (None, Node::File { .. } | Node::Link { .. } | Node::Dir | Node::Special) => true,
    }
}

/// Plans the name at `path` of the file whose first name is `first`.
pub(super) fn link(
    plan: &mut Plan,
    path: RelPath,
    first: &RelPath,
    source: &Node,
    target: Option<&Node>,
) {
    let Node::HardLink { size, meta, content, .. } = source else { return };
    let action = match target {
        Some(Node::File { size: old_size, meta: old_meta, content: old_content })
        | Some(Node::HardLink { size: old_size, meta: old_meta, content: old_content, .. }) => {
            let mut differs = meta_differs(*meta, *old_meta);
            differs.size = size != old_size;
            differs.content = content.zip(*old_content).is_some_and(|(new, old)| new != old);
            let linked = match target {
                Some(Node::HardLink { first: Some(old), .. }) => old == first,
                Some(Node::HardLink { first: None, .. }) => true,
                _ => false,
            };
            let same = !differs.size && !differs.content && (content.is_some() || !differs.time);
            if linked && same {
                // With the first name the others get mode, time and owner.
                if matches!(target, Some(Node::HardLink { first: None, .. })) {
                    plan.likely_links.push((path, first.clone()));
                }
                return;
            }
            Action::Update(differs)
        }
        Some(Node::Link { .. } | Node::Special | Node::Dir) | None => Action::Create,
    };
    let text = Some(first.as_bytes().to_vec());
    plan.changes.push(change(&path, NodeKind::HardLink, action, text));
    if target == Some(&Node::Dir) {
        plan.conflicts.push(Conflict::Link(Op::HardLink { path, first: first.clone() }));
    } else {
        plan.hard_links.push((path, first.clone()));
    }
}

/// Plans the likely links of the directory at `path` whose first name turned out to be another file
/// than before. `new` are such first names.
pub(crate) fn settle(plan: &mut Plan, path: &RelPath, meta: Meta, new: &mut HashSet<RelPath>) {
    new.extend(plan.new_firsts.drain(..));
    let had_links = !plan.hard_links.is_empty();
    for (name, first) in std::mem::take(&mut plan.likely_links) {
        if new.contains(&first) {
            let differs = Differs { content: true, ..Differs::default() };
            let text = Some(first.as_bytes().to_vec());
            let action = Action::Update(differs);
            plan.changes.push(change(&name, NodeKind::HardLink, action, text));
            plan.hard_links.push((name, first));
        }
    }
    let restores = matches!(plan.deletions.first(), Some(Deletion::Restore(..)));
    if !had_links && !restores && !plan.hard_links.is_empty() {
        plan.deletions.insert(0, Deletion::Restore(path.clone(), meta));
    }
}

/// What is told of a file that only loses its other names.
pub(super) fn broken(differs: Differs) -> Differs {
    Differs { content: differs.content || !differs.any(), ..differs }
}

#[cfg(test)]
mod tests {
    use super::super::{Rules, both};
    use super::*;
    use crate::wire::path::Name;
    use crate::wire::tree::{Directory, Entry};

    const RULES: Rules = Rules {
        link_times: true,
        delta: true,
        late_dirs: false,
        delete: false,
        in_place: false,
        keeps_parts: false,
    };

    /// A directory whose entries are told by what they are: `a` a file, `b=a` a link to `a`,
    /// `b=?` one of which only that is known.
    fn directory(entries: &[&str]) -> Directory {
        let path = |text: &str| RelPath::new(text.as_bytes()).unwrap();
        let meta = Meta { mode: 0o644, ..Meta::default() };
        let entry = |text: &&str| {
            let (name, first) = text.split_once('=').map_or((*text, None), |(n, f)| (n, Some(f)));
            let (size, content) = (1, None);
            let node = match first {
                None => Node::File { size, meta, content },
                Some("?") => Node::HardLink { size, meta, content, first: None },
                Some(first) => Node::HardLink { size, meta, content, first: Some(path(first)) },
            };
            Entry { name: Name::new(name.as_bytes()).unwrap(), node }
        };
        Directory {
            path: RelPath::root(),
            meta: Some(Meta { mode: 0o755, ..Meta::default() }),
            entries: entries.iter().map(entry).collect(),
            leftovers: Vec::new(),
            problems: Vec::new(),
        }
    }

    #[test]
    fn names_are_linked_and_parted_as_on_the_source() {
        // What the source has, what the target has, what is written anew, what is linked.
        let table: [[&[&str]; 4]; 12] = [
            [&["a", "b"], &["a", "b"], &[], &[]],
            [&["a=a", "b=a"], &["a=a", "b=a"], &[], &[]],
            [&["a=a", "b=a"], &["a=?", "b=?"], &[], &[]],
            [&["a=a", "b=a"], &["a", "b"], &[], &["b"]],
            [&["a=a", "b=a"], &["a"], &[], &["b"]],
            [&["a=a", "b=a"], &[], &["a"], &["b"]],
            [&["a", "b"], &["a=a", "b=a"], &["b"], &[]],
            [&["a", "b"], &["a=?", "b=?"], &["a", "b"], &[]],
            [&["a", "b=b", "c=b"], &["a=a", "b=a", "c=a"], &["b"], &["c"]],
            [&["a=a", "b=a", "c"], &["a=a", "b", "c=a"], &["c"], &["b"]],
            // Another name of it is somewhere else.
            [&["a=a"], &["a"], &[], &[]],
            [&["a"], &["a=a"], &[], &[]],
        ];
        for [source, target, files, links] in table {
            let plan = both(&directory(source), &directory(target), &RULES);
            let told: Vec<String> = plan.files.iter().map(|file| file.path.to_string()).collect();
            assert_eq!(told, files, "{source:?} over {target:?}");
            let told: Vec<String> =
                plan.hard_links.iter().map(|(path, _)| path.to_string()).collect();
            assert_eq!(told, links, "{source:?} over {target:?}");
        }
    }
}
