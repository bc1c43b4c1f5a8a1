//! Real servers on loopback for tests and for the sandbox program: each is a plain struct that
//! owns its directory and its processes, says where it listens, and stops when it is dropped, also
//! when the test panics. Nothing here uses the library under test.

pub mod dns;
pub mod media_tree;
pub mod newer_redis;
pub mod nginx;
pub mod pgbouncer;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod random;
pub mod redis;
pub mod sandbox;
pub mod seed;
pub mod sshd;
pub mod stand_in;
pub mod systemctl;
pub mod units;

use std::time::{Duration, Instant};

pub use process::free_port;

/// Polls `probe` until it is true; panics with `what` after `limit`.
pub fn wait_for(what: &str, limit: Duration, mut probe: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !probe() {
        assert!(Instant::now() < deadline, "{what} did not happen within {limit:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
