//! The live tests: one binary, one module for each part, real servers on loopback.

#[allow(dead_code, reason = "each part uses its own share of the harness")]
#[allow(unused_imports, reason = "the same: some is exported for the sandbox program alone")]
mod harness;

mod command_line;
mod database;
mod helper;
mod instance_facts;
mod instance_network;
mod instance_system;
mod layers;
mod media;
mod migrate;
mod render;
mod sandbox;
mod ssh;
mod wanlink;
