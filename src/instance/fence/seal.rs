//! The files of the fence: links, masks, and unit files put aside. Each of these can be repeated.

use super::{FenceError, FenceRecord, UnitFile, UnitRecord};
use crate::host::{Command, Exit, Host, HostError, RunAs, failure, run, run_ok};

/// Removes the recorded links.
pub(super) async fn disable(host: &dyn Host, record: &FenceRecord) -> Result<(), HostError> {
    let paths: Vec<&str> = links(record).map(|(path, _)| path).collect();
    let script = r#"for link in "$@"; do if [ -L "$link" ]; then rm -f -- "$link"; fi; done"#;
    run_ok(host, &as_root(script, &paths)).await.map(drop)
}

/// Puts the recorded links back.
pub(super) async fn enable(host: &dyn Host, record: &FenceRecord) -> Result<(), HostError> {
    let words: Vec<&str> = links(record).flat_map(|(path, target)| [path, target]).collect();
    let script = r#"set -e
        while [ $# -gt 0 ]; do
            if [ ! -L "$1" ]; then mkdir -p -- "$(dirname -- "$1")"; ln -s -- "$2" "$1"; fi
            shift 2
        done"#;
    run_ok(host, &as_root(script, &words)).await.map(drop)
}

fn links(record: &FenceRecord) -> impl Iterator<Item = (&str, &str)> {
    let links = record.units.iter().flat_map(|unit| &unit.links);
    links.map(|link| (link.path.as_str(), link.target.as_str()))
}

/// Masks every unit, its file put aside where it has one.
pub(super) async fn mask(
    host: &dyn Host,
    unit_dir: &str,
    record: &FenceRecord,
) -> Result<(), FenceError> {
    let script = r#"set -e; dir=$1; shift
        is_mask() { [ -L "$1" ] && [ "$(readlink -- "$1")" = /dev/null ]; }
        for unit in "$@"; do
            file=$dir/$unit; aside=$file.transhume-fenced
            if is_mask "$file"; then continue; fi
            if [ -e "$file" ] || [ -L "$file" ]; then
                if [ -e "$aside" ] || [ -L "$aside" ]; then printf '%s' "$file"; exit 46; fi
                mv -T -- "$file" "$aside"
            fi
            ln -s -- /dev/null "$file"
        done
        sync -f -- "$dir" 2>/dev/null || sync"#;
    let names = record.units.iter().map(|unit| unit.name.as_str());
    judge(host, as_root(script, &[&[unit_dir][..], &names.collect::<Vec<_>>()].concat())).await
}

/// Takes our masks away and puts the files back.
pub(super) async fn unmask(
    host: &dyn Host,
    unit_dir: &str,
    record: &FenceRecord,
) -> Result<(), FenceError> {
    let script = r#"set -e; dir=$1; shift
        is_mask() { [ -L "$1" ] && [ "$(readlink -- "$1")" = /dev/null ]; }
        while [ $# -gt 0 ]; do
            was=$1; file=$dir/$2; aside=$file.transhume-fenced; shift 2
            if [ -e "$aside" ] || [ -L "$aside" ]; then
                if { [ -e "$file" ] || [ -L "$file" ]; } && ! is_mask "$file"; then
                    printf '%s' "$file"; exit 46
                fi
                mv -fT -- "$aside" "$file"
            elif [ "$was" = absent ]; then
                if is_mask "$file"; then rm -f -- "$file"; fi
            elif is_mask "$file" || ! { [ -e "$file" ] || [ -L "$file" ]; }; then
                printf '%s' "$file"; exit 47
            fi
        done
        sync -f -- "$dir" 2>/dev/null || sync"#;
    let words = record.units.iter().filter_map(was).flatten();
    judge(host, as_root(script, &[&[unit_dir][..], &words.collect::<Vec<_>>()].concat())).await
}

fn was(unit: &UnitRecord) -> Option<[&str; 2]> {
    match unit.file {
        UnitFile::Absent => Some(["absent", &unit.name]),
        UnitFile::Present => Some(["present", &unit.name]),
        UnitFile::Masked => None,
    }
}

async fn judge(host: &dyn Host, command: Command) -> Result<(), FenceError> {
    let output = run(host, &command).await?;
    let (host_name, path) = (host.name().to_owned(), output.text());
    match output.exit {
        Exit::Code(0) => Ok(()),
        Exit::Code(46) => Err(FenceError::FileCameBack { host: host_name, path }),
        Exit::Code(47) => Err(FenceError::FileLost { host: host_name, path }),
        Exit::Code(_) | Exit::Signal(_) => Err(failure(host, &command, output).into()),
    }
}

fn as_root(script: &str, words: &[&str]) -> Command {
    Command::script(script, words).run_as(RunAs::Root)
}
