//! transhume moves a live Mastodon server to a new machine.
//!
//! The layers, lowest first; each imports only from those before it (`tests/all/layers.rs` enforces it):
//! vocabulary ([`error`], [`event`], [`secret`], [`units`], [`config`], [`journal`]) → [`wire`] →
//! [`host`] → the engines [`media`], [`database`] and [`instance`], which know nothing of each
//! other → [`migration`] → [`render`] → [`cli`]. ARCHITECTURE.md tells the story.

pub mod config;
pub mod error;
pub mod event;
pub mod journal;
pub mod secret;
pub mod units;

pub mod host;
pub mod wire;

pub mod database;
pub mod instance;
pub mod media;

pub mod cli;
pub mod migration;
pub mod render;
