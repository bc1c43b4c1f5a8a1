//! What a copy did, whatever the mode.

use std::time::Instant;

use super::programs::Link;

/// What a copy did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Of archives and rows, before our compression.
    pub bytes: u64,
    pub data_millis: u64,
    pub post_data_millis: u64,
    pub analyze_millis: u64,
    /// The link, where it was measured.
    pub link: Option<Link>,
    /// What the programs warned about.
    pub problems: Vec<String>,
}

pub(super) fn millis(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}
