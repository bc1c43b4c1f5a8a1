//! Modes, owners and times as SFTP has them: whole seconds, and an access time with every other.

use crate::wire::sftp::Attrs;
use crate::wire::tree::{Meta, Mtime, OWNER_UNCHANGED};

pub(super) const TYPE_BITS: u32 = 0o170_000;
pub(super) const TYPE_DIR: u32 = 0o040_000;
pub(super) const TYPE_FILE: u32 = 0o100_000;
pub(super) const TYPE_LINK: u32 = 0o120_000;
/// Bits of a file's mode that a change of its owner clears.
const SET_ID: u32 = 0o6000;

/// What a file or directory is like.
pub(super) fn meta_of(attrs: &Attrs) -> Meta {
    let (uid, gid) = attrs.owner.unwrap_or_default();
    let (_, secs) = attrs.times.unwrap_or_default();
    Meta {
        mode: attrs.mode.unwrap_or_default() & 0o7777,
        mtime: Mtime { secs: secs.into(), nanos: 0 },
        uid,
        gid,
    }
}

pub(super) fn kind(attrs: &Attrs) -> u32 {
    attrs.mode.unwrap_or_default() & TYPE_BITS
}

/// The owner to set, if one is to be set.
pub(super) fn owner(meta: Meta) -> Option<(u32, u32)> {
    (meta.uid != OWNER_UNCHANGED && meta.gid != OWNER_UNCHANGED).then_some((meta.uid, meta.gid))
}

/// Mode and time.
pub(super) fn mode_and_time(meta: Meta) -> Attrs {
    Attrs { mode: Some(meta.mode), ..time(meta.mtime) }
}

/// Owner, mode and time of a directory, whose mode survives a change of owner.
pub(super) fn of_dir(meta: Meta) -> Attrs {
    Attrs { owner: owner(meta), ..mode_and_time(meta) }
}

/// What is to be set of a file, in this order: servers set the owner last, and that clears setuid.
pub(super) fn of_file(meta: Meta) -> impl Iterator<Item = Attrs> {
    let together = meta.mode & SET_ID == 0;
    let first = owner(meta).filter(|_| !together);
    let first = first.map(|owner| Attrs { owner: Some(owner), ..Attrs::default() });
    let last = Attrs { owner: owner(meta).filter(|_| together), ..mode_and_time(meta) };
    first.into_iter().chain([last])
}

pub(super) fn time(mtime: Mtime) -> Attrs {
    let secs = mtime.secs.clamp(0, i64::from(u32::MAX)) as u32;
    Attrs { times: Some((secs, secs)), ..Attrs::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_is_set_first_where_it_would_clear_setuid_and_else_along_with_the_rest() {
        let meta = |mode| Meta { mode, uid: 5, gid: 6, ..Meta::default() };
        let plain: Vec<Attrs> = of_file(meta(0o644)).collect();
        assert_eq!(plain.len(), 1);
        assert_eq!((plain[0].owner, plain[0].mode), (Some((5, 6)), Some(0o644)));
        let setuid: Vec<Attrs> = of_file(meta(0o4755)).collect();
        assert_eq!((setuid[0].owner, setuid[0].mode), (Some((5, 6)), None));
        assert_eq!((setuid[1].owner, setuid[1].mode), (None, Some(0o4755)));
        let nobody = Meta { uid: OWNER_UNCHANGED, gid: OWNER_UNCHANGED, ..meta(0o4755) };
        assert_eq!(of_file(nobody).count(), 1);
    }
}
