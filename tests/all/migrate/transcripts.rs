//! What an operator reads, verb by verb, as it stands on the screen, from real runs.

#[path = "transcripts/before.rs"]
mod before;
#[path = "transcripts/stopped.rs"]
mod stopped;
#[path = "transcripts/whole.rs"]
mod whole;

use std::process::{Command, Output, Stdio};

use super::PROGRAM;
use super::normal::Names;
use crate::harness::sandbox::{Options, Sandbox};

/// A sandbox whose verbs are read.
struct Reader {
    sandbox: Sandbox,
    names: Names,
}

impl Reader {
    fn start() -> Reader {
        let sandbox = Sandbox::start(&Options::small());
        let names = Names::of(&sandbox);
        Reader { sandbox, names }
    }

    /// Runs a verb and gives what it told.
    fn read(&self, words: &[&str]) -> String {
        let config = self.sandbox.config_path().display().to_string();
        self.names.transcript(&transhume(&config, words))
    }
}

fn transhume(config: &str, words: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.env("TZ", "UTC").args(["--config", config]).args(words).stdin(Stdio::null());
    command.output().expect("run transhume")
}
