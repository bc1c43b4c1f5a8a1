//! The file engine: whole passes against real servers, and against peers that misbehave.

mod cli;
mod confined;
mod delta;
mod exact;
mod faults;
mod fixture;
mod gentle;
mod guards;
mod hostile;
mod memory;
mod model;
mod order;
mod parts;
mod rights;
mod tree;
mod verify;
mod watch;
