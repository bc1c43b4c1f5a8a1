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
#[path = "migrate/watched.rs"]
mod watched;
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

/// The configuration for a command that runs on the new server and reaches the old one.
fn driven_by_the_new_server(sandbox: &Sandbox) -> toml::Table {
    let mut config = sandbox.config();
    config["source"].as_table_mut().unwrap().extend(sandbox.old.ssh_config());
    let target = config["target"].as_table_mut().unwrap();
    for name in ["host", "identity", "ssh_options"] {
        target.remove(name);
    }
    config
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
