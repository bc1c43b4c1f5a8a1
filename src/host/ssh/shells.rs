//! Shells that stay: what starting a session costs (processes for it, and whatever a login shell
//! reads first) is paid once, not for each of many small commands. Those that take no input are run
//! in such a shell one after the other, each in a subshell and with nothing to read.
//!
//! A shell that fails in the middle of a command takes it along: its outcome is not known. One that
//! was idle has to answer first, so that a command is not lost with a connection that went away
//! meanwhile.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::rand::GetRandomFlags;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::time::Instant;

use super::channel::{Closing, Drain, Ends, Feeder};
use super::link::lock;
use crate::host::{Exit, OUTPUT_BYTES_MAX, Output, STDERR_TAIL_BYTES};

/// What a session is asked to be: whatever the login shell is, commands are for this one.
pub(super) const PROGRAM: &str = "exec sh";
/// Idle ones that are kept: each takes one of the few sessions that a connection may have.
const IDLE_MAX: usize = 2;
/// An older one is asked first whether it is still there.
const IDLE_AGE_MAX: Duration = Duration::from_secs(10);
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// The idle shells of a machine.
#[derive(Default)]
pub(super) struct Shells {
    idle: Mutex<Vec<Shell>>,
    /// What the login starts is no shell.
    are_none: AtomicBool,
}

impl Shells {
    /// Whether this machine has no such thing.
    pub fn are_none(&self) -> bool {
        self.are_none.load(Ordering::Relaxed)
    }

    pub fn give_up(&self) {
        self.are_none.store(true, Ordering::Relaxed);
        self.clear();
    }

    /// An idle one that is there for certain.
    pub async fn take(&self) -> Option<Shell> {
        loop {
            // The lock is not held while the shell is asked.
            let idle = lock(&self.idle).pop();
            let mut shell = idle?;
            if shell.answers().await {
                return Some(shell);
            }
        }
    }

    pub fn put_back(&self, mut shell: Shell) {
        shell.since = Instant::now();
        let mut idle = lock(&self.idle);
        if idle.len() < IDLE_MAX {
            idle.push(shell);
        }
    }

    /// Ends the idle ones; whether there were any.
    pub fn clear(&self) -> bool {
        let idle = std::mem::take(&mut *lock(&self.idle));
        !idle.is_empty()
    }
}

/// A shell that waits for commands. Dropping it closes its input.
pub(super) struct Shell {
    writer: Feeder,
    reader: Drain,
    /// What has come and is not taken yet, and how much of it was searched in vain.
    read: Vec<u8>,
    searched: usize,
    closing: oneshot::Receiver<Closing>,
    /// A word that no command can know.
    mark: String,
    /// Whether it has shown that it is a shell.
    is_proved: bool,
    since: Instant,
}

/// Why there is no output.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ShellError {
    /// What was started is no shell; nothing was run.
    NoShell,
    /// The shell or the connection went away.
    Lost,
    /// More output than anybody asks for.
    TooMuch,
}

impl Shell {
    /// The shell at these ends, with a mark from [`mark`].
    pub fn new(ends: Ends, mark: String) -> Shell {
        let Ends { writer, reader, closing, guard: _ } = ends;
        let (read, searched, since) = (Vec::new(), 0, Instant::now());
        Shell { writer, reader, read, searched, closing, mark, is_proved: false, since }
    }

    /// Runs a line. After an error the shell is of no use any more.
    pub async fn run(&mut self, line: &str) -> Result<Output, ShellError> {
        let mark = &self.mark;
        let first = if self.is_proved { "" } else { "exec 4>&1\n" };
        // Standard output goes straight on; standard error is kept until the end is told. The words
        // that are looked for are nowhere in this text: whoever repeats it is not taken for a shell.
        let text = format!(
            "{first}printf '%s:begin\\n' {mark}; e=$( ( {line} ) </dev/null 2>&1 >&4 4>&- ); \
             printf '\\n%s:exit %d\\n%s\\n%s:end\\n' {mark} $? \"$e\" {mark}\n"
        );
        // That it went away is told by the answer, or by the lack of one.
        let _ = self.writer.write_all(text.as_bytes()).await;
        match self.answer().await {
            Err(ShellError::Lost) if !self.is_proved => Err(self.verdict().await),
            answer => answer,
        }
    }

    /// Reads what one command prints.
    async fn answer(&mut self) -> Result<Output, ShellError> {
        let begin = format!("{}:begin\n", self.mark);
        // What a login prints comes before it, and is nobody's.
        self.read_until(&begin).await?;
        self.is_proved = true;
        let end = format!("\n{}:end\n", self.mark);
        let read = self.read_until(&end).await?;
        parse(&read, &self.mark).ok_or(ShellError::Lost)
    }

    /// What comes before `word`.
    async fn read_until(&mut self, word: &str) -> Result<Vec<u8>, ShellError> {
        loop {
            // It may have come in two pieces.
            let from = self.searched.saturating_sub(word.len());
            if let Some(at) = find(&self.read[from..], word.as_bytes()) {
                let rest = self.read.split_off(from + at + word.len());
                let mut before = std::mem::replace(&mut self.read, rest);
                before.truncate(from + at);
                self.searched = 0;
                return Ok(before);
            }
            self.searched = self.read.len();
            // What the shell says of the command is not counted.
            if self.read.len() > OUTPUT_BYTES_MAX + STDERR_TAIL_BYTES {
                return Err(ShellError::TooMuch);
            }
            let count = self.reader.read_buf(&mut self.read).await.map_err(|_| ShellError::Lost)?;
            if count == 0 {
                return Err(ShellError::Lost);
            }
        }
    }

    /// Nothing came: because nobody was there who could, or because the connection was lost?
    async fn verdict(&mut self) -> ShellError {
        match (&mut self.closing).await {
            Ok(Closing { complete: true, .. }) => ShellError::NoShell,
            Ok(_) | Err(_) => ShellError::Lost,
        }
    }

    async fn answers(&mut self) -> bool {
        if self.since.elapsed() <= IDLE_AGE_MAX {
            return matches!(self.closing.try_recv(), Err(TryRecvError::Empty));
        }
        let answer = tokio::time::timeout(ANSWER_MAX, self.run(":")).await;
        matches!(answer, Ok(Ok(_)))
    }
}

/// A word that nobody can guess; `None` on a machine without randomness.
pub(super) fn mark() -> Option<String> {
    let mut bytes = [0; 16];
    let filled = rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty()).ok()?;
    (filled == bytes.len()).then(|| format!("{:032x}", u128::from_le_bytes(bytes)))
}

/// Where `needle` begins in `text`.
fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    text.windows(needle.len()).position(|window| window == needle)
}

/// `OUTPUT⏎MARK:exit CODE⏎STDERR`.
fn parse(read: &[u8], mark: &str) -> Option<Output> {
    let middle = format!("\n{mark}:exit ");
    let at = find(read, middle.as_bytes())?;
    let rest = &read[at + middle.len()..];
    let line = rest.iter().position(|byte| *byte == b'\n')?;
    let code = std::str::from_utf8(&rest[..line]).ok()?.parse().ok()?;
    let stderr = &rest[line + 1..];
    let tail = &stderr[stderr.len().saturating_sub(STDERR_TAIL_BYTES)..];
    Some(Output {
        exit: Exit::Code(code),
        stdout: read[..at].to_vec(),
        stderr_tail: String::from_utf8_lossy(tail).into_owned(),
    })
}
