//! How content is written: with holes, in place, in parts that are kept.

use std::fs;
use std::os::unix::fs::MetadataExt;

use transhume::media::Manner;

use super::*;
use crate::media::tree::noise;

const SPARSE: Manner = Manner { sparse: true };

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
