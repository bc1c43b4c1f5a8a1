//! What a pass changes, path by path, as `--itemize-changes` and `--dry-run` print it.

use std::fmt;

use crate::wire::path::RelPath;

/// One change, made or to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub path: RelPath,
    pub node: NodeKind,
    pub action: Action,
    /// What a symlink says.
    pub link_text: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    File,
    Dir,
    Link,
    /// Another name of a file.
    HardLink,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Create,
    /// Content, or a symlink's text, and what else differs.
    Update(Differs),
    /// Mode, time or owner alone.
    Adjust(Differs),
    Delete,
}

/// In what two entries differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Differs {
    /// Known to differ, not only suspected by size and time.
    pub content: bool,
    pub size: bool,
    pub time: bool,
    pub mode: bool,
    pub owner: bool,
    pub group: bool,
}

impl Differs {
    pub fn any(self) -> bool {
        self != Differs::default()
    }
}

impl Change {
    /// What of the target's differs from the source's, for people.
    pub fn in_words(&self) -> String {
        let differs = match self.action {
            Action::Create => return "missing".into(),
            Action::Delete => return "not on the source".into(),
            Action::Update(differs) | Action::Adjust(differs) => differs,
        };
        let all = [
            (differs.content, "content"),
            (differs.size, "size"),
            (differs.time, "time"),
            (differs.mode, "mode"),
            (differs.owner, "owner"),
            (differs.group, "group"),
        ];
        let words: Vec<&str> =
            all.iter().filter(|(differs, _)| *differs).map(|(_, word)| *word).collect();
        format!("other {}", words.join(", "))
    }
}

/// The line that rsync prints for it; files come as received (`>`).
impl fmt::Display for Change {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Change { path, node, action, link_text } = self;
        let letter = match node {
            NodeKind::File | NodeKind::HardLink => 'f',
            NodeKind::Dir => 'd',
            NodeKind::Link => 'L',
        };
        let kind = match node {
            NodeKind::File => '>',
            NodeKind::HardLink => 'h',
            NodeKind::Dir | NodeKind::Link => 'c',
        };
        match action {
            Action::Delete => write!(out, "*deleting   ")?,
            Action::Create => write!(out, "{kind}{letter}+++++++++ ")?,
            Action::Update(differs) => write!(out, "{kind}{letter}{differs} ")?,
            Action::Adjust(differs) => write!(out, ".{letter}{differs} ")?,
        }
        write!(out, "{path}{}", if *node == NodeKind::Dir { "/" } else { "" })?;
        match link_text {
            Some(text) if *node == NodeKind::HardLink => write!(out, " => {}", text.escape_ascii()),
            Some(text) => write!(out, " -> {}", text.escape_ascii()),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Differs {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = [
            (self.content, 'c'),
            (self.size, 's'),
            (self.time, 't'),
            (self.mode, 'p'),
            (self.owner, 'o'),
            (self.group, 'g'),
        ];
        for (set, letter) in flags {
            write!(out, "{}", if set { letter } else { '.' })?;
        }
        // Access time, ACLs and extended attributes are not kept.
        out.write_str("...")
    }
}
