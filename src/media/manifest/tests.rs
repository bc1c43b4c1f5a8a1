use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::sync::Arc;

use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps};
use tempfile::TempDir;

use super::*;
use crate::media::cut::cut;
use crate::media::filter::Filter;
use crate::media::scan::Scan;
use crate::media::shard::{Listing, Shard};
use crate::media::throttle::Throttle;
use crate::wire::tree::{Directory, OwnerRule, ShardHead};

const RULE: MetaRule = MetaRule { whole_secs: false, owner: OwnerRule::Keep };

/// A tree and a place for what is remembered of it.
struct Desk {
    dir: TempDir,
    trust: Trust,
    /// 0 where each change comes to lie in a tick of its own.
    racy_secs: i64,
    side: Side,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("tree")).unwrap();
        Desk { dir, trust: Trust::Names, racy_secs: 0, side: Side::Source }
    }

    fn tree(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    fn manifests(&self) -> PathBuf {
        self.dir.path().join("cache/manifests")
    }

    fn manifest(&self) -> PathBuf {
        let mut files = fs::read_dir(self.manifests()).unwrap();
        let file = files.next().expect("a manifest").unwrap().path();
        assert!(files.next().is_none());
        file
    }

    /// Ends the tick of the file system's clock in which the last change was made.
    fn settle(&self) {
        let probe = self.dir.path().join("probe");
        let now = || {
            fs::write(&probe, "").unwrap();
            let stat = fs::metadata(&probe).unwrap();
            (stat.ctime(), stat.ctime_nsec())
        };
        let before = now();
        while now() == before {}
        // The clock of scans counts whole milliseconds.
        let last = now();
        let clock = || {
            let now = crate::event::now();
            (now.as_second(), i64::from(now.subsec_nanosecond()))
        };
        while clock() <= last {}
    }

    fn how(&self) -> Scan {
        Scan {
            side: self.side,
            rule: RULE,
            checksum: false,
            pace: Arc::new(Throttle::new(None)),
            filter: Filter::new(&["*.skip"]).unwrap(),
            listed: None,
            links: None,
            scope: Scope::default(),
            run: RunId(1),
            gentle: None,
        }
    }

    fn scan(&self, memory: Option<&Memory>) -> Vec<Shard> {
        let root = Root::open(&self.tree(), false).unwrap().unwrap();
        let (mut shards, mut ended) = (Vec::new(), false);
        cut(&root, &Arc::new(self.how()), memory, |shard| {
            ended = shard.is_none();
            shards.extend(shard);
            true
        });
        assert!(ended);
        shards
    }

    fn plain(&self) -> Vec<(ShardHead, Vec<Directory>)> {
        taken(self.scan(None))
    }

    fn memory(&self) -> Memory {
        let exclude = List(vec![Blob(b"*.skip".to_vec())]);
        let spec = spec(self.trust, exclude);
        let memory = Memory::new(&self.manifests(), &spec).unwrap();
        Memory { racy_secs: self.racy_secs, ..memory }
    }

    fn remembering(&self) -> Vec<Shard> {
        if self.racy_secs == 0 {
            self.settle();
        }
        self.scan(Some(&self.memory()))
    }

    /// A scan with what is remembered finds what a plain one finds.
    fn assert_law(&self) {
        assert_eq!(taken(self.remembering()), self.plain());
    }

    /// As many directories as take several shards, with a file each.
    fn fill(&self) {
        for number in 0..120 {
            let dir = self.tree().join(format!("{}/{}/{number}", number % 3, number % 7));
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("file"), format!("{number}")).unwrap();
        }
    }
}

fn spec(trust: Trust, exclude: List<Blob<PATH_BYTES_MAX>, 4096>) -> ScanSpec {
    ScanSpec {
        rule: RULE,
        checksum: false,
        checksum_rate: None,
        trust,
        exclude,
        extent: Extent::Whole,
        hard_links: false,
        scope: Scope::default(),
    }
}

fn taken(shards: Vec<Shard>) -> Vec<(ShardHead, Vec<Directory>)> {
    shards.into_iter().map(|shard| (shard.head, shard.dirs.into_vec())).collect()
}

fn remembered_count(shards: &[Shard]) -> usize {
    shards.iter().filter(|shard| matches!(shard.dirs, Listing::Remembered(..))).count()
}

#[test]
fn what_has_not_changed_is_not_listed_again_and_one_change_costs_one_shard() {
    let desk = Desk::new();
    desk.fill();
    assert_eq!(remembered_count(&desk.remembering()), 0);
    let again = desk.remembering();
    assert!(again.len() > 5, "{} shards", again.len());
    assert_eq!(remembered_count(&again), again.len());
    fs::write(desk.tree().join("1/2/16/another"), "").unwrap();
    let changed = desk.remembering();
    assert_eq!(remembered_count(&changed), changed.len() - 1);
    assert_eq!(taken(changed), desk.plain());
    let settled = desk.remembering();
    assert_eq!(remembered_count(&settled), settled.len());
}

#[test]
fn nothing_is_written_while_nothing_changes() {
    let desk = Desk::new();
    desk.fill();
    desk.remembering();
    assert_eq!(fs::metadata(desk.manifest()).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(fs::metadata(desk.manifests()).unwrap().mode() & 0o7777, 0o700);
    let inode = || fs::metadata(desk.manifest()).unwrap().ino();
    let before = inode();
    desk.remembering();
    assert_eq!(inode(), before);
    fs::remove_dir_all(desk.tree().join("2")).unwrap();
    desk.remembering();
    assert_ne!(inode(), before);
    desk.assert_law();
}

#[test]
fn a_directory_that_changed_just_now_is_looked_at_again() {
    let desk = Desk { racy_secs: RACY_SECS, ..Desk::new() };
    desk.fill();
    desk.remembering();
    assert_eq!(remembered_count(&desk.remembering()), 0);
}

#[test]
fn a_tree_elsewhere_reached_by_a_symlink_is_not_taken_for_the_one_that_was_here() {
    let desk = Desk::new();
    desk.fill();
    desk.remembering();
    let elsewhere = desk.dir.path().join("elsewhere");
    fs::rename(desk.tree().join("1"), &elsewhere).unwrap();
    symlink(&elsewhere, desk.tree().join("1")).unwrap();
    desk.assert_law();
}

/// An empty file system at a place, while this lives.
struct Mounted(PathBuf);

impl Mounted {
    /// `None` where we may not mount.
    fn at(path: PathBuf) -> Option<Self> {
        let mut mount = std::process::Command::new("mount");
        let mount = mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&path).output();
        mount.is_ok_and(|output| output.status.success()).then_some(Mounted(path))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn another_file_system_is_not_taken_for_what_it_covers() {
    let desk = Desk::new();
    desk.fill();
    desk.remembering();
    let tree = desk.tree();
    for place in [tree.join("1/2"), tree.join("2/6/20"), tree] {
        let Some(mounted) = Mounted::at(place.clone()) else {
            eprintln!("skipped: another_file_system_is_not_taken_for_what_it_covers: no mount");
            return;
        };
        desk.assert_law();
        // Remembered or not, what changes in it is seen.
        fs::write(place.join("file"), "x").unwrap();
        desk.assert_law();
        fs::write(place.join("file"), "longer").unwrap();
        desk.assert_law();
        drop(mounted);
        desk.assert_law();
    }
}

#[test]
fn quiet_files_are_believed_and_all_else_is_not() {
    let desk = Desk { trust: Trust::QuietFiles { secs: 0 }, ..Desk::new() };
    desk.fill();
    desk.settle();
    desk.remembering();
    let before = desk.plain();
    // What cannot be seen, as documented.
    fs::write(desk.tree().join("1/2/16/file"), "longer than before").unwrap();
    assert_eq!(taken(desk.remembering()), before);
    // The names of its directory change, so it is looked at.
    fs::write(desk.tree().join("1/2/16/another"), "").unwrap();
    desk.assert_law();
    // Not quiet when it was recorded.
    let desk = Desk { trust: Trust::QuietFiles { secs: 3600 }, ..desk };
    fs::write(desk.tree().join("1/2/16/file"), "longer than before, again").unwrap();
    desk.assert_law();
    // Level 1 sees everything in any case.
    let desk = Desk { trust: Trust::Names, ..desk };
    fs::set_permissions(desk.tree().join("1/1/1/file"), Permissions::from_mode(0o600)).unwrap();
    desk.assert_law();
}

#[test]
fn whatever_happens_to_the_file_the_tree_is_told_as_it_is() {
    let desk = Desk::new();
    desk.fill();
    desk.remembering();
    let (path, whole) = (desk.manifest(), fs::read(desk.manifest()).unwrap());
    let mut damaged: Vec<Vec<u8>> =
        (0..whole.len()).step_by(97).map(|length| whole[..length].to_vec()).collect();
    damaged.extend((0..whole.len()).step_by(61).map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x41;
        bytes
    }));
    damaged.push([&whole[..], b"more"].concat());
    damaged.push(b"nonsense".repeat(100));
    // Changes that only a walk from there on sees, and some before.
    fs::create_dir(desk.tree().join("2/6/new")).unwrap();
    fs::remove_dir_all(desk.tree().join("0/5")).unwrap();
    let plain = desk.plain();
    for bytes in damaged {
        fs::write(&path, bytes).unwrap();
        assert_eq!(taken(desk.remembering()), plain);
    }
}

#[test]
fn the_manifest_of_another_tree_is_not_taken() {
    let (desk, other) = (Desk::new(), Desk::new());
    desk.fill();
    desk.remembering();
    other.fill();
    other.remembering();
    fs::copy(desk.manifest(), other.manifest()).unwrap();
    assert_eq!(remembered_count(&other.remembering()), 0);
    other.assert_law();
}

#[test]
fn a_manifest_from_before_the_clock_was_set_back_is_not_taken() {
    let desk = Desk::new();
    desk.fill();
    desk.remembering();
    let mut bytes = fs::read(desk.manifest()).unwrap();
    let (head, _) = bytes.split_first_chunk_mut().unwrap();
    let Head { key, started } = Head::decode(head).unwrap();
    *head = Head { key, started: (started.0 + 3600, started.1) }.encode();
    fs::write(desk.manifest(), bytes).unwrap();
    assert_eq!(remembered_count(&desk.remembering()), 0);
    let again = desk.remembering();
    assert_eq!(remembered_count(&again), again.len(), "it was replaced");
}

#[test]
fn what_a_killed_scan_began_is_not_taken_and_is_swept_in_time() {
    let desk = Desk::new();
    desk.fill();
    desk.remembering();
    let manifest = desk.manifest();
    let new = manifest.with_extension("").display().to_string() + "-00000000000000ab.new";
    fs::write(&new, &fs::read(&manifest).unwrap()[..100]).unwrap();
    fs::create_dir(desk.tree().join("another")).unwrap();
    desk.assert_law();
    assert!(fs::exists(&new).unwrap(), "it may still be written");
    let long_ago = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
    File::options().write(true).open(&new).unwrap().set_times(long_ago).unwrap();
    fs::create_dir(desk.tree().join("one more")).unwrap();
    desk.assert_law();
    assert!(!fs::exists(&new).unwrap());
}

#[test]
fn a_scan_that_is_broken_off_leaves_the_old_manifest() {
    let desk = Desk::new();
    desk.fill();
    desk.remembering();
    let before = fs::read(desk.manifest()).unwrap();
    fs::create_dir(desk.tree().join("0/new")).unwrap();
    let root = Root::open(&desk.tree(), false).unwrap().unwrap();
    let filter = Filter::new(&["*.skip"]).unwrap();
    let scan = Scan { filter, run: RunId(2), ..desk.how() };
    let mut shards = 0;
    cut(&root, &Arc::new(scan), Some(&desk.memory()), |_| {
        shards += 1;
        shards < 3
    });
    assert_eq!(fs::read(desk.manifest()).unwrap(), before);
    desk.assert_law();
}

#[test]
fn a_place_that_is_not_safe_is_not_used() {
    let desk = Desk::new();
    desk.fill();
    // Others may write to it.
    fs::create_dir_all(desk.manifests()).unwrap();
    fs::set_permissions(desk.manifests(), Permissions::from_mode(0o777)).unwrap();
    desk.assert_law();
    assert_eq!(fs::read_dir(desk.manifests()).unwrap().count(), 0);
    // A symlink.
    let real = desk.dir.path().join("real");
    fs::rename(desk.manifests(), &real).unwrap();
    fs::set_permissions(&real, Permissions::from_mode(0o700)).unwrap();
    symlink(&real, desk.manifests()).unwrap();
    desk.assert_law();
    assert_eq!(fs::read_dir(&real).unwrap().count(), 0);
    // In the tree itself.
    fs::remove_file(desk.manifests()).unwrap();
    symlink(desk.tree(), desk.manifests().parent().unwrap().join("x")).unwrap();
    let exclude = List(Vec::new());
    let spec = spec(Trust::Names, exclude);
    let memory = Memory::new(&desk.dir.path().join("cache/x/inside"), &spec).unwrap();
    desk.scan(Some(&memory));
    assert_eq!(fs::read_dir(desk.tree().join("inside")).unwrap().count(), 0);
}

#[test]
fn forgetting_removes_manifests_and_nothing_else() {
    let desk = Desk::new();
    desk.remembering();
    fs::write(desk.manifests().join("notes.txt"), "").unwrap();
    forget(&desk.manifests()).unwrap();
    let left: Vec<_> =
        fs::read_dir(desk.manifests()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left, ["notes.txt"]);
    fs::remove_file(desk.manifests().join("notes.txt")).unwrap();
    forget(&desk.manifests()).unwrap();
    assert!(!fs::exists(desk.manifests()).unwrap());
    forget(&desk.manifests()).unwrap();
}

#[derive(Clone, Debug)]
enum Edit {
    Write(String),
    /// Other bytes, the same length, the same time.
    Disguise(String),
    Chmod(String, u32),
    MakeDir(String),
    Remove(String),
    Rename(String, String),
    Symlink(String, String),
    /// A directory goes elsewhere and a symlink takes its place.
    Stand(String),
    HardLink(String, String),
    SetBack(String),
    Leftover(String),
    Pipe(String),
}

fn path() -> impl Strategy<Value = String> {
    let names =
        prop::sample::select(vec!["0", "1", "2", "3", "4", "a", "a-b", "b.skip", "file", "16"]);
    prop::collection::vec(names, 1..4).prop_map(|names| names.join("/"))
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        3 => path().prop_map(Edit::Write),
        2 => path().prop_map(Edit::Disguise),
        1 => (path(), prop::sample::select(vec![0o755, 0o700, 0o750])).prop_map(|(path, mode)| Edit::Chmod(path, mode)),
        3 => path().prop_map(Edit::MakeDir),
        2 => path().prop_map(Edit::Remove),
        3 => (path(), path()).prop_map(|(from, to)| Edit::Rename(from, to)),
        1 => (path(), path()).prop_map(|(path, text)| Edit::Symlink(path, text)),
        1 => path().prop_map(Edit::Stand),
        1 => (path(), path()).prop_map(|(from, to)| Edit::HardLink(from, to)),
        1 => path().prop_map(Edit::SetBack),
        1 => path().prop_map(Edit::Leftover),
        1 => path().prop_map(Edit::Pipe),
    ]
}

/// Does it where it can be done.
fn apply(desk: &Desk, edit: &Edit, number: usize) {
    let at = |path: &str| desk.tree().join(path);
    let set = |path: &Path, secs| {
        let time = Timespec { tv_sec: secs, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        let _ = rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW);
    };
    let file = |path: &Path| fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file);
    match edit {
        Edit::Write(path) => {
            // A pipe would wait for a reader.
            let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
            let mut options = File::options();
            let options = options.write(true).create(true).truncate(true).custom_flags(flags);
            if let Ok(mut file) = options.open(at(path)) {
                drop(file.write_all(format!("{number}").as_bytes()));
            }
        }
        Edit::Disguise(path) => {
            if let Some(stat) = file(&at(path)) {
                fs::write(at(path), vec![number as u8; stat.len() as usize]).unwrap();
                set(&at(path), stat.mtime());
            }
        }
        Edit::Chmod(path, mode) => {
            if fs::symlink_metadata(at(path)).is_ok_and(|stat| !stat.is_symlink()) {
                fs::set_permissions(at(path), Permissions::from_mode(*mode)).unwrap();
            }
        }
        Edit::MakeDir(path) => drop(fs::create_dir_all(at(path))),
        Edit::Remove(path) => match fs::symlink_metadata(at(path)) {
            Ok(stat) if stat.is_dir() => fs::remove_dir_all(at(path)).unwrap(),
            Ok(_) => fs::remove_file(at(path)).unwrap(),
            Err(_) => {}
        },
        Edit::Rename(from, to) => drop(fs::rename(at(from), at(to))),
        Edit::Symlink(path, text) => drop(symlink(text, at(path))),
        Edit::Stand(path) => {
            let elsewhere = desk.dir.path().join(format!("elsewhere-{number}"));
            if fs::symlink_metadata(at(path)).is_ok_and(|stat| stat.is_dir()) {
                fs::rename(at(path), &elsewhere).unwrap();
                symlink(&elsewhere, at(path)).unwrap();
            }
        }
        Edit::HardLink(from, to) => drop(fs::hard_link(at(from), at(to))),
        Edit::SetBack(path) => set(&at(path), 1_000_000_000),
        Edit::Leftover(path) => {
            drop(fs::write(at(path).join(".transhume-00000000000000ab-3.1"), ""));
        }
        Edit::Pipe(path) => {
            let _ = rustix::fs::mknodat(CWD, at(path), FileType::Fifo, Mode::RWXU, 0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 80, ..ProptestConfig::default() })]

    /// The law: a scan with what is remembered finds what a plain one finds, whatever was done in
    /// between, and cuts and tells it alike.
    #[test]
    fn memory_changes_nothing_but_the_time_it_takes(
        rounds in prop::collection::vec(prop::collection::vec(edit(), 0..10), 1..5),
        racy_secs in prop::sample::select(vec![0, RACY_SECS]),
        side in prop::sample::select(vec![Side::Source, Side::Target]),
    ) {
        let desk = Desk { racy_secs, side, ..Desk::new() };
        desk.fill();
        desk.assert_law();
        for (round, edits) in rounds.iter().enumerate() {
            for (number, edit) in edits.iter().enumerate() {
                apply(&desk, edit, round * 100 + number);
            }
            desk.assert_law();
        }
    }
}

/// The seed of the fuzz target is a block, as long as this holds.
#[test]
fn the_seed_of_the_fuzz_target_is_a_block() {
    let seed = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/manifest/block");
    assert_eq!(directories_in(&fs::read(seed).unwrap()), Some(4));
}
