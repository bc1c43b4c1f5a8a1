//! How content is written: with holes, in place, in parts that are kept.

use std::fs;
use std::os::unix::fs::MetadataExt;

use transhume::media::Manner;

use super::*;
use crate::media::tree::noise;

const SPARSE: Manner = Manner { sparse: true, in_place: false };

fn allocated(path: &Path) -> u64 {
    fs::metadata(path).unwrap().blocks() * 512
}

/// Content of which each part is zeros or noise.
fn stripes(parts: &[(bool, usize)]) -> Vec<u8> {
    let part = |(zero, length): &(bool, usize)| match zero {
        true => vec![0; *length],
        false => noise(*length, 7),
    };
    parts.iter().flat_map(part).collect()
}

const MIB: usize = 1 << 20;

fn holey(tree: &Tree) {
    tree.file("small", stripes(&[(true, 100_000)]), 0o644)
        .file("begins", stripes(&[(true, 3 * MIB), (false, 9)]), 0o644)
        .file("ends", stripes(&[(false, 70_001), (true, 3 * MIB + 5)]), 0o644)
        .file("middle", stripes(&[(false, 4096), (true, 2 * MIB), (false, 4096)]), 0o644)
        .file("nothing", stripes(&[(true, 5 * MIB + 1)]), 0o600)
        .file("noise", stripes(&[(false, 300_000)]), 0o644)
        // Long enough for parts.
        .file("long", stripes(&[(true, 20 * MIB), (false, 100_000), (true, 25 * MIB)]), 0o644);
}

#[tokio::test(flavor = "multi_thread")]
async fn sparse_files_take_no_more_room_than_their_content() {
    for way in WAYS {
        let desk = Desk::new(holey, |_| ());
        assert_eq!(desk.rsync(&["--sparse"], b""), 0);
        let full = desk.pair.dir.path().join("full");
        assert_eq!(rsync(&["--no-sparse"], b"", &desk.pair.source, &full), 0);
        let options = Options { manner: SPARSE, ..Options::default() };
        desk.pair.sync_well(way, &options).await;
        desk.pair.assert_same(way);
        let over_sftp = matches!(way, Way::PushSftp);
        for name in ["small", "begins", "ends", "middle", "nothing", "noise", "long"] {
            let [ours, theirs, full] =
                [&desk.pair.target, &desk.expected, &full].map(|root| allocated(&root.join(name)));
            // A part ends with a block, over SFTP short runs are written, small files whole.
            let room = if over_sftp { 256 * 1024 } else { 64 * 1024 };
            assert!(ours <= theirs + room, "{way:?} {name}: {ours} of {full}, rsync {theirs}");
        }
        let again = desk.pair.sync_well(way, &options).await;
        assert_eq!(again.stats.transferred_files, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sparse_files_that_change_are_patched_and_keep_their_holes() {
    for way in [Way::PushHelper, Way::PullHelper, Way::PushSftp] {
        let desk = Desk::new(holey, |_| ());
        let options = Options { manner: SPARSE, ..Options::default() };
        desk.pair.sync_well(way, &options).await;
        let mut content = fs::read(desk.pair.source.join("long")).unwrap();
        content[30 * MIB..30 * MIB + 100].copy_from_slice(&noise(100, 3));
        desk.pair.source().file("long", content, 0o644).time("long", 1_600_000_000, 0);
        desk.pair.sync_well(way, &options).await;
        desk.pair.assert_same(way);
        assert!(allocated(&desk.pair.target.join("long")) < MIB as u64, "{way:?}");
    }
}

const IN_PLACE: Manner = Manner { sparse: false, in_place: true };

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

#[tokio::test(flavor = "multi_thread")]
async fn inplace_writes_into_the_old_file_whatever_changed_in_it() {
    let old = noise(3 * MIB, 1);
    let shifted = [&noise(5000, 2)[..], &old].concat();
    let edited = [&old[..MIB], &noise(70_000, 3), &old[MIB + 70_000..]].concat();
    let cases: [(&str, Vec<u8>); 7] = [
        ("edited", edited),
        ("shifted-on", shifted),
        ("shifted-back", old[5000..].to_vec()),
        ("swapped", [&old[2 * MIB..], &old[..2 * MIB]].concat()),
        ("shorter", old[..MIB + 17].to_vec()),
        ("small", noise(1000, 4)),
        ("empty", Vec::new()),
    ];
    for way in WAYS {
        for sparse in [false, true] {
            let source = |tree: &Tree| {
                for (name, content) in &cases {
                    tree.file(name, content, 0o640).time(name, 1_600_000_000, 5);
                }
                tree.file("new", noise(400_000, 5), 0o600).file("was-link", "x", 0o644);
                tree.file("zeros", vec![0; 300_000], 0o644);
            };
            let target = |tree: &Tree| {
                for (name, _) in &cases {
                    tree.file(name, &old, 0o644);
                }
                tree.link("was-link", "edited").file("zeros", noise(400_000, 6), 0o644);
            };
            let desk = Desk::new(source, target);
            let inodes: Vec<u64> =
                cases.iter().map(|(name, _)| inode(&desk.pair.target.join(name))).collect();
            assert_eq!(desk.rsync(&["--inplace"], b""), 0);
            let options = Options { manner: Manner { sparse, ..IN_PLACE }, ..Options::default() };
            let outcome = desk.pair.sync_well(way, &options).await;
            desk.pair.assert_same(way);
            for ((name, _), inode_before) in cases.iter().zip(inodes) {
                assert_eq!(inode(&desk.pair.target.join(name)), inode_before, "{way:?} {name}");
            }
            if matches!(way, Way::PushHelper | Way::PullHelper) {
                assert!(outcome.stats.matched_bytes > 6 << 20, "{}", outcome.stats);
            }
            let again = desk.pair.sync_well(way, &options).await;
            assert_eq!(again.stats.transferred_files, 0);
        }
    }
}

/// Also where size and time would say that nothing is to be done.
#[tokio::test(flavor = "multi_thread")]
async fn inplace_broken_off_is_seen_by_the_next_pass() {
    for way in WAYS {
        let desk = Desk::new(
            |tree| {
                tree.file("a", noise(4 * MIB, 2), 0o644);
            },
            |tree| {
                tree.file("a", noise(4 * MIB, 1), 0o644);
            },
        );
        let (old, target) = (noise(4 * MIB, 1), desk.pair.target.join("a"));
        let slow = Options {
            manner: IN_PLACE,
            bwlimit: Some(1 << 20),
            delete: false,
            ..Options::default()
        };
        let begun = async {
            while fs::read(&target).unwrap()[..1000] == old[..1000] {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            _ = desk.pair.sync(way, &slow) => panic!("{way:?}: four seconds are long enough"),
            () = begun => {}
        }
        let broken = fs::read(&target).unwrap();
        assert!(broken != fs::read(desk.pair.source.join("a")).unwrap(), "{way:?}");
        let options = Options { manner: IN_PLACE, ..Options::default() };
        desk.pair.sync_well(way, &options).await;
        desk.pair.assert_same(way);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inplace_parts_a_file_from_other_names_that_are_to_stay() {
    for way in [Way::Local, Way::PushHelper, Way::PushSftp] {
        let desk = Desk::new(
            |tree| {
                tree.file("a", noise(2 * MIB, 1), 0o644).file("b", noise(2 * MIB, 2), 0o644);
            },
            |tree| {
                tree.file("a", noise(2 * MIB, 1), 0o644);
                fs::hard_link(tree.path("a"), tree.path("b")).unwrap();
            },
        );
        let options = Options { manner: IN_PLACE, hard_links: true, ..Options::default() };
        desk.pair.sync_well(way, &options).await;
        desk.pair.assert_same(way);
        assert_ne!(inode(&desk.pair.target.join("a")), inode(&desk.pair.target.join("b")));
    }
}
