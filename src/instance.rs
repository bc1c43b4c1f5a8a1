//! What Mastodon is.

pub mod attachments;
pub mod config_files;
pub mod cron;
pub mod database_address;
pub mod dns;
pub mod env_file;
pub mod environment;
mod facts;
pub mod fence;
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
