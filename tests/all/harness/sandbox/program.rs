//! The program that holds all stand-ins: the `sandbox` example of this package.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// Puts a copy where any user can run it, and gives its path.
pub fn install(base: &Path) -> PathBuf {
    let bin = base.join("bin");
    fs::create_dir_all(&bin).expect("make a directory");
    let program = bin.join("sandbox");
    let built = find();
    if fs::hard_link(&built, &program).is_err() {
        fs::copy(&built, &program).expect("copy the sandbox program");
    }
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("chmod");
    program
}

/// The processes that run the copy below `base`.
pub fn running(base: &Path) -> Vec<u32> {
    let program = base.join("bin/sandbox");
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let ours =
        |pid: &u32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program);
    pids.filter(ours).collect()
}

/// The example's file: this program where it is the example, else built beside the tests.
fn find() -> PathBuf {
    let own = std::env::current_exe().expect("we have a path");
    let dir = own.parent().expect("in a directory");
    if dir.ends_with("examples") {
        return own;
    }
    let profile = dir.parent().expect("target/PROFILE/deps");
    let built = profile.join("examples/sandbox");
    // `cargo test --test all` builds no examples.
    if modified(&built) < newest_source() {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--locked", "--example", "sandbox"]);
        cargo.args(profile.ends_with("release").then_some("--release"));
        // What cargo tells a test about its package makes some build scripts run again.
        let told = |name: &str| {
            ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|start| name.starts_with(start))
        };
        for (name, _) in std::env::vars().filter(|(name, _)| told(name)) {
            cargo.env_remove(name);
        }
        cargo.arg("--target-dir").arg(profile.parent().expect("target"));
        let status = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status();
        assert!(status.is_ok_and(|status| status.success()), "build the sandbox program");
    }
    built
}

fn newest_source() -> SystemTime {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let newest = |dir: &str| newest_below(&root.join(dir));
    newest("tests/all/harness").max(newest("tools/sandbox"))
}

fn newest_below(dir: &Path) -> SystemTime {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let times = entries.map(|entry| {
        let path = entry.path();
        if path.is_dir() { newest_below(&path) } else { modified(&path) }
    });
    times.max().unwrap_or(SystemTime::UNIX_EPOCH)
}

fn modified(path: &Path) -> SystemTime {
    let found = fs::metadata(path).and_then(|found| found.modified());
    found.unwrap_or(SystemTime::UNIX_EPOCH)
}
