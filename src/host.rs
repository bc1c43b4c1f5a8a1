//! A machine, and the only door to it: run a command, reach a socket, open a subsystem.
//!
//! In flows a [`Command`] (argv, the user to run it as, standard input), out flow its standard
//! output, its exit and the tail of its standard error. Nothing here knows what Mastodon is.
//! Files of the control plane are handled by [`files`], which uses commands alone, so that they
//! work the same on this machine, over SSH, and through sudo.

pub mod command;
pub mod fake;
pub mod files;
pub mod gone;
pub mod helper;
pub mod local;
pub mod pipe;
mod quote;
pub mod ssh;
mod throughput;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::error::{Advice, Retry};
pub use command::{Command, RunAs};
pub use quote::shell_line;
pub use throughput::throughput;

/// How much of a command's standard error is kept: its end, where the cause is.
pub const STDERR_TAIL_BYTES: usize = 16 * 1024;
/// How much standard output [`run`] accepts before it calls the command broken.
pub const OUTPUT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long [`run`] waits when the command does not say.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(60);

pub type Reader = Pin<Box<dyn AsyncRead + Send>>;
pub type Writer = Pin<Box<dyn AsyncWrite + Send>>;

/// A two-way byte stream: a forwarded connection, a subsystem.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}
pub type Stream = Box<dyn Duplex>;

/// A machine. Implementations: [`local::Local`], [`ssh::Ssh`], and [`fake`] for tests.
#[async_trait]
pub trait Host: Send + Sync + fmt::Debug {
    /// The machine as the operator knows it, for messages: `this server`, `new.example.com`.
    fn name(&self) -> &str;

    /// Starts `command`. Its deadline, if it has one, is the caller's to keep.
    async fn spawn(&self, command: &Command) -> Result<Process, HostError>;

    /// Runs `command` to its end. Its deadline, if it has one, is the caller's to keep.
    async fn finish(&self, command: &Command) -> Result<Output, HostError> {
        collect(self.name(), command, self.spawn(command).await?).await
    }

    /// Connects to a socket as seen from that machine, as the login user.
    async fn connect(&self, address: &Address) -> Result<Stream, HostError>;

    /// Opens an SSH subsystem, such as `sftp`.
    async fn subsystem(&self, name: &str) -> Result<Stream, HostError>;

    /// The same machine through a connection of its own, for a bulk stream: one SSH connection is
    /// one TCP window and one cipher core. For this machine it is the same door.
    async fn dedicated(&self) -> Result<Arc<dyn Host>, HostError>;

    /// So many connections of their own will probably be asked for soon: over a long way they are
    /// begun now, and taken by those who ask first.
    fn expect(&self, _connections: usize) {}

    /// How long a question and its answer take, as far as that was seen.
    fn round_trip(&self) -> Option<Duration> {
        None
    }

    /// Whether this is the machine that transhume runs on.
    fn is_local(&self) -> bool {
        false
    }
}

/// A socket to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp { host: String, port: u16 },
    Unix { path: String },
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } if host.contains(':') => write!(out, "[{host}]:{port}"),
            Address::Tcp { host, port } => write!(out, "{host}:{port}"),
            Address::Unix { path } => out.write_str(path),
        }
    }
}

/// A running command. Dropping `stdin` closes it. Whoever holds the process must keep reading
/// `stdout`: an unread channel stops the whole SSH connection.
pub struct Process {
    pub stdin: Writer,
    pub stdout: Reader,
    ending: Pin<Box<dyn Future<Output = Result<Ended, HostError>> + Send>>,
}

impl Process {
    /// `ending` must drain standard error by itself, also before it is awaited.
    pub fn new(
        stdin: Writer,
        stdout: Reader,
        ending: impl Future<Output = Result<Ended, HostError>> + Send + 'static,
    ) -> Self {
        Process { stdin, stdout, ending: Box::pin(ending) }
    }

    /// The three parts, for callers that pump them in tasks of their own.
    pub fn split(self) -> (Writer, Reader, impl Future<Output = Result<Ended, HostError>> + Send) {
        (self.stdin, self.stdout, self.ending)
    }
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub exit: Exit,
    /// The last [`STDERR_TAIL_BYTES`] of standard error.
    pub stderr_tail: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    /// The signal's name without `SIG`, as SSH reports it.
    Signal(String),
}

impl fmt::Display for Exit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(out, "exit code {code}"),
            Exit::Signal(name) => write!(out, "killed by SIG{name}"),
        }
    }
}

/// What a finished command left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    pub exit: Exit,
    pub stdout: Vec<u8>,
    pub stderr_tail: String,
}

impl Output {
    pub fn success(&self) -> bool {
        self.exit == Exit::Code(0)
    }

    /// Standard output as text, without the newline at its end.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end_matches('\n').to_owned()
    }
}

/// Why a machine could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("cannot reach {host}")]
    Unreachable { host: String, source: std::io::Error, hint: Option<String> },
    /// The host key is wrong, unknown and not confirmed, or revoked.
    #[error("{host} is not proved to be the machine you mean: {reason}")]
    HostKey { host: String, reason: String, hint: String },
    #[error("{host} did not accept the login as {user}: {reason}")]
    Login { host: String, user: String, reason: String, hint: String },
    #[error("cannot start `{command}` on {host}")]
    Start { host: String, command: String, source: std::io::Error },
    /// The link went away after the command was sent: what it did is not known.
    #[error("the connection to {host} was lost while `{command}` ran: its outcome is not known")]
    Lost { host: String, command: String },
    #[error("`{command}` on {host} did not end within {secs} s: its outcome is not known")]
    TimedOut { host: String, command: String, secs: u64 },
    #[error("`{command}` on {host} failed with {exit}{}", tail(stderr_tail))]
    Failed { host: String, command: String, exit: Exit, stderr_tail: String },
    #[error("`{command}` on {host} needs rights that the login does not have{}", tail(reason))]
    Privilege { host: String, command: String, reason: String },
    #[error("`{command}` on {host} printed {problem}")]
    Output { host: String, command: String, problem: String },
    #[error("cannot connect to {address} from {host}")]
    Connect { host: String, address: Address, source: std::io::Error },
    #[error("{host} does not offer the {name} subsystem")]
    Subsystem { host: String, name: String, source: std::io::Error },
}

fn tail(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

impl Advice for HostError {
    fn hint(&self) -> Option<String> {
        match self {
            HostError::Unreachable { hint, .. } => hint.clone(),
            HostError::HostKey { hint, .. } | HostError::Login { hint, .. } => Some(hint.clone()),
            HostError::Privilege { host, .. } => Some(format!(
                "log in to {host} as root, or allow the login user to run commands with `sudo -n` \
                 (a NOPASSWD rule)"
            )),
            HostError::Lost { .. } | HostError::TimedOut { .. } => Some(
                "run the same command again: it looks at what happened before it goes on".into(),
            ),
            HostError::Start { .. }
            | HostError::Failed { .. }
            | HostError::Output { .. }
            | HostError::Connect { .. }
            | HostError::Subsystem { .. } => None,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            HostError::Unreachable { .. } | HostError::Connect { .. } => Retry::Safe,
            HostError::Lost { .. } | HostError::TimedOut { .. } => Retry::Unknown,
            HostError::HostKey { .. }
            | HostError::Login { .. }
            | HostError::Start { .. }
            | HostError::Failed { .. }
            | HostError::Privilege { .. }
            | HostError::Output { .. }
            | HostError::Subsystem { .. } => Retry::Never,
        }
    }
}

/// Runs `command` to its end, feeding it its input. A non-zero exit is not an error here; a
/// missing one is. The deadline is the command's, or [`DEADLINE_DEFAULT`].
pub async fn run(host: &dyn Host, command: &Command) -> Result<Output, HostError> {
    let limit = command.deadline.unwrap_or(DEADLINE_DEFAULT);
    match tokio::time::timeout(limit, host.finish(command)).await {
        Ok(result) => result,
        Err(_) => Err(HostError::TimedOut {
            host: host.name().to_owned(),
            command: command.to_string(),
            secs: limit.as_secs(),
        }),
    }
}

/// Runs `command` and demands exit code 0; gives its standard output as text.
pub async fn run_ok(host: &dyn Host, command: &Command) -> Result<String, HostError> {
    let output = run(host, command).await?;
    if output.success() { Ok(output.text()) } else { Err(failure(host, command, output)) }
}

/// The error for a command whose exit was not the wanted one.
pub fn failure(host: &dyn Host, command: &Command, output: Output) -> HostError {
    let (host, command) = (host.name().to_owned(), command.to_string());
    if command::is_sudo_refusal(&output.stderr_tail) {
        HostError::Privilege { host, command, reason: output.stderr_tail }
    } else {
        HostError::Failed { host, command, exit: output.exit, stderr_tail: output.stderr_tail }
    }
}

/// Feeds `process`, which runs `command` on `host`, and gathers what it prints.
async fn collect(host: &str, command: &Command, process: Process) -> Result<Output, HostError> {
    let (mut stdin, stdout, ending) = process.split();
    let feed = async {
        // A command may end without reading its input; its exit tells whether that was right.
        let _ = stdin.write_all(command.input()).await;
        let _ = stdin.shutdown().await;
        drop(stdin);
    };
    let drain = async {
        let mut bytes = Vec::new();
        let mut stdout = stdout.take(OUTPUT_BYTES_MAX as u64 + 1);
        let result = stdout.read_to_end(&mut bytes).await;
        (bytes, result)
    };
    let ((), (stdout, read), ended) = tokio::join!(feed, drain, ending);
    let ended = ended?;
    match read {
        Err(error) => Err(HostError::Output {
            host: host.to_owned(),
            command: command.to_string(),
            problem: format!("output that broke off: {error}"),
        }),
        Ok(_) if stdout.len() > OUTPUT_BYTES_MAX => Err(too_much(host, command)),
        Ok(_) => Ok(Output { exit: ended.exit, stdout, stderr_tail: ended.stderr_tail }),
    }
}

fn too_much(host: &str, command: &Command) -> HostError {
    HostError::Output {
        host: host.to_owned(),
        command: command.to_string(),
        problem: "more than 64 MiB".to_owned(),
    }
}

/// Reads `stream` to its end and gives the last [`STDERR_TAIL_BYTES`] as text.
pub async fn read_tail(mut stream: impl AsyncRead + Unpin) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count) = stream.read(&mut buffer).await {
        if count == 0 {
            break;
        }
        kept.extend_from_slice(&buffer[..count]);
        if kept.len() > 2 * STDERR_TAIL_BYTES {
            kept.drain(..kept.len() - STDERR_TAIL_BYTES);
        }
    }
    let start = kept.len().saturating_sub(STDERR_TAIL_BYTES);
    String::from_utf8_lossy(&kept[start..]).into_owned()
}
