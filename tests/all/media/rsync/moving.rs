//! Sources that change while they are copied, and names that could forge what is told of them.

use std::fs;
use std::io::Write;

use super::*;
use crate::media::fixture::{leftovers, when_told};
use crate::media::tree::noise;

const MIB: usize = 1 << 20;

/// Mirrors while `act` is done to the source as soon as `name` is told; gives the outcome.
async fn meanwhile(
    desk: &Desk,
    way: Way,
    name: &str,
    act: impl Fn() + Send + Sync + 'static,
) -> Outcome {
    let options = when_told(name, act, Options { bwlimit: Some(64 << 20), ..Options::default() });
    desk.pair.sync(way, &options).await.unwrap()
}

fn some(tree: &Tree) {
    tree.file("a", noise(100, 1), 0o644).file("m", noise(6 * MIB, 2), 0o644);
    for number in 0..50 {
        tree.file(format!("z/{number}"), noise(1000, number), 0o644);
    }
}

/// Whatever came of it, the others are there, nothing half is, and the next pass completes.
async fn completes(desk: &Desk, way: Way) {
    assert!((0..50).all(|number| desk.pair.target.join(format!("z/{number}")).exists()));
    assert_eq!(leftovers(&desk.pair.target), [""; 0], "{way:?}");
    desk.pair.sync_well(way, &Options { delete: true, ..Options::default() }).await;
    desk.pair.assert_same(way);
}

#[tokio::test(flavor = "multi_thread")]
async fn growing_file_is_never_there_half() {
    for way in WAYS {
        let desk = Desk::new(some, |_| ());
        let path = desk.pair.source.join("m");
        let grow = move || {
            let mut file = fs::File::options().append(true).open(&path).unwrap();
            file.write_all(&noise(MIB, 9)).unwrap();
        };
        meanwhile(&desk, way, "m", grow).await;
        if let Ok(copied) = fs::read(desk.pair.target.join("m")) {
            assert!(
                copied == [noise(6 * MIB, 2), noise(MIB, 9)].concat()
                    || copied == noise(6 * MIB, 2)
            );
        }
        completes(&desk, way).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn change_shrink_does_not_stop_the_others() {
    for way in WAYS {
        let desk = Desk::new(some, |_| ());
        let path = desk.pair.source.join("m");
        let shrink = move || {
            fs::File::options().write(true).open(&path).unwrap().set_len(MIB as u64).unwrap();
        };
        meanwhile(&desk, way, "m", shrink).await;
        completes(&desk, way).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn change_vanish_is_told_and_does_not_stop_the_others() {
    for way in WAYS {
        let desk = Desk::new(some, |_| ());
        let path = desk.pair.source.join("m");
        // It may be told twice: once is enough.
        let outcome = meanwhile(&desk, way, "m", move || drop(fs::remove_file(&path))).await;
        let told: Vec<String> =
            outcome.problems.iter().map(|problem| problem.path.to_string()).collect();
        // Somebody may have opened it before it was gone.
        assert!(told.is_empty() || told == ["m"], "{way:?}: {told:?}");
        completes(&desk, way).await;
    }
}

/// A file that becomes a symlink is not followed out of the source.
#[tokio::test(flavor = "multi_thread")]
async fn symlink_race_on_the_source_reads_nothing_outside() {
    for way in WAYS {
        let desk = Desk::new(some, |_| ());
        let secret = desk.pair.dir.path().join("secret");
        fs::write(&secret, "secret").unwrap();
        let path = desk.pair.source.join("m");
        let swap = move || {
            let _ = fs::remove_file(&path);
            let _ = std::os::unix::fs::symlink(&secret, &path);
        };
        meanwhile(&desk, way, "m", swap).await;
        let copied = fs::symlink_metadata(desk.pair.target.join("m"));
        if copied.is_ok_and(|stat| stat.is_file()) {
            assert!(fs::read(desk.pair.target.join("m")).unwrap() != b"secret");
        }
        completes(&desk, way).await;
    }
}

/// A directory of the target that becomes a symlink is not written through.
#[tokio::test(flavor = "multi_thread")]
async fn symlink_race_on_the_target_writes_nothing_outside() {
    for way in [Way::Local, Way::PushHelper, Way::PullHelper] {
        let desk = Desk::new(some, |tree| {
            tree.dir("z", 0o755);
        });
        let outside = tempfile::tempdir().unwrap();
        let (dir, to) = (desk.pair.target.join("z"), outside.path().to_owned());
        let swap = move || {
            if fs::remove_dir(&dir).is_ok() {
                std::os::unix::fs::symlink(&to, &dir).unwrap();
            }
        };
        meanwhile(&desk, way, "z/7", swap).await;
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "{way:?}");
        desk.pair.sync_well(way, &Options { delete: true, ..Options::default() }).await;
        desk.pair.assert_same(way);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn log_control_chars_of_names_are_escaped() {
    for way in WAYS {
        let names = |tree: &Tree| {
            tree.file("a\x1b[2Jb", "x", 0o644).file("c\r\nd", "x", 0o644).file("e\x07", "x", 0o644);
            tree.link("l", "to\x1b]0;\nthere");
        };
        let desk = Desk::new(names, |_| ());
        let (options, lines) = crate::media::fixture::itemizing(Options::default());
        desk.pair.sync_well(way, &options).await;
        desk.pair.assert_same(way);
        let lines = std::mem::take(&mut *lines.lock().unwrap());
        assert_eq!(lines.len(), 5, "{lines:?}");
        assert!(lines.iter().all(|line| !line.chars().any(char::is_control)), "{lines:?}");
    }
}
