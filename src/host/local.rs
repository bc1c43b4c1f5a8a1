//! This machine.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::net::{TcpStream, UnixStream};

use super::{Address, Command, Ended, Exit, Host, HostError, Process, Stream, read_tail};

/// The machine that transhume runs on, as the user that runs it.
#[derive(Clone, Debug)]
pub struct Local {
    login: String,
}

impl Local {
    pub fn new() -> Self {
        Local { login: login_name() }
    }
}

impl Default for Local {
    fn default() -> Self {
        Local::new()
    }
}

/// The name of the effective user; its number where /etc/passwd does not list it.
fn login_name() -> String {
    let uid = rustix::process::geteuid().as_raw();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.len() > 2 && fields[2] == uid.to_string())
        .map_or_else(|| format!("#{uid}"), |fields| fields[0].to_owned())
}

#[async_trait]
impl Host for Local {
    fn name(&self) -> &str {
        "this server"
    }

    async fn spawn(&self, command: &Command) -> Result<Process, HostError> {
        let words = command.effective_argv(&self.login);
        let mut child = tokio::process::Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| HostError::Start {
                host: self.name().to_owned(),
                command: command.to_string(),
                source,
            })?;
        // All three were asked for just above.
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            unreachable!("a child started with pipes has them");
        };
        let tail = tokio::spawn(read_tail(stderr));
        let lost = HostError::Lost { host: self.name().to_owned(), command: command.to_string() };
        let ending = async move {
            let status = child.wait().await.map_err(|_| lost)?;
            let exit = match (status.code(), status.signal()) {
                (Some(code), _) => Exit::Code(code),
                (None, Some(signal)) => Exit::Signal(signal_name(signal)),
                (None, None) => Exit::Code(-1),
            };
            Ok(Ended { exit, stderr_tail: tail.await.unwrap_or_default() })
        };
        Ok(Process::new(Box::pin(stdin), Box::pin(stdout), ending))
    }

    async fn connect(&self, address: &Address) -> Result<Stream, HostError> {
        let stream: std::io::Result<Stream> = match address {
            Address::Tcp { host, port } => TcpStream::connect((host.as_str(), *port))
                .await
                .and_then(|stream| stream.set_nodelay(true).map(|()| Box::new(stream) as Stream)),
            Address::Unix { path } => {
                UnixStream::connect(path).await.map(|stream| Box::new(stream) as Stream)
            }
        };
        stream.map_err(|source| HostError::Connect {
            host: self.name().to_owned(),
            address: address.clone(),
            source,
        })
    }

    async fn subsystem(&self, name: &str) -> Result<Stream, HostError> {
        Err(HostError::Subsystem {
            host: self.name().to_owned(),
            name: name.to_owned(),
            source: std::io::Error::other("subsystems exist only over SSH"),
        })
    }

    async fn dedicated(&self) -> Result<Arc<dyn Host>, HostError> {
        Ok(Arc::new(self.clone()))
    }

    fn is_local(&self) -> bool {
        true
    }
}

/// The signal's name as SSH would report it; its number where SSH has no name for it.
fn signal_name(number: i32) -> String {
    let names = [
        (1, "HUP"),
        (2, "INT"),
        (3, "QUIT"),
        (4, "ILL"),
        (6, "ABRT"),
        (8, "FPE"),
        (9, "KILL"),
        (10, "USR1"),
        (11, "SEGV"),
        (12, "USR2"),
        (13, "PIPE"),
        (14, "ALRM"),
        (15, "TERM"),
    ];
    let known = names.iter().find(|(code, _)| *code == number);
    known.map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::{run, run_ok};
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn keeps_exit_output_and_the_tail_of_stderr() {
        let command =
            Command::script("cat; yes complaint | head -n 100000 >&2; echo last >&2; exit 7", &[])
                .stdin("hello");
        let output = run(&Local::new(), &command).await.unwrap();
        assert_eq!(output.exit, Exit::Code(7));
        assert_eq!(output.text(), "hello");
        assert!(output.stderr_tail.ends_with("complaint\nlast\n"));
        assert!(output.stderr_tail.len() <= super::super::STDERR_TAIL_BYTES);
    }

    #[tokio::test]
    async fn tells_a_signal_from_a_code() {
        let output = run(&Local::new(), &Command::script("kill -TERM $$", &[])).await.unwrap();
        assert_eq!(output.exit, Exit::Signal("TERM".into()));
    }

    #[tokio::test]
    async fn a_deadline_ends_the_wait_and_says_that_the_outcome_is_unknown() {
        let command = Command::new(["sleep", "60"]).deadline(Duration::from_millis(50));
        let error = run_ok(&Local::new(), &command).await.unwrap_err();
        assert!(matches!(error, HostError::TimedOut { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_missing_program_is_an_error_of_its_own() {
        let error = run_ok(&Local::new(), &Command::new(["no-such-program"])).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot start `no-such-program` on this server");
    }
}
