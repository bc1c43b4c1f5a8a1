//! A login that may not do what has to be done: it is not root, and there is no `sudo -n`.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::{configure, refused, refused_by, small};
use crate::harness::postgres::postgres_user;
use crate::harness::sshd::Sshd;

/// The user without rights is `postgres`: every machine that runs these tests has it, with a shell.
/// Only root can become it, or let it log in.
fn unprivileged() -> Option<(u32, u32)> {
    let user = postgres_user();
    if user.is_none() {
        eprintln!("skipped: only root can run a part of this as another user");
    }
    user
}

#[test]
fn on_the_new_server() {
    if unprivileged().is_none() {
        return;
    }
    let mut sandbox = small();
    // Without PAM sshd takes an account without a password for a locked one.
    sandbox.new.ssh = Sshd::builder().config("UsePAM yes").start();
    let host = format!("ssh://postgres@127.0.0.1:{}", sandbox.new.ssh.port());
    configure(&sandbox, &["target", "host"], host);
    let words = [
        "rights on the target: postgres on 127.0.0.1 may not run commands as root",
        "log in as root, or give it `sudo -n`",
        "nothing was touched",
    ];
    refused(&sandbox, "no sudo on the new server", 4, &words);
}

#[test]
fn on_the_old_server() {
    let Some((uid, gid)) = unprivileged() else { return };
    let sandbox = small();
    // Its own copies of the program, the configuration and the key; a directory of its own.
    let dir = sandbox.dir().join("unprivileged");
    fs::create_dir(&dir).unwrap();
    let program = dir.join("transhume");
    fs::copy(crate::migrate::PROGRAM, &program).unwrap();
    let key = dir.join("key");
    fs::copy(sandbox.new.ssh.client_key(), &key).unwrap();
    let mut config = sandbox.config();
    config.insert("state_dir".into(), dir.join("state").display().to_string().into());
    config["target"]
        .as_table_mut()
        .unwrap()
        .insert("identity".into(), key.display().to_string().into());
    sandbox.write_config(&config);
    let run = || {
        let mut command = Command::new(&program);
        command.arg("--config").arg(sandbox.config_path()).args(["migrate", "--yes"]);
        command.stdin(Stdio::null()).env("HOME", &dir).current_dir(&dir).uid(uid).gid(gid);
        command
    };
    let words = ["cannot read", "Permission denied", "hint: run transhume as the owner"];
    refused_by(run(), &sandbox, "somebody else's configuration", 2, &words);

    for path in [&dir, &key, &sandbox.config_path()] {
        chown(path, Some(uid), Some(gid)).unwrap();
    }
    let words = [
        "rights on the source: postgres on this server may not run commands as root",
        "log in as root, or give it `sudo -n`",
    ];
    refused_by(run(), &sandbox, "no sudo on the old server", 4, &words);
}
