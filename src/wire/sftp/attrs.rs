//! The attributes of a file as version 3 has them.

use bytes::{BufMut, Bytes, BytesMut};

use super::{get_string, get_u32, get_u64};
use crate::wire::WireError;

/// Attributes; what is `None` is neither sent nor changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attrs {
    pub size: Option<u64>,
    /// User and group.
    pub owner: Option<(u32, u32)>,
    /// Type and permission bits.
    pub mode: Option<u32>,
    /// Access and modification, in seconds since 1970.
    pub times: Option<(u32, u32)>,
}

const ATTR_SIZE: u32 = 0x1;
const ATTR_OWNER: u32 = 0x2;
const ATTR_MODE: u32 = 0x4;
const ATTR_TIMES: u32 = 0x8;
const ATTR_EXTENDED: u32 = 0x8000_0000;

impl Attrs {
    pub(super) fn write(&self, out: &mut BytesMut) {
        let flag = |set: bool, bit: u32| if set { bit } else { 0 };
        out.put_u32(
            flag(self.size.is_some(), ATTR_SIZE)
                | flag(self.owner.is_some(), ATTR_OWNER)
                | flag(self.mode.is_some(), ATTR_MODE)
                | flag(self.times.is_some(), ATTR_TIMES),
        );
        if let Some(size) = self.size {
            out.put_u64(size);
        }
        if let Some((uid, gid)) = self.owner {
            out.put_u32(uid);
            out.put_u32(gid);
        }
        if let Some(mode) = self.mode {
            out.put_u32(mode);
        }
        if let Some((access, modification)) = self.times {
            out.put_u32(access);
            out.put_u32(modification);
        }
    }

    pub(super) fn read(input: &mut Bytes) -> Result<Self, WireError> {
        let flags = get_u32(input)?;
        let has = |bit| flags & bit != 0;
        let size = if has(ATTR_SIZE) { Some(get_u64(input)?) } else { None };
        let owner = if has(ATTR_OWNER) { Some((get_u32(input)?, get_u32(input)?)) } else { None };
        let mode = if has(ATTR_MODE) { Some(get_u32(input)?) } else { None };
        let times = if has(ATTR_TIMES) { Some((get_u32(input)?, get_u32(input)?)) } else { None };
        if has(ATTR_EXTENDED) {
            // Nothing in them is of use; an announced count that the packet cannot hold ends the
            // loop with an error.
            for _ in 0..get_u32(input)? {
                get_string(input)?;
                get_string(input)?;
            }
        }
        Ok(Attrs { size, owner, mode, times })
    }
}
