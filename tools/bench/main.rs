//! The engines beside their peers, for files rsync, `tar | ssh tar`, OpenSSH's sftp and rclone, for
//! databases pg_dump, pg_restore and pgcopydb: the same data, the same sshd, in turn in one run, every result compared with the source. Prints
//! medians and ratios; writes every single run as CSV. A peer that is not installed is named and
//! left out.

// The tests' harness, as if this were the root of the tests: its modules say `crate::harness`.
#[path = "../../tests/all"]
mod live {
    #[allow(dead_code, reason = "the tests use more of the harness than this program does")]
    #[allow(unused_imports, reason = "the same")]
    pub mod harness;
}
use live::harness;

/// The slow link of tools/wanlink.
#[path = "../wan"]
mod wan {
    #[allow(dead_code, reason = "wanlink itself uses more of it")]
    pub mod line;
    #[allow(dead_code, reason = "the same")]
    pub mod link;
    pub mod room;
    #[allow(dead_code, reason = "the same")]
    pub mod streams;
    pub mod tun;
}

mod cases;
mod census;
mod clock;
mod database;
mod peers;
mod server;
mod table;
mod trees;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
usage: bench_peers [--program FILE] [--dir DIR] [--runs N] [--scale X] [--csv FILE]
                   [--wan RTT_MS,MBIT[,BUFFER_MS[,LOSS_PERCENT]]] [--only TOOL,…]
                   [--timeline] [--keep DIR] [CASE …]

cases: first    first copy of 12,000 small files in 44,000 directories
       idle     a pass with nothing to do over 200,000 files in 580,000 directories
       change   a pass after 0.2 % of the same were added, rewritten, deleted
       delta    a file of 1 GiB with 100 edits of 4 KiB and an insertion
       bulk     a new file of 1 GiB
       database a copy of a database of 2,000,000 statuses, with its indexes
Without a case: first, delta, bulk. `--scale 0.1` takes a tenth of everything. With --wan all tools
copy over a link like that of tools/wanlink, which takes root, and 8 plain TCP streams show in
`bulk` what the link gives; OpenSSH's client with `cat` at its far end shows there in any case.
`--only helper,rsync` leaves the others out. `--timeline` tells what each run had on the wire, in
Mbit/s, every 200 ms. `--keep DIR` leaves the source's database in DIR, and takes one of the right
size from there.";

/// Runs this program as the sender of plain streams: address, file, path at the far end.
const STREAMS: &str = "--send-streams";

/// What the command line asks for.
pub struct Wanted {
    program: PathBuf,
    /// Where the trees are made and copied; default: the directory for temporary files.
    dir: PathBuf,
    runs: usize,
    scale: f64,
    csv: Option<PathBuf>,
    wan: Option<wan::line::Spec>,
    /// Parts of the names of the tools that are wanted; all if there are none.
    only: Vec<String>,
    timeline: bool,
    /// Where the source's database stays for later runs.
    keep: Option<PathBuf>,
    cases: Vec<String>,
}

fn main() -> ExitCode {
    let inside = wan::room::inside();
    let alone = inside.is_none();
    let words = inside.unwrap_or_else(|| std::env::args_os().skip(1).collect());
    let words: Option<Vec<String>> =
        words.into_iter().map(OsString::into_string).collect::<Result<_, _>>().ok();
    let words = words.unwrap_or_default();
    if words.iter().any(|word| word == "--help") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    if let [flag, address, from, to] = words.as_slice()
        && flag == STREAMS
    {
        return end(wan::streams::send(address, Path::new(from), Path::new(to), 8));
    }
    let Some(wanted) = parse(words) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    if alone && wanted.wan.is_some() {
        return wan::room::enter();
    }
    end(cases::run(&wanted))
}

fn end(result: Result<(), impl std::fmt::Display>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("bench_peers: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn parse(words: Vec<String>) -> Option<Wanted> {
    let mut wanted = Wanted {
        program: PathBuf::from("target/release/transhume"),
        dir: std::env::temp_dir(),
        runs: 5,
        scale: 1.0,
        csv: None,
        wan: None,
        only: Vec::new(),
        timeline: false,
        keep: None,
        cases: Vec::new(),
    };
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--program" => wanted.program = words.next()?.into(),
            "--keep" => wanted.keep = Some(words.next()?.into()),
            "--dir" => wanted.dir = words.next()?.into(),
            "--runs" => wanted.runs = words.next()?.parse().ok().filter(|runs| *runs > 0)?,
            "--scale" => wanted.scale = words.next()?.parse().ok().filter(|x| *x > 0.0)?,
            "--csv" => wanted.csv = Some(words.next()?.into()),
            "--wan" => wanted.wan = Some(server::spec(&words.next()?)?),
            "--timeline" => wanted.timeline = true,
            "--only" => wanted.only = words.next()?.split(',').map(str::to_owned).collect(),
            name if cases::NAMES.contains(&name) => wanted.cases.push(word),
            _ => return None,
        }
    }
    if wanted.cases.is_empty() {
        wanted.cases = ["first", "delta", "bulk"].map(str::to_owned).to_vec();
    }
    Some(wanted)
}
