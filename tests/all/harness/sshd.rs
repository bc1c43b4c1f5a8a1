//! A real OpenSSH server on loopback, with its own host key, client key and directory.

use std::fs::File;
use std::io::Read;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use super::process::{alive, descendants, free_port, marked, signal, tool, wait_until};

const STARTS_MAX: usize = 5;

/// A running sshd. Anyone with its client key may log in as any user that has a shell; as root
/// when the test is root, else as the user that runs the test.
pub struct Sshd {
    dir: TempDir,
    port: u16,
    child: Child,
}

/// An sshd about to be started.
#[derive(Default)]
pub struct Builder {
    config: Vec<String>,
    env: Vec<String>,
    password: Option<String>,
    tmpfs: Option<(PathBuf, String)>,
}

impl Builder {
    /// Adds a line of sshd_config(5). The first value of an option wins, these come first.
    pub fn config(mut self, line: &str) -> Self {
        self.config.push(line.to_owned());
        self
    }

    /// Sets an environment variable of the sessions. No quotes in it.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push(format!("{name}=\"{value}\""));
        self
    }

    /// Gives the user of the test a password that only this server knows: it runs with an
    /// /etc/shadow of its own, which takes root. To be combined with `PasswordAuthentication yes`
    /// or `UsePAM yes`.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Mounts a tmpfs over the directory `at` with `options` (`size=1m,nr_inodes=20`): for the
    /// sessions alone, and gone with them. To be used where [`may_mount`] says so.
    pub fn tmpfs(mut self, at: &Path, options: &str) -> Self {
        self.tmpfs = Some((at.to_owned(), options.to_owned()));
        self
    }

    pub fn start(self) -> Sshd {
        make_privilege_separation_dir();
        let dir = tempfile::Builder::new().prefix("sshd-").tempdir().expect("a directory");
        // Login users other than the test's read authorized_keys themselves.
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).expect("the directory can be opened to all");
        generate_key(&dir.path().join("host_key"), "ed25519", "");
        generate_key(&dir.path().join("client_key"), "ed25519", "");
        let keys = dir.path().join("authorized_keys");
        std::fs::copy(dir.path().join("client_key.pub"), &keys).expect("the key can be copied");
        std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o644)).expect("chmod");
        if let Some(password) = &self.password {
            write_shadow(dir.path(), password);
        }
        for _ in 0..STARTS_MAX {
            // Between choosing a port and listening on it somebody else may have taken it.
            let port = free_port();
            write_config(dir.path(), port, &self);
            if let Some(child) = launch(dir.path(), port, &self) {
                write_known_hosts(dir.path(), port);
                return Sshd { dir, port, child };
            }
        }
        panic!("sshd does not start: {}", read_log(dir.path()));
    }
}

impl Sshd {
    pub fn start() -> Self {
        Sshd::builder().start()
    }

    pub fn builder() -> Builder {
        Builder::default()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its directory, for whatever a test wants to keep beside it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The user to log in as.
    pub fn user(&self) -> String {
        tool(Command::new("id").arg("-un")).trim().to_owned()
    }

    /// A private key (ed25519, no passphrase) that the server accepts.
    pub fn client_key(&self) -> PathBuf {
        self.dir().join("client_key")
    }

    /// A known_hosts file that names this server's key as `[127.0.0.1]:port`.
    pub fn known_hosts(&self) -> PathBuf {
        self.dir().join("known_hosts")
    }

    /// The server's public key: `ssh-ed25519 AAAA…`.
    pub fn host_key(&self) -> String {
        let text = std::fs::read_to_string(self.dir().join("host_key.pub")).expect("a public key");
        text.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    }

    /// Lets holders of another key in (a line of authorized_keys).
    pub fn authorize(&self, public_key: &str) {
        let path = self.dir().join("authorized_keys");
        let mut text = std::fs::read_to_string(&path).expect("authorized_keys is there");
        text.push_str(public_key.trim_end());
        text.push('\n');
        std::fs::write(&path, text).expect("authorized_keys can be written");
    }

    /// OpenSSH's own client for this server, for comparison: `ssh -F none -p PORT …`, to which
    /// `user@127.0.0.1` and a command are added. Joined by blanks it is an argument for
    /// `rsync -e`.
    pub fn ssh_words(&self) -> Vec<String> {
        let known_hosts = format!("UserKnownHostsFile={}", self.known_hosts().display());
        let (port, key) = (self.port.to_string(), self.client_key().display().to_string());
        let words = ["ssh", "-F", "none", "-p", &port, "-i", &key, "-o", &known_hosts];
        let quiet = ["-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"];
        words.iter().chain(&quiet).map(|word| (*word).to_owned()).collect()
    }

    /// The listening server's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Cuts every session: its processes and the commands below them are killed. The server
    /// itself goes on.
    pub fn kill_sessions(&self) {
        for pid in descendants(self.pid()) {
            signal(pid, Signal::KILL);
        }
    }

    /// Processes of sessions that are alive now.
    pub fn session_pids(&self) -> Vec<u32> {
        descendants(self.pid()).into_iter().filter(|pid| alive(*pid)).collect()
    }

    /// What the server logged so far.
    pub fn log(&self) -> String {
        read_log(self.dir())
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let below = descendants(self.child.id());
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Commands outlive a lost session; the marker finds those that have no parent any more.
        for pid in below.into_iter().chain(marked(&marker(self.dir.path()))) {
            signal(pid, Signal::KILL);
        }
    }
}

/// Whether file systems can be mounted here, in a namespace of their own: it takes root, and a
/// container that allows it.
pub fn may_mount() -> bool {
    let mount = ["-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"];
    let output = Command::new("unshare").args(mount).output();
    output.is_ok_and(|output| output.status.success())
}

/// Makes a key pair `path` and `path.pub`; `kind` is `ed25519`, `rsa` or `ecdsa`.
pub fn generate_key(path: &Path, kind: &str, passphrase: &str) {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", kind, "-C", "test", "-N", passphrase, "-f"]).arg(path);
    tool(&mut command);
}

fn make_privilege_separation_dir() {
    let dir = Path::new("/run/sshd");
    if rustix::process::geteuid().is_root() && !dir.is_dir() {
        std::fs::create_dir_all(dir).expect("/run can be written");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir, mode).expect("the directory is ours");
    }
}

/// SHLVL keeps bash from reading the real user's ~/.bashrc, which it does when sshd starts it.
fn write_config(dir: &Path, port: u16, wanted: &Builder) {
    let path = dir.display();
    let mut text = wanted.config.join("\n");
    text.push_str(&format!(
        "
ListenAddress 127.0.0.1
Port {port}
HostKey {path}/host_key
AuthorizedKeysFile {path}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
AllowStreamLocalForwarding yes
PermitUserRC no
SetEnv {} SHLVL=1 {} {}
Subsystem sftp internal-sftp
LogLevel VERBOSE
",
        marker(dir),
        cache(dir, wanted),
        wanted.env.join(" ")
    ));
    std::fs::write(dir.join("sshd_config"), text).expect("the directory is ours");
}

fn write_shadow(dir: &Path, password: &str) {
    let user = tool(Command::new("id").arg("-un"));
    let hash = tool(Command::new("openssl").args(["passwd", "-6", password]));
    let path = dir.join("shadow");
    std::fs::write(&path, format!("{}:{}:19000:0:99999:7:::\n", user.trim(), hash.trim()))
        .expect("the directory is ours");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
}

/// A cache directory of its own: nothing is left in the home of whoever tests.
fn cache(dir: &Path, wanted: &Builder) -> String {
    let named = wanted.env.iter().any(|variable| variable.starts_with("XDG_CACHE_HOME="));
    if named { String::new() } else { format!("XDG_CACHE_HOME={}/cache", dir.display()) }
}

/// An environment variable that every command of this server has.
fn marker(dir: &Path) -> String {
    format!("TRANSHUME_TEST_SSHD={}", dir.display())
}

/// Starts the server; `None` if it ended instead of answering.
fn launch(dir: &Path, port: u16, wanted: &Builder) -> Option<Child> {
    let log = File::create(dir.join("log")).expect("the directory is ours");
    let mut mounts = Vec::new();
    let shadow = dir.join("shadow");
    if shadow.exists() {
        mounts.push((r#"mount --bind "$1" "$2""#, shadow, "/etc/shadow".to_owned()));
    }
    if let Some((at, options)) = &wanted.tmpfs {
        mounts.push((r#"mount -t tmpfs -o "$2" tmpfs "$1""#, at.clone(), options.clone()));
    }
    let mut command = if mounts.is_empty() {
        Command::new("/usr/sbin/sshd")
    } else {
        let steps: Vec<&str> = mounts.iter().map(|(step, _, _)| *step).collect();
        let script = format!(r#"{} && shift 2 && exec "$@""#, steps.join(" && shift 2 && "));
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &script, "sh"]);
        for (_, path, word) in &mounts {
            command.arg(path).arg(word);
        }
        command.arg("/usr/sbin/sshd");
        command
    };
    let mut child = command
        .args(["-D", "-e", "-f"])
        .arg(dir.join("sshd_config"))
        // A Ctrl-C on the terminal is for whoever stops it.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("openssh-server is installed");
    let up = wait_until(|| answers(port) || !matches!(child.try_wait(), Ok(None)));
    if up && matches!(child.try_wait(), Ok(None)) {
        return Some(child);
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

fn answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let mut banner = [0; 8];
    stream.read_exact(&mut banner).is_ok() && &banner == b"SSH-2.0-"
}

fn write_known_hosts(dir: &Path, port: u16) {
    let key = std::fs::read_to_string(dir.join("host_key.pub")).expect("a public key");
    std::fs::write(dir.join("known_hosts"), format!("[127.0.0.1]:{port} {key}"))
        .expect("the directory is ours");
}

fn read_log(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("log")).unwrap_or_default()
}
