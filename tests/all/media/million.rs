//! A million files: the program itself on both sides of a real sshd, and the memory that it takes.

use std::collections::HashMap;
use std::fs::{self, File, FileTimes};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use super::cli::Desk;
use super::fixture::helpers;
use crate::harness::sshd::Sshd;

const DIRS: usize = 10_000;
const FILES_IN_EACH: usize = 100;
/// Of so many directories one has no files on the target.
const MISSING_EVERY: usize = 20;
/// Of a side. Most of it is there from the beginning: a pass over a tenth of the files takes as much.
const BYTES_MAX: u64 = 150_000_000;

/// Empty files; in each directory they are names of one, which is what a file system makes fastest.
/// For a scan they are files like others.
fn fill(root: &Path, has_files: impl Fn(usize) -> bool) {
    let time = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30));
    for number in 0..DIRS {
        let dir = root.join(format!("{:02}/{:02}", number % 100, number / 100));
        fs::create_dir_all(&dir).unwrap();
        if !has_files(number) {
            continue;
        }
        let first = dir.join("0");
        File::create(&first).unwrap().set_times(time).unwrap();
        for name in 1..FILES_IN_EACH {
            fs::hard_link(&first, dir.join(name.to_string())).unwrap();
        }
    }
}

/// Where two million names are made in seconds: in memory, if there is room for them.
fn room() -> PathBuf {
    const NAMES: u64 = 2_100_000;
    let memory = Path::new("/dev/shm");
    let fits = rustix::fs::statvfs(memory).is_ok_and(|found| found.f_favail > NAMES);
    if fits { memory.to_owned() } else { std::env::temp_dir() }
}

/// The most memory that the processes of each side had.
#[derive(Debug, Default)]
struct Peaks {
    client: Peak,
    helpers: HashMap<u32, Peak>,
}

/// In bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Peak {
    /// `VmHWM`, which only grows.
    all: u64,
    /// `RssFile`: pages of the program and its libraries, which processes share.
    shared: u64,
}

impl Peaks {
    fn look(&mut self, client: u32, sshd: &Sshd) {
        self.client.look(client);
        for pid in helpers(sshd) {
            self.helpers.entry(pid).or_default().look(pid);
        }
    }

    /// Of all helpers together, though not all may have had most at the same time.
    fn helper(&self) -> u64 {
        let own: u64 = self.helpers.values().map(|peak| peak.all - peak.shared).sum();
        own + self.helpers.values().map(|peak| peak.shared).max().unwrap_or(0)
    }
}

impl Peak {
    /// A process that is gone tells nothing new.
    fn look(&mut self, pid: u32) {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
        };
        if let (Some(all), Some(shared)) = (bytes("VmHWM:"), bytes("RssFile:")) {
            *self = Peak { all, shared };
        }
    }
}

/// Runs a pass to its end; gives what it told and what memory it took.
fn pass(desk: &Desk) -> (String, Peaks) {
    let source = desk.path("source").display().to_string();
    let how = ["--delete", "--stats", "--transport", "helper"];
    let mut command = desk.command(&[&how[..], &[&source, &desk.there("target")]].concat());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (pid, mut peaks) = (child.id(), Peaks::default());
    let output = std::thread::spawn(move || child.wait_with_output().unwrap());
    while !output.is_finished() {
        peaks.look(pid, &desk.sshd);
        std::thread::sleep(Duration::from_millis(50));
    }
    let output = output.join().unwrap();
    let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}", told(&output.stderr));
    (told(&output.stdout), peaks)
}

#[test]
fn a_million_files_take_little_memory_on_both_sides() {
    let desk = Desk::at(tempfile::Builder::new().prefix("million-").tempdir_in(room()).unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| fill(&desk.path("source"), |_| true));
        scope.spawn(|| fill(&desk.path("target"), |number| number % MISSING_EVERY != 0));
    });
    // One that copies; and one that finds everything there, by what the first one remembered.
    for copied in ["50,000", "0"] {
        let (told, peaks) = pass(&desk);
        for (label, figure) in [("Source files", "1,000,000"), ("Files transferred", copied)] {
            assert!(told.contains(&format!("{label:<20}{figure}\n")), "{told}");
        }
        let within = |bytes: u64| (1..BYTES_MAX).contains(&bytes);
        assert!(within(peaks.client.all) && within(peaks.helper()), "{copied} copied: {peaks:?}");
    }
}
