//! The helper transport: the same workers as for a local directory, on the other side of a byte
//! stream. [`serve`] is the remote half, `client` ours.

mod ahead;
pub(crate) mod client;
mod frames;
mod server;
mod sink;
pub(crate) mod stream;

pub use server::{serve, serve_confined};
