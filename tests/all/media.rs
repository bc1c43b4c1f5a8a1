//! The file engine: whole passes against real servers, and against peers that misbehave.

mod exact;
mod fixture;
mod tree;
