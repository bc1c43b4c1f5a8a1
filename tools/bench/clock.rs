//! What a command cost: wall time, and processor time of it and of everything it waited for.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often the wire is looked at for a timeline.
const TICK: Duration = Duration::from_millis(200);

/// What /proc counts in, fixed in the kernel's interface.
const USER_HZ: u64 = 100;

/// One run of one tool.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub wall: Duration,
    /// Of the client's side alone: sshd's processes are not ours.
    pub processor: Duration,
    /// Bytes over the wire in both directions, of everything in this network namespace.
    pub wire_bytes: u64,
}

/// Runs `command` to its end; an error if it does not end with 0.
pub fn run(command: &mut Command) -> Result<Cost, String> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let (wire, processor, start) = (device_bytes(), children(), Instant::now());
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let cost = Cost {
        wall: start.elapsed(),
        processor: children().saturating_sub(processor),
        wire_bytes: device_bytes().saturating_sub(wire),
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?} ended with {}: {}", output.status, said.trim()));
    }
    Ok(cost)
}

/// Processor time of all children that were waited for, theirs included.
fn children() -> Duration {
    // utime and stime of waited-for children are the fields 16 and 17 of proc_pid_stat(5).
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = text.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks = |index: usize| {
        after.split_whitespace().nth(index).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0)
    };
    Duration::from_millis((ticks(13) + ticks(14)) * 1000 / USER_HZ)
}

/// What went over the wire while `command` ran, in Mbit/s, one number for each [`TICK`].
pub fn timeline(command: &mut Command) -> Result<(Cost, Vec<u64>), String> {
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let (mut rates, mut before) = (Vec::new(), device_bytes());
            let start = Instant::now();
            while !ended.load(Ordering::Acquire) {
                let due = TICK * (rates.len() as u32 + 1);
                std::thread::sleep(due.saturating_sub(start.elapsed()));
                let now = device_bytes();
                rates.push((now - before) * 8 / TICK.as_micros() as u64);
                before = now;
            }
            rates
        });
        let cost = run(command);
        ended.store(true, Ordering::Release);
        let rates = watch.join().map_err(|_| "the wire's watch failed".to_owned())?;
        Ok((cost?, rates))
    })
}

/// Bytes over all devices of this network namespace. What loopback sends it also receives.
fn device_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    let device = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> =
            numbers.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        let received = if name.trim() == "lo" { 0 } else { *numbers.first()? };
        Some(received + numbers.get(8)?)
    };
    text.lines().filter_map(device).sum()
}
