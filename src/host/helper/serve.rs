//! What the helper does when it is called on its machine: say who it is, be a bridge to a socket,
//! unpack a stream into a program. It ends when its standard input does.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::Child;

use super::{CONNECTED, PROTOCOL};
use crate::host::local::Local;
use crate::host::pipe::{self, PackedReader, PackedWriter, UnpackError};
use crate::host::{Address, Host, HostError, Stream};

/// What a server answers is short, or fetched as fast as it can be made.
const ANSWER_LEVEL: i32 = 1;
const CONNECT_DEADLINE: Duration = Duration::from_secs(20);
/// The exit code for a program that cannot be started, as shells have it.
const EXIT_NOT_FOUND: u8 = 127;

/// Why the helper did not do it.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot start {program}")]
    Start { program: String, source: io::Error },
    #[error("cannot wait for {program}")]
    Wait { program: String, source: io::Error },
    #[error("{program} was stopped")]
    Unpack { program: String, source: UnpackError },
}

impl ServeError {
    pub fn exit_code(&self) -> u8 {
        match self {
            ServeError::Start { .. } => EXIT_NOT_FOUND,
            ServeError::Wait { .. } => 1,
            ServeError::Unpack { source, .. } => source.exit_code(),
        }
    }
}

/// What a helper says about itself: protocol, version and the digest of its own file.
pub fn hello() -> io::Result<String> {
    Ok(greeting(&digest(Path::new("/proc/self/exe"))?))
}

pub(super) fn greeting(digest: &str) -> String {
    format!("transhume-helper {PROTOCOL} {} {digest}", env!("CARGO_PKG_VERSION"))
}

pub(super) fn digest(path: &Path) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(std::fs::File::open(path)?)?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Connects to `address`, says so, and passes bytes in both directions until the socket ends. The
/// end of `input` is passed on; the answer to it is still delivered. `packed`: everything but the
/// first word.
pub async fn bridge(
    address: &Address,
    packed: bool,
    input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
) -> Result<(), HostError> {
    let host = Local::new();
    let failed = |source| HostError::Connect {
        host: host.name().to_owned(),
        address: address.clone(),
        source,
    };
    let connecting = tokio::time::timeout(CONNECT_DEADLINE, host.connect(address)).await;
    let socket = connecting.map_err(|_| failed(io::ErrorKind::TimedOut.into()))??;
    output.write_all(CONNECTED).await.map_err(failed)?;
    output.flush().await.map_err(failed)?;
    if packed {
        let input = PackedReader::new(input).map_err(failed)?;
        let output = PackedWriter::new(output, ANSWER_LEVEL).map_err(failed)?;
        pass(socket, input, output).await;
    } else {
        pass(socket, input, output).await;
    }
    Ok(())
}

/// Passes bytes until the socket ends.
async fn pass(
    socket: Stream,
    mut input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
) {
    let (mut reader, mut writer) = tokio::io::split(socket);
    let upstream = async {
        // That it ends with an error shows on the other half as well.
        let _ = tokio::io::copy(&mut input, &mut writer).await;
        let _ = writer.shutdown().await;
        std::future::pending::<()>().await;
    };
    let downstream = async {
        let mut block = vec![0; 64 * 1024];
        loop {
            match reader.read(&mut block).await {
                Ok(0) => {
                    let _ = output.shutdown().await;
                    break;
                }
                Err(_) => break,
                Ok(count) => {
                    if output.write_all(&block[..count]).await.is_err()
                        || output.flush().await.is_err()
                    {
                        break;
                    }
                }
            }
        }
    };
    tokio::select! {
        () = upstream => {}
        () = downstream => {}
    }
}

/// Feeds the packed stream `input`, unpacked, to a program, whose output and complaints go where
/// ours go. Gives the exit code to pass on. If the stream is broken or cut, the program is killed
/// before its input ends: it must not take that for the end of the data.
pub async fn unpack_into(
    program: &[OsString],
    input: impl AsyncRead + Unpin,
) -> Result<u8, ServeError> {
    let name = program.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    let started = start(program);
    let (mut child, mut stdin) =
        started.map_err(|source| ServeError::Start { program: name.clone(), source })?;
    let waited = |source| ServeError::Wait { program: name.clone(), source };
    let mut status = None;
    let unpacked = {
        let unpacking = pipe::unpack(input, &mut stdin);
        tokio::pin!(unpacking);
        loop {
            tokio::select! {
                unpacked = &mut unpacking => break unpacked,
                ended = child.wait(), if status.is_none() => {
                    let ended = ended.map_err(waited)?;
                    if !ended.success() {
                        return Ok(exit_code(ended));
                    }
                    // It had enough; whether the stream is whole is still to be seen.
                    status = Some(ended);
                }
            }
        }
    };
    match (unpacked, status) {
        (Ok(_), Some(status)) => Ok(exit_code(status)),
        (Ok(_), None) => {
            drop(stdin);
            child.wait().await.map(exit_code).map_err(waited)
        }
        (Err(source), _) => {
            kill(&mut child).await;
            Err(ServeError::Unpack { program: name, source })
        }
    }
}

fn start(program: &[OsString]) -> io::Result<(Child, tokio::process::ChildStdin)> {
    let (first, rest) = program.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut child = tokio::process::Command::new(first)
        .args(rest)
        .stdin(Stdio::piped())
        // A group of its own, so that what it starts is killed with it.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let stdin = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    Ok((child, stdin))
}

async fn kill(child: &mut Child) {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait().await;
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}
