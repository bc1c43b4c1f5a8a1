//! The helper transport: the same workers as for a local directory, on the other side of a byte
//! stream. [`serve`] is the remote half, `client` ours.

pub(crate) mod client;
mod frames;
mod server;
pub(crate) mod stream;

pub use server::{serve, serve_confined};
