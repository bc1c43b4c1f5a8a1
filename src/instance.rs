//! What Mastodon is.

pub mod database_address;
pub mod dns;
mod facts;
pub mod layout;
pub mod maintenance;
pub mod nginx;
pub mod pgbouncer;
pub mod probe;
pub mod proxy;
pub mod redis;
pub mod sidekiq;
pub mod stores;
pub mod tootctl;
mod url;
pub mod variables;
