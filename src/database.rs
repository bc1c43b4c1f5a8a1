//! The database engine: copies one PostgreSQL database to another server and proves that it is
//! all there.
//!
//! In flow two [`Server`]s (how to reach each, and as whom); out flow events, a database that is a
//! copy of the source as one snapshot saw it, and a [`compare::Comparison`]. The source is only
//! read. The story, in order: [`check`](check()) → [`target::prepare`] → [`stream::copy`] or
//! [`parallel::copy`] → [`compare::compare`] → [`target::set_mark`]; [`transfer`](transfer()) tells it in one call. It
//! knows nothing of Mastodon apart from a sore spot in [`risks`], and nothing of plans, configs or
//! the other engines.

mod analyze;
mod check;
pub mod cluster;
pub mod compare;
pub mod conninfo;
mod copied;
mod error;
mod held;
pub mod inspect;
pub mod parallel;
pub mod passfile;
pub mod predict;
pub mod preflight;
mod programs;
mod quote;
pub mod risks;
pub mod server;
pub mod session;
mod snapshot;
pub mod stream;
pub mod target;
pub mod tools;
mod transfer;
mod tuning;

pub use check::{Looking, check, check_for, tables};
pub use error::{DatabaseError, SqlError};
pub use predict::{Prediction, predict};
pub use server::{Server, Version};
pub use session::{Access, Session};
pub use snapshot::Snapshot;
pub use transfer::{Mode, Options, Transferred, transfer};
