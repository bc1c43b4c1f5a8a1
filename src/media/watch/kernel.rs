//! The system calls of fanotify(7) that rustix does not have: to be told of every change in a file
//! system, and to open the directory that is told of. Both need root.

use std::io;
use std::mem::{align_of, offset_of, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::record::Handle;

/// What changes names, contents, modes or owners.
const CHANGES: u64 = libc::FAN_CREATE
    | libc::FAN_DELETE
    | libc::FAN_MOVED_FROM
    | libc::FAN_MOVED_TO
    | libc::FAN_CLOSE_WRITE
    | libc::FAN_ATTRIB
    | libc::FAN_ONDIR;

/// A descriptor from which the changes in the whole file system of `root` are read.
pub(super) fn listen(root: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::FAN_CLASS_NOTIF
        | libc::FAN_CLOEXEC
        | libc::FAN_NONBLOCK
        | libc::FAN_REPORT_DIR_FID
        | libc::FAN_REPORT_NAME;
    let event_flags = (libc::O_RDONLY | libc::O_CLOEXEC) as libc::c_uint;
    // SAFETY: takes numbers and returns a number.
    let fd = unsafe { libc::fanotify_init(flags, event_flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was opened just now and belongs to nobody else.
    let queue = unsafe { OwnedFd::from_raw_fd(fd) };
    let flags = libc::FAN_MARK_ADD | libc::FAN_MARK_FILESYSTEM;
    let path = c".";
    // SAFETY: both descriptors are open, and `path` is a string that ends with 0 and lives on.
    let marked = unsafe {
        libc::fanotify_mark(queue.as_raw_fd(), flags, CHANGES, root.as_raw_fd(), path.as_ptr())
    };
    if marked < 0 { Err(io::Error::last_os_error()) } else { Ok(queue) }
}

const HEAD_BYTES: usize = offset_of!(libc::file_handle, f_handle);
const _: () = assert!(align_of::<libc::file_handle>() <= align_of::<u64>());
const _: () = assert!(HEAD_BYTES == 8 && size_of::<libc::file_handle>() == HEAD_BYTES);
/// The longest handle that the kernel makes.
const HANDLE_BYTES_MAX: usize = 128;

/// The directory with `handle` in the file system of `root`; nothing can be read through it.
pub(super) fn open(root: BorrowedFd<'_>, handle: Handle<'_>) -> io::Result<OwnedFd> {
    if handle.bytes.len() > HANDLE_BYTES_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::with_capacity(HEAD_BYTES + HANDLE_BYTES_MAX);
    bytes.extend_from_slice(&(handle.bytes.len() as u32).to_ne_bytes());
    bytes.extend_from_slice(&handle.kind.to_ne_bytes());
    bytes.extend_from_slice(handle.bytes);
    // Words, so that it lies where a handle may lie.
    let mut words: Vec<u64> = bytes
        .chunks(8)
        .map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_ne_bytes(word)
        })
        .collect();
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: `words` begins with the head of a handle, is aligned for it, and goes on with as many
    // bytes as the head says; the kernel only reads them. `root` is open.
    let fd = unsafe { libc::open_by_handle_at(root.as_raw_fd(), words.as_mut_ptr().cast(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was opened just now and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
