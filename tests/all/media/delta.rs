//! What is sent: little where little changed.

use std::sync::Mutex;

use transhume::event::{Event, Monitor};
use transhume::media::Options;

use super::fixture::{Pair, Way, deleting, leftovers};
use super::tree::{fill, noise};
use crate::harness::process::wait_until;

const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_that_changed_a_little_is_patched() {
    for way in [Way::PushHelper, Way::PullHelper] {
        let pair = Pair::near();
        let source = pair.source();
        let mut content = noise(20 * MIB, 1);
        source.file("dump", &content, 0o600);
        pair.sync_well(way, &Options::default()).await;
        content.splice(7 * MIB..7 * MIB, *b"an insertion that shifts the rest");
        content[MIB..MIB + 100].fill(7);
        source.file("dump", &content, 0o600);
        let outcome = pair.sync_well(way, &Options::default()).await;
        pair.assert_same(way);
        let stats = outcome.stats;
        assert!(stats.literal_bytes < 200_000, "{way:?}: {} literal", stats.literal_bytes);
        assert_eq!(stats.literal_bytes + stats.matched_bytes, content.len() as u64);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_grew_or_was_cut_off_sends_only_what_is_missing() {
    for way in [Way::PushHelper, Way::PullHelper] {
        let pair = Pair::near();
        let log = noise(9 * MIB, 3);
        pair.source().file("log", &log[..5 * MIB + 123], 0o600);
        pair.source().file("dump", &log, 0o600);
        pair.sync_well(way, &Options::default()).await;
        pair.source().file("log", &log, 0o600);
        // As if a copy by other means had broken off.
        pair.target().file("dump", &log[..7 * MIB + 45], 0o600);
        let stats = pair.sync_well(way, &Options::default()).await.stats;
        pair.assert_same(way);
        let missing = (4 * MIB - 123 + 2 * MIB - 45) as u64;
        let literal_bytes = stats.literal_bytes;
        assert!(literal_bytes < missing + 10_000, "{way:?}: {literal_bytes} of {missing}");
        let wire_bytes = stats.sent_bytes + stats.received_bytes;
        assert!(wire_bytes < missing + 200_000, "{way:?}: {wire_bytes} on the wire");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_with_other_content_is_sent_whole() {
    let pair = Pair::near();
    pair.source().file("dump", noise(5 * MIB, 1), 0o600);
    pair.sync_well(Way::PushHelper, &Options::default()).await;
    pair.source().file("dump", noise(6 * MIB, 2), 0o600);
    let outcome = pair.sync_well(Way::PushHelper, &Options::default()).await;
    pair.assert_same(Way::PushHelper);
    assert_eq!(outcome.stats.literal_bytes, 6 * MIB as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_with_nothing_to_do_sends_next_to_nothing() {
    for way in [Way::PushHelper, Way::PullHelper] {
        let pair = Pair::near();
        fill(&pair.source);
        pair.sync_well(way, &Options::default()).await;
        let stats = pair.sync_well(way, &deleting()).await.stats;
        let wire_bytes = stats.sent_bytes + stats.received_bytes;
        assert!(wire_bytes < 1000, "{way:?}: {wire_bytes} bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_checksums_find_a_change_that_size_and_time_hide() {
    for way in super::fixture::WAYS {
        let pair = Pair::near();
        pair.source().file("a", "one", 0o644).time("a", 1_600_000_000, 0);
        pair.source().file("b", noise(300_000, 1), 0o644).time("b", 1_600_000_000, 0);
        pair.sync_well(way, &Options::default()).await;
        pair.source().file("a", "two", 0o644).time("a", 1_600_000_000, 0);
        pair.source().file("b", noise(300_000, 2), 0o644).time("b", 1_600_000_000, 0);
        let quick = pair.sync_well(way, &Options::default()).await;
        assert_eq!(quick.stats.transferred_files, 0, "{way:?}");
        let thorough = Options { checksum: true, ..Options::default() };
        let outcome = pair.sync_well(way, &thorough).await;
        assert_eq!(outcome.stats.transferred_files, 2, "{way:?}");
        pair.assert_same(way);
        let again = pair.sync_well(way, &thorough).await;
        assert_eq!(again.stats.transferred_files, 0, "{way:?}");
    }
}

/// Calls a function once, when so many bytes were given to the target.
struct AfterBytes<F>(u64, Mutex<Option<F>>);

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

/// A long file whose transfer is broken off twice by `act`.
async fn broken_off_twice<F: FnOnce() + Send>(way: Way, act: impl Fn(&Pair) -> F) {
    let pair = Pair::over_ssh().await;
    let content = noise(60 * MIB, 1);
    pair.source().file("sub/dump", &content, 0o600);
    let slow = Options { bwlimit: Some(40 << 20), ..Options::default() };
    let mut parts = Vec::new();
    for more in [20 * MIB as u64, 12 * MIB as u64] {
        let monitor = AfterBytes(more, Mutex::new(Some(act(&pair))));
        pair.watched(way, &slow, &monitor).await.unwrap_err();
        assert!(wait_until(|| pair.helper_count() == 0), "helpers stay");
        let [part] = &leftovers(&pair.target)[..] else { panic!("{:?}", leftovers(&pair.target)) };
        parts.push(pair.target.join(part).metadata().unwrap().len());
    }
    assert!(parts[0] > 4 * MIB as u64 && parts[1] > parts[0], "{way:?}: {parts:?}");
    let stats = pair.sync_well(way, &Options::default()).await.stats;
    pair.assert_same(way);
    assert_eq!(leftovers(&pair.target), [""; 0]);
    let missing = content.len() as u64 - parts[1];
    let literal_bytes = stats.literal_bytes;
    assert!(literal_bytes < missing + 20_000, "{way:?}: {literal_bytes} of {missing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_file_goes_on_where_killed_sessions_or_helpers_left_it() {
    for way in [Way::PushHelper, Way::PullHelper] {
        broken_off_twice(way, Pair::killer).await;
    }
    broken_off_twice(Way::PushHelper, Pair::helper_killer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_file_that_is_another_by_now_is_swept() {
    let pair = Pair::near();
    pair.source().file("dump", noise(20 * MIB, 1), 0o600);
    let part = ".transhume-part-0123456789abcdef.0";
    pair.target().file(part, noise(10 * MIB, 1), 0o600);
    // The source's own are never copied.
    pair.source().file(part, "never copied", 0o600);
    let stats = pair.sync_well(Way::PushHelper, &Options::default()).await.stats;
    assert_eq!(stats.literal_bytes, 20 * MIB as u64);
    assert_eq!(leftovers(&pair.target), [""; 0]);
}
