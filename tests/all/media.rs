//! The file engine: whole passes against real servers, and against peers that misbehave.

mod cli;
mod delta;
mod exact;
mod faults;
mod fixture;
mod guards;
mod hostile;
mod memory;
mod model;
mod parts;
mod rights;
mod rsync;
mod tree;
