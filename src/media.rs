//! The file engine: makes a directory of one machine hold what one of another machine holds.
//! It knows files and machines ([`crate::host`], [`crate::wire`]) and nothing of what they are for.
//!
//! # Data flow of a pass
//! ```text
//!            source session                          target session
//!   manifest -> walk -> shards -> groups (heads)  ...  and the same
//!             \_________________ merge _________________/     equal digests: forgotten
//!                                  | pairs of directories
//!                               compare (pure): Plan
//!                 batches: directories, links, modes -> files             (several at once)
//!   read: jobs -> pieces ======== transfer lanes (a batch each) ==========> store: make, temp, hash,
//!                                                                          mode, sync, rename
//!                 times of directories that the walk has left
//!                 ending: deletions bottom-up -> conflicts -> times of directories -> sync
//! ```
//! - [`Endpoint`] says where a tree is. Opened, it is a `Session`: a local one works on threads of
//!   this process, a helper one has the same workers behind frames (`helper`), an SFTP one speaks
//!   to a stock server (`sftp`). All have the same shape: bounded channels.
//! - `scan` walks a local tree; where `manifest` remembers what the last scan found there, a
//!   directory that is as it was is not listed but looked at by one system call. `cut` ties them.
//! - `shard`: runs of directories with a digest; `group`: runs of shards, kept until their fate is
//!   known. `merge` walks both sides in step and asks only for those that differ. `compare` makes a
//!   `Plan` for each directory; `batch` carries plans out, each as one load of a lane, in order;
//!   `trail` knows what the walk has left; `transfer` moves contents; `ending` does what must come
//!   last. `sync` ties them together, `walks` says of which parts of the tree. `watch` makes passes
//!   as long as it lives.
//! - `listed` walks what a list names instead of a whole tree; `hard_links` tells which names are of
//!   one file, and links them at the end.
//! - `root` is the only code that opens files of a local tree, always below its handle.
//!
//! # What can go wrong, and what then
//! | what | then |
//! |---|---|
//! | a file vanishes, changes or cannot be read | tried once more, then a problem in the [`Outcome`] |
//! | a directory cannot be listed | a problem; nothing below it is deleted |
//! | content arrives damaged (hash, size) | not published; tried once more, whole |
//! | the basis of a delta changed, or the delta does not pay | the file is sent whole |
//! | the target is full or read-only | [`MediaError::TargetFull`]; what was published stays |
//! | a link is cut, a helper or server dies | [`MediaError::Lost`] or its like; only temporary files are left: the next pass goes on with the part of a long file and sweeps the rest |
//! | a manifest is damaged, foreign or cannot be kept | the tree is walked plainly, from there on |
//! | a scan breaks off | an error, never an empty tree: nothing is deleted |
//! | the source is missing, or empty while deleting | refused before anything is done |
//! | more deletions than allowed | refused before the first one |
//! | a peer sends `..`, absolute paths, disorder, huge counts | an error of the wire; nothing was touched |
//! | a directory of the target becomes a symlink meanwhile | not followed (a local or helper target); over SFTP as far as the protocol allows |

mod apply;
mod batch;
mod board;
mod change;
mod compare;
mod confine;
mod cut;
mod deletions;
#[doc(hidden)]
pub mod delta;
mod ending;
mod endpoint;
mod error;
mod failure;
pub mod filter;
#[doc(hidden)]
pub mod gentle;
mod group;
mod hard_links;
pub mod helper;
mod kept;
mod listed;
pub mod manifest;
mod merge;
mod options;
mod pass;
mod read;
mod root;
mod scan;
mod session;
mod sftp;
mod shard;
mod store;
mod sync;
mod temp;
mod throttle;
mod trail;
mod transfer;
mod walks;
mod watch;

pub use crate::wire::message::Manner;
pub use change::{Action, Change, Differs, NodeKind};
pub use endpoint::{CONNECTIONS_MAX, Endpoint};
pub use error::MediaError;
pub use listed::{BadList, Listed};
pub use options::{ChangeSink, DeleteLimit, Options, Outcome, Owner, PROBLEMS_MAX, Stats};
pub use sync::sync;
pub use watch::{Changes, Hints, Listener, Look, Rhythm, Said, WatchOptions, listen, watch};
