//! Real servers on loopback for the tests and the sandbox: each is a plain struct that owns its
//! directory and its processes, says where it listens, and stops when it is dropped. Nothing here
//! uses the library that is under test.

pub mod process;
pub mod proxy;
pub mod sshd;
