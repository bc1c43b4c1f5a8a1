//! The integration tests: one binary, one module a part, real servers on loopback.

#[allow(dead_code, reason = "each test module uses its part of the harness")]
mod harness;
mod media;
mod ssh;
