//! What is remembered of one inode, as bytes that are compared as they are.

use crate::media::root::{Stat, StatKind};
use crate::wire::tree::{Meta, Mtime};

pub(crate) const MARK_BYTES: usize = 44;

/// Size (of a directory: its number), times, kind, mode and owner of an inode. Two that are equal
/// say that nothing was done to it in between, but for what was done within one tick of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark(pub [u8; MARK_BYTES]);

/// Seconds and nanoseconds since 1970.
pub(crate) type Time = (i64, u32);

impl Mark {
    pub fn new(stat: &Stat) -> Self {
        let Stat { kind, size, meta, changed, inode, .. } = stat;
        let (kind, first) = match kind {
            StatKind::File => (1, *size),
            StatKind::Dir => (2, *inode),
            StatKind::Link => (3, *size),
            StatKind::Special => (4, 0),
        };
        let mut bytes = [0; MARK_BYTES];
        bytes[..8].copy_from_slice(&first.to_le_bytes());
        bytes[8..16].copy_from_slice(&meta.mtime.secs.to_le_bytes());
        bytes[16..20].copy_from_slice(&meta.mtime.nanos.to_le_bytes());
        bytes[20..28].copy_from_slice(&changed.0.to_le_bytes());
        bytes[28..32].copy_from_slice(&changed.1.to_le_bytes());
        bytes[32..36].copy_from_slice(&(meta.mode | kind << 16).to_le_bytes());
        bytes[36..40].copy_from_slice(&meta.uid.to_le_bytes());
        bytes[40..].copy_from_slice(&meta.gid.to_le_bytes());
        Mark(bytes)
    }

    /// Of a file or symlink.
    pub fn size(&self) -> u64 {
        u64::from_le_bytes(self.part(0))
    }

    pub fn meta(&self) -> Meta {
        let mtime = Mtime { secs: i64::from_le_bytes(self.part(8)), nanos: self.number(16) };
        let mode = self.number(32) & 0o7777;
        Meta { mode, mtime, uid: self.number(36), gid: self.number(40) }
    }

    /// When anything of the inode last changed. Nobody can set it.
    pub fn changed(&self) -> Time {
        (i64::from_le_bytes(self.part(20)), self.number(28))
    }

    fn number(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.part(at))
    }

    fn part<const LENGTH: usize>(&self, at: usize) -> [u8; LENGTH] {
        let mut part = [0; LENGTH];
        part.copy_from_slice(&self.0[at..at + LENGTH]);
        part
    }
}
