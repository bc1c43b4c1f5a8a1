//! Stores files over SFTP: pieces in, acknowledgements out, many files at once. A file is written
//! under a temporary name; only when every WRITE, the mode and time and the CLOSE are acknowledged
//! is it renamed. The protocol has no hash: what is compared is the hash of what was handed to the
//! server. Files that are written in place are the exception: they have their name at once. Where handles can be foretold, a file goes out in one burst ([`burst`]); elsewhere, and
//! from the moment on when one was another one than foretold, each handle is waited for
//! ([`awaited`]).

mod awaited;
mod burst;
mod file;
mod long;
mod parts;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::reply::SftpError;
use super::session::Tree;
use crate::media::temp::TempNames;
use crate::wire::message::{Store, Told, WHOLE_BYTES_MAX};
use crate::wire::path::RelPath;
use crate::wire::sftp::{Attrs, Request, Response, StatusCode, free_bytes, open_flags};
use crate::wire::tree::{Failure, FailureKind};

/// Every server takes so much in one WRITE.
const WRITE_BYTES: usize = 32 * 1024;
/// A file system with less room than a small file and its directory is full.
const FREE_BYTES_MIN: u64 = WHOLE_BYTES_MAX as u64;

/// Stores files until no more come; then waits for those under way. If nobody takes the
/// acknowledgements any more, what is still being written is removed.
pub(super) async fn run(
    tree: Tree,
    names: TempNames,
    mut pieces: mpsc::Receiver<Store>,
    told: mpsc::Sender<Told>,
) {
    if tree.manner.in_place {
        // Whether a file is there to be written into has to be seen first.
        tree.client.foretell(None);
    }
    let (names, again) = if tree.client.foretells() {
        burst::run(&tree, names, &mut pieces, &told).await
    } else {
        (names, Vec::new())
    };
    // Ends at once if everything was told.
    awaited::run(tree, names, again, pieces, told).await;
}

/// Makes a new file that only its owner can read until it has its mode.
pub(super) fn create(path: Bytes) -> Request {
    let flags = open_flags::WRITE | open_flags::CREATE | open_flags::EXCLUSIVE;
    let attrs = Attrs { mode: Some(0o600), ..Attrs::default() };
    Request::Open { path, flags, attrs }
}

/// Whether a piece is of use: when nobody waits for what is told any more, only what clears up.
fn is_wanted(piece: &Store, told: &mpsc::Sender<Told>) -> bool {
    !told.is_closed() || matches!(piece, Store::Drop(_))
}

fn corrupt() -> Failure {
    Failure::new(FailureKind::Corrupt, "what arrived is not what was read")
}

/// The protocol says only "failure" when the disk is full; so look whether a file of so many bytes
/// has room.
async fn explain(tree: &Tree, bytes: u64, error: SftpError, action: &str) -> Failure {
    let vague = matches!(error, SftpError::Status { code: StatusCode::Failure, .. });
    let failure = error.failure(action);
    if !vague || !tree.client.offers("statvfs@openssh.com") {
        return failure;
    }
    let path = tree.full(&RelPath::root());
    let room = match tree.client.ask(Request::StatVfs { path }).await {
        Ok(Response::Extended(body)) => free_bytes(body).ok(),
        Ok(
            Response::Status { .. }
            | Response::Handle(_)
            | Response::Data(_)
            | Response::Names(_)
            | Response::Attrs(_),
        )
        | Err(_) => None,
    };
    if room.is_some_and(|room| room < bytes.max(FREE_BYTES_MIN)) {
        Failure::new(FailureKind::Full, format!("{}: no space left", failure.text))
    } else {
        failure
    }
}
