//! Real servers on loopback for tests: each owns a temporary directory and a child process, and
//! stops it when dropped, also when the test panics.

pub mod nginx;
pub mod redis;

use std::net::TcpListener;
use std::time::{Duration, Instant};

/// A loopback port that nobody listens on at the moment.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind a loopback port");
    listener.local_addr().expect("its address").port()
}

/// Polls `probe` until it is true; panics with `what` after `limit`.
pub fn wait_for(what: &str, limit: Duration, mut probe: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !probe() {
        assert!(Instant::now() < deadline, "{what} did not happen within {limit:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
