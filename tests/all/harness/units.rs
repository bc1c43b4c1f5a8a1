//! A machine's units in a directory of their own, run by the systemctl stand-in, with the real
//! systemctl as an oracle for everything that works without a manager.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The user that the units and the crontab belong to.
pub const USER: &str = "nobody";

/// Everything is below one directory; what was started is killed on drop.
pub struct Units {
    dir: tempfile::TempDir,
    program: PathBuf,
}

impl Units {
    pub fn new() -> Units {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let program = program();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        let units = Units { dir, program };
        for path in [
            "etc/systemd/system",
            "usr/lib/systemd/system",
            "etc/cron.d",
            "etc/cron.daily",
            "live/bin",
        ] {
            fs::create_dir_all(units.path(path)).expect("mkdir");
        }
        units
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    pub fn text(&self, below: &str) -> String {
        self.path(below).to_string_lossy().into_owned()
    }

    /// Writes a file, with its directories.
    pub fn write(&self, below: &str, text: &str) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().expect("below the root")).expect("mkdir");
        fs::write(path, text).expect("write");
    }

    /// Writes a unit file into `etc/systemd/system`; `{live}` becomes Mastodon's directory.
    pub fn install(&self, name: &str, text: &str) {
        let text = text.replace("{live}", &self.text("live"));
        self.write(&format!("etc/systemd/system/{name}"), &text);
    }

    /// Writes a program into Mastodon's `bin`.
    pub fn install_program(&self, name: &str, script: &str) {
        let below = format!("live/bin/{name}");
        self.write(&below, script);
        fs::set_permissions(self.path(&below), fs::Permissions::from_mode(0o755)).expect("chmod");
    }

    /// The words that run the stand-in on this machine.
    pub fn systemctl(&self) -> Vec<String> {
        let root = format!("--root={}", self.dir.path().display());
        vec![self.program.to_string_lossy().into_owned(), root]
    }

    /// Runs the stand-in.
    pub fn run(&self, words: &[&str]) -> Output {
        let systemctl = self.systemctl();
        Command::new(&systemctl[0]).args(&systemctl[1..]).args(words).output().expect("it starts")
    }

    /// Runs the stand-in and demands success; its standard output.
    pub fn run_ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What the real systemctl says of the same files.
    pub fn real(&self, words: &[&str]) -> Output {
        let root = format!("--root={}", self.dir.path().display());
        Command::new("systemctl").arg(root).args(words).output().expect("systemctl is installed")
    }

    /// Everything below `etc`: the content of files with their modes, the targets of links.
    pub fn snapshot(&self) -> BTreeMap<String, String> {
        let mut entries = BTreeMap::new();
        collect(&self.path("etc"), &mut entries);
        entries
    }

    /// A crontab(1) for [`USER`] that keeps its table in `crontab/table`.
    pub fn crontab(&self) -> Vec<String> {
        let dir = self.path("crontab");
        if !dir.exists() {
            fs::create_dir(&dir).expect("mkdir");
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).expect("chmod");
            self.install_program(
                "crontab",
                "#!/bin/sh\nt=$(dirname \"$0\")/../../crontab/table\ncase $1 in\n\
                 -l) [ -e \"$t\" ] || { echo \"no crontab for nobody\" >&2; exit 1; }; cat \"$t\";;\n\
                 -) cat > \"$t.new\" && mv \"$t.new\" \"$t\";;\nesac\n",
            );
        }
        vec![self.text("live/bin/crontab")]
    }
}

impl Drop for Units {
    fn drop(&mut self) {
        let listed = self.run(&["list-units", "--all", "--no-legend"]);
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        for unit in text.lines().filter_map(|line| line.split_whitespace().next()) {
            self.run(&["kill", "--signal=KILL", unit]);
        }
    }
}

/// The stand-in as a program: cargo builds it with the tests.
fn program() -> PathBuf {
    let own = std::env::current_exe().expect("the test has a path");
    let path = own.ancestors().nth(2).expect("target/debug/deps/test").join("examples/systemctl");
    assert!(path.exists(), "{} is missing: run `cargo build --examples`", path.display());
    path
}

fn collect(dir: &Path, entries: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).expect("readable").flatten() {
        let path = entry.path();
        let name = path.to_string_lossy().into_owned();
        let found = path.symlink_metadata().expect("it is there");
        if found.is_dir() {
            entries.insert(name, "directory".into());
            collect(&path, entries);
        } else if found.is_symlink() {
            let target = fs::read_link(&path).expect("a link");
            entries.insert(name, format!("-> {}", target.display()));
        } else {
            let text = fs::read_to_string(&path).expect("text");
            entries.insert(name, format!("{:o} {text}", found.permissions().mode() & 0o7777));
        }
    }
}
