//! What is asked of an SFTP server.

use bytes::{BufMut, Bytes, BytesMut};

use super::attrs::Attrs;
use super::put_string;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Open {
        path: Bytes,
        flags: u32,
        attrs: Attrs,
    },
    Close {
        handle: Bytes,
    },
    Read {
        handle: Bytes,
        offset: u64,
        length: u32,
    },
    Write {
        handle: Bytes,
        offset: u64,
        data: Bytes,
    },
    Lstat {
        path: Bytes,
    },
    Fstat {
        handle: Bytes,
    },
    SetStat {
        path: Bytes,
        attrs: Attrs,
    },
    FsetStat {
        handle: Bytes,
        attrs: Attrs,
    },
    OpenDir {
        path: Bytes,
    },
    ReadDir {
        handle: Bytes,
    },
    Remove {
        path: Bytes,
    },
    MakeDir {
        path: Bytes,
        attrs: Attrs,
    },
    RemoveDir {
        path: Bytes,
    },
    RealPath {
        path: Bytes,
    },
    Stat {
        path: Bytes,
    },
    ReadLink {
        path: Bytes,
    },
    /// In OpenSSH's order, which is the reverse of the draft's: what the link says comes first.
    Symlink {
        text: Bytes,
        path: Bytes,
    },
    /// `posix-rename@openssh.com`: replaces what is at `to`.
    PosixRename {
        from: Bytes,
        to: Bytes,
    },
    /// `hardlink@openssh.com`.
    HardLink {
        from: Bytes,
        to: Bytes,
    },
    /// `lsetstat@openssh.com`: does not follow a symlink.
    LsetStat {
        path: Bytes,
        attrs: Attrs,
    },
    /// `statvfs@openssh.com`.
    StatVfs {
        path: Bytes,
    },
    /// `fsync@openssh.com`.
    Fsync {
        handle: Bytes,
    },
    /// `copy-data`. What goes wrong in its last 64 KiB is not told: see [`COPY_STEP_BYTES`].
    CopyData {
        from: Bytes,
        offset: u64,
        length: u64,
        into: Bytes,
        at: u64,
    },
}

/// OpenSSH copies in steps of so many bytes, and calls a copy done whatever came of the last one.
/// So what is copied should be whole steps and one byte, which something else then overwrites.
pub const COPY_STEP_BYTES: u64 = 64 * 1024;

impl Request {
    /// About how many bytes the packet takes: what flow control counts.
    pub fn weight(&self) -> usize {
        let content = match self {
            Request::Write { data, .. } => data.len(),
            Request::Read { length, .. } => *length as usize,
            // Mostly a few names.
            Request::ReadDir { .. } => 1024,
            Request::Open { path, .. }
            | Request::Lstat { path }
            | Request::SetStat { path, .. }
            | Request::OpenDir { path }
            | Request::Remove { path }
            | Request::MakeDir { path, .. }
            | Request::RemoveDir { path }
            | Request::RealPath { path }
            | Request::Stat { path }
            | Request::ReadLink { path }
            | Request::LsetStat { path, .. }
            | Request::StatVfs { path } => path.len(),
            Request::Symlink { text, path } => text.len() + path.len(),
            Request::PosixRename { from, to } | Request::HardLink { from, to } => {
                from.len() + to.len()
            }
            Request::Close { handle }
            | Request::Fstat { handle }
            | Request::Fsync { handle }
            | Request::FsetStat { handle, .. } => handle.len(),
            Request::CopyData { from, into, .. } => from.len() + into.len(),
        };
        content + 64
    }

    /// Appends the packet.
    pub fn write(&self, id: u32, out: &mut BytesMut) {
        let start = out.len();
        out.put_u32(0);
        out.put_u8(self.number());
        out.put_u32(id);
        self.write_body(out);
        let length = (out.len() - start - 4) as u32;
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }

    fn number(&self) -> u8 {
        match self {
            Request::Open { .. } => 3,
            Request::Close { .. } => 4,
            Request::Read { .. } => 5,
            Request::Write { .. } => 6,
            Request::Lstat { .. } => 7,
            Request::Fstat { .. } => 8,
            Request::SetStat { .. } => 9,
            Request::FsetStat { .. } => 10,
            Request::OpenDir { .. } => 11,
            Request::ReadDir { .. } => 12,
            Request::Remove { .. } => 13,
            Request::MakeDir { .. } => 14,
            Request::RemoveDir { .. } => 15,
            Request::RealPath { .. } => 16,
            Request::Stat { .. } => 17,
            Request::ReadLink { .. } => 19,
            Request::Symlink { .. } => 20,
            Request::PosixRename { .. }
            | Request::HardLink { .. }
            | Request::LsetStat { .. }
            | Request::StatVfs { .. }
            | Request::Fsync { .. }
            | Request::CopyData { .. } => 200,
        }
    }

    fn write_body(&self, out: &mut BytesMut) {
        match self {
            Request::Open { path, flags, attrs } => {
                put_string(out, path);
                out.put_u32(*flags);
                attrs.write(out);
            }
            Request::Close { handle } | Request::Fstat { handle } | Request::ReadDir { handle } => {
                put_string(out, handle)
            }
            Request::Read { handle, offset, length } => {
                put_string(out, handle);
                out.put_u64(*offset);
                out.put_u32(*length);
            }
            Request::Write { handle, offset, data } => {
                put_string(out, handle);
                out.put_u64(*offset);
                put_string(out, data);
            }
            Request::Lstat { path }
            | Request::OpenDir { path }
            | Request::Remove { path }
            | Request::RemoveDir { path }
            | Request::RealPath { path }
            | Request::Stat { path }
            | Request::ReadLink { path } => put_string(out, path),
            Request::SetStat { path, attrs } | Request::MakeDir { path, attrs } => {
                put_string(out, path);
                attrs.write(out);
            }
            Request::FsetStat { handle, attrs } => {
                put_string(out, handle);
                attrs.write(out);
            }
            Request::Symlink { text, path } => {
                put_string(out, text);
                put_string(out, path);
            }
            Request::PosixRename { from, to } => {
                put_string(out, b"posix-rename@openssh.com");
                put_string(out, from);
                put_string(out, to);
            }
            Request::HardLink { from, to } => {
                put_string(out, b"hardlink@openssh.com");
                put_string(out, from);
                put_string(out, to);
            }
            Request::LsetStat { path, attrs } => {
                put_string(out, b"lsetstat@openssh.com");
                put_string(out, path);
                attrs.write(out);
            }
            Request::StatVfs { path } => {
                put_string(out, b"statvfs@openssh.com");
                put_string(out, path);
            }
            Request::Fsync { handle } => {
                put_string(out, b"fsync@openssh.com");
                put_string(out, handle);
            }
            Request::CopyData { from, offset, length, into, at } => {
                put_string(out, b"copy-data");
                put_string(out, from);
                out.put_u64(*offset);
                out.put_u64(*length);
                put_string(out, into);
                out.put_u64(*at);
            }
        }
    }
}
