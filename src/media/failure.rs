//! Errors of system calls as [`Failure`]s of one path.

use std::io;

use rustix::io::Errno;

use crate::wire::tree::{Failure, FailureKind};

/// What `error` means for the path it happened to.
pub(crate) fn failure(action: &str, error: impl Into<io::Error>) -> Failure {
    let error = error.into();
    Failure::new(kind(&error), format!("cannot {action}: {error}"))
}

fn kind(error: &io::Error) -> FailureKind {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) => FailureKind::Vanished,
        Some(Errno::ACCESS | Errno::PERM) => FailureKind::Denied,
        Some(Errno::NOSPC | Errno::DQUOT | Errno::ROFS) => FailureKind::Full,
        Some(Errno::NOTEMPTY | Errno::EXIST | Errno::ISDIR) => FailureKind::NotEmpty,
        Some(Errno::LOOP | Errno::XDEV | Errno::NOTDIR) => FailureKind::Confined,
        Some(_) | None => FailureKind::Other,
    }
}
