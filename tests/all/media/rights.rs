//! Owners, and what a side that is not root may do. These need root to set up; without it they
//! are skipped, and say so.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::sync::Arc;

use transhume::config::Transport;
use transhume::event::Recorder;
use transhume::host::local::Local;
use transhume::host::{Command, Host, RunAs};
use transhume::media::{Endpoint, Options, Outcome, Owner, sync};

use super::fixture::{Pair, WAYS, Way, bytes, deleting};
use super::tree::assert_same;

fn root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: {test} needs root");
    }
    root
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_are_kept_by_number_or_set_by_name() {
    if !root("owners_are_kept_by_number_or_set_by_name") {
        return;
    }
    for way in WAYS {
        let pair = Pair::near();
        pair.source().file("dir/a", "x", 0o4755).link("dir/link", "a");
        for (name, uid) in [("dir", 12), ("dir/a", 345), ("", 6)] {
            chown(pair.source.join(name), Some(uid), Some(uid + 1)).unwrap();
        }
        std::os::unix::fs::lchown(pair.source.join("dir/link"), Some(7), Some(8)).unwrap();
        // Changing the owner took setuid away.
        std::fs::set_permissions(pair.source.join("dir/a"), Permissions::from_mode(0o4755))
            .unwrap();
        pair.sync_well(way, &deleting()).await;
        pair.assert_same(way);

        let named = |group| Owner::Named { user: "nobody".into(), group };
        let options = Options { owner: named(Some("daemon".into())), ..Options::default() };
        pair.sync_well(way, &options).await;
        let owner = |name: &str| {
            let stat = std::fs::symlink_metadata(pair.target.join(name)).unwrap();
            (stat.uid(), stat.gid(), stat.mode() & 0o7777)
        };
        assert_eq!(owner("dir/a"), (65534, 1, 0o4755), "{way:?}");
        assert_eq!((owner("dir").0, owner("dir/link").0, owner("").0), (65534, 65534, 65534));
        let again = pair.sync_well(way, &options).await;
        assert_eq!(again.stats.changed_entries, 0, "{way:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_owner_is_told_before_anything_is_copied() {
    let pair = Pair::near();
    pair.source().file("a", "x", 0o644);
    let owner = Owner::Named { user: "no-such-user".into(), group: None };
    let error = pair.sync(Way::Local, &Options { owner, ..Options::default() }).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot find the user or group `no-such-user` on this server");
    assert!(!pair.target.join("a").exists());
}

/// The real binary as the user `nobody`, in a place that it may reach.
struct Nobody {
    dir: tempfile::TempDir,
    helper: Command,
}

impl Nobody {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let binary = dir.path().join("transhume");
        std::fs::copy(env!("CARGO_BIN_EXE_transhume"), &binary).unwrap();
        std::fs::set_permissions(&binary, Permissions::from_mode(0o755)).unwrap();
        let helper = Command::new([binary.to_str().unwrap(), "helper", "files"]);
        Nobody { dir, helper }
    }

    /// A directory of nobody's.
    fn directory(&self, name: &str) -> std::path::PathBuf {
        let path = self.dir.path().join(name);
        std::fs::create_dir(&path).unwrap();
        chown(&path, Some(65534), Some(65534)).unwrap();
        path
    }

    fn endpoint(&self, root: &Path) -> Endpoint {
        let host: Arc<dyn Host> = Arc::new(Local::new());
        let user = RunAs::User("nobody".into());
        let helper = Some(self.helper.clone());
        Endpoint::remote(host, bytes(root), Transport::Auto, helper, user, 2).unwrap()
    }
}

async fn pass(source: &Endpoint, target: &Endpoint, options: &Options) -> Outcome {
    match sync(source, target, options, &Recorder::default()).await {
        Ok(outcome) => outcome,
        Err(error) => panic!("{}", transhume::error::one_line(&error)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_cannot_read_is_listed_and_protects_the_target() {
    if !root("what_nobody_cannot_read_is_listed_and_protects_the_target") {
        return;
    }
    let nobody = Nobody::new();
    let pair = Pair::near();
    let source = nobody.directory("source");
    let tree = super::tree::Tree::at(&source);
    tree.file("open/a", "x", 0o644)
        .file("open/secret", "x", 0o000)
        .file("closed/b", "x", 0o644)
        .dir("closed", 0o700);
    pair.target().file("closed/was/here", "before", 0o644).file("open/too-much", "x", 0o644);
    let from = nobody.endpoint(&source);
    let outcome = pass(&from, &Endpoint::local(&pair.target), &deleting()).await;
    let mut problems: Vec<String> = outcome.problems.iter().map(ToString::to_string).collect();
    problems.sort();
    assert_eq!(
        problems,
        [
            "closed: cannot open the directory: Permission denied (os error 13)",
            "open/secret: cannot open it: Permission denied (os error 13)",
        ]
    );
    assert!(pair.target.join("closed/was/here").exists());
    assert!(pair.target.join("open/a").exists() && !pair.target.join("open/too-much").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_without_root_keeps_narrow_modes_and_the_next_pass_works_in_them() {
    if !root("a_target_without_root_keeps_narrow_modes_and_the_next_pass_works_in_them") {
        return;
    }
    let nobody = Nobody::new();
    let source = nobody.directory("source");
    let target = nobody.directory("target");
    let tree = super::tree::Tree::at(&source);
    tree.file("read-only/sub/a", "x", 0o400)
        .file("read-only/b", "x", 0o444)
        .file("blind/c", "x", 0o644)
        .dir("read-only/sub", 0o500)
        .dir("read-only", 0o555)
        .dir("blind", 0o600);
    let hand_over = |root: &Path| {
        let mut command = std::process::Command::new("chown");
        assert!(command.args(["-R", "65534:65534"]).arg(root).status().unwrap().success());
    };
    hand_over(&source);
    let (from, to) = (Endpoint::local(&source), nobody.endpoint(&target));
    let outcome = pass(&from, &to, &deleting()).await;
    assert_eq!(outcome.problems, []);
    assert_same(&source, &target, super::tree::Exact::Nanos);
    tree.file("read-only/new", "y", 0o444).file("read-only/sub/a", "longer", 0o400);
    hand_over(&source);
    let outcome = pass(&from, &to, &Options::default()).await;
    // What nobody cannot list on the target is told; the rest is exact.
    let others: Vec<String> = outcome
        .problems
        .iter()
        .map(ToString::to_string)
        .filter(|problem| !problem.starts_with("blind"))
        .collect();
    assert_eq!(others, [""; 0]);
    assert_same(&source.join("read-only"), &target.join("read-only"), super::tree::Exact::Nanos);
}
