//! The way to the new server.

use std::fs;

use super::{configure, refused, small};
use crate::harness::free_port;
use crate::harness::sshd::generate_key;

#[test]
fn a_host_key_that_is_not_known_or_not_the_recorded_one() {
    let sandbox = small();
    let known = sandbox.dir().join("known_hosts");
    configure(
        &sandbox,
        &["target", "ssh_options", "UserKnownHostsFile"],
        known.display().to_string(),
    );
    fs::write(&known, "").unwrap();
    let words =
        ["is not proved to be the machine you mean", "SHA256:", "is not known", "hint: log"];
    refused(&sandbox, "an unknown host key", 1, &words);
    assert_eq!(fs::read_to_string(&known).unwrap(), "", "nothing is accepted silently");

    let other = sandbox.dir().join("other_key");
    generate_key(&other, "ed25519", "");
    let key = fs::read_to_string(other.with_extension("pub")).unwrap();
    let name = format!("[127.0.0.1]:{}", sandbox.new.ssh.port());
    let line = format!("{name} {key}");
    fs::write(&known, &line).unwrap();
    let words = [
        "is not proved to be the machine you mean",
        "ITS HOST KEY HAS CHANGED: the ssh-ed25519 key SHA256:",
        &format!("is not the ssh-ed25519 key of {}, line 1", known.display()),
        "hint: somebody may be in between",
        &format!("ssh-keygen -R '{name}'"),
    ];
    refused(&sandbox, "another host key than recorded", 1, &words);
    assert_eq!(fs::read_to_string(&known).unwrap(), line, "the record stays");

    fs::write(&known, format!("@revoked {name} {}\n", sandbox.new.ssh.host_key())).unwrap();
    refused(&sandbox, "a revoked host key", 1, &["is revoked", "give the machine a new host key"]);
}

#[test]
fn a_server_that_lets_nobody_in_or_is_not_there() {
    let sandbox = small();
    let wrong = sandbox.old.ssh.client_key().display().to_string();
    configure(&sandbox, &["target", "identity"], wrong);
    let words = [
        "did not accept the login as",
        "hint: install a key with `ssh-copy-id",
        "`identity` in transhume",
    ];
    refused(&sandbox, "a wrong key", 1, &words);

    configure(&sandbox, &["target", "identity"], "/nonexistent/key");
    refused(&sandbox, "a key that is not there", 1, &["/nonexistent/key", "hint:"]);

    let port = free_port();
    configure(&sandbox, &["target", "host"], format!("ssh://127.0.0.1:{port}"));
    let words = [
        "cannot reach 127.0.0.1",
        "caused by: Connection refused",
        &format!("hint: is sshd running on port {port}?"),
    ];
    let text = refused(&sandbox, "a closed port", 1, &words);
    assert!(!text.contains("rollback"), "there is nothing to roll back:\n{text}");

    configure(&sandbox, &["target", "host"], "ssh://root@no-such-host.invalid");
    let words = ["cannot reach no-such-host.invalid", "hint: check the name: `getent hosts"];
    refused(&sandbox, "a name that leads nowhere", 1, &words);
}
