//! `sandbox up DIR`: starts both servers, says where everything is, and waits for Ctrl-C.

use std::path::Path;
use std::time::Duration;

use crate::harness::sandbox::{Options, Sandbox, Side};
use crate::signals::Interrupted;

pub fn run(arguments: &[String]) -> i32 {
    let [dir] = arguments else {
        eprintln!("{}", crate::USAGE);
        return 2;
    };
    let interrupted = Interrupted::watch();
    let dir = Path::new(dir);
    std::fs::create_dir_all(dir).expect("make the directory");
    let dir = dir.canonicalize().expect("an absolute path");
    keep_temporary_files_in(&dir);
    let sandbox = Sandbox::start(&Options { dir: Some(dir), ..Options::small() });
    println!("{}", describe(&sandbox));
    while !interrupted.is_set() {
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("stopping");
    0
}

/// The servers' own directories too, so that all of it is in one place.
pub fn keep_temporary_files_in(dir: &Path) {
    let servers = dir.join("servers");
    std::fs::create_dir_all(&servers).expect("make the directory");
    // It can be set once in a process, and this is a process of its own.
    let _ = tempfile::env::override_temp_dir(&servers);
}

fn describe(sandbox: &Sandbox) -> String {
    let side = |side: &Side| {
        format!(
            "{}: https://{}:{} · ssh -p {} -i {} {}@127.0.0.1 · psql -h {} -p {} · redis-cli -p {}\n    {}",
            side.name,
            side.address,
            side.https_port,
            side.ssh.port(),
            side.ssh.client_key().display(),
            side.ssh.user(),
            side.postgres.socket_dir().display(),
            side.postgres.port(),
            side.redis.port(),
            side.dir.display(),
        )
    };
    format!(
        "{}\n{}\nconfiguration: {}\nCtrl-C stops everything",
        side(&sandbox.old),
        side(&sandbox.new),
        sandbox.config_path().display()
    )
}
