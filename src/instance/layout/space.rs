//! Room on a file system, in bytes and in inodes: media are many small files, and a file system
//! made with few inodes is full long before its bytes are.

use crate::host::{Command, Host, HostError, RunAs};

use super::super::facts::{Facts, SAY};

/// The file system that a path is on, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpaceFacts {
    /// The nearest parent that exists.
    pub asked: String,
    pub mounted_on: String,
    /// `ext4`, `btrfs`, …
    pub kind: String,
    pub total_bytes: u64,
    /// Free for those who are not root.
    pub free_bytes: u64,
    /// Absent where the file system makes inodes as they are needed (btrfs).
    pub inodes: Option<Inodes>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inodes {
    pub total: u64,
    pub free: u64,
}

/// The room at `path`, which need not exist yet, as `user` sees it.
pub async fn space(host: &dyn Host, user: &RunAs, path: &str) -> Result<SpaceFacts, HostError> {
    let command = Command::script(&format!("{SAY}{SPACE}"), &[path]).run_as(user.clone());
    let facts = Facts::ask(host, &command).await?;
    let row = facts.get("df").and_then(|text| text.lines().last()).unwrap_or_default();
    // The mount point comes last: it may hold spaces.
    let fields: Vec<&str> = row.split_ascii_whitespace().collect();
    let [total, free, inodes_total, inodes_free, kind, mounted_on @ ..] = fields.as_slice() else {
        return Err(facts.odd("df"));
    };
    let number = |text: &str| text.parse().ok();
    let inodes = match (number(inodes_total), number(inodes_free)) {
        (None | Some(0), _) | (_, None) => None,
        (Some(total), Some(free)) => Some(Inodes { total, free }),
    };
    Ok(SpaceFacts {
        asked: facts.need("asked")?,
        mounted_on: mounted_on.join(" "),
        kind: (*kind).to_owned(),
        total_bytes: number(total).ok_or_else(|| facts.odd("df"))?,
        free_bytes: number(free).ok_or_else(|| facts.odd("df"))?,
        inodes,
    })
}

const SPACE: &str = r#"
p=$1
while [ ! -e "$p" ] && [ "$p" != / ] && [ "$p" != . ]; do p=$(dirname -- "$p"); done
say asked "$p"
say df "$(df -B1 --output=size,avail,itotal,iavail,fstype,target -- "$p")"
"#;
