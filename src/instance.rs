//! What Mastodon is.

pub mod cron;
pub mod dns;
pub mod env_file;
pub mod fence;
pub mod maintenance;
pub mod nginx;
pub mod probe;
pub mod proxy;
pub mod redis;
pub mod services;
pub mod sidekiq;
