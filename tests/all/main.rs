//! The integration tests: one binary, one module a part, real servers on loopback.

mod render;
