//! Sides for the tests: helpers in this process, the real binary and sshd.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tempfile::TempDir;
use tokio::process::Command as Child;
use transhume::event::{Event, Monitor, Recorder};
use transhume::host::local::Local;
use transhume::host::ssh::surroundings::Surroundings;
use transhume::host::ssh::{self, Ssh};
use transhume::host::{Address, Command, Ended, Exit, Host, HostError, Process, Stream};
use transhume::media::{Change, Endpoint, MediaError, Options, Outcome, helper, sync};

use super::tree::{self, Exact, Tree};
use crate::harness::process::{alive, marked};
use crate::harness::sshd::Sshd;

/// A machine whose helpers run in this process and whose SFTP server is OpenSSH's program on a
/// pair of pipes.
#[derive(Debug)]
pub struct Near(pub Option<PathBuf>);

#[async_trait]
impl Host for Near {
    fn name(&self) -> &str {
        "near.example"
    }

    async fn spawn(&self, command: &Command) -> Result<Process, HostError> {
        if command.argv()[0] != "helper" {
            return Local::new().spawn(command).await;
        }
        let ((stdin, input), (stdout, output)) = (pipe(), pipe());
        let manifests = self.0.clone();
        let served =
            tokio::task::spawn_blocking(move || helper::serve(input, output, manifests.as_deref()));
        Ok(Process::new(Box::pin(stdin), Box::pin(stdout), async move {
            let code = match served.await {
                Ok(Ok(())) => 0,
                Ok(Err(_)) | Err(_) => 1,
            };
            Ok(Ended { exit: Exit::Code(code), stderr_tail: String::new() })
        }))
    }

    async fn connect(&self, _: &Address) -> Result<Stream, HostError> {
        unreachable!("the file engine forwards nothing")
    }

    async fn subsystem(&self, name: &str) -> Result<Stream, HostError> {
        assert_eq!(name, "sftp");
        let mut child = Child::new("/usr/lib/openssh/sftp-server")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("openssh-sftp-server is installed");
        let joined = tokio::io::join(child.stdout.take().unwrap(), child.stdin.take().unwrap());
        tokio::spawn(async move { child.wait().await });
        Ok(Box::new(joined))
    }

    async fn dedicated(&self) -> Result<Arc<dyn Host>, HostError> {
        Ok(Arc::new(Near(self.0.clone())))
    }
}

/// Our end of a stream, and the one that a helper blocks on.
fn pipe() -> (tokio::net::UnixStream, std::os::unix::net::UnixStream) {
    let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    (tokio::net::UnixStream::from_std(near).unwrap(), far)
}

/// How the two sides of a pass are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Local,
    PushHelper,
    PullHelper,
    PushSftp,
    PullSftp,
}

pub const WAYS: [Way; 5] =
    [Way::Local, Way::PushHelper, Way::PullHelper, Way::PushSftp, Way::PullSftp];

impl Way {
    pub fn exact(self) -> Exact {
        match self {
            Way::Local | Way::PushHelper | Way::PullHelper => Exact::Nanos,
            Way::PushSftp | Way::PullSftp => Exact::Secs,
        }
    }

    /// The ends of a pass over `host`, whose helper `command` starts.
    pub fn ends(
        self,
        host: &Arc<dyn Host>,
        command: &Command,
        source: &Path,
        target: &Path,
        manifests: Option<&Path>,
    ) -> (Endpoint, Endpoint) {
        let local = |root: &Path| Endpoint::remembered(root, manifests.map(Path::to_owned));
        let helper = |root: &Path| Endpoint::helper(host.clone(), command.clone(), bytes(root), 2);
        let sftp = |root: &Path| {
            let end = Endpoint::sftp(host.clone(), bytes(root), 2);
            end.remembering(manifests.map(Path::to_owned))
        };
        match self {
            Way::Local => (local(source), local(target)),
            Way::PushHelper => (local(source), helper(target)),
            Way::PullHelper => (helper(source), local(target)),
            Way::PushSftp => (local(source), sftp(target)),
            Way::PullSftp => (sftp(source), local(target)),
        }
    }
}

pub fn bytes(path: &Path) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    path.as_os_str().as_bytes().to_vec()
}

/// The command that starts the real binary's helper.
pub fn real_helper() -> Command {
    Command::new([env!("CARGO_BIN_EXE_transhume"), "helper", "files"])
}

/// Two directories, and a way between them.
pub struct Pair {
    pub dir: TempDir,
    pub source: PathBuf,
    pub target: PathBuf,
    pub host: Arc<dyn Host>,
    pub command: Command,
    /// Where the local side remembers what its scans find.
    pub manifests: Option<PathBuf>,
    sshd: Option<Arc<Sshd>>,
}

impl Pair {
    /// A machine in this process.
    pub fn near() -> Self {
        Pair::over(Arc::new(Near(None)), Command::new(["helper"]), None)
    }

    /// The same, and both sides remember what their scans find.
    pub fn near_remembering() -> Self {
        let mut pair = Pair::near();
        let manifests = pair.dir.path().join("manifests");
        pair.host = Arc::new(Near(Some(manifests.clone())));
        pair.manifests = Some(manifests);
        pair
    }

    /// A real sshd and the real binary.
    pub async fn over_ssh() -> Self {
        let (sshd, host): (Sshd, Arc<Ssh>) = crate::ssh::logged_in().await;
        Pair::over(host, real_helper(), Some(sshd))
    }

    pub fn over(host: Arc<dyn Host>, command: Command, sshd: Option<Sshd>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (source, target) = (dir.path().join("source"), dir.path().join("target"));
        std::fs::create_dir(&source).unwrap();
        let (manifests, sshd) = (None, sshd.map(Arc::new));
        Pair { dir, source, target, host, command, manifests, sshd }
    }

    /// Ends every session of the server when called.
    pub fn killer(&self) -> impl FnOnce() + Send + use<> {
        let sshd = self.sshd.clone().expect("a pair over SSH");
        move || sshd.kill_sessions()
    }

    /// Kills the helpers, and nothing else of their sessions, when called.
    pub fn helper_killer(&self) -> impl FnOnce() + Send + use<> {
        let sshd = self.sshd.clone().expect("a pair over SSH");
        move || {
            for pid in helpers(&sshd) {
                let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
                // It may end by itself meanwhile.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }

    /// Helpers that still run on the server.
    pub fn helper_count(&self) -> usize {
        self.sshd.as_ref().map_or(0, |sshd| helpers(sshd).len())
    }

    /// Processes that serve sessions now, with commands that outlive their session.
    pub fn session_count(&self) -> usize {
        self.sshd.as_ref().map_or(0, |sshd| {
            let marker = format!("TRANSHUME_TEST_SSHD={}", sshd.dir().display());
            let commands = marked(&marker).into_iter().filter(|pid| alive(*pid)).count();
            sshd.session_pids().len() + commands
        })
    }

    pub fn source(&self) -> Tree {
        Tree::at(&self.source)
    }

    pub fn target(&self) -> Tree {
        Tree::at(&self.target)
    }

    pub async fn sync(&self, way: Way, options: &Options) -> Result<Outcome, MediaError> {
        self.watched(way, options, &Recorder::default()).await
    }

    pub async fn watched(
        &self,
        way: Way,
        options: &Options,
        monitor: &dyn Monitor,
    ) -> Result<Outcome, MediaError> {
        let (source, target) = {
            let manifests = self.manifests.as_deref();
            way.ends(&self.host, &self.command, &self.source, &self.target, manifests)
        };
        sync(&source, &target, options, monitor).await
    }

    /// A pass that must succeed without problems.
    pub async fn sync_well(&self, way: Way, options: &Options) -> Outcome {
        let outcome = match self.sync(way, options).await {
            Ok(outcome) => outcome,
            Err(error) => panic!("{way:?}: {}", transhume::error::one_line(&error)),
        };
        assert_eq!(outcome.problems, [], "{way:?}");
        outcome
    }

    pub fn assert_same(&self, way: Way) {
        tree::assert_same(&self.source, &self.target, way.exact());
    }
}

/// The helpers that `sshd` has started, also those whose session ended.
pub fn helpers(sshd: &Sshd) -> Vec<u32> {
    let is_helper = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == b"helper")
    };
    let marker = format!("TRANSHUME_TEST_SSHD={}", sshd.dir().display());
    let pids = marked(&marker).into_iter().chain(sshd.session_pids());
    pids.filter(|pid| alive(*pid)).filter(is_helper).collect()
}

/// Options that delete, and collect the changes.
pub fn deleting() -> Options {
    Options { delete: true, ..Options::default() }
}

/// Options that collect the lines of `-i`.
pub fn itemizing(options: Options) -> (Options, Arc<Mutex<Vec<String>>>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = lines.clone();
    let on_change = move |change: &Change| sink.lock().unwrap().push(change.to_string());
    (Options { on_change: Some(Arc::new(on_change)), ..options }, lines)
}

/// Logs in to `sshd` by way of another port of this machine.
pub async fn connect_through(sshd: &Sshd, port: u16) -> Arc<dyn Host> {
    let known_hosts = sshd.dir().join(format!("known_hosts-{port}"));
    std::fs::write(&known_hosts, format!("[127.0.0.1]:{port} {}\n", sshd.host_key())).unwrap();
    let config = sshd.dir().join("empty_config");
    std::fs::write(&config, "").unwrap();
    let options = ssh::Options {
        identity: Some(sshd.client_key()),
        options: BTreeMap::from([
            ("UserKnownHostsFile".to_owned(), known_hosts.display().to_string()),
            ("GlobalKnownHostsFile".to_owned(), "none".to_owned()),
        ]),
        config_file: Some(config),
        surroundings: Surroundings { user: sshd.user(), home: sshd.dir().to_owned(), agent: None },
    };
    let destination = format!("ssh://127.0.0.1:{port}").parse().unwrap();
    ssh::connect(&destination, &options, Arc::new(ssh::NoPrompt)).await.unwrap()
}

/// Calls a function once, when so many files are on the target.
pub struct After<F>(pub u64, pub Mutex<Option<F>>);

impl<F: FnOnce() + Send> After<F> {
    pub fn files(count: u64, act: F) -> Self {
        After(count, Mutex::new(Some(act)))
    }
}

impl<F: FnOnce() + Send> Monitor for After<F> {
    fn emit(&self, event: Event) {
        if let Event::Progress(progress) = event
            && progress.items_done >= self.0
            && let Some(act) = self.1.lock().unwrap().take()
        {
            act();
        }
    }
}

/// Options that call `act` when the change of `path` is told, which is before it is made.
pub fn when_told(path: &str, act: impl Fn() + Send + Sync + 'static, options: Options) -> Options {
    let path = path.to_owned();
    let on_change = move |change: &Change| {
        if change.path.to_string() == path {
            act();
        }
    };
    Options { on_change: Some(Arc::new(on_change)), ..options }
}

/// The temporary files below `root`.
pub fn leftovers(root: &Path) -> Vec<String> {
    let names =
        tree::read(root).into_keys().map(|path| String::from_utf8_lossy(&path).into_owned());
    names.filter(|path| path.contains(".transhume-")).collect()
}
