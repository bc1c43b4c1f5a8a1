//! The rsync algorithm for a file that is on both sides with other content: a signature of the old
//! one, computed where it lies; a delta of the new one against it; a patch of the two into a new
//! file. Files are read in parts, so memory does not grow with them; each step uses the cores there
//! are.
//!
//! Sums are short and only say what is likely equal: whoever patches must verify the whole result
//! by a hash of its own, and have the file sent whole if it is another. A peer's signature and
//! delta are checked before use.

mod diff;
mod encode;
mod index;
mod matching;
mod patch;
mod signature;
mod summing;
mod sums;

pub use diff::{Diffed, diff};
pub use patch::{Commands, Patcher, Sink};
pub use signature::{BadSignature, Basis, signature};
pub(crate) use summing::{PartSums, Summing, Sums};

/// Smaller files are sent whole: the delta would cost more round trips than it saves bytes.
pub(crate) const FILE_BYTES_MIN: u64 = 1 << 20;

#[cfg(test)]
mod tests;
