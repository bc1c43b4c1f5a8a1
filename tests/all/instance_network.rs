//! nginx, Redis and DNS as the move uses them, on real servers.

mod backend;
mod dns;
mod maintenance;
mod proxy;
mod redis;
mod sidekiq;
mod site;
