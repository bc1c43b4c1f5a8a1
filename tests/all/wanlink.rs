//! The link that the benchmarks run over: it holds what it promises, and nothing of it stays.

#[allow(dead_code, reason = "its own program uses more of it")]
#[path = "../../tools/wan/line.rs"]
mod line;

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use line::{Line, Spec};

use crate::harness::process::{alive, descendants, marked, signal, wait_until};

const SPEC: Spec =
    Spec { delay: Duration::from_millis(40), bits_per_sec: 8e6, buffer_bytes: 10_000, loss: 0.0 };

#[test]
fn a_packet_takes_the_delay_and_its_own_length() {
    let now = Instant::now();
    let mut line = Line::new(SPEC, now);
    assert_eq!(line.take(now, "first", 1000), None);
    assert_eq!(line.take(now, "second", 1000), None);
    // A megabyte a second: a millisecond each.
    assert_eq!(line.due(), Some(now + Duration::from_millis(41)));
    assert_eq!(line.give(now + Duration::from_micros(40_999)), None);
    assert_eq!(line.give(now + Duration::from_millis(41)), Some("first"));
    assert_eq!(line.give(now + Duration::from_millis(41)), None);
    assert_eq!(line.give(now + Duration::from_millis(42)), Some("second"));
    assert_eq!(line.due(), None);
}

#[test]
fn what_finds_the_buffer_full_is_dropped_and_the_rest_keeps_its_order() {
    let now = Instant::now();
    let mut line = Line::new(SPEC, now);
    let taken: Vec<usize> = (0..30).filter(|n| line.take(now, *n, 1000).is_none()).collect();
    assert_eq!(taken, (0..10).collect::<Vec<_>>());
    let later = now + Duration::from_millis(3);
    let taken: Vec<usize> = (30..60).filter(|n| line.take(later, *n, 1000).is_none()).collect();
    assert_eq!(taken, [30, 31, 32]);
    assert_eq!(line.counts.dropped, 20 + 27);
    let end = now + Duration::from_secs(1);
    let given: Vec<usize> = std::iter::from_fn(|| line.give(end)).collect();
    assert_eq!(given, (0..10).chain(30..33).collect::<Vec<_>>());
}

#[test]
fn of_many_packets_about_as_many_are_lost_as_asked() {
    let mut now = Instant::now();
    let mut line = Line::new(Spec { loss: 0.1, ..SPEC }, now);
    for _ in 0..10_000 {
        line.take(now, (), 1000);
        now += Duration::from_millis(1);
    }
    assert!((800..1200).contains(&line.counts.lost), "{:?}", line.counts);
    assert_eq!(line.counts.dropped, 0);
}

fn wanlink(arguments: &[&str]) -> Command {
    let own = std::env::current_exe().expect("a test has a path");
    let path: PathBuf =
        own.ancestors().nth(2).expect("target/debug/deps/test").join("examples/wanlink");
    assert!(path.exists(), "{} is missing: run `cargo build --examples`", path.display());
    let mut command = Command::new(path);
    command.args(arguments);
    command
}

/// Whether links can be made here: as root, where the system lets us.
fn may_link(test: &str) -> bool {
    let tun = std::path::Path::new("/dev/net/tun").exists();
    let room = || {
        let output = Command::new("unshare").args(["--net", "--pid", "--fork", "true"]).output();
        output.is_ok_and(|output| output.status.success())
    };
    let may = tun && rustix::process::geteuid().is_root() && room();
    if !may {
        eprintln!("skipped: {test} needs root, /dev/net/tun and namespaces");
    }
    may
}

#[test]
fn what_goes_in_comes_out_and_takes_its_time() {
    if !may_link("what_goes_in_comes_out_and_takes_its_time") {
        return;
    }
    for loss in ["0", "1"] {
        let arguments =
            ["--rtt", "30", "--mbit", "200", "--buffer-ms", "200", "--loss", loss, "--mbytes", "4"];
        let Output { status, stdout, stderr } = wanlink(&arguments).output().unwrap();
        let (text, errors) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.success(), "{text}{errors}");
        assert_eq!(text.matches("4 MiB arrived as sent").count(), 2, "{text}");
        let trip = text.split("round trip ").nth(1).and_then(|rest| rest.split(' ').next());
        let trip: f64 = trip.and_then(|trip| trip.parse().ok()).expect("a round trip is told");
        assert!(trip >= 30.0, "{text}");
        assert_eq!(text.contains("lost: 0 }\nfrom"), loss == "0", "{text}");
    }
}

#[test]
fn a_link_that_is_killed_takes_everything_with_it() {
    if !may_link("a_link_that_is_killed_takes_everything_with_it") {
        return;
    }
    let marker = format!("TRANSHUME_TEST_WANLINK={}", std::process::id());
    let (name, value) = marker.split_once('=').unwrap();
    let arguments =
        ["--far", "sleep 1000 & sleep 1000", "--", "sh", "-c", "sleep 1000 & sleep 1000"];
    let mut link = wanlink(&arguments).env(name, value).spawn().unwrap();
    let inside = || marked(&marker).into_iter().filter(|pid| alive(*pid)).collect::<Vec<_>>();
    // The tool, unshare, the tool again, two shells with two sleeps each.
    let up = wait_until(|| inside().len() >= 9);
    let below = descendants(link.id());
    signal(link.id(), rustix::process::Signal::KILL);
    let _ = link.wait();
    assert!(up, "{:?} {below:?}", inside());
    assert!(wait_until(|| inside().is_empty()), "{:?} stay", inside());
}
