//! A room of its own for a program: a network namespace, and a process namespace whose first
//! process it is. When the program ends, however it ends, the kernel ends all that it started.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::process::Signal;

/// Tells the program that it is inside.
const INSIDE: &str = "--inside-a-room";

/// The arguments of a program that is inside.
pub fn inside() -> Option<Vec<OsString>> {
    let mut arguments = std::env::args_os().skip(1);
    (arguments.next()? == INSIDE).then(|| arguments.collect())
}

/// Runs this program with its arguments again, inside.
pub fn enter() -> ExitCode {
    if !rustix::process::geteuid().is_root() {
        eprintln!("a link takes root: it makes network namespaces and devices");
        return ExitCode::FAILURE;
    }
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => {
            eprintln!("find this program: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut command = Command::new("unshare");
    command.args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    command.arg(program).arg(INSIDE).args(std::env::args_os().skip(1));
    // SAFETY: between fork and exec it makes one system call and touches no memory of ours.
    unsafe {
        command.pre_exec(|| {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            Ok(())
        });
    }
    match command.status() {
        Ok(status) => {
            ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
        }
        Err(error) => {
            eprintln!("unshare: {error}");
            ExitCode::FAILURE
        }
    }
}
