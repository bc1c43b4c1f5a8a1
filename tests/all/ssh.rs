//! SSH against a real server.

use std::process::Command;

use crate::harness::process::tool;
use crate::harness::proxy::Proxy;
use crate::harness::sshd::Sshd;

#[test]
fn harness_sshd_lets_openssh_in_through_a_proxy() {
    let sshd = Sshd::start();
    let proxy = Proxy::to(sshd.port());
    let (there, through) = (sshd.port().to_string(), proxy.port().to_string());
    let words =
        sshd.ssh_words().into_iter().map(|word| if word == there { through.clone() } else { word });
    let mut ssh = Command::new("env");
    ssh.args(words).arg(format!("-oHostKeyAlias=[127.0.0.1]:{there}"));
    ssh.arg(format!("{}@127.0.0.1", sshd.user())).arg("echo hello");
    assert_eq!(tool(&mut ssh), "hello\n");
    assert_eq!(proxy.accepted(), 1);
}
