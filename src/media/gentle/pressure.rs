//! How busy this machine is: the kernel's pressure figures (PSI) where it keeps them, and what can
//! be guessed from the load and the use of disks elsewhere.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Instant;

/// For what part of the time something had to wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pressure {
    pub io: f64,
    pub cpu: f64,
}

static PROC: OnceLock<PathBuf> = OnceLock::new();

/// Reads figures from another place than `/proc`, from now on: for tests.
pub fn read_from(dir: PathBuf) {
    // Whoever set it first is right.
    let _ = PROC.set(dir);
}

fn proc() -> &'static Path {
    PROC.get().map_or(Path::new("/proc"), |dir| dir)
}

/// The files that figures are read from.
pub(in crate::media) fn figures() -> Vec<PathBuf> {
    let names = ["pressure/io", "pressure/cpu", "loadavg", "diskstats"];
    names.map(|name| proc().join(name)).into()
}

/// What was read last.
#[derive(Debug)]
pub(super) struct Look {
    at: Instant,
    /// Microseconds of waiting for disks and for processors, so far.
    stalled: Option<(u64, u64)>,
    /// Milliseconds in which each disk was busy, so far.
    disks: Vec<(String, u64)>,
}

impl Look {
    pub fn new() -> Self {
        Look { at: Instant::now(), stalled: stalled(), disks: disks() }
    }

    /// Since the last look; `None` if nothing tells.
    pub fn pressure(&mut self) -> Option<Pressure> {
        let (now, before) = (Look::new(), std::mem::replace(self, Look::new()));
        let micros = (now.at - before.at).as_micros().max(1) as f64;
        let found = match (before.stalled, now.stalled) {
            (Some(then), Some(now)) => Some(Pressure {
                io: now.0.saturating_sub(then.0) as f64 / micros,
                cpu: now.1.saturating_sub(then.1) as f64 / micros,
            }),
            _ => guess(&before.disks, &now.disks, micros),
        };
        *self = now;
        found
    }
}

fn read(name: &str) -> Option<String> {
    std::fs::read_to_string(proc().join(name)).ok()
}

fn stalled() -> Option<(u64, u64)> {
    Some((total(&read("pressure/io")?)?, total(&read("pressure/cpu")?)?))
}

/// The microseconds in which some task had to wait.
fn total(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with("some "))?;
    line.split_once("total=")?.1.trim().parse().ok()
}

/// Of each disk, not of its partitions, which are in the figures of the disk.
fn disks() -> Vec<(String, u64)> {
    let text = read("diskstats").unwrap_or_default();
    let disk = |line: &str| {
        let mut words = line.split_whitespace().skip(2);
        let name = words.next()?.to_owned();
        let busy = words.nth(9)?.parse().ok()?;
        let counts = !["loop", "ram", "zram"].iter().any(|kind| name.starts_with(kind));
        counts.then_some((name, busy))
    };
    text.lines().filter_map(disk).collect()
}

/// A disk that is busy all the time makes others wait; so do more tasks than processors.
fn guess(before: &[(String, u64)], now: &[(String, u64)], micros: f64) -> Option<Pressure> {
    let load: f64 = read("loadavg")?.split_whitespace().next()?.parse().ok()?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let busy = |(name, busy): &(String, u64)| {
        let then = before.iter().find(|(before, _)| before == name)?.1;
        Some(busy.saturating_sub(then) as f64 * 1000.0 / micros)
    };
    let busiest = now.iter().filter_map(busy).fold(0.0, f64::max);
    Some(Pressure {
        io: (busiest - 0.5).clamp(0.0, 1.0),
        cpu: (load / processors - 0.5).clamp(0.0, 1.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_figures_are_read() {
        let text = "some avg10=8.87 avg60=5.20 avg300=3.64 total=109227299\n\
                    full avg10=0.00 avg60=0.00 avg300=0.00 total=12708504\n";
        assert_eq!(total(text), Some(109_227_299));
        assert_eq!(total("full avg10=0.00 total=1\n"), None);
    }

    #[test]
    fn without_them_it_is_guessed_and_without_anything_nothing_is_known() {
        let dir = tempfile::tempdir().unwrap();
        read_from(dir.path().to_owned());
        let mut look = Look::new();
        assert_eq!(look.pressure(), None);
        let disk = |busy| {
            let line = |name, busy| format!("   8  0 {name} 1 2 3 4 5 6 7 8 0 {busy} 9\n");
            let text = line("sda", busy) + &line("loop0", 99 * busy);
            std::fs::write(dir.path().join("diskstats"), text).unwrap();
        };
        disk(1);
        std::fs::write(dir.path().join("loadavg"), "10000.00 1 1 1/2 3\n").unwrap();
        let mut look = Look::new();
        disk(1_000_000);
        assert_eq!(look.pressure(), Some(Pressure { io: 1.0, cpu: 1.0 }));
        assert_eq!(look.pressure().unwrap().io, 0.0);
        std::fs::create_dir(dir.path().join("pressure")).unwrap();
        let psi = |name: &str, total: u64| {
            let text = format!("some avg10=0.00 avg60=0.00 avg300=0.00 total={total}\n");
            std::fs::write(dir.path().join("pressure").join(name), text).unwrap();
        };
        psi("io", 0);
        psi("cpu", 5);
        let mut look = Look::new();
        psi("io", 3_600_000_000);
        let pressure = look.pressure().unwrap();
        assert!(pressure.io > 1.0 && pressure.cpu == 0.0, "{pressure:?}");
    }
}
