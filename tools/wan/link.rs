//! A link between this process's network namespace (the near one) and another (the far one): a TUN
//! device on each side, and a thread that carries packets between them. It lives as long as the
//! process: nothing of it has a name outside, so nothing stays.

use std::io;
use std::process::Command;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::UnshareFlags;

use super::line::{Counts, Line, Spec};
use super::tun::{self, Tun};

pub const NEAR: &str = "10.99.0.1";
pub const FAR: &str = "10.99.0.2";
const DEVICE: &str = "wan0";
/// Packets read from a side before the other one gets its turn.
const BURST_PACKETS: usize = 64;
/// The longest packet of many segments: one that is dropped takes all of them with it.
const WHOLE_BYTES_MAX: usize = 16 * 1024;

pub struct Link {
    far: mpsc::Sender<Box<dyn FnOnce() + Send>>,
    counts: Arc<Mutex<[Counts; 2]>>,
}

impl Link {
    /// Makes the link. The process must be in a network namespace of its own ([`super::room`]).
    pub fn start(spec: Spec) -> Result<Self, String> {
        // Where packets get lost one by one, they must come one by one.
        let whole = spec.loss == 0.0;
        let near = set_up(NEAR, whole)?;
        let (far, jobs) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let (opened, far_tun) = mpsc::channel();
        std::thread::spawn(move || {
            let _ = opened.send(move_away().and_then(|()| set_up(FAR, whole)));
            // The namespace lasts as long as this thread.
            jobs.into_iter().for_each(|job| job());
        });
        let far_tun = far_tun.recv().map_err(|error| error.to_string())??;
        let counts = Arc::new(Mutex::new([Counts::default(); 2]));
        let told = counts.clone();
        std::thread::spawn(move || carry([near, far_tun], spec, &told));
        Ok(Link { far, counts })
    }

    /// How TCP finds out what the link carries.
    pub fn congestion_control() -> String {
        let text = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control");
        text.unwrap_or_default().trim().to_owned()
    }

    /// What `act` gives, done by a thread in the far namespace. Threads and processes that it
    /// starts are there as well.
    pub fn at_far<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, result) = mpsc::channel();
        let job = Box::new(move || drop(sender.send(act())));
        self.far.send(job).expect("the far thread lasts as long as the link");
        result.recv().expect("what is done at the far end does not panic")
    }

    /// What went from the near side and from the far side so far.
    pub fn counts(&self) -> [Counts; 2] {
        *self.counts.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn move_away() -> Result<(), String> {
    // SAFETY: only the network namespace is parted, which leaves nothing that Rust relies on.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }
        .map_err(|error| format!("make a network namespace: {error}"))
}

/// A device of the calling thread's namespace, with its address, and TCP's buffers as most servers
/// have them. The congestion control is this machine's: a namespace may not choose freely.
fn set_up(address: &str, whole: bool) -> Result<Tun, String> {
    let tun = Tun::open(DEVICE, whole).map_err(|error| format!("make a TUN device: {error}"))?;
    let script = format!(
        "ip link set lo up && ip address add {address}/30 dev {DEVICE} &&
         ip link set {DEVICE} up mtu 1500 txqueuelen 10000 gso_max_size {WHOLE_BYTES_MAX} &&
         cd /proc/sys/net/ipv4 && echo 4096 131072 6291456 >tcp_rmem && echo 4096 16384 4194304 >tcp_wmem"
    );
    let output = Command::new("sh").args(["-ec", &script]).output();
    match output {
        Ok(output) if output.status.success() => Ok(tun),
        Ok(output) => {
            Err(format!("set up a device: {}", String::from_utf8_lossy(&output.stderr).trim()))
        }
        Err(error) => Err(format!("set up a device: {error}")),
    }
}

/// Carries packets between the two sides until the process ends.
fn carry(tuns: [Tun; 2], spec: Spec, counts: &Mutex<[Counts; 2]>) {
    let now = Instant::now();
    let mut lines: [Line<Vec<u8>>; 2] = [Line::new(spec, now), Line::new(spec, now)];
    let mut spare = Vec::new();
    loop {
        let now = Instant::now();
        for (line, out) in lines.iter_mut().zip([&tuns[1], &tuns[0]]) {
            while let Some(packet) = line.give(now) {
                out.write(&packet);
                spare.push(packet);
            }
        }
        for (line, tun) in lines.iter_mut().zip(&tuns) {
            if let Err(error) = fill(line, tun, &mut spare) {
                eprintln!("wanlink: {error}");
                return;
            }
        }
        *counts.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) =
            [lines[0].counts, lines[1].counts];
        let due = lines.iter().filter_map(Line::due).min();
        wait(&tuns, due);
    }
}

fn fill(line: &mut Line<Vec<u8>>, tun: &Tun, spare: &mut Vec<Vec<u8>>) -> io::Result<()> {
    for _ in 0..BURST_PACKETS {
        let mut packet = spare.pop().unwrap_or_default();
        if !tun.read(&mut packet)? {
            spare.push(packet);
            return Ok(());
        }
        let bytes = tun::wire_bytes(&packet);
        spare.extend(line.take(Instant::now(), packet, bytes));
    }
    Ok(())
}

/// Waits for a packet, and no longer than until `due`.
fn wait(tuns: &[Tun; 2], due: Option<Instant>) {
    let mut ready = tuns.each_ref().map(|tun| PollFd::new(tun, PollFlags::IN));
    let rest = due.map(|due| due.saturating_duration_since(Instant::now()));
    let rest = rest.map(|rest| Timespec {
        tv_sec: i64::try_from(rest.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: rest.subsec_nanos().into(),
    });
    if poll(&mut ready, rest.as_ref()).is_err() {
        // Interrupted; whatever it was, the next round looks again.
        std::thread::sleep(Duration::from_micros(100));
    }
}
