//! The integration tests: one binary, one module a part, real servers on loopback.

#[allow(dead_code, reason = "the sandbox program uses other parts of the harness")]
mod harness;
mod layers;
mod sandbox;
