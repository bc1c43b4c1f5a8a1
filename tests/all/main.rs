//! The live tests: one binary, one module for each part, real servers on loopback.

#[allow(dead_code, reason = "each part uses its own share of the harness")]
mod harness;

mod database;
mod instance_network;
mod layers;
mod render;
mod sandbox;
mod ssh;
