//! Where the media are, and how much of them there is.

use std::time::Duration;

use crate::host::{Command, Host, HostError, RunAs};

use super::super::facts::{Facts, SAY};
use super::super::variables::{Variables, filled};

/// The directory that holds the media, or would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaRoot {
    /// As Mastodon is told.
    pub path: String,
    /// Where that really is; absent where nothing is there, or something that is no directory.
    pub there: Option<MediaDir>,
    /// What is there instead, or in the way.
    pub obstacle: Option<Obstacle>,
}

/// Why a media root that is not simply missing cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// A symlink to a place where nothing is.
    Dangling {
        target: String,
    },
    NotDirectory,
    /// A directory on the way to it, which Mastodon's user may not enter.
    Closed {
        dir: String,
    },
}

/// A media directory that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaDir {
    /// Without symlinks.
    pub real: String,
    /// It, or a directory above it, is a symlink.
    pub through_symlink: bool,
    /// A file system is mounted on it. One that is expected but not mounted looks empty.
    pub mounted: bool,
    /// Absent where it cannot be listed.
    pub empty: Option<bool>,
    pub owner: String,
    pub group: String,
    /// Permission bits, `0o755`.
    pub mode: u32,
}

/// What lies below a media root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MediaSize {
    pub files: u64,
    pub dirs: u64,
    /// The files' lengths, not the blocks they take.
    pub bytes: u64,
    /// Places that could not be read.
    pub unreadable: u64,
    /// Whether everything was seen before the time was up.
    pub complete: bool,
}

/// Where Mastodon in `root` keeps its media.
pub fn media_path(variables: &dyn Variables, root: &str) -> String {
    match filled(variables, "PAPERCLIP_ROOT_PATH") {
        None => format!("{root}/public/system"),
        Some(path) => {
            let path = path.replace(":rails_root", root);
            if path.starts_with('/') { path } else { format!("{root}/{path}") }
        }
    }
}

/// Looks at the media root of the Mastodon in `root`.
pub async fn media_root(
    host: &dyn Host,
    user: &RunAs,
    variables: &dyn Variables,
    root: &str,
) -> Result<MediaRoot, HostError> {
    let path = media_path(variables, root);
    let command = Command::script(&format!("{SAY}{ROOT}"), &[&path]).run_as(user.clone());
    let facts = Facts::ask(host, &command).await?;
    let Some(real) = facts.get("real") else {
        let text = facts.get("where").unwrap_or_default().to_owned();
        let obstacle = match facts.get("instead") {
            Some("dangling") => Some(Obstacle::Dangling { target: text }),
            Some("closed") => Some(Obstacle::Closed { dir: text }),
            Some(_) => Some(Obstacle::NotDirectory),
            None => None,
        };
        return Ok(MediaRoot { path, there: None, obstacle });
    };
    let mode = facts.get("mode").and_then(|mode| u32::from_str_radix(mode, 8).ok());
    let there = MediaDir {
        real: real.to_owned(),
        through_symlink: real != path.trim_end_matches('/'),
        mounted: facts.get("mounted").is_some(),
        empty: facts.get("empty").map(|empty| empty == "yes"),
        owner: facts.need("owner")?,
        group: facts.need("group")?,
        mode: mode.ok_or_else(|| facts.odd("mode"))?,
    };
    Ok(MediaRoot { path, there: Some(there), obstacle: None })
}

/// find(1) complains if it cannot come back to where it was started, which may be the closed home
/// of whoever is logged in.
const ROOT: &str = r#"
cd /
if [ ! -d "$1" ]; then
    if [ -e "$1" ]; then say instead other
    elif [ -L "$1" ]; then say instead dangling; say where "$(readlink -- "$1")"
    else
        p=$1; while [ ! -e "$p" ] && [ "$p" != / ] && [ "$p" != . ]; do p=$(dirname -- "$p"); done
        [ -d "$p" ] && [ ! -x "$p" ] && { say instead closed; say where "$p"; }
    fi
    exit 0
fi
real=$(readlink -f -- "$1"); say real "$real"
say owner "$(stat -c %U -- "$real")"; say group "$(stat -c %G -- "$real")"
say mode "$(stat -c %a -- "$real")"
if mountpoint -q -- "$real"; then say mounted yes; fi
if first=$(find "$real" -mindepth 1 -maxdepth 1 -print -quit 2>/dev/null); then
    if [ -z "$first" ]; then say empty yes; else say empty no; fi
fi
exit 0
"#;

/// Counts what lies below `root`, with low priority and for no longer than `limit`. What cannot
/// be read is counted too.
pub async fn media_size(
    host: &dyn Host,
    user: &RunAs,
    root: &str,
    limit: Duration,
) -> Result<MediaSize, HostError> {
    // timeout(1) takes 0 for no limit.
    let secs = format!("{:.3}", limit.as_secs_f64().max(0.001));
    let command = Command::script(&format!("{SAY}{SIZE}"), &[root, &secs])
        .run_as(user.clone())
        .deadline(limit + Duration::from_secs(60));
    let facts = Facts::ask(host, &command).await?;
    Ok(MediaSize {
        files: facts.need("files")?,
        dirs: facts.need("dirs")?,
        bytes: facts.need("bytes")?,
        unreadable: facts.need("unreadable")?,
        // timeout(1) says 124 when the time was up; find says 1 when something was unreadable.
        complete: matches!(facts.need::<u32>("exit")?, 0 | 1),
    })
}

/// Descriptor 3 takes the complaints, one line each, which are counted; 4 the answers.
const SIZE: &str = r#"
cd /
{ { { timeout "$2" nice -n 19 find -H "$1" -mindepth 1 -printf '%y %s\n' 2>&3; echo "exit $?"; } |
    awk '$1 == "f" { files++; bytes += $2 } $1 == "d" { dirs++ } $1 == "exit" { code = $2 }
        END { printf "%.0f %.0f %.0f %d\n", files, dirs, bytes, code }' |
    { read -r f d b c; say files "$f"; say dirs "$d"; say bytes "$b"; say exit "$c"; } >&4
    } 3>&1 | { n=$(wc -l); say unreadable "$n" >&4; }
} 4>&1
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;
    use std::collections::BTreeMap;

    #[test]
    fn the_path_is_mastodons_own_rule() {
        for (value, path) in [
            (None, "/srv/live/public/system"),
            (Some(""), "/srv/live/public/system"),
            (Some("/mnt/media"), "/mnt/media"),
            (Some(":rails_root/../media"), "/srv/live/../media"),
            (Some("public/uploads"), "/srv/live/public/uploads"),
        ] {
            let variables: BTreeMap<String, Secret> = value
                .map(|value| ("PAPERCLIP_ROOT_PATH".to_owned(), Secret::new(value)))
                .into_iter()
                .collect();
            assert_eq!(media_path(&variables, "/srv/live"), path, "{value:?}");
        }
    }
}
