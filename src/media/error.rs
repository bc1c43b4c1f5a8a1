//! Why a pass stopped. What happens to single files is a [`Problem`](crate::wire::tree::Problem).

use crate::error::{Advice, Retry};
use crate::host::HostError;
use crate::units::counted;
use crate::wire::WireError;
use crate::wire::tree::Failure;

use super::filter::BadPattern;

#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    #[error("cannot use {path} on {host} as the {role}")]
    Root { host: String, path: String, role: &'static str, source: Failure },
    #[error("there is no directory {path} on {host}")]
    NoSource { host: String, path: String },
    #[error("{source_path} and {target_path} lie in each other")]
    Overlap { source_path: String, target_path: String },
    #[error("the source is empty and the target is not: deleting everything is refused")]
    SourceEmpty,
    #[error("{} would be deleted, {limit} are allowed: nothing was deleted", counted(*planned, "entry").replace("entrys", "entries"))]
    TooManyDeletions { planned: u64, limit: u64 },
    #[error("the target {host} cannot take more: {problem}")]
    TargetFull { host: String, problem: String },
    #[error(transparent)]
    Pattern(#[from] BadPattern),
    #[error("cannot work with {host}")]
    Host { host: String, source: Box<HostError> },
    /// As `Host`, but in the middle of a pass: something has been done.
    #[error("the work with {host} broke off")]
    BrokenOff { host: String, source: Box<HostError> },
    #[error("{host} cannot be understood")]
    Wire { host: String, source: WireError },
    #[error("the helper on {host} ended early{}", detail(text))]
    HelperEnded { host: String, text: String },
    #[error("{host} lists its files out of order")]
    Disorder { host: String },
    /// What was under way is in an unknown state; what was acknowledged is safe.
    #[error("the connection to {host} was lost")]
    Lost { host: String },
    #[error("{host} does not answer for {secs} s")]
    Silent { host: String, secs: u64 },
    #[error("the SFTP server of {host} lacks {what}")]
    Lacking { host: String, what: &'static str },
    #[error("SFTP does not tell which files of {host} are hard links")]
    NoLinks { host: String },
    #[error("SFTP works only as the login user of {host}, and {user} is needed")]
    SftpUser { host: String, user: String },
    #[error("the helper transport was asked for, and {host} has no helper")]
    NoHelper { host: String },
    #[error("cannot find the user or group `{name}` on {host}")]
    UnknownOwner { host: String, name: String },
    #[error("a worker thread cannot be started")]
    Thread(#[source] std::io::Error),
}

fn detail(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

impl Advice for MediaError {
    fn hint(&self) -> Option<String> {
        match self {
            MediaError::Root { path, role, .. } => Some(format!(
                "check that {path} is a directory that the login may use as {role}; a missing \
                 target is made if its parent is there"
            )),
            MediaError::NoSource { .. } => Some("is the file system mounted?".into()),
            MediaError::Overlap { .. } => Some("choose a target outside of the source".into()),
            MediaError::SourceEmpty => {
                Some("is the file system mounted? Without --delete an empty source is fine".into())
            }
            MediaError::TooManyDeletions { planned, .. } => Some(format!(
                "look at them with `-n -i --delete`; if they are right, raise --max-delete to \
                 {planned}"
            )),
            MediaError::TargetFull { .. } => Some(
                "make room or make it writable, then run the same command again: it goes on where \
                 it stopped"
                    .into(),
            ),
            MediaError::Host { source, .. } => source.hint(),
            MediaError::BrokenOff { source, .. } => source.hint().or_else(|| Some(GO_ON.into())),
            MediaError::Wire { source, .. } => match source {
                WireError::NotOurs => Some(
                    "its shell may print something at login; `--transport sftp` does without a \
                     shell"
                        .into(),
                ),
                WireError::Version { .. } => {
                    Some("use the same transhume on both sides, or `--transport sftp`".into())
                }
                WireError::Io(_) | WireError::Truncated => Some(GO_ON.into()),
                WireError::FrameTooLong { .. }
                | WireError::FrameKind { .. }
                | WireError::Message(_)
                | WireError::Packet(_)
                | WireError::OutOfTurn(_) => None,
            },
            MediaError::Lost { .. }
            | MediaError::HelperEnded { .. }
            | MediaError::Silent { .. } => Some(GO_ON.into()),
            MediaError::Lacking { .. }
            | MediaError::SftpUser { .. }
            | MediaError::NoHelper { .. } => {
                Some("`--transport auto` uses what the other side has".into())
            }
            MediaError::NoLinks { .. } => {
                Some("copy through the helper, or run transhume on that machine".into())
            }
            MediaError::UnknownOwner { .. } => Some("give numbers instead of names".into()),
            MediaError::Pattern(_) | MediaError::Disorder { .. } | MediaError::Thread(_) => None,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            MediaError::Host { source, .. } => source.retry(),
            MediaError::BrokenOff { .. }
            | MediaError::Lost { .. }
            | MediaError::HelperEnded { .. }
            | MediaError::Silent { .. }
            | MediaError::Wire { source: WireError::Io(_) | WireError::Truncated, .. } => {
                Retry::Unknown
            }
            MediaError::Root { .. }
            | MediaError::NoSource { .. }
            | MediaError::Overlap { .. }
            | MediaError::SourceEmpty
            | MediaError::TooManyDeletions { .. }
            | MediaError::TargetFull { .. }
            | MediaError::Pattern(_)
            | MediaError::Wire { .. }
            | MediaError::Disorder { .. }
            | MediaError::Lacking { .. }
            | MediaError::SftpUser { .. }
            | MediaError::NoHelper { .. }
            | MediaError::NoLinks { .. }
            | MediaError::UnknownOwner { .. }
            | MediaError::Thread(_) => Retry::Never,
        }
    }
}

const GO_ON: &str = "run the same command again: it goes on where it stopped";
