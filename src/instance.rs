//! What Mastodon is.

pub mod cron;
pub mod dns;
pub mod env_file;
pub mod fence;
pub mod database_address;
mod facts;
pub mod layout;
pub mod maintenance;
pub mod nginx;
pub mod pgbouncer;
pub mod probe;
pub mod proxy;
pub mod redis;
pub mod services;
pub mod sidekiq;
pub mod stores;
pub mod tootctl;
mod url;
pub mod variables;
