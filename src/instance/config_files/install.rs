//! Writing the files, with a way back.
//!
//! Before a path is touched, what is there goes to `KEEP/…/PATH.before-transhume`, or, where there
//! is nothing, `PATH.created-by-transhume` says so. These are not beside the files: nginx would
//! read a copy in `sites-enabled/`. A call that was cut off finds them and keeps the first.

use super::{ConfigFile, ConfigFilesError, FileChange, Installed, InstalledFile};
use crate::host::{Command, Host, HostError, RunAs, run_ok};

/// Installs `files` at their own paths. What they replace is kept below `keep_dir`. Doing it again
/// changes nothing. After a call that failed, [`undo`] with the paths of `files` goes back.
pub async fn install(
    host: &dyn Host,
    files: &[ConfigFile],
    keep_dir: &str,
) -> Result<Installed, ConfigFilesError> {
    let mut installed = Installed { keep_dir: keep_dir.to_owned(), files: Vec::new() };
    for file in files {
        installed.files.push(install_one(host, file, keep_dir).await?);
    }
    Ok(installed)
}

async fn install_one(
    host: &dyn Host,
    file: &ConfigFile,
    keep_dir: &str,
) -> Result<InstalledFile, HostError> {
    let script = r#"set -e; umask 077
        path=$1; mode=$2; owner=$3; kept=$4$1.before-transhume; made=$4$1.created-by-transhume
        dir=$(dirname -- "$path"); new=$dir/.transhume-$$
        [ -d "$dir" ] || (umask 022; mkdir -p -- "$dir")
        trap 'rm -f -- "$new"' EXIT
        cat > "$new"
        if ! chown -- "$owner" "$new" 2>/dev/null; then echo unknown; owner=root:root; chown -- "$owner" "$new"; fi
        chmod -- "$mode" "$new"
        look() { stat -c '%F %a %U:%G' -- "$1"; }
        if [ ! -e "$kept" ] && [ ! -L "$kept" ] && [ ! -e "$made" ]; then
            if [ -f "$path" ] && cmp -s -- "$new" "$path" && [ "$(look "$path")" = "$(look "$new")" ]; then
                echo same; exit 0
            fi
            mkdir -p -m 700 -- "$4" && mkdir -p -- "$(dirname -- "$kept")"
            if [ -e "$path" ] || [ -L "$path" ]; then
                cp -a -T -- "$path" "$kept.new"; mv -fT -- "$kept.new" "$kept"
            else
                : > "$made"
            fi
        fi
        sync -- "$new" 2>/dev/null || sync
        mv -fT -- "$new" "$path"
        if [ -e "$made" ]; then echo created; else echo replaced; fi"#;
    let owner = format!("{}:{}", file.owner, file.group);
    let mode = format!("{:04o}", file.mode);
    let command = Command::script(script, &[&file.path, &mode, &owner, keep_dir]);
    let command = command.run_as(RunAs::Root).stdin(file.content.as_slice());
    let text = run_ok(host, &command).await?;
    let change = match text.lines().last() {
        Some("same") => FileChange::Same,
        Some("created") => FileChange::Created,
        Some("replaced") => FileChange::Replaced,
        Some(_) | None => {
            let (host, command) = (host.name().to_owned(), command.to_string());
            return Err(HostError::Output { host, command, problem: "no outcome".into() });
        }
    };
    let unknown_owner = text.lines().any(|line| line == "unknown").then_some(owner);
    Ok(InstalledFile { path: file.path.clone(), change, unknown_owner })
}

/// Puts back what was there before [`install`]. Files that it found to be the same stay. Doing it
/// again changes nothing. `paths` may hold files that were never reached.
pub async fn undo(host: &dyn Host, keep_dir: &str, paths: &[String]) -> Result<(), HostError> {
    let script = r#"set -e; keep=$1; shift
        for path in "$@"; do
            kept=$keep$path.before-transhume; made=$keep$path.created-by-transhume
            if [ -e "$kept" ] || [ -L "$kept" ]; then
                new=$(dirname -- "$path")/.transhume-$$
                cp -a -T -- "$kept" "$new"; mv -fT -- "$new" "$path"; rm -f -- "$kept"
            elif [ -e "$made" ]; then
                rm -f -- "$path" "$made"
            fi
        done
        if [ -d "$keep" ]; then find "$keep" -depth -type d -empty -delete; fi"#;
    let words: Vec<&str> =
        std::iter::once(keep_dir).chain(paths.iter().map(String::as_str)).collect();
    run_ok(host, &Command::script(script, &words).run_as(RunAs::Root)).await.map(drop)
}

#[cfg(test)]
mod tests;
