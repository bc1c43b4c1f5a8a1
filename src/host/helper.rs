//! Our own binary on a machine: the remote half, installed once and reused.
//!
//! In flow a host and who must be able to execute the binary; out flows a [`Helper`], from which
//! commands are made, and [`connect_as`], which reaches a socket as another user of that machine.
//! [`serve`] is what the remote half does. Knows nothing of files or databases.

mod install;
pub mod serve;

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::command::is_sudo_refusal;
use super::pipe::{PackedReader, PackedWriter};
use super::{Address, Command, Ended, Host, HostError, Reader, RunAs, Stream, Writer, run_ok};
use crate::error::{Advice, Retry};

/// Changes when the two halves would not understand each other any more.
pub const PROTOCOL: u32 = 3;
/// What `helper connect` says before the bytes of the socket.
const CONNECTED: &[u8] = b"connected\n";
/// How long connecting through the helper may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(30);
/// How long a bridge may take to end after its stream was dropped.
const FAREWELL: Duration = Duration::from_secs(10);

/// Who must be able to execute the helper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The login user alone: in its cache directory.
    Login,
    /// Every user of the machine, so that commands can run as them: below `base`, owned by root.
    Everyone { base: String },
}

/// The helper on a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Helper {
    /// The path of the binary there.
    path: String,
    /// Who put it there; `None` if it is the program that is running now.
    installed_by: Option<RunAs>,
}

/// Why there is no helper.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// Another operating system or processor: our binary does not run there.
    #[error("{host} is {theirs}, this program is made for {ours}")]
    Platform { host: String, theirs: String, ours: String },
    /// Somebody else could replace the binary.
    #[error("the helper's place on {host} is not safe: {problem}")]
    Unsafe { host: String, problem: String },
    #[error("{host} has no place from which a helper can run: {problems}")]
    NoPlace { host: String, problems: String },
    #[error("cannot read the program that is to be copied, {}", path.display())]
    Binary { path: PathBuf, source: io::Error },
    /// What arrived is not what was sent.
    #[error("the helper copied to {path} on {host} does not answer as it should: {answer}")]
    NotTheSame { host: String, path: String, answer: String },
    #[error("cannot install the helper on {host}")]
    Host { host: String, source: HostError },
}

impl Advice for HelperError {
    fn hint(&self) -> Option<String> {
        match self {
            HelperError::Host { source, .. } => source.hint(),
            HelperError::Unsafe { .. } => {
                Some("look at who made it; then remove it, and it is made anew".into())
            }
            HelperError::NoPlace { host, .. } => Some(format!(
                "give {host} a directory that allows programs (no `noexec`), or set \
                 XDG_CACHE_HOME to one"
            )),
            HelperError::Platform { .. }
            | HelperError::Binary { .. }
            | HelperError::NotTheSame { .. } => None,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            // Installing is idempotent: a copy that broke off is replaced.
            HelperError::Host { source, .. } => match source.retry() {
                Retry::Unknown | Retry::Safe => Retry::Safe,
                Retry::Never => Retry::Never,
            },
            HelperError::NotTheSame { .. } => Retry::Safe,
            HelperError::Platform { .. }
            | HelperError::Unsafe { .. }
            | HelperError::NoPlace { .. }
            | HelperError::Binary { .. } => Retry::Never,
        }
    }
}

/// Installs this program as the helper, or finds it there. On this machine nothing is copied
/// where everybody who must can execute the program that is running.
pub async fn install(host: &dyn Host, reach: Reach) -> Result<Helper, HelperError> {
    install_binary(host, reach, &PathBuf::from("/proc/self/exe")).await
}

/// The same for another file than the program that is running.
pub async fn install_binary(
    host: &dyn Host,
    reach: Reach,
    binary: &std::path::Path,
) -> Result<Helper, HelperError> {
    install::install(host, reach, binary).await
}

impl Helper {
    /// The command `helper WORDS…`.
    pub fn command<W: Into<String>>(&self, words: impl IntoIterator<Item = W>) -> Command {
        Command::new([self.path.as_str(), "helper"]).args(words)
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    /// Takes it off `host` again, with what it kept there for the user who put it there, and the
    /// directories that are empty then. The program that is running stays.
    pub async fn remove(&self, host: &dyn Host) -> Result<(), HostError> {
        let Some(user) = &self.installed_by else { return Ok(()) };
        let script = r#"[ ! -x "$1" ] || "$1" helper forget 2>/dev/null
            rm -f -- "$1"; d=$(dirname -- "$1"); rmdir -- "$d" 2>/dev/null &&
            rmdir -- "$(dirname -- "$d")" 2>/dev/null; [ ! -e "$1" ]"#;
        let command = Command::script(script, &[&self.path]).run_as(user.clone());
        run_ok(host, &command).await.map(drop)
    }
}

/// Connects to `address` on `host` as `user`: for sockets that look at who connects.
pub async fn connect_as(
    host: &dyn Host,
    helper: &Helper,
    user: &RunAs,
    address: &Address,
) -> Result<Stream, HostError> {
    let command = helper.command(["connect", &address_word(address)]);
    Ok(Box::new(bridge(host, command.run_as(user.clone()), address).await?))
}

/// The same, with what goes over the way there packed in both directions, here with `level` of
/// zstd. For bulk through SSH; on one machine it would only cost.
pub async fn connect_packed(
    host: &dyn Host,
    helper: &Helper,
    user: &RunAs,
    address: &Address,
    level: i32,
) -> Result<Stream, HostError> {
    let command = helper.command(["connect", "--packed", &address_word(address)]);
    let bridge = bridge(host, command.run_as(user.clone()), address).await?;
    let (reader, writer) = tokio::io::split(bridge);
    let packed = |source| HostError::Connect {
        host: host.name().to_owned(),
        address: address.clone(),
        source,
    };
    let reader = PackedReader::new(reader).map_err(packed)?;
    let writer = PackedWriter::new(writer, level).map_err(packed)?;
    Ok(Box::new(tokio::io::join(reader, writer)))
}

/// Starts `command`, which bridges its standard input and output to `address`.
async fn bridge(host: &dyn Host, command: Command, address: &Address) -> Result<Bridge, HostError> {
    let (writer, mut reader, ending) = host.spawn(&command).await?.split();
    let mut greeting = [0; CONNECTED.len()];
    let greeted = tokio::time::timeout(CONNECT_DEADLINE, reader.read_exact(&mut greeting)).await;
    if matches!(greeted, Ok(Ok(_))) && greeting == *CONNECTED {
        let ending: Ending = Box::pin(ending);
        return Ok(Bridge { writer: Some(writer), reader, ending: Some(ending) });
    }
    drop((writer, reader));
    let failed = |source| HostError::Connect {
        host: host.name().to_owned(),
        address: address.clone(),
        source,
    };
    match tokio::time::timeout(FAREWELL, ending).await {
        Err(_) => Err(failed(io::ErrorKind::TimedOut.into())),
        Ok(Err(lost)) => Err(lost),
        Ok(Ok(ended)) if is_sudo_refusal(&ended.stderr_tail) => Err(HostError::Privilege {
            host: host.name().to_owned(),
            command: command.to_string(),
            reason: ended.stderr_tail,
        }),
        Ok(Ok(ended)) => Err(failed(io::Error::other(reason(ended)))),
    }
}

fn reason(ended: Ended) -> String {
    let said = ended.stderr_tail.trim();
    if said.is_empty() { format!("the helper ended with {}", ended.exit) } else { said.to_owned() }
}

/// `tcp:host:port` or `unix:/path`: how an address is given to the helper.
fn address_word(address: &Address) -> String {
    match address {
        Address::Tcp { .. } => format!("tcp:{address}"),
        Address::Unix { path } => format!("unix:{path}"),
    }
}

/// The address that `tcp:host:port` or `unix:/path` means.
pub fn parse_address(word: &str) -> Option<Address> {
    if let Some(path) = word.strip_prefix("unix:") {
        return Some(Address::Unix { path: path.to_owned() });
    }
    let (host, port) = word.strip_prefix("tcp:")?.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some(Address::Tcp { host: host.to_owned(), port: port.parse().ok()? })
}

type Ending = Pin<Box<dyn Future<Output = Result<Ended, HostError>> + Send>>;

/// The helper's standard input and output as one stream.
struct Bridge {
    /// `None` once it is shut down: closing a pipe is dropping it.
    writer: Option<Writer>,
    reader: Reader,
    ending: Option<Ending>,
}

impl Drop for Bridge {
    fn drop(&mut self) {
        // It ends by itself when its input does; killing it now could lose what was written last.
        self.writer = None;
        if let (Some(ending), Ok(runtime)) =
            (self.ending.take(), tokio::runtime::Handle::try_current())
        {
            runtime.spawn(tokio::time::timeout(FAREWELL, ending));
        }
    }
}

impl AsyncRead for Bridge {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.reader.as_mut().poll_read(context, buffer)
    }
}

impl AsyncWrite for Bridge {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.writer {
            Some(writer) => writer.as_mut().poll_write(context, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.writer {
            Some(writer) => writer.as_mut().poll_flush(context),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(writer) = &mut self.writer {
            ready!(writer.as_mut().poll_shutdown(context))?;
            self.writer = None;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_survives_the_command_line() {
        for address in [
            Address::Tcp { host: "127.0.0.1".into(), port: 5432 },
            Address::Tcp { host: "::1".into(), port: 1 },
            Address::Unix { path: "/run/a:b/.s.PGSQL.5432".into() },
        ] {
            assert_eq!(parse_address(&address_word(&address)), Some(address));
        }
        assert_eq!(parse_address("127.0.0.1:5432"), None);
        assert_eq!(parse_address("tcp:host"), None);
    }
}
