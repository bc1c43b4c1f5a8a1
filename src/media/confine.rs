//! The second wall around a tree: once a helper has opened its root, the kernel (Landlock, Linux
//! 5.13 and later) keeps it from opening, making, renaming or removing anything outside, from
//! running programs and from using the network. The first wall is [`super::root`]; this one holds
//! where that had a gap.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError,
};

use super::root::Root;
use crate::wire::message::Side;

/// The newest rules we know; the kernel is asked for as many of them as it has.
const KNOWN: ABI = ABI::V6;

/// Confines this thread, and those that it starts from now on, to `root` and to the directory
/// `manifests`; the files `figures` can still be read. A kernel that cannot leaves things as they
/// are: then the first wall is the only one, as it is for every other program.
pub(crate) fn confine(root: &Root, side: Side, manifests: Option<&Path>, figures: &[PathBuf]) {
    // Asked now, because the answer depends on files that are out of reach later.
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    if restrict(root, side, manifests, figures).is_ok() {
        // Otherwise the first one to use the pool would size it. If it is there already, its
        // threads are older than the wall, and so are those who gave them work.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    }
}

fn restrict(
    root: &Root,
    side: Side,
    manifests: Option<&Path>,
    figures: &[PathBuf],
) -> Result<(), RulesetError> {
    // Those that this kernel does not have cannot be read anyway.
    let figures = figures.iter().filter_map(|path| PathFd::new(path).ok());
    let figures = figures.map(|file| PathBeneath::new(file, AccessFs::ReadFile));
    let rules = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .create()?
        .add_rule(PathBeneath::new(root, in_tree(side)))?
        .add_rules(figures.map(Ok::<_, RulesetError>))?;
    with_manifests(rules, manifests)?.restrict_self().map(drop)
}

/// What a side does in its tree. Nothing there is ever executed, or a device.
fn in_tree(side: Side) -> BitFlags<AccessFs> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    match side {
        Side::Source => read,
        Side::Target => {
            read | AccessFs::WriteFile
                | AccessFs::Truncate
                | AccessFs::MakeReg
                | AccessFs::MakeDir
                | AccessFs::MakeSym
                | AccessFs::RemoveFile
                | AccessFs::RemoveDir
                | AccessFs::Refer
        }
    }
}

fn with_manifests(
    rules: RulesetCreated,
    manifests: Option<&Path>,
) -> Result<RulesetCreated, RulesetError> {
    let Some(dir) = manifests else { return Ok(rules) };
    // It must be there to be named. Without it nothing is remembered, which is no error.
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir).is_ok();
    match PathFd::new(dir) {
        Ok(fd) if made => rules.add_rule(PathBeneath::new(fd, in_tree(Side::Target))),
        Ok(_) | Err(_) => Ok(rules),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;

    use landlock::RulesetStatus;

    use super::*;

    /// Whether this kernel has it: the tests say so where it does not.
    fn has_landlock() -> bool {
        // Only the thread that asks is bound by it.
        let asking = std::thread::spawn(|| {
            let rules = Ruleset::default().handle_access(AccessFs::Execute)?.create()?;
            rules.restrict_self().map(|status| status.ruleset)
        });
        matches!(asking.join(), Ok(Ok(RulesetStatus::FullyEnforced)))
    }

    fn inside(side: Side, work: impl FnOnce(&Path, &Path) + Send + 'static) {
        if !has_landlock() {
            println!("skipped: this kernel has no Landlock");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("file"), "in").unwrap();
        fs::write(&outside, "out").unwrap();
        let done = std::thread::spawn(move || {
            let root = Root::open(&tree, false).unwrap().unwrap();
            restrict(&root, side, None, &[]).unwrap();
            work(&tree, &outside);
        });
        done.join().unwrap();
    }

    fn denied<T>(result: std::io::Result<T>) {
        assert!(matches!(result, Err(error) if error.kind() == ErrorKind::PermissionDenied));
    }

    #[test]
    fn a_target_is_changed_inside_its_root_and_nowhere_else() {
        inside(Side::Target, |tree, outside| {
            fs::write(tree.join("new"), "x").unwrap();
            fs::create_dir(tree.join("dir")).unwrap();
            fs::rename(tree.join("new"), tree.join("dir/new")).unwrap();
            fs::remove_file(tree.join("file")).unwrap();
            denied(fs::read(outside));
            denied(fs::write(outside, "mine"));
            denied(fs::remove_file(outside));
            denied(fs::write(outside.with_extension("new"), "mine"));
            // Not even by a way that begins inside.
            std::os::unix::fs::symlink(outside, tree.join("link")).unwrap();
            denied(fs::read(tree.join("link")));
            denied(fs::rename(tree.join("dir/new"), outside));
        });
    }

    #[test]
    fn a_source_is_only_read_and_starts_nothing() {
        inside(Side::Source, |tree, outside| {
            assert_eq!(fs::read(tree.join("file")).unwrap(), b"in");
            assert_eq!(fs::read_dir(tree).unwrap().count(), 1);
            denied(fs::write(tree.join("file"), "mine"));
            denied(fs::remove_file(tree.join("file")));
            denied(fs::read(outside));
            denied(std::process::Command::new("/bin/true").status());
        });
    }

    #[test]
    fn manifests_can_be_written_and_figures_read_although_they_lie_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, manifests) = (dir.path().join("tree"), dir.path().join("a/manifests"));
        let figures = [dir.path().join("figures"), dir.path().join("missing")];
        fs::create_dir(&tree).unwrap();
        fs::write(&figures[0], "7").unwrap();
        let done = std::thread::spawn(move || {
            let root = Root::open(&tree, false).unwrap().unwrap();
            restrict(&root, Side::Source, Some(&manifests), &figures).unwrap();
            assert_eq!(fs::read(&figures[0]).unwrap(), b"7");
            fs::write(manifests.join("one"), "x").unwrap();
            fs::remove_file(manifests.join("one")).unwrap();
        });
        done.join().unwrap();
    }
}
