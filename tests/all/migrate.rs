//! The whole move on the sandbox: undisturbed, killed, refused, rolled back.

#[path = "migrate/faults.rs"]
mod faults;
#[path = "migrate/normal.rs"]
mod normal;
#[path = "migrate/read_only.rs"]
mod read_only;
#[path = "migrate/refusals.rs"]
mod refusals;
#[path = "migrate/rollback.rs"]
mod rollback;
#[path = "migrate/spoilt.rs"]
mod spoilt;
#[path = "migrate/transcripts.rs"]
mod transcripts;
#[path = "migrate/variants.rs"]
mod variants;
#[path = "migrate/whole.rs"]
mod whole;

use std::process::{Command, Output, Stdio};

use crate::harness::sandbox::Sandbox;

const PROGRAM: &str = env!("CARGO_BIN_EXE_transhume");

fn command(sandbox: &Sandbox, words: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("--config").arg(sandbox.config_path()).args(words).stdin(Stdio::null());
    command
}

fn transhume(sandbox: &Sandbox, words: &[&str]) -> Output {
    command(sandbox, words).output().expect("run transhume")
}

fn told(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[track_caller]
fn assert_exit(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", told(output));
}
