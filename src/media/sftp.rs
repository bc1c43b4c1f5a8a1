//! The SFTP transport: a stock OpenSSH server with nothing else allowed. The codec is
//! [`crate::wire::sftp`]. A [`client`] keeps many requests under way on a channel ([`table`]),
//! within bounds, because a flooded server collapses; [`drive`] carries their bytes.
//!
//! Nothing waits for a handle where the server gives those that [`handles`] foretells, which
//! [`proof`] tries out: a file or directory is opened, used and closed in one burst. On such a
//! channel nothing else may open anything in between, and every handle is compared; with the first
//! other one, each is waited for from then on. A file is renamed only after every acknowledgement
//! of it.
//!
//! A large file comes in parts over several channels ([`uploads`]); which ones are on the server's
//! disk is written down ([`record`]), so that the next pass goes on with one that broke off.
//!
//! What it cannot do: times finer than a second, hashes without reading back, and protection
//! against somebody on the server who swaps a directory of the target for a symlink during the
//! pass. Paths are all the protocol has; files are made with O_EXCL, symlinks not followed at
//! the end of a path.

mod change;
mod client;
mod drive;
mod handles;
mod holes;
mod known;
mod meta;
mod named;
mod proof;
mod record;
mod reply;
mod scan;
mod session;
mod source;
mod table;
mod target;
mod uploads;

pub(crate) use session::Sftp;
