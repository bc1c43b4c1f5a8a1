//! What is sent: little where little changed.

use transhume::media::Options;

use super::fixture::{Pair, Way, deleting};
use super::tree::{fill, noise};

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
