//! Processes that are nobody's children any more: a pid counts only together with its start time,
//! and a zombie counts as gone.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// A process that cannot be mistaken for a later one with its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: i32,
    start_ticks: u64,
}

struct Stat {
    state: char,
    session: i32,
    start_ticks: u64,
}

impl Process {
    pub fn observe(pid: i32) -> Option<Process> {
        let stat = stat(pid)?;
        Some(Process { pid, start_ticks: stat.start_ticks })
    }

    pub fn is_alive(self) -> bool {
        stat(self.pid).is_some_and(|stat| {
            stat.start_ticks == self.start_ticks && !matches!(stat.state, 'Z' | 'X')
        })
    }

    /// The living processes of its session, its stand-in for a control group.
    pub fn group(self) -> Vec<Process> {
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid| stat(*pid).is_some_and(|stat| stat.session == self.pid))
            // Whoever inherits the number of a session leader is a later process.
            .filter_map(Process::observe)
            .filter(|member| member.start_ticks >= self.start_ticks && member.is_alive())
            .collect()
    }

    pub fn send(self, signal: Signal) {
        if let (true, Some(pid)) = (self.is_alive(), Pid::from_raw(self.pid)) {
            // It may end between the look and the signal.
            let _ = kill_process(pid, signal);
        }
    }
}

/// Waits until none of `processes` lives; false when `limit` passes first.
pub fn wait_gone(processes: &[Process], limit: Option<Duration>) -> bool {
    let start = Instant::now();
    while processes.iter().any(|process| process.is_alive()) {
        if limit.is_some_and(|limit| start.elapsed() >= limit) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; what follows is fields 3 and up.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        session: fields.get(3)?.parse().ok()?,
        start_ticks: fields.get(19)?.parse().ok()?,
    })
}

pub fn signal(name: &str) -> Option<Signal> {
    let name = name.strip_prefix("SIG").unwrap_or(name);
    Some(match name {
        "TERM" | "15" => Signal::TERM,
        "KILL" | "9" => Signal::KILL,
        "INT" | "2" => Signal::INT,
        "HUP" | "1" => Signal::HUP,
        "QUIT" | "3" => Signal::QUIT,
        "USR1" | "10" => Signal::USR1,
        "USR2" | "12" => Signal::USR2,
        "TSTP" | "20" => Signal::TSTP,
        "CONT" | "18" => Signal::CONT,
        "TTIN" | "21" => Signal::TTIN,
        _ => return None,
    })
}
