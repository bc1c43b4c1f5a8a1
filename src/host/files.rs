//! Files of the control plane: configuration, units, `.env.production`. Small, few, and handled
//! by commands alone, so that they work the same here, over SSH and through sudo. The media
//! engine has its own way.

use super::{Command, Host, HostError, RunAs, run, run_ok};

/// What lies at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    pub kind: Kind,
    /// Permission bits, `0o640`.
    pub mode: u32,
    pub owner: String,
    pub group: String,
    pub size: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Dir,
    Symlink,
    Other,
}

/// The whole file, or `None` where there is none.
pub async fn read(host: &dyn Host, user: &RunAs, path: &str) -> Result<Option<Vec<u8>>, HostError> {
    // 44 tells "not there" from what cat or sudo may say.
    let script =
        r#"if [ ! -e "$1" ] && [ -d "$(dirname -- "$1")" ]; then exit 44; fi; exec cat -- "$1""#;
    let command = Command::script(script, &[path]).run_as(user.clone());
    let output = run(host, &command).await?;
    match output.exit {
        super::Exit::Code(0) => Ok(Some(output.stdout)),
        super::Exit::Code(44) => Ok(None),
        super::Exit::Code(_) | super::Exit::Signal(_) => {
            Err(super::failure(host, &command, output))
        }
    }
}

/// Writes a whole file so that it is there complete or not at all: a temporary file beside it,
/// with its mode from the first byte, synced, renamed. The owner is `user`. A symlink at `path`
/// is replaced, not followed.
pub async fn write(
    host: &dyn Host,
    user: &RunAs,
    path: &str,
    mode: u32,
    content: &[u8],
) -> Result<(), HostError> {
    let script = r#"set -e; umask 077; t="$1.transhume-$$"; trap 'rm -f -- "$t"' EXIT
        cat > "$t"; chmod -- "$2" "$t"; sync -- "$t" 2>/dev/null || sync; mv -fT -- "$t" "$1""#;
    let command = Command::script(script, &[path, &format!("{mode:04o}")])
        .run_as(user.clone())
        .stdin(content);
    run_ok(host, &command).await.map(drop)
}

/// What lies at `path` (a symlink is not followed), or `None`.
pub async fn stat(host: &dyn Host, user: &RunAs, path: &str) -> Result<Option<Stat>, HostError> {
    let script = r#"if [ ! -e "$1" ] && [ ! -L "$1" ] && [ -d "$(dirname -- "$1")" ]; then exit 44; fi
        exec stat -c '%f %U %G %s' -- "$1""#;
    let command = Command::script(script, &[path]).run_as(user.clone());
    let output = run(host, &command).await?;
    match output.exit {
        super::Exit::Code(0) => {
            parse_stat(&output.text()).map(Some).ok_or_else(|| HostError::Output {
                host: host.name().to_owned(),
                command: command.to_string(),
                problem: format!("something that is not a stat line: {:?}", output.text()),
            })
        }
        super::Exit::Code(44) => Ok(None),
        super::Exit::Code(_) | super::Exit::Signal(_) => {
            Err(super::failure(host, &command, output))
        }
    }
}

fn parse_stat(line: &str) -> Option<Stat> {
    let fields: Vec<&str> = line.split(' ').collect();
    let [mode, owner, group, size] = fields.as_slice() else { return None };
    let mode = u32::from_str_radix(mode, 16).ok()?;
    let kind = match mode & 0o170_000 {
        0o100_000 => Kind::File,
        0o040_000 => Kind::Dir,
        0o120_000 => Kind::Symlink,
        _ => Kind::Other,
    };
    Some(Stat {
        kind,
        mode: mode & 0o7777,
        owner: (*owner).to_owned(),
        group: (*group).to_owned(),
        size: size.parse().ok()?,
    })
}

/// Makes a directory and its missing parents; `mode` holds for the last one where it is new.
pub async fn make_dir(
    host: &dyn Host,
    user: &RunAs,
    path: &str,
    mode: u32,
) -> Result<(), HostError> {
    let script = r#"[ -d "$1" ] || { mkdir -p -- "$(dirname -- "$1")" && mkdir -m "$2" -- "$1"; }"#;
    let command = Command::script(script, &[path, &format!("{mode:04o}")]).run_as(user.clone());
    run_ok(host, &command).await.map(drop)
}

/// Removes a file or symlink; one that is not there is fine.
pub async fn remove(host: &dyn Host, user: &RunAs, path: &str) -> Result<(), HostError> {
    let command = Command::new(["rm", "-f", "--", path]).run_as(user.clone());
    run_ok(host, &command).await.map(drop)
}

/// Renames within a file system, replacing what is at `to`.
pub async fn rename(host: &dyn Host, user: &RunAs, from: &str, to: &str) -> Result<(), HostError> {
    let command = Command::new(["mv", "-fT", "--", from, to]).run_as(user.clone());
    run_ok(host, &command).await.map(drop)
}

/// The names in a directory, sorted; empty where there is no such directory.
pub async fn list(host: &dyn Host, user: &RunAs, dir: &str) -> Result<Vec<String>, HostError> {
    let script = r#"[ -d "$1" ] || exit 0; cd -- "$1" && find . -mindepth 1 -maxdepth 1 -print0"#;
    let command = Command::script(script, &[dir]).run_as(user.clone());
    let text = run_ok(host, &command).await?;
    let mut names: Vec<String> =
        text.split('\0').filter_map(|name| name.strip_prefix("./")).map(str::to_owned).collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::super::local::Local;
    use super::*;

    #[tokio::test]
    async fn a_file_is_written_whole_with_its_mode_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("it's a file").to_string_lossy().into_owned();
        let host = Local::new();
        assert_eq!(read(&host, &RunAs::Login, &path).await.unwrap(), None);
        write(&host, &RunAs::Login, &path, 0o600, b"one\0two").await.unwrap();
        assert_eq!(read(&host, &RunAs::Login, &path).await.unwrap().unwrap(), b"one\0two");
        let stat = stat(&host, &RunAs::Login, &path).await.unwrap().unwrap();
        assert_eq!((stat.kind, stat.mode, stat.size), (Kind::File, 0o600, 7));
        assert_eq!(
            list(&host, &RunAs::Login, &dir.path().to_string_lossy()).await.unwrap(),
            ["it's a file"]
        );
    }

    #[tokio::test]
    async fn writing_replaces_a_symlink_and_leaves_what_it_pointed_to() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        std::fs::write(&target, "old").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        write(&Local::new(), &RunAs::Login, &link.to_string_lossy(), 0o644, b"new").await.unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"old");
        assert_eq!(std::fs::read(&link).unwrap(), b"new");
        assert!(!link.is_symlink());
    }

    #[tokio::test]
    async fn an_unreachable_parent_is_an_error_not_an_absent_file() {
        let error = read(&Local::new(), &RunAs::Login, "/no/such/dir/file").await.unwrap_err();
        assert!(error.to_string().contains("No such file"), "{error}");
    }
}
