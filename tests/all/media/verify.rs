//! Contents that are read and compared.

use std::fs;
use std::time::Duration;

use transhume::media::Options;

use super::fixture::{Pair, WAYS, itemizing};
use super::tree::noise;

/// Another byte, and nothing else: as a failing disk would have it.
fn spoil(path: &std::path::Path) {
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    let mut content = fs::read(path).unwrap();
    content[7] ^= 1;
    fs::write(path, content).unwrap();
    fs::File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
}

#[tokio::test]
async fn what_only_its_content_tells_is_found_at_the_rate_that_was_set() {
    const FILES: u32 = 4;
    for way in WAYS {
        let pair = Pair::near();
        for number in 0..FILES {
            let content = noise(1 << 20, number as u8);
            pair.source().file(format!("{number}/file"), content, 0o644);
        }
        pair.sync_well(way, &Options::default()).await;
        spoil(&pair.target.join("2/file"));
        let nothing = pair.sync_well(way, &Options::default()).await;
        assert_eq!(nothing.stats.differing(), 0, "{way:?}");

        let rate = 4 << 20;
        let slowly = Options { checksum: true, checksum_rate: Some(rate), ..Options::default() };
        let (report, lines) = itemizing(Options { dry_run: true, ..slowly.clone() });
        let outcome = pair.sync_well(way, &report).await;
        assert_eq!(*lines.lock().unwrap(), [">fc........ 2/file"], "{way:?}");
        // Whatever the machine: what is read first is free, the rest takes its time.
        let least = Duration::from_millis(u64::from(FILES - 2) * 1000 / 4);
        assert!(outcome.stats.elapsed >= least, "{way:?}: {:?}", outcome.stats.elapsed);
        let repaired = pair.sync_well(way, &slowly).await;
        assert_eq!(repaired.stats.transferred_files, 1, "{way:?}");
        pair.assert_same(way);
    }
}
