//! Large files over SFTP: in parts over several channels, and what becomes of one that breaks off.
//! The next pass goes on with it only if it is certain what is there.

use std::fs::{FileTimes, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use transhume::media::{Manner, Options, Stats};

use super::faults::nothing_half;
use super::fixture::{Pair, Way, connect_through, deleting, leftovers, real_helper};
use super::parts::after_mib;
use super::tree::noise;
use crate::harness::proxy::Proxy;
use crate::harness::sshd::Sshd;

const MIB: usize = 1 << 20;
const PART: usize = 8 * MIB;
const FILE: usize = 72 * MIB + 12_345;

/// So slow that the server keeps up.
fn slow() -> Options {
    Options { bwlimit: Some(30 << 20), ..Options::default() }
}

/// A pass over SFTP that was cut off in the middle of a large file.
struct Cut {
    pair: Pair,
    proxy: Arc<Proxy>,
}

impl Cut {
    async fn off() -> Self {
        Cut::off_with(&noise(FILE, 1), &slow()).await
    }

    async fn off_with(content: &[u8], options: &Options) -> Self {
        let sshd = Sshd::start();
        let proxy = Arc::new(Proxy::to(sshd.port()));
        let host = connect_through(&sshd, proxy.port()).await;
        let mut pair = Pair::over(host, real_helper(), Some(sshd));
        pair.manifests = Some(pair.dir.path().join("manifests"));
        pair.source().file("dir/large", content, 0o640).time("dir/large", 1_600_000_000, 7);
        let cut = Cut { pair, proxy };
        cut.again(options).await;
        cut
    }

    /// Cuts off another pass. Where that fell between a WRITE and what gives the file its time again,
    /// nothing is certain, so that is done again.
    async fn again(&self, options: &Options) {
        for _ in 0..20 {
            self.once(options).await;
            // What serves SFTP outlives its session by the request that it is at.
            tokio::time::sleep(Duration::from_millis(500)).await;
            let mtime = std::fs::metadata(self.temp()).unwrap().mtime();
            if mtime < 1_000_000_000 {
                return;
            }
        }
        panic!("the server never comes to the end of what it was sent");
    }

    async fn once(&self, options: &Options) {
        let cut = self.proxy.clone();
        let monitor = after_mib(44, move || cut.cut());
        self.pair.watched(Way::PushSftp, options, &monitor).await.unwrap_err();
        assert!(crate::harness::process::wait_until(|| self.pair.session_count() == 0));
        nothing_half(&self.pair.source, &self.pair.target);
        assert!(!self.pair.target.join("dir/large").exists());
        assert_eq!(leftovers(&self.pair.target).len(), 1);
    }

    fn temp(&self) -> PathBuf {
        self.pair.target.join(&leftovers(&self.pair.target)[0])
    }

    /// The next pass, after which everything must be as it should.
    async fn go_on(&self) -> Stats {
        self.go_on_with(&Options::default()).await
    }

    async fn go_on_with(&self, options: &Options) -> Stats {
        let stats = self.pair.sync_well(Way::PushSftp, options).await.stats;
        self.pair.assert_same(Way::PushSftp);
        let again = self.pair.sync_well(Way::PushSftp, &deleting()).await.stats;
        assert_eq!(again.transferred_files, 0);
        assert_eq!(leftovers(&self.pair.target), [""; 0]);
        stats
    }
}

/// What was begun anew.
fn all_of_it(stats: &Stats) {
    assert_eq!((stats.matched_bytes, stats.literal_bytes), (0, FILE as u64));
    assert!(stats.sent_bytes > FILE as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_was_cut_off_sends_only_what_is_missing() {
    let cut = Cut::off().await;
    let stats = cut.go_on().await;
    // What two channels had under way at most is sent again.
    let expected = 2 * PART as u64;
    assert!(stats.matched_bytes >= expected, "{stats:?}");
    assert!(stats.matched_bytes.is_multiple_of(PART as u64));
    assert_eq!(stats.matched_bytes + stats.literal_bytes, FILE as u64);
    let sent = stats.literal_bytes + stats.literal_bytes / 50 + 100_000;
    assert!(stats.sent_bytes < sent, "{stats:?}");
    // Nothing was read back.
    assert!(stats.received_bytes < 200_000, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_cut_off_time_and_again_comes_to_its_end() {
    let cut = Cut::off().await;
    cut.again(&slow()).await;
    let stats = cut.go_on().await;
    assert!(stats.matched_bytes >= 3 * PART as u64, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_it_was_gone_on_with_a_changed_file_sends_only_what_changed() {
    let cut = Cut::off().await;
    cut.go_on().await;
    let path = cut.pair.source.join("dir/large");
    OpenOptions::new().write(true).open(path).unwrap().write_at(b"new", 3 * PART as u64).unwrap();
    let stats = cut.go_on().await;
    assert!(stats.literal_bytes <= 128 * 1024, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_has_written_to_the_rest_of_an_upload_is_not_used() {
    type Deed = fn(&PathBuf);
    let deeds: [(&str, Deed); 5] = [
        ("a byte", |temp| {
            OpenOptions::new().write(true).open(temp).unwrap().write_at(b"x", 5).map(drop).unwrap();
        }),
        ("its end", |temp| {
            OpenOptions::new().write(true).open(temp).unwrap().set_len(FILE as u64 - 1).unwrap();
        }),
        ("all of it", |temp| {
            std::fs::remove_file(temp).unwrap();
            std::fs::write(temp, noise(FILE, 9)).unwrap();
        }),
        ("a symlink", |temp| {
            let elsewhere = temp.with_file_name("elsewhere");
            std::fs::rename(temp, &elsewhere).unwrap();
            symlink(elsewhere, temp).unwrap();
        }),
        ("its time", |temp| {
            let times = FileTimes::new().set_modified(std::time::SystemTime::now());
            OpenOptions::new().write(true).open(temp).unwrap().set_times(times).unwrap();
        }),
    ];
    for (what, deed) in deeds {
        let cut = Cut::off().await;
        deed(&cut.temp());
        println!("{what}");
        all_of_it(&cut.go_on_with(&deleting()).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_was_rewritten_meanwhile_arrives_as_it_is_now() {
    let cut = Cut::off().await;
    let path = cut.pair.source.join("dir/large");
    // Neither size nor time tells it.
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    let mtime = file.metadata().unwrap().modified().unwrap();
    file.write_all_at(&noise(MIB, 5), (PART - MIB / 2) as u64).unwrap();
    file.set_times(FileTimes::new().set_modified(mtime)).unwrap();
    let stats = cut.go_on().await;
    assert!(stats.literal_bytes >= 2 * PART as u64, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_with_another_time_begins_anew_and_the_rest_is_swept() {
    let cut = Cut::off().await;
    cut.pair.source().time("dir/large", 1_600_000_001, 0);
    all_of_it(&cut.go_on().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_of_which_nothing_is_known_any_more_begins_anew() {
    let cut = Cut::off().await;
    std::fs::remove_dir_all(cut.pair.manifests.as_ref().unwrap()).unwrap();
    all_of_it(&cut.go_on().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn holes_are_made_also_in_a_file_that_was_cut_off() {
    let manner = Manner { sparse: true, in_place: false };
    let mut content = noise(FILE, 1);
    content[2 * PART + 99..3 * PART].fill(0);
    content[70 * MIB..].fill(0);
    let cut = Cut::off_with(&content, &Options { manner, ..slow() }).await;
    let stats = cut.go_on_with(&Options { manner, ..Options::default() }).await;
    assert!(stats.matched_bytes > 0, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_that_came_in_parts_sends_only_what_changed_later() {
    let pair = Pair::near_remembering();
    let mut content = noise(FILE, 1);
    for (round, literal_bytes) in [(1, FILE), (2, 128 << 10), (3, 128 << 10)] {
        content[20 * MIB..20 * MIB + 9].fill(round);
        pair.source().file("large", &content, 0o644).time(
            "large",
            1_600_000_000 + i64::from(round),
            0,
        );
        let stats = pair.sync_well(Way::PushSftp, &Options::default()).await.stats;
        pair.assert_same(Way::PushSftp);
        assert!(stats.literal_bytes <= literal_bytes as u64, "{round}: {stats:?}");
        assert_eq!(leftovers(&pair.target), [""; 0]);
    }
    // What was written down of its parts is of no use any more.
    let manifests = std::fs::read_dir(pair.manifests.unwrap()).unwrap();
    let names = manifests.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.ends_with(".parts")).count(), 0);
}
