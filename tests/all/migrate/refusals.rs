//! What is refused, before anything is touched: each case is a real situation on the sandbox, met
//! by the real `migrate --yes`.

#[path = "refusals/config.rs"]
mod config;
#[path = "refusals/database.rs"]
mod database;
#[path = "refusals/env_file.rs"]
mod env_file;
#[path = "refusals/login.rs"]
mod login;
#[path = "refusals/media.rs"]
mod media;
#[path = "refusals/pooler.rs"]
mod pooler;
#[path = "refusals/redis.rs"]
mod redis;
#[path = "refusals/rights.rs"]
mod rights;
#[path = "refusals/target.rs"]
mod target;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::{command, told};
use crate::harness::random::CANARY;
use crate::harness::sandbox::{Options, Sandbox, Side, Snapshot};

fn small() -> Sandbox {
    Sandbox::start(&Options::small())
}

/// A move must end with `code` and say all `words`, repeat no secret, and leave both servers as
/// they are. Gives what it said.
#[track_caller]
fn refused(sandbox: &Sandbox, what: &str, code: i32, words: &[&str]) -> String {
    refused_by(command(sandbox, &["migrate", "--yes"]), sandbox, what, code, words)
}

/// The same for another way of starting it.
#[track_caller]
fn refused_by(
    mut command: Command,
    sandbox: &Sandbox,
    what: &str,
    code: i32,
    words: &[&str],
) -> String {
    let (old, new) = (Snapshot::take(&sandbox.old), Snapshot::take(&sandbox.new));
    let output = command.output().expect("run transhume");
    let text = told(&output);
    println!("--- {what}: exit code {:?}\n{text}", output.status.code());
    assert_eq!(output.status.code(), Some(code), "{what}: {text}");
    for word in words {
        assert!(text.contains(word), "{what}: no {word:?} in\n{text}");
    }
    assert!(!text.contains(CANARY), "{what}: a secret in\n{text}");
    assert_eq!(sandbox.source_changes(&old), [""; 0], "{what}");
    assert_eq!(sandbox.target_changes(&new), [""; 0], "{what}");
    text
}

/// Writes the sandbox's configuration with one value changed: `path` is the keys down to it.
fn configure(sandbox: &Sandbox, path: &[&str], value: impl Into<toml::Value>) {
    let mut config = sandbox.config();
    let (last, tables) = path.split_last().expect("a key");
    let mut table = &mut config;
    for name in tables {
        let inner = table.entry(*name).or_insert_with(|| toml::Table::new().into());
        table = inner.as_table_mut().expect("a table");
    }
    table.insert((*last).into(), value.into());
    sandbox.write_config(&config);
}

/// `.env.production` of a server, changed until this is dropped.
struct EnvFile<'a> {
    side: &'a Side,
    original: Vec<u8>,
}

impl<'a> EnvFile<'a> {
    fn of(side: &'a Side) -> Self {
        EnvFile { side, original: fs::read(side.env_path()).expect("read .env.production") }
    }

    /// Sets a variable that the file has; `None` takes its line out.
    fn set(&self, key: &str, value: Option<&str>) {
        let text = String::from_utf8(self.original.clone()).expect("text");
        let is_its = |line: &&str| line.starts_with(&format!("{key}="));
        assert!(text.lines().any(|line| is_its(&line)), "{key} is in the file");
        let lines = text.lines().map(|line| match (is_its(&line), value) {
            (false, _) => format!("{line}\n"),
            (true, Some(value)) => format!("{key}={value}\n"),
            (true, None) => String::new(),
        });
        self.write(lines.collect::<String>().as_bytes());
    }

    /// Adds to the end of the file as it was.
    fn append(&self, bytes: &[u8]) {
        self.write(&[&self.original, bytes].concat());
    }

    /// In place, so that owner and mode stay.
    fn write(&self, bytes: &[u8]) {
        fs::write(self.side.env_path(), bytes).expect("write .env.production");
    }
}

impl Drop for EnvFile<'_> {
    fn drop(&mut self) {
        self.write(&self.original);
    }
}

fn chmod(path: &std::path::Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}
