//! The fence holds, can be repeated, and is undone without a trace.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use transhume::host::fake::{Fault, Faulty};
use transhume::host::{Host, local::Local};
use transhume::instance::fence::{self, FenceError, FenceRecord, Hole};

use super::{fence as fence_of, host, mastodon};
use crate::harness::units::Units;

/// What an administrator would see of a machine: files, cron, and what runs.
#[derive(Debug, PartialEq)]
struct Picture {
    files: BTreeMap<String, String>,
    crontab: String,
    active: String,
}

fn picture(units: &Units) -> Picture {
    let active = units.run_ok(&["list-units", "--no-legend", "mastodon*"]);
    let words =
        active.lines().map(|line| line.split_whitespace().take(4).collect::<Vec<_>>().join(" "));
    Picture {
        files: units.snapshot(),
        crontab: std::fs::read_to_string(units.path("crontab/table")).unwrap(),
        active: words.collect::<Vec<_>>().join("\n"),
    }
}

fn texts(holes: &[Hole]) -> Vec<String> {
    holes.iter().map(Hole::to_string).collect()
}

/// The record as it comes back from the journal.
fn journaled(record: &FenceRecord) -> FenceRecord {
    serde_json::from_str(&serde_json::to_string(record).unwrap()).unwrap()
}

#[tokio::test]
async fn nothing_starts_behind_a_fence_and_lifting_it_leaves_no_trace() {
    let units = mastodon();
    let fence = fence_of(&units);
    let before = picture(&units);
    let record = journaled(&fence::record(&host(), &fence).await.unwrap());
    assert_eq!(picture(&units), before, "looking changes nothing");
    assert!(!fence::holes(&host(), &fence, &record).await.unwrap().is_empty());

    for _ in 0..2 {
        fence::apply(&host(), &fence, &record).await.unwrap();
        assert_eq!(texts(&fence::holes(&host(), &fence, &record).await.unwrap()), [""; 0]);
    }
    assert_eq!(units.run_ok(&["list-units", "--no-legend", "mastodon*"]), "");
    for name in record.names() {
        // The real systemctl, which looks at the files alone, as the next boot would.
        let real = units.real(&["is-enabled", &name]);
        assert_eq!(String::from_utf8_lossy(&real.stdout), "masked\n", "{name}");
        assert!(!units.run(&["start", &name]).status.success(), "{name} started");
    }
    let by_alias = units.run(&["start", "streaming"]);
    assert!(!by_alias.status.success());
    let instance = units.run(&["start", "mastodon-sidekiq@new"]);
    assert!(String::from_utf8_lossy(&instance.stderr).contains("is masked"));
    let other = units.real(&["is-enabled", "ssh"]);
    assert_eq!(String::from_utf8_lossy(&other.stdout), "enabled\n", "not ours, not touched");

    for _ in 0..2 {
        fence::lift(&host(), &fence, &record).await.unwrap();
        assert_eq!(picture(&units), before);
    }
}

#[tokio::test]
async fn a_fence_cut_off_anywhere_is_completed_by_the_next_call() {
    let units = mastodon();
    let fence = fence_of(&units);
    let before = picture(&units);
    let record = fence::record(&host(), &fence).await.unwrap();
    for fault in [Fault::LostAfter, Fault::LostBefore] {
        for spoilt in 0.. {
            let cut = fence::apply(&faulty(spoilt, fault), &fence, &record).await;
            fence::apply(&host(), &fence, &record).await.unwrap();
            let holes = fence::holes(&host(), &fence, &record).await.unwrap();
            assert_eq!(texts(&holes), [""; 0], "{fault:?} at operation {spoilt}");

            let cut_again = fence::lift(&faulty(spoilt, fault), &fence, &record).await;
            fence::lift(&host(), &fence, &record).await.unwrap();
            assert_eq!(picture(&units), before, "{fault:?} at operation {spoilt}");
            if cut.is_ok() && cut_again.is_ok() {
                break;
            }
        }
    }
}

fn faulty(spoilt: usize, fault: Fault) -> impl Host {
    Faulty::new(Arc::new(Local::new()), spoilt, fault, Arc::new(AtomicUsize::new(0)))
}

#[tokio::test]
async fn a_fence_half_done_is_lifted_too() {
    let units = mastodon();
    let fence = fence_of(&units);
    let before = picture(&units);
    let record = fence::record(&host(), &fence).await.unwrap();
    for spoilt in 0.. {
        let cut = fence::apply(&faulty(spoilt, Fault::LostAfter), &fence, &record).await;
        fence::lift(&host(), &fence, &record).await.unwrap();
        assert_eq!(picture(&units), before, "cut at operation {spoilt}");
        if cut.is_ok() {
            break;
        }
    }
}

#[tokio::test]
async fn every_way_back_to_life_is_seen() {
    let units = mastodon();
    let fence = fence_of(&units);
    let record = fence::record(&host(), &fence).await.unwrap();
    fence::apply(&host(), &fence, &record).await.unwrap();

    let web = "etc/systemd/system/mastodon-web.service";
    std::fs::remove_file(units.path(web)).unwrap();
    units.install("mastodon-web.service", &super::service("puma", ""));
    units.run_ok(&["enable", "mastodon-web"]);
    units.run_ok(&["start", "mastodon-web"]);
    units.install("mastodon-new.service", &super::service("sidekiq", ""));
    units.write("crontab/table", "@hourly bin/tootctl feeds build\n");
    let mut stray = std::process::Command::new("runuser")
        .args(["-u", super::USER, "--", "sh"])
        .arg(units.path("live/bin/sidekiq"))
        .current_dir(units.path("live"))
        .spawn()
        .unwrap();
    let seen = loop {
        let holes = texts(&fence::holes(&host(), &fence, &record).await.unwrap());
        if holes.iter().any(|hole| hole.contains("sidekiq") && hole.starts_with("process")) {
            break holes;
        }
    };
    for child in crate::harness::process::descendants(stray.id()) {
        let pid = rustix::process::Pid::from_raw(child as i32).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    stray.kill().unwrap();
    stray.wait().unwrap();

    let wanted = [
        "mastodon-web.service runs",
        "mastodon-web.service can be started",
        "mastodon-web.service could start after a reboot",
        "mastodon-web.service is enabled by ",
        "mastodon-new.service can be started",
        "line 1 of the crontab of nobody would run",
    ];
    for text in wanted {
        assert!(seen.iter().any(|hole| hole.starts_with(text)), "{text:?} not in {seen:#?}");
    }
    let error = fence::apply(&host(), &fence, &record).await.unwrap_err();
    assert!(matches!(error, FenceError::FileCameBack { .. }), "{error}");
    let error = fence::record(&host(), &fence).await.unwrap_err();
    assert!(matches!(error, FenceError::AlreadyFenced { .. }), "{error}");
}

/// Why the fence does not use `systemctl mask`: the real one refuses for files in /etc, and its
/// runtime mask has no effect on them.
#[test]
fn the_real_mask_does_not_work_on_mastodons_units() {
    let units = mastodon();
    let mask = units.real(&["mask", "mastodon-web"]);
    assert!(String::from_utf8_lossy(&mask.stderr).contains("already exists"));
    assert!(units.real(&["mask", "--runtime", "mastodon-web"]).status.success());
    let state = units.real(&["is-enabled", "mastodon-web"]);
    assert_eq!(String::from_utf8_lossy(&state.stdout), "enabled\n");
}
