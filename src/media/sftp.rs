//! The SFTP transport: a stock OpenSSH server with nothing else allowed. The codec is
//! [`crate::wire::sftp`]; [`client`] keeps many requests under way on a channel, within bounds,
//! because a flooded server collapses. A file is renamed only after every acknowledgement of it.
//!
//! What it cannot do: times finer than a second, hashes without reading back, and protection
//! against somebody on the server who swaps a directory of the target for a symlink during the
//! pass. Paths are all the protocol has; files are made with O_EXCL, symlinks not followed at
//! the end of a path.

mod change;
mod client;
mod holes;
mod named;
mod scan;
mod session;
mod source;
mod target;

pub(crate) use session::Sftp;
