//! What is installed where: Mastodon's directory, the machine under it, its media and the space
//! it needs.
//!
//! In flow a host and paths, out flow facts; nothing is changed, and what a fact means for the
//! move is for others to say. Each look is one command.

pub mod machine;
pub mod media;
pub mod space;
pub mod version;

use crate::config;
use crate::error::{Advice, Retry};
use crate::host::{Command, Host, HostError, RunAs};

use super::facts::{Facts, SAY};
pub use machine::{Clock, MachineFacts, machine};
pub use media::{MediaRoot, MediaSize, Obstacle, media_path, media_root, media_size};
pub use space::{Inodes, SpaceFacts, space};
pub use version::Version;

/// Mastodon's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Resolved: no part of it is a symlink.
    pub root: String,
    /// Absent where a fork keeps it in another form than Mastodon.
    pub version: Option<Version>,
    /// Absent where the code is no git checkout, or git is not installed.
    pub commit: Option<Commit>,
    pub owner: String,
    pub group: String,
    /// Permission bits, `0o750`.
    pub mode: u32,
    /// What `.ruby-version` and `.nvmrc` ask for.
    pub ruby: Option<String>,
    pub node: Option<String>,
    /// `public/500.html`.
    pub error_page: ErrorPage,
    /// The user nginx's workers run as, as far as the names of users tell.
    pub web_user: Option<String>,
    /// The directories on the way to `public` that this user cannot enter by its mode bits.
    pub closed_to_web: Vec<String>,
}

/// The code that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    pub id: String,
    /// Tracked files that differ from it.
    pub modified: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorPage {
    Absent,
    File,
    /// As `assets:precompile` makes it.
    Symlink {
        target: String,
    },
    Other,
}

/// Why there is no Mastodon to be seen.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    #[error(transparent)]
    Host(HostError),
    #[error("there is no user {user} on {host}")]
    NoUser { host: String, user: String },
    #[error("there is no directory {root} on {host}")]
    Missing { host: String, root: String },
    #[error("{user} cannot enter {root} on {host}")]
    Closed { host: String, root: String, user: String },
    #[error(
        "{root} on {host} holds no Mastodon: neither lib/mastodon/version.rb nor config and app"
    )]
    NotMastodon { host: String, root: String },
}

impl Advice for LayoutError {
    fn hint(&self) -> Option<String> {
        match self {
            LayoutError::Host(error) => error.hint(),
            LayoutError::NoUser { user, .. } => Some(format!(
                "set `user` in transhume.toml, or create it: `adduser --disabled-password {user}`"
            )),
            LayoutError::Missing { .. } | LayoutError::NotMastodon { .. } => Some(
                "set `root` in transhume.toml to Mastodon's directory; on the new server, install \
                 Mastodon at the same commit first, without `mastodon:setup`"
                    .into(),
            ),
            LayoutError::Closed { root, user, .. } => {
                Some(format!("look at `namei -l {root}`: {user} needs x on every directory"))
            }
        }
    }

    fn retry(&self) -> Retry {
        match self {
            LayoutError::Host(error) => error.retry(),
            LayoutError::NoUser { .. }
            | LayoutError::Missing { .. }
            | LayoutError::Closed { .. }
            | LayoutError::NotMastodon { .. } => Retry::Never,
        }
    }
}

/// Looks at Mastodon's directory as the user it runs as.
pub async fn look(host: &dyn Host, side: &config::Side) -> Result<Layout, LayoutError> {
    let command = Command::script(&format!("{SAY}{LOOK}"), &[&side.root])
        .run_as(RunAs::User(side.user.clone()));
    let facts = Facts::ask(host, &command).await.map_err(|error| of_user(error, &side.user))?;
    let (host, root) = (host.name().to_owned(), side.root.clone());
    match facts.get("state") {
        Some("there") => read(&facts, host, root),
        Some("missing") => Err(LayoutError::Missing { host, root }),
        Some("closed") => Err(LayoutError::Closed { host, root, user: side.user.clone() }),
        Some(_) | None => Err(LayoutError::Host(facts.odd("state"))),
    }
}

const LOOK: &str = r#"
if [ ! -d "$1" ]; then
    # Behind a closed parent nothing is seen, which is not the same as not being there.
    p=$1; while [ ! -e "$p" ] && [ "$p" != / ] && [ "$p" != . ]; do p=$(dirname -- "$p"); done
    if [ -x "$p" ]; then say state missing; else say state closed; fi
    exit 0
fi
cd -- "$1" 2>/dev/null || { say state closed; exit 0; }
say state there
real=$(pwd -P); say real "$real"
say owner "$(stat -c %U .)"; say group "$(stat -c %G .)"; say mode "$(stat -c %a .)"
[ -d config ] && [ -d app ] && say code yes
[ -f lib/mastodon/version.rb ] && { say code yes; say version "$(cat lib/mastodon/version.rb)"; }
[ -f .ruby-version ] && say ruby "$(cat .ruby-version)"
[ -f .nvmrc ] && say node "$(cat .nvmrc)"
if [ -e .git ] && command -v git >/dev/null; then
    g() { git --no-optional-locks -c safe.directory='*' -C "$real" "$@" 2>/dev/null; }
    if id=$(g rev-parse --verify HEAD); then
        say commit "$id"
        say modified "$(g status --porcelain --untracked-files=no | wc -l)"
    fi
fi
e=public/500.html
if [ -L $e ]; then say page symlink; say page_target "$(readlink $e)"
elif [ -f $e ]; then say page file
elif [ -e $e ]; then say page other; fi
for u in www-data nginx http; do
    if groups=$(id -nG "$u" 2>/dev/null); then say web "$u"; say web_groups "$groups"; break; fi
done
d=$(readlink -f public || printf %s "$real")
while :; do
    say way "$(stat -c '%a %U %G' -- "$d" 2>/dev/null) $d"
    [ "$d" = / ] && break
    d=$(dirname -- "$d")
done
exit 0
"#;

/// Tells a user that does not exist from a command that failed.
fn of_user(error: HostError, user: &str) -> LayoutError {
    match &error {
        HostError::Failed { host, stderr_tail, .. }
            if stderr_tail.contains("unknown user") || stderr_tail.contains("does not exist") =>
        {
            LayoutError::NoUser { host: host.clone(), user: user.to_owned() }
        }
        HostError::Failed { .. }
        | HostError::Unreachable { .. }
        | HostError::HostKey { .. }
        | HostError::Login { .. }
        | HostError::Start { .. }
        | HostError::Lost { .. }
        | HostError::TimedOut { .. }
        | HostError::Privilege { .. }
        | HostError::Output { .. }
        | HostError::Connect { .. }
        | HostError::Subsystem { .. } => LayoutError::Host(error),
    }
}

fn read(facts: &Facts, host: String, root: String) -> Result<Layout, LayoutError> {
    if facts.get("code").is_none() {
        return Err(LayoutError::NotMastodon { host, root });
    }
    let text = |key: &str| facts.get(key).map(|value| value.trim().to_owned());
    let web_user = text("web");
    let mode = text("mode").and_then(|mode| u32::from_str_radix(&mode, 8).ok());
    let modified = || facts.need("modified");
    let commit = text("commit").map(|id| modified().map(|modified| Commit { id, modified }));
    Ok(Layout {
        root: text("real").unwrap_or(root),
        version: facts.get("version").and_then(Version::parse),
        commit: commit.transpose().map_err(LayoutError::Host)?,
        owner: facts.need("owner").map_err(LayoutError::Host)?,
        group: facts.need("group").map_err(LayoutError::Host)?,
        mode: mode.ok_or_else(|| LayoutError::Host(facts.odd("mode")))?,
        ruby: text("ruby"),
        node: text("node"),
        error_page: error_page(facts),
        closed_to_web: web_user.as_deref().map(|user| closed(facts, user)).unwrap_or_default(),
        web_user,
    })
}

fn error_page(facts: &Facts) -> ErrorPage {
    match facts.get("page") {
        None => ErrorPage::Absent,
        Some("file") => ErrorPage::File,
        Some("symlink") => {
            ErrorPage::Symlink { target: facts.get("page_target").unwrap_or_default().to_owned() }
        }
        Some(_) => ErrorPage::Other,
    }
}

/// The directories on the way to `public`, outermost first, that `web_user` cannot enter.
fn closed(facts: &Facts, web_user: &str) -> Vec<String> {
    let groups: Vec<&str> = facts.get("web_groups").unwrap_or_default().split(' ').collect();
    let enters = |way: &&str| {
        let fields: Vec<&str> = way.splitn(4, ' ').collect();
        let [mode, owner, group, _] = fields.as_slice() else { return true };
        let mode = u32::from_str_radix(mode, 8).unwrap_or(0o777);
        let bit = match () {
            () if *owner == web_user => 0o100,
            () if groups.contains(group) => 0o010,
            () => 0o001,
        };
        mode & bit != 0
    };
    let mut dirs: Vec<String> = facts
        .all("way")
        .filter(|way| !enters(way))
        .filter_map(|way| way.splitn(4, ' ').nth(3).map(str::to_owned))
        .collect();
    dirs.reverse();
    dirs
}
