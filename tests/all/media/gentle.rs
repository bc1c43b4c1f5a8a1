//! A source whose machine is busy.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use transhume::media::{Options, gentle};

use super::fixture::{Pair, Way};
use super::tree::noise;

const STEP: Duration = Duration::from_millis(50);

fn tell(proc: &Path, io_micros: u64) {
    for (name, total) in [("io", io_micros), ("cpu", 0)] {
        let text = format!("some avg10=0.00 avg60=0.00 avg300=0.00 total={total}\n");
        let (new, name) = (proc.join("new"), proc.join("pressure").join(name));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, name).unwrap();
    }
}

/// At full speed the pass would take four seconds. While the machine is busy, which it is for
/// eight, ever less passes; when it is idle the rest does.
#[tokio::test(flavor = "multi_thread")]
async fn a_pass_waits_while_the_source_is_busy_and_goes_on_when_it_is_not() {
    const BUSY: Duration = Duration::from_secs(8);
    let proc = tempfile::tempdir().unwrap();
    std::fs::create_dir(proc.path().join("pressure")).unwrap();
    tell(proc.path(), 0);
    gentle::read_from(proc.path().to_owned());
    for way in [Way::PushHelper, Way::PullHelper] {
        let pair = Pair::near();
        for number in 0..16 {
            pair.source().file(format!("{number}/file"), noise(1 << 20, number), 0o644);
        }
        let done = Arc::new(AtomicBool::new(false));
        let (told, dir) = (done.clone(), proc.path().to_owned());
        let started = Instant::now();
        let machine = std::thread::spawn(move || {
            while !told.load(Ordering::Acquire) {
                tell(&dir, started.elapsed().min(BUSY).as_micros() as u64);
                std::thread::sleep(STEP);
            }
        });
        let options = Options { gentle: true, bwlimit: Some(4 << 20), ..Options::default() };
        let outcome = pair.sync_well(way, &options).await;
        done.store(true, Ordering::Release);
        machine.join().unwrap();
        assert!(outcome.stats.elapsed > BUSY, "{way:?}: {:?}", outcome.stats.elapsed);
        pair.assert_same(way);
    }
}

#[tokio::test]
async fn gently_it_is_as_exact_on_every_way() {
    for way in super::fixture::WAYS {
        let pair = Pair::near_remembering();
        super::tree::fill(&pair.source);
        let options = Options { gentle: true, ..super::fixture::deleting() };
        pair.sync_well(way, &options).await;
        pair.assert_same(way);
        pair.sync_well(way, &options).await;
        pair.assert_same(way);
    }
}
