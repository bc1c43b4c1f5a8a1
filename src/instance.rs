//! What Mastodon is.

pub mod dns;
pub mod maintenance;
pub mod nginx;
pub mod probe;
pub mod proxy;
pub mod redis;
pub mod sidekiq;
