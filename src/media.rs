//! The file engine.

mod apply;
mod batch;
mod board;
mod change;
mod compare;
mod deletions;
mod delta;
mod ending;
mod endpoint;
mod error;
mod failure;
pub mod filter;
pub mod helper;
mod merge;
mod options;
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
mod transfer;

pub use change::{Action, Change, Differs, NodeKind};
pub use endpoint::{CONNECTIONS_MAX, Endpoint};
pub use error::MediaError;
pub use options::{ChangeSink, DeleteLimit, Options, Outcome, Owner, PROBLEMS_MAX, Stats};
pub use sync::sync;
