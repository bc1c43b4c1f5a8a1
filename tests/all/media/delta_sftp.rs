//! What is sent over SFTP of a long file of which the blocks are known: little where little changed,
//! and the whole file as soon as anything is in doubt.

use transhume::media::{Manner, MediaError, Options, Stats};

use super::faults::small_disk;
use super::fixture::{Pair, Way, leftovers};
use super::tree::noise;

const MIB: usize = 1 << 20;
const BLOCK: u64 = 64 * 1024;

/// A file of which versions follow each other, each with a time of its own.
struct Dump {
    pair: Pair,
    version: i64,
}

impl Dump {
    fn new() -> Self {
        Dump { pair: Pair::near_remembering(), version: 0 }
    }

    fn write(&mut self, content: &[u8]) {
        self.version += 1;
        self.pair.source().file("sub/dump", content, 0o640);
        self.pair.source().time("sub/dump", 1_700_000_000 + self.version, 0);
    }

    /// Copies it, and looks whether all of it arrived.
    async fn copy(&mut self, content: &[u8]) -> Stats {
        self.copy_with(content, &Options::default()).await
    }

    async fn copy_with(&mut self, content: &[u8], options: &Options) -> Stats {
        self.write(content);
        let stats = self.pair.sync_well(Way::PushSftp, options).await.stats;
        self.pair.assert_same(Way::PushSftp);
        assert_eq!(leftovers(&self.pair.target), [""; 0]);
        stats
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_sftp_a_long_file_sends_only_what_changed_time_and_again() {
    let mut dump = Dump::new();
    let mut content = noise(20 * MIB + 12_345, 1);
    let stats = dump.copy(&content).await;
    assert_eq!(stats.literal_bytes, content.len() as u64);
    for round in 0..3 {
        // Edited in two places, and grown.
        content[(2 + round) * MIB..][..100].fill(7);
        content[15 * MIB - 50..][..100].fill(round as u8);
        content.extend(noise(MIB, 50 + round as u8));
        let stats = dump.copy(&content).await;
        assert!(stats.literal_bytes < MIB as u64 + 6 * BLOCK, "{}", stats.literal_bytes);
        let wire_bytes = stats.sent_bytes + stats.received_bytes;
        assert!(wire_bytes < MIB as u64 + 6 * BLOCK + 20_000, "{wire_bytes} on the wire");
    }
    // And cut off.
    content.truncate(9 * MIB + 77);
    assert!(dump.copy(&content).await.literal_bytes < 2 * BLOCK);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_sftp_zeros_beside_copied_blocks_are_zeros_also_where_runs_of_them_become_holes() {
    let mut dump = Dump::new();
    let manner = Manner { sparse: true, in_place: false };
    let options = Options { manner, ..Options::default() };
    let mut content = noise(8 * MIB, 1);
    dump.copy_with(&content, &options).await;
    content[3 * MIB..4 * MIB].fill(0);
    content.resize(9 * MIB, 0);
    let stats = dump.copy_with(&content, &options).await;
    assert!(stats.literal_bytes < 3 * MIB as u64, "{}", stats.literal_bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_sftp_a_file_that_was_written_in_place_meanwhile_is_sent_whole() {
    let mut dump = Dump::new();
    let mut content = noise(8 * MIB, 1);
    dump.copy(&content).await;
    // Size and time stay as they were.
    content[5 * MIB..][..9].fill(7);
    dump.version -= 1;
    let manner = Manner { sparse: false, in_place: true };
    let options = Options { manner, checksum: true, ..Options::default() };
    assert_eq!(dump.copy_with(&content, &options).await.literal_bytes, content.len() as u64);
    content[MIB..][..9].fill(8);
    assert_eq!(dump.copy(&content).await.literal_bytes, content.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_sftp_a_file_of_which_everything_moved_arrives_whole() {
    let mut dump = Dump::new();
    let mut content = noise(12 * MIB, 1);
    dump.copy(&content).await;
    for (at, text) in [(5 * MIB, "an insertion that shifts the rest"), (MIB, "and another one")] {
        content.splice(at..at, text.bytes());
        dump.copy(&content).await;
    }
    content.drain(3 * MIB..4 * MIB);
    dump.copy(&content).await;
    dump.copy(&noise(13 * MIB, 2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_sftp_a_file_that_somebody_else_changed_there_is_sent_whole() {
    let mut dump = Dump::new();
    let mut content = noise(10 * MIB, 1);
    dump.copy(&content).await;
    for other in [noise(10 * MIB, 8), noise(10 * MIB + 1, 8), noise(4 * MIB, 1)] {
        dump.pair.target().file("sub/dump", &other, 0o640);
        content[MIB..MIB + 9].fill(3);
        content.push(1);
        let stats = dump.copy(&content).await;
        assert_eq!(stats.literal_bytes, content.len() as u64);
        content.push(2);
        assert!(dump.copy(&content).await.literal_bytes < 4 * BLOCK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_sftp_a_copy_on_the_server_that_finds_no_room_publishes_nothing() {
    let mut dump = Dump::new();
    let mut content = noise(20 * MIB, 1);
    // No room for a second one, by much and by less than what the server would tell of.
    for (size, edit) in [("30m", 3), ("40952k", 4)] {
        let target = dump.pair.target.clone();
        let Some(_disk) = small_disk(&target, size) else { return };
        dump.write(&content);
        dump.pair.sync_well(Way::PushSftp, &Options::default()).await;
        let old = std::fs::read(dump.pair.target.join("sub/dump")).unwrap();
        content[MIB..MIB + 9].fill(edit);
        dump.write(&content);
        let error = dump.pair.sync(Way::PushSftp, &Options::default()).await.unwrap_err();
        assert!(matches!(error, MediaError::TargetFull { .. }), "{size}: {error:?}");
        assert!(std::fs::read(dump.pair.target.join("sub/dump")).unwrap() == old);
        assert_eq!(leftovers(&dump.pair.target), [""; 0]);
    }
}
