//! Puts the binary on a machine: looks for a place where it may run and nobody else may replace
//! it, finds it there or copies it, and believes its digest alone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Helper, HelperError, Reach, serve};
use crate::host::{Command, Exit, Host, HostError, Output, RunAs, failure, local, run, run_ok};

const COPY_DEADLINE: Duration = Duration::from_secs(15 * 60);
const BLOCK_BYTES: usize = 256 * 1024;
const DIGEST_CHARS: usize = 16;

pub(super) async fn install(
    host: &dyn Host,
    reach: Reach,
    binary: &Path,
) -> Result<Helper, HelperError> {
    if host.is_local()
        && let Some(helper) = running_program(host, &reach, binary).await?
    {
        return Ok(helper);
    }
    let digest = digest_of(binary).await?;
    let greeting = serve::greeting(&digest);
    let plan = Plan::new(&reach, &digest);
    let (dir, answer) = find_place(host, &plan).await?;
    let path = format!("{dir}/transhume");
    let helper = Helper { path, installed_by: Some(plan.user.clone()) };
    if answer == greeting {
        return Ok(helper);
    }
    copy(host, &plan, &dir, binary, &greeting).await?;
    Ok(helper)
}

/// Where to look and as whom.
struct Plan {
    user: RunAs,
    /// The directory below the base, named after the content.
    name: String,
    /// Of the binary and its directory.
    mode: &'static str,
    bases: Vec<String>,
}

impl Plan {
    fn new(reach: &Reach, digest: &str) -> Self {
        let name = format!("{}-{}", env!("CARGO_PKG_VERSION"), &digest[..DIGEST_CHARS]);
        let fallbacks = ["own:/var/tmp", "own:/dev/shm", "own:/opt"].map(str::to_owned);
        match reach {
            Reach::Login => Plan {
                user: RunAs::Login,
                name,
                mode: "0700",
                bases: ["cache".to_owned()].into_iter().chain(fallbacks).collect(),
            },
            Reach::Everyone { base } => Plan {
                user: RunAs::Root,
                name,
                mode: "0755",
                bases: [base.clone()].into_iter().chain(fallbacks).collect(),
            },
        }
    }
}

/// The program that is running, where it is reachable for all who must execute it.
async fn running_program(
    host: &dyn Host,
    reach: &Reach,
    binary: &Path,
) -> Result<Option<Helper>, HelperError> {
    // One that was replaced or removed reads as `… (deleted)`, which does not exist.
    let Ok(path) = std::fs::read_link(binary).or_else(|_| std::fs::canonicalize(binary)) else {
        return Ok(None);
    };
    let Some(path) = path.to_str().filter(|path| Path::new(path).exists()) else {
        return Ok(None);
    };
    if matches!(reach, Reach::Everyone { .. }) {
        // Whoever has no rights at all stands for everybody.
        let nobody = RunAs::User("nobody".into());
        let command = Command::new(["test", "-x", path]).run_as(nobody);
        if !run(host, &command).await.is_ok_and(|output| output.success()) {
            return Ok(None);
        }
    }
    Ok(Some(Helper { path: path.to_owned(), installed_by: None }))
}

async fn digest_of(binary: &Path) -> Result<String, HelperError> {
    let path = binary.to_owned();
    let digest = tokio::task::spawn_blocking(move || serve::digest(&path)).await;
    digest
        .unwrap_or_else(|gone| Err(std::io::Error::other(gone)))
        .map_err(|source| HelperError::Binary { path: binary.to_owned(), source })
}

/// Prints `platform …`, then lines `problem …`, and in the end `dir …` or `unsafe …`. After the
/// directory comes what the binary in it says about itself, if it is there.
///
/// The directory holds what others will execute: it and its base must be ours alone to write.
/// `own:DIR` is a public directory, below which somebody may have put something in our way.
const PLACE_SCRIPT: &str = r#"
echo "platform $(uname -sm)"
name=$1 mode=$2; shift 2
if [ "$mode" = 0700 ]; then umask 077; else umask 022; fi
closed() {
  p=$1
  while [ "$p" != / ]; do
    if [ -z "$(find "$p" -maxdepth 0 -perm -001)" ]; then echo "$p"; return; fi
    p=$(dirname -- "$p")
  done
}
for base; do
  case $base in
    cache)
      base=${XDG_CACHE_HOME:-${HOME:+$HOME/.cache}}
      if [ -z "$base" ]; then echo "problem HOME is not set"; continue; fi
      base=$base/transhume ;;
    own:*) base=${base#own:}/transhume-$(id -u) ;;
  esac
  case $base in /*) ;; *) echo "problem $base: not an absolute path"; continue ;; esac
  for part in "$base" "$base/$name"; do
    if ! why=$(mkdir -p -- "$part" 2>&1); then echo "problem $part: $why"; continue 2; fi
    if [ -L "$part" ]; then echo "unsafe $part is a symlink"; exit 0; fi
    if [ ! -O "$part" ]; then echo "unsafe $part belongs to somebody else"; exit 0; fi
    if [ -n "$(find "$part" -maxdepth 0 -perm /022)" ]; then
      echo "unsafe others may write to $part"; exit 0
    fi
  done
  if [ "$mode" = 0755 ]; then
    p=$(closed "$base/$name")
    if [ -n "$p" ]; then echo "problem $base: $p is closed to other users"; continue; fi
  fi
  probe=$base/$name/.probe-$$
  printf '#!/bin/sh\nexit 0\n' > "$probe" && chmod 700 "$probe"
  if why=$("$probe" 2>&1); then
    rm -f -- "$probe"
    echo "dir $base/$name"
    if [ -x "$base/$name/transhume" ]; then "$base/$name/transhume" helper hello 2>&1; fi
    exit 0
  fi
  rm -f -- "$probe"; rmdir -- "$base/$name" "$base" 2>/dev/null
  echo "problem $base: no program can run from it"
done
"#;

/// The directory, and what the binary in it answers.
async fn find_place(host: &dyn Host, plan: &Plan) -> Result<(String, String), HelperError> {
    let mut parameters = vec![plan.name.as_str(), plan.mode];
    parameters.extend(plan.bases.iter().map(String::as_str));
    let command = Command::script(PLACE_SCRIPT, &parameters).run_as(plan.user.clone());
    let text = run_ok(host, &command).await.map_err(|source| in_host(host, source))?;
    let name = host.name().to_owned();
    let mut problems = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        match line.split_once(' ') {
            Some(("platform", theirs)) => {
                let ours = own_platform().await.map_err(|source| in_host(host, source))?;
                if theirs != ours {
                    let theirs = theirs.to_owned();
                    return Err(HelperError::Platform { host: name, theirs, ours });
                }
            }
            Some(("dir", dir)) => {
                let answer: Vec<&str> = lines.collect();
                return Ok((dir.to_owned(), answer.join("\n")));
            }
            Some(("unsafe", problem)) => {
                return Err(HelperError::Unsafe { host: name, problem: problem.to_owned() });
            }
            Some(("problem", problem)) => problems.push(problem),
            Some(_) | None => {}
        }
    }
    Err(HelperError::NoPlace { host: name, problems: problems.join("; ") })
}

async fn own_platform() -> Result<String, HostError> {
    run_ok(&local::Local::new(), &Command::new(["uname", "-sm"])).await
}

/// What the binary at `path` says about itself; anything else than a proper answer is `""`.
async fn answer(host: &dyn Host, path: &str, user: &RunAs) -> Result<String, HelperError> {
    let script = r#"[ -x "$1" ] || exit 0; exec "$1" helper hello"#;
    let command = Command::script(script, &[path]).run_as(user.clone());
    let output = run(host, &command).await.map_err(|source| in_host(host, source))?;
    Ok(match output.exit {
        Exit::Code(0) => output.text(),
        Exit::Code(_) | Exit::Signal(_) => output.stderr_tail.trim().to_owned(),
    })
}

/// Copies under another name, which must be new, and publishes what gave the right answer.
async fn copy(
    host: &dyn Host,
    plan: &Plan,
    dir: &str,
    binary: &Path,
    greeting: &str,
) -> Result<(), HelperError> {
    let part = format!("{dir}/.transhume-{}", random_name());
    let copied = send_and_check(host, plan, &part, binary, greeting).await;
    let path = format!("{dir}/transhume");
    let last = match &copied {
        Ok(()) => Command::new(["mv", "-fT", "--", &part, &path]),
        Err(_) => Command::new(["rm", "-f", "--", &part]),
    };
    let published = run_ok(host, &last.run_as(plan.user.clone())).await;
    copied?;
    published.map(drop).map_err(|source| in_host(host, source))
}

async fn send_and_check(
    host: &dyn Host,
    plan: &Plan,
    part: &str,
    binary: &Path,
    greeting: &str,
) -> Result<(), HelperError> {
    // `set -C`: a file that is there already is not written to.
    let script = r#"umask 077; set -C; cat > "$1" && chmod -- "$2" "$1""#;
    let command = Command::script(script, &[part, plan.mode])
        .run_as(plan.user.clone())
        .deadline(COPY_DEADLINE);
    send(host, &command, binary).await?;
    let answer = answer(host, part, &plan.user).await?;
    if answer == greeting {
        return Ok(());
    }
    Err(HelperError::NotTheSame { host: host.name().to_owned(), path: part.to_owned(), answer })
}

/// Runs `command` with the file as its standard input.
async fn send(host: &dyn Host, command: &Command, binary: &Path) -> Result<(), HelperError> {
    let unreadable = |source| HelperError::Binary { path: PathBuf::from(binary), source };
    let mut file = tokio::fs::File::open(binary).await.map_err(unreadable)?;
    let process = host.spawn(command).await.map_err(|source| in_host(host, source))?;
    let (mut stdin, mut stdout, ending) = process.split();
    let feed = async {
        let mut block = vec![0; BLOCK_BYTES];
        loop {
            let count = file.read(&mut block).await?;
            // A write that fails is explained by how the command ends.
            if count == 0 || stdin.write_all(&block[..count]).await.is_err() {
                break;
            }
        }
        let _ = stdin.shutdown().await;
        drop(stdin);
        Ok(())
    };
    let drain = async { tokio::io::copy(&mut stdout, &mut tokio::io::sink()).await };
    let sending = async { tokio::join!(feed, drain, ending) };
    let Ok((fed, _, ended)) = tokio::time::timeout(COPY_DEADLINE, sending).await else {
        let (command, secs) = (command.to_string(), COPY_DEADLINE.as_secs());
        let source = HostError::TimedOut { host: host.name().to_owned(), command, secs };
        return Err(in_host(host, source));
    };
    fed.map_err(unreadable)?;
    let ended = ended.map_err(|source| in_host(host, source))?;
    if ended.exit == Exit::Code(0) {
        return Ok(());
    }
    let output = Output { exit: ended.exit, stdout: Vec::new(), stderr_tail: ended.stderr_tail };
    Err(in_host(host, failure(host, command, output)))
}

fn in_host(host: &dyn Host, source: HostError) -> HelperError {
    HelperError::Host { host: host.name().to_owned(), source }
}

fn random_name() -> String {
    let mut bytes = [0; 8];
    // Without random bytes the name is merely a known one, and `set -C` refuses what is there.
    let _ = SystemRandom::new().fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
