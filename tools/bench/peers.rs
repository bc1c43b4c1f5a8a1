//! The tools that are compared, and the command that each needs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::harness::sshd::Sshd;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Helper,
    Sftp,
    Rsync,
    Tar,
    OpenSftp,
    Rclone,
}

impl Peer {
    pub const ALL: [Peer; 6] =
        [Peer::Helper, Peer::Sftp, Peer::Rsync, Peer::Tar, Peer::OpenSftp, Peer::Rclone];

    pub fn name(self) -> &'static str {
        match self {
            Peer::Helper => "transhume helper",
            Peer::Sftp => "transhume sftp",
            Peer::Rsync => "rsync -a",
            Peer::Tar => "tar | ssh tar",
            Peer::OpenSftp => "sftp put",
            Peer::Rclone => "rclone",
        }
    }

    /// The program that must be installed for it.
    fn needs(self) -> Option<&'static str> {
        match self {
            Peer::Helper | Peer::Sftp => None,
            Peer::Rsync => Some("rsync"),
            Peer::Tar => Some("tar"),
            Peer::OpenSftp => Some("sftp"),
            Peer::Rclone => Some("rclone"),
        }
    }

    /// What its `--version` says first; `None` where it is not installed.
    pub fn version(self, program: &Path) -> Option<String> {
        let name = self.needs().map_or_else(|| program.to_owned(), PathBuf::from);
        // sftp has no option for it; ssh is of the same package.
        let (name, flag) = match self {
            Peer::OpenSftp => (PathBuf::from("ssh"), "-V"),
            _ => (name, "--version"),
        };
        let output = Command::new(name).arg(flag).stdin(Stdio::null()).output().ok()?;
        let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
        String::from_utf8_lossy(&text).lines().next().map(str::to_owned)
    }

    /// Whether it finds out what is there already.
    pub fn compares(self) -> bool {
        !matches!(self, Peer::Tar | Peer::OpenSftp)
    }

    /// The command that makes `target` on `sshd`'s machine hold what `source` holds.
    pub fn command(self, program: &Path, sshd: &Sshd, source: &Path, target: &Path) -> Command {
        let ssh = sshd.ssh_words();
        let login = format!("{}@127.0.0.1", sshd.user());
        match self {
            Peer::Helper | Peer::Sftp => {
                let mut command = Command::new(program);
                command.args(["files", "-q", "--delete", "--transport"]);
                command.arg(if self == Peer::Helper { "helper" } else { "sftp" });
                command.arg("--identity").arg(sshd.client_key());
                let known = format!("UserKnownHostsFile={}", sshd.known_hosts().display());
                command.args(["-e", &known]).arg(source);
                let port = sshd.port();
                command.arg(format!("ssh://{login}:{port}{}", target.display()));
                command
            }
            Peer::Rsync => {
                let mut command = Command::new("rsync");
                command.args(["-a", "--delete", "-e", &ssh.join(" ")]);
                command.arg(format!("{}/", source.display()));
                command.arg(format!("{login}:{}/", target.display()));
                command
            }
            Peer::Tar => shell(
                r#"source=$1 target=$2 login=$3; shift 3
                   tar -C "$source" -cf - . | "$@" "$login" "mkdir -p '$target' && tar -C '$target' -xpf -""#,
                source,
                target,
                &[&[login], ssh.as_slice()].concat(),
            ),
            Peer::OpenSftp => shell(
                r#"source=$1 target=$2 login=$3; shift 4
                   printf '%s\n' "-mkdir $target" "cd $target" "put -R -p $source/. ." |
                   sftp -q -b - "$@" "$login""#,
                source,
                target,
                // sftp takes the port in capitals.
                &[&[login], ssh.as_slice()]
                    .concat()
                    .into_iter()
                    .map(|word| if word == "-p" { "-P".to_owned() } else { word })
                    .collect::<Vec<_>>(),
            ),
            Peer::Rclone => {
                let mut command = Command::new("rclone");
                command.args(["sync", "--config", "/dev/null", "--transfers", "16", "-l"]);
                command.arg(source);
                let (port, key) = (sshd.port(), sshd.client_key().display().to_string());
                let known = sshd.known_hosts().display().to_string();
                command.arg(format!(
                    ":sftp,host=127.0.0.1,port={port},user={},key_file={key},known_hosts_file={known}:{}",
                    sshd.user(),
                    target.display()
                ));
                command
            }
        }
    }
}

fn shell(script: &str, source: &Path, target: &Path, words: &[String]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(source).arg(target).args(words);
    command
}
