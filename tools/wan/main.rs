//! A slow network on this machine: two network namespaces, a link between them, and a command run
//! over it. Without a command it measures the link.

mod line;
mod link;
mod room;
mod streams;
mod tun;

use std::ffi::OsString;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use line::Spec;
use link::{FAR, Link, NEAR};

const USAGE: &str = "\
usage: wanlink [--rtt MS] [--mbit N] [--buffer-ms N] [--loss PERCENT] [--far COMMAND]
               [-- COMMAND …]

Runs COMMAND in a network namespace whose only way out is a link: 10.99.0.1 is here, 10.99.0.2 the
far end. The shell command of --far is started there before. When COMMAND ends, or this program
does, everything started in either namespace is killed and both are gone. Without COMMAND the link
is measured: round trip, and bytes over TCP in 1 and in 8 streams (--mbytes N, default 64).

Each direction takes half the round trip (default 80 ms) and carries N Mbit/s (default 500); what
waits for it may be as much as it carries in --buffer-ms (default: a round trip), what comes then
is dropped. Takes root.";

struct Wanted {
    rtt_ms: f64,
    mbit: f64,
    buffer_ms: Option<f64>,
    loss_percent: f64,
    mbytes: usize,
    far: Option<String>,
    command: Vec<OsString>,
}

fn main() -> ExitCode {
    if std::env::args_os().any(|word| word == "--help") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let inside = room::inside();
    let words = inside.clone().unwrap_or_else(|| std::env::args_os().skip(1).collect());
    let Some(wanted) = parse(words) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    if inside.is_none() {
        return room::enter();
    }
    match run(&wanted) {
        Ok(code) => code,
        Err(problem) => {
            eprintln!("wanlink: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn parse(words: Vec<OsString>) -> Option<Wanted> {
    let mut wanted = Wanted {
        rtt_ms: 80.0,
        mbit: 500.0,
        buffer_ms: None,
        loss_percent: 0.0,
        mbytes: 64,
        far: None,
        command: Vec::new(),
    };
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let mut number =
            || words.next()?.to_str()?.parse().ok().filter(|number: &f64| *number >= 0.0);
        match word.to_str()? {
            "--rtt" => wanted.rtt_ms = number()?,
            "--mbit" => wanted.mbit = number().filter(|mbit| *mbit > 0.0)?,
            "--buffer-ms" => wanted.buffer_ms = Some(number()?),
            "--loss" => wanted.loss_percent = number()?,
            "--mbytes" => wanted.mbytes = number()? as usize,
            "--far" => wanted.far = Some(words.next()?.into_string().ok()?),
            "--" => {
                wanted.command = words.collect();
                break;
            }
            _ => return None,
        }
    }
    Some(wanted)
}

impl Wanted {
    fn spec(&self) -> Spec {
        Spec::of(self.rtt_ms, self.mbit, self.buffer_ms, self.loss_percent)
    }
}

fn run(wanted: &Wanted) -> Result<ExitCode, String> {
    let link = Link::start(wanted.spec())?;
    if let Some(script) = wanted.far.clone() {
        let started = link.at_far(move || Command::new("sh").args(["-c", &script]).spawn());
        started.map_err(|error| format!("start the far command: {error}"))?;
    }
    let Some((program, arguments)) = wanted.command.split_first() else {
        return measure(&link, wanted.mbytes).map(|()| ExitCode::SUCCESS);
    };
    let status = Command::new(program).args(arguments).status();
    let status = status.map_err(|error| format!("{}: {error}", program.display()))?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// Sends bytes to the far end, looks at what arrived, and tells how long it took.
fn measure(link: &Link, mbytes: usize) -> Result<(), String> {
    let tell = |error: std::io::Error| error.to_string();
    let listener = link.at_far(|| TcpListener::bind((FAR, 0))).map_err(tell)?;
    let address = listener.local_addr().map_err(tell)?.to_string();
    link.at_far(move || drop(std::thread::spawn(move || streams::receive(listener))));
    println!("{NEAR} to {address}, congestion control {}", Link::congestion_control());
    let shortest = streams::round_trip(&address, 5).map_err(tell)?;
    println!("round trip {:.1} ms", shortest.as_secs_f64() * 1e3);
    let dir = tempfile::tempdir().map_err(tell)?;
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    // No two blocks are alike, so that one in the wrong place is seen.
    let content: Vec<u8> = (0..mbytes as u64 * 131_072).flat_map(u64::to_le_bytes).collect();
    std::fs::write(&from, &content).map_err(tell)?;
    for count in [1, 8] {
        let (start, processor) = (Instant::now(), processor_time());
        streams::send(&address, &from, &to, count).map_err(tell)?;
        let secs = start.elapsed().as_secs_f64();
        let processor = processor_time().saturating_sub(processor).as_secs_f64();
        arrived(&to, &content)?;
        let mbit = content.len() as f64 * 8.0 / 1e6 / secs;
        println!(
            "{count} TCP: {mbytes} MiB arrived as sent, {secs:.2} s, {mbit:.0} Mbit/s, {processor:.2} s of processor"
        );
        std::fs::remove_file(&to).map_err(tell)?;
    }
    for (side, counts) in ["near", "far"].iter().zip(link.counts()) {
        println!("from the {side} side {counts:?}");
    }
    Ok(())
}

fn arrived(path: &Path, content: &[u8]) -> Result<(), String> {
    let found = std::fs::read(path).map_err(|error| error.to_string())?;
    if found == content { Ok(()) } else { Err("what arrived is not what was sent".to_owned()) }
}

/// Of this process: both ends and the link.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = text.rsplit_once(')').map_or("", |(_, after)| after);
    let fields = after.split_whitespace().skip(11).take(2);
    Duration::from_millis(fields.filter_map(|field| field.parse::<u64>().ok()).sum::<u64>() * 10)
}
