//! What is on a machine for as long as we hold it: a small file (a password file, an archive of
//! index definitions), or a program at work. A file is 0600 from its first byte, and its content
//! goes through standard input. File and program are gone when we let go, also when we are killed
//! or the link is cut.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::host::{Command, Ended, Host, HostError, Output, RunAs};

/// How long a machine may take to write or remove the file.
const FILE_WAIT_MAX: Duration = Duration::from_secs(60);

/// The end of standard input is the sign to let go. A process apart waits for it, because the
/// shell itself may be killed when its caller is dropped. `$1` is the content's length; `$2`, if
/// not empty, names the only kind of process to end, whose id is in the file by then.
const HOLD: &str = r#"umask 077
f=$(mktemp "${TMPDIR:-/tmp}/transhume.XXXXXXXX") || exit 71
exec 3<&0
head -c "$1" <&3 >"$f"
( cat <&3
  if [ -n "$2" ] && p=$(cat "$f") && [ "$(cat "/proc/$p/comm")" = "$2" ]; then kill "$p"; fi
  rm -f -- "$f" ) >/dev/null 2>&1 &
[ "$(wc -c <"$f")" -eq "$1" ] || exit 71
printf '%s\n' "$f"
exec 3<&-
wait"#;

/// A file that is there until this is dropped or [`HeldFile::release`]d.
pub struct HeldFile {
    path: String,
    /// Its end lets the task below close the command's standard input.
    hold: oneshot::Sender<()>,
    ending: JoinHandle<Result<Ended, HostError>>,
}

impl HeldFile {
    /// Writes `content` to a new temporary file of `user`.
    pub async fn create(
        host: &dyn Host,
        user: &RunAs,
        content: &[u8],
    ) -> Result<HeldFile, HostError> {
        HeldFile::hold(host, user, content, "").await
    }

    async fn hold(
        host: &dyn Host,
        user: &RunAs,
        content: &[u8],
        ends: &str,
    ) -> Result<HeldFile, HostError> {
        let length = content.len().to_string();
        let command = Command::script(HOLD, &[&length, ends]).run_as(user.clone());
        let (mut stdin, stdout, ending) = host.spawn(&command).await?.split();
        let write = async {
            // A script that ends early says why by its exit.
            let _ = stdin.write_all(content).await;
            let _ = stdin.flush().await;
            let mut path = String::new();
            let _ = BufReader::new(stdout).read_line(&mut path).await;
            path
        };
        let path = tokio::time::timeout(FILE_WAIT_MAX, write).await.unwrap_or_default();
        let path = path.trim_end_matches('\n').to_owned();
        if path.is_empty() {
            drop(stdin);
            return Err(why_not(host, &command, ending).await);
        }
        let (hold, let_go) = oneshot::channel::<()>();
        let ending = tokio::spawn(async move {
            let _ = let_go.await;
            drop(stdin);
            ending.await
        });
        Ok(HeldFile { path, hold, ending })
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    /// Removes the file and waits until it is gone.
    pub async fn release(self) -> Result<(), HostError> {
        drop(self.hold);
        match tokio::time::timeout(FILE_WAIT_MAX, self.ending).await {
            Ok(Ok(ended)) => ended.map(drop),
            // The task was cancelled with the runtime, or the machine is slow: the file goes all
            // the same.
            Ok(Err(_)) | Err(_) => Ok(()),
        }
    }
}

/// Holds a program whose standard input is data, so that its end cannot be the sign to stop: when
/// this is dropped, we are killed or the link is cut, the program is ended.
pub struct Leash(HeldFile);

impl Leash {
    /// A leash for one `program` of `user`.
    pub async fn tie(host: &dyn Host, user: &RunAs, program: &str) -> Result<Leash, HostError> {
        HeldFile::hold(host, user, b"", program).await.map(Leash)
    }

    /// `command` on the leash.
    pub fn command(&self, command: Command) -> Command {
        const TELL: &str = r#"echo "$$" >"$1"; shift; exec "$@""#;
        command.wrapped(["sh", "-c", TELL, "sh", self.0.path()])
    }

    /// Lets the program go; it has ended.
    pub async fn release(self) -> Result<(), HostError> {
        self.0.release().await
    }
}

async fn why_not(
    host: &dyn Host,
    command: &Command,
    ending: impl Future<Output = Result<Ended, HostError>>,
) -> HostError {
    match tokio::time::timeout(FILE_WAIT_MAX, ending).await {
        Ok(Ok(Ended { exit, stderr_tail })) => {
            let output = Output { exit, stdout: Vec::new(), stderr_tail };
            crate::host::failure(host, command, output)
        }
        Ok(Err(error)) => error,
        Err(_) => HostError::TimedOut {
            host: host.name().to_owned(),
            command: command.to_string(),
            secs: FILE_WAIT_MAX.as_secs(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::local::Local;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    async fn gone(path: &str) -> bool {
        for _ in 0..500 {
            if !Path::new(path).exists() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }

    #[tokio::test]
    async fn the_file_is_private_and_whole_and_goes_when_released() {
        let content = vec![7; 300_000];
        let file = HeldFile::create(&Local::new(), &RunAs::Login, &content).await.unwrap();
        let path = file.path().to_owned();
        assert_eq!(std::fs::read(&path).unwrap(), content);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        file.release().await.unwrap();
        assert!(!Path::new(&path).exists());
    }

    #[tokio::test]
    async fn a_program_on_the_leash_ends_when_we_are_dropped() {
        let host = Local::new();
        let leash = Leash::tie(&host, &RunAs::Login, "sleep").await.unwrap();
        let command = leash.command(Command::new(["sleep", "600"]));
        let (stdin, _stdout, ending) = host.spawn(&command).await.unwrap().split();
        let path = leash.0.path().to_owned();
        for _ in 0..500 {
            // The shell has become the program.
            let pid = std::fs::read_to_string(&path).unwrap();
            let comm = std::fs::read_to_string(format!("/proc/{}/comm", pid.trim()));
            if comm.is_ok_and(|comm| comm.trim() == "sleep") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        drop(leash);
        assert_eq!(ending.await.unwrap().exit, crate::host::Exit::Signal("TERM".into()));
        drop(stdin);
        assert!(gone(&path).await, "{path} is still there");
    }

    #[tokio::test]
    async fn the_file_goes_when_we_are_dropped() {
        let file = HeldFile::create(&Local::new(), &RunAs::Login, b"x").await.unwrap();
        let path = file.path().to_owned();
        drop(file);
        assert!(gone(&path).await, "{path} is still there");
    }
}
