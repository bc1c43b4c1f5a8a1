//! Every test that needs real servers, in one binary: see `harness`.

#[allow(dead_code, reason = "the harness also serves the sandbox program, which uses other parts")]
mod harness;

mod database;
