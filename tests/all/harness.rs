//! Real servers on loopback, each with a directory and a port of its own, stopped when dropped.

pub mod postgres;
