//! What Mastodon is.

pub mod cron;
pub mod env_file;
pub mod fence;
pub mod services;
