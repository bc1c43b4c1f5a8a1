//! The file engine: whole passes against real servers, and against peers that misbehave.

mod asker;
mod cli;
mod confined;
mod delta;
mod delta_sftp;
mod exact;
mod faults;
mod fixture;
mod gentle;
mod guards;
mod hostile;
mod hostile_parts;
mod liar;
mod memory;
mod million;
mod model;
mod odd_sftp;
mod order;
mod parts;
mod parts_sftp;
mod rights;
mod rsync;
mod tree;
mod verify;
mod watch;
