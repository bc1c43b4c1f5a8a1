//! Large files, which travel in parts over several lanes.

use std::fs::{File, FileTimes, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;

use transhume::error::{Advice, Retry};
use transhume::event::{Event, Monitor};
use transhume::media::{MediaError, Options};

use super::faults::{nothing_half, small_disk};
use super::fixture::{Pair, Way, deleting, leftovers};
use super::tree::noise;
use crate::harness::process::wait_until;

const MIB: usize = 1 << 20;
const WAYS: [Way; 3] = [Way::PushHelper, Way::PullHelper, Way::PushSftp];

/// Calls a function once, when so many bytes were given to the target.
pub(super) struct AfterBytes<F>(u64, Mutex<Option<F>>);

impl<F: FnOnce() + Send> Monitor for AfterBytes<F> {
    fn emit(&self, event: Event) {
        if let Event::Progress(progress) = event
            && progress.bytes_done >= self.0
            && let Some(act) = self.1.lock().unwrap().take()
        {
            act();
        }
    }
}

pub(super) fn after_mib<F: FnOnce() + Send>(mib: u64, act: F) -> AfterBytes<F> {
    AfterBytes(mib << 20, Mutex::new(Some(act)))
}

/// Slow enough for things to happen meanwhile.
pub(super) fn slow() -> Options {
    Options { bwlimit: Some(60 << 20), ..Options::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_files_arrive_whatever_their_length() {
    for way in WAYS {
        let pair = Pair::near();
        let source = pair.source();
        // The least that is cut, a last part of one byte, and neighbours that are not cut.
        source.file("even", noise(32 * MIB, 1), 0o640).time("even", 1_600_000_000, 7);
        source.file("odd", noise(40 * MIB + 1, 2), 0o4755).file("less", noise(32 * MIB - 1, 3), 0);
        for number in 0..20 {
            source.file(format!("dir/{number}"), noise(1000 * number, 4), 0o644);
        }
        let stats = pair.sync_well(way, &Options::default()).await.stats;
        pair.assert_same(way);
        assert_eq!(leftovers(&pair.target), [""; 0]);
        assert_eq!((stats.transferred_files, stats.matched_bytes), (23, 0), "{way:?}");
        assert_eq!(stats.literal_bytes, stats.source_bytes);
        assert_eq!(pair.sync_well(way, &deleting()).await.stats.transferred_files, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_rewritten_between_its_parts_arrives_in_one_of_its_states() {
    for way in WAYS {
        let pair = Pair::near();
        pair.source().file("large", noise(64 * MIB, 1), 0o644).time("large", 1_600_000_000, 0);
        let path = pair.source.join("large");
        // Neither size nor time nor the inode tells that it is another one.
        let rewrite = move || {
            let mut file = OpenOptions::new().write(true).open(&path).unwrap();
            let mtime = file.metadata().unwrap().modified().unwrap();
            file.write_all(&noise(64 * MIB, 2)).unwrap();
            file.set_times(FileTimes::new().set_modified(mtime)).unwrap();
        };
        let outcome = pair.watched(way, &slow(), &after_mib(16, rewrite)).await.unwrap();
        if outcome.problems_total == 0 {
            pair.assert_same(way);
        } else {
            assert!(!pair.target.join("large").exists());
        }
        assert_eq!(leftovers(&pair.target), [""; 0], "{way:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_shrinks_between_its_parts_is_never_published_half() {
    for way in WAYS {
        let pair = Pair::near();
        pair.source().file("large", noise(64 * MIB, 1), 0o644);
        let path = pair.source.join("large");
        let shrink = move || {
            File::options().write(true).open(&path).unwrap().set_len(20 << 20).unwrap();
        };
        let outcome = pair.watched(way, &slow(), &after_mib(16, shrink)).await.unwrap();
        // Once more, whole, it is what it is now.
        assert_eq!(outcome.problems, []);
        assert_eq!(std::fs::metadata(pair.target.join("large")).unwrap().size(), 20 << 20);
        pair.assert_same(way);
        assert_eq!(leftovers(&pair.target), [""; 0], "{way:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_cut_between_the_parts_leaves_nothing_half_and_the_next_pass_goes_on() {
    for way in [Way::PushHelper, Way::PullHelper] {
        let pair = Pair::over_ssh().await;
        pair.source().file("large", noise(64 * MIB, 1), 0o644).file("small", "x", 0o644);
        let monitor = after_mib(20, pair.killer());
        let error = pair.watched(way, &slow(), &monitor).await.unwrap_err();
        assert_eq!(error.retry(), Retry::Unknown, "{way:?}: {error:?}");
        assert!(wait_until(|| pair.session_count() == 0), "sessions stay");
        nothing_half(&pair.source, &pair.target);
        assert!(!pair.target.join("large").exists());
        let stats = pair.sync_well(way, &deleting()).await.stats;
        pair.assert_same(way);
        assert_eq!(leftovers(&pair.target), [""; 0]);
        // At least the parts that the source could forget about.
        assert!(stats.matched_bytes >= 4 << 20, "{way:?}: {stats:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_between_the_parts_stops_the_pass() {
    for way in WAYS {
        let pair = Pair::near();
        let Some(disk) = small_disk(&pair.target, "30m") else { return };
        pair.source().file("large", noise(50 * MIB, 1), 0o644);
        let error = pair.sync(way, &Options::default()).await.unwrap_err();
        assert!(matches!(error, MediaError::TargetFull { .. }), "{way:?}: {error:?}");
        assert_eq!(leftovers(&pair.target), [""; 0], "{way:?}");
        disk.grow();
        pair.sync_well(way, &deleting()).await;
        pair.assert_same(way);
    }
}
