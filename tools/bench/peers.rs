//! The tools that are compared, and the command that each needs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::server::Server;
use super::{STREAMS, Wanted};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Helper,
    /// Believing what the last pass found of old files.
    Quick,
    Sftp,
    Rsync,
    Tar,
    OpenSftp,
    Rclone,
    /// One file through OpenSSH's client with its fastest cipher.
    Cat,
    /// The same bytes over plain TCP: what the link gives.
    Streams,
}

impl Peer {
    pub const ALL: [Peer; 7] = [
        Peer::Helper,
        Peer::Quick,
        Peer::Sftp,
        Peer::Rsync,
        Peer::Tar,
        Peer::OpenSftp,
        Peer::Rclone,
    ];

    /// These carry the bytes of one file and nothing else.
    pub const CARRIERS: [Peer; 2] = [Peer::Cat, Peer::Streams];

    /// In the order of the table.
    pub fn all() -> impl Iterator<Item = Peer> {
        Peer::ALL.into_iter().chain(Peer::CARRIERS)
    }

    pub fn name(self) -> &'static str {
        match self {
            Peer::Helper => "transhume helper",
            Peer::Quick => "transhume --quick",
            Peer::Sftp => "transhume sftp",
            Peer::Rsync => "rsync -a",
            Peer::Tar => "tar | ssh tar",
            Peer::OpenSftp => "sftp put",
            Peer::Rclone => "rclone",
            Peer::Cat => "ssh cat, aes128",
            Peer::Streams => "8 TCP streams",
        }
    }

    /// The program that must be installed for it.
    fn needs(self) -> Option<&'static str> {
        match self {
            Peer::Helper | Peer::Quick | Peer::Sftp | Peer::Cat | Peer::Streams => None,
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
        !matches!(self, Peer::Tar | Peer::OpenSftp) && !self.carries()
    }

    /// Whether it carries bytes and nothing else.
    pub fn carries(self) -> bool {
        Peer::CARRIERS.contains(&self)
    }

    /// Whether it copies as another one does if nothing is there yet.
    pub fn repeats(self) -> bool {
        self == Peer::Quick
    }

    /// The command that makes `target` on `server`'s machine hold what `source` holds.
    pub fn command(self, program: &Path, server: &Server, source: &Path, target: &Path) -> Command {
        let (sshd, address) = (&server.sshd, server.address);
        let ssh = sshd.ssh_words();
        let login = format!("{}@{address}", sshd.user());
        match self {
            Peer::Helper | Peer::Quick | Peer::Sftp => {
                let mut command = Command::new(program);
                command.env("XDG_CACHE_HOME", sshd.dir().join("cache-here"));
                command.args(["files", "-q", "--delete", "--transport"]);
                command.arg(if self == Peer::Sftp { "sftp" } else { "helper" });
                // The files are old by their times, and were made just now.
                command.args((self == Peer::Quick).then_some("--quick=0"));
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
                    ":sftp,host={address},port={port},user={},key_file={key},known_hosts_file={known}:{}",
                    sshd.user(),
                    target.display()
                ));
                command
            }
            Peer::Cat => shell(
                r#"source=$1 target=$2 login=$3; shift 3
                   "$@" -c aes128-gcm@openssh.com "$login" "cat >'$target/archive'" \
                   <"$source/archive""#,
                source,
                target,
                &[&[login], ssh.as_slice()].concat(),
            ),
            Peer::Streams => {
                // The file that is running, also when its path has been replaced meanwhile.
                let mut command = Command::new("/proc/self/exe");
                command.arg(STREAMS).arg(server.streams.as_deref().unwrap_or_default());
                command.arg(source.join("archive")).arg(target.join("archive"));
                command
            }
        }
    }
}

impl Wanted {
    pub fn wants(&self, peer: Peer) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| peer.name().contains(part))
    }
}

fn shell(script: &str, source: &Path, target: &Path, words: &[String]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(source).arg(target).args(words);
    command
}
