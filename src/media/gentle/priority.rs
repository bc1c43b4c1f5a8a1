//! The lowest priority for a thread, at processors and disks.

/// ioprio_set(2): the class that is served when nobody else wants the disk.
const WHO_PROCESS: libc::c_int = 1;
const CLASS_IDLE: libc::c_int = 3;
const CLASS_SHIFT: libc::c_int = 13;
const NICE_MOST: i32 = 19;

/// Gives the calling thread the lowest priority. Where that does not work it keeps what it has: the
/// pace alone has to do.
pub(in crate::media) fn yield_to_others() {
    // To Linux a thread is a process of its own here.
    let _ = rustix::process::setpriority_process(None, NICE_MOST);
    // SAFETY: takes numbers and returns a number; 0 is the calling thread.
    let _ =
        unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, CLASS_IDLE << CLASS_SHIFT) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_yields_and_the_others_do_not() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let before = nice();
        let yielding = std::thread::spawn(move || {
            yield_to_others();
            // SAFETY: takes numbers and returns a number.
            let class = unsafe { libc::syscall(libc::SYS_ioprio_get, WHO_PROCESS, 0) };
            (nice(), class >> CLASS_SHIFT)
        });
        assert_eq!(yielding.join().unwrap(), (NICE_MOST, CLASS_IDLE.into()));
        assert_eq!(nice(), before);
    }
}
