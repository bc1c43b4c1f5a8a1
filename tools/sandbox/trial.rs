//! `sandbox try`: the whole move on a full sandbox, told step by step, and verified by other
//! means than transhume's own. Exit code 0 only if all of it is as it should be.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::process;
use crate::harness::sandbox::{Options, Sandbox};
use crate::signals::Interrupted;
use crate::up::keep_temporary_files_in;

/// What the command line says.
struct Request {
    program: PathBuf,
    /// Where the report and the events are left.
    keep: PathBuf,
    options: Options,
}

pub fn run(arguments: &[String]) -> i32 {
    let Some(request) = parse(arguments) else {
        eprintln!("{}", crate::USAGE);
        return 2;
    };
    let interrupted = Interrupted::watch();
    let dir = tempfile::Builder::new().prefix("transhume-try-").tempdir().expect("a directory");
    keep_temporary_files_in(dir.path());
    let started = Instant::now();
    println!("Starting two servers on loopback; the old one gets {}.", size(&request.options));
    let options = Options { dir: Some(dir.path().to_owned()), ..request.options.clone() };
    let sandbox = Sandbox::start(&options);
    println!("Up after {}.\n", secs(started.elapsed()));
    if interrupted.is_set() {
        return 130;
    }
    let moved = migrate(&sandbox, &request, &interrupted);
    keep_reports(&sandbox, &request.keep);
    let code = match moved {
        Ok(run) => judge(&sandbox, &run, &request.keep),
        Err(problem) => {
            eprintln!("\n{problem}");
            1
        }
    };
    if interrupted.is_set() { 130 } else { code }
}

fn parse(arguments: &[String]) -> Option<Request> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut request = Request {
        program: root.join("target/release/transhume"),
        keep: root.join("target/try"),
        options: Options::full(),
    };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--program" => request.program = arguments.next()?.into(),
            "--keep" => request.keep = arguments.next()?.into(),
            "--small" => request.options = Options::small(),
            _ => return None,
        }
    }
    Some(request)
}

/// What transhume told of its run.
#[derive(Default)]
struct Run {
    downtime_millis: Option<u64>,
    steps: Vec<(String, u64)>,
    millis: u64,
}

/// Runs `transhume migrate --yes` and prints its steps as they end.
fn migrate(sandbox: &Sandbox, request: &Request, interrupted: &Interrupted) -> Result<Run, String> {
    fs::create_dir_all(&request.keep).map_err(|error| error.to_string())?;
    let events = request.keep.join("output.jsonl");
    let mut copy =
        File::create(&events).map_err(|error| format!("{}: {error}", events.display()))?;
    let started = Instant::now();
    let mut child = Command::new(&request.program)
        .arg("--config")
        .arg(sandbox.config_path())
        .args(["--json", "migrate", "--yes"])
        // A Ctrl-C reaches it once: through us.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start {}: {error}", request.program.display()))?;
    let stdout = child.stdout.take().ok_or("its output")?;
    pass_on(interrupted.clone(), child.id());
    let mut run = Run::default();
    for line in BufReader::new(stdout).lines() {
        let line = line.map_err(|error| error.to_string())?;
        writeln!(copy, "{line}").map_err(|error| error.to_string())?;
        if let Ok(event) = serde_json::from_str::<Value>(&line) {
            show(&event, &mut run);
        }
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    run.millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    // 3 is done, with problems listed; what is wrong is for the verification to find.
    if matches!(status.code(), Some(0 | 3)) {
        Ok(run)
    } else {
        Err(format!("transhume migrate: {status}"))
    }
}

/// Interrupts `child` once when we are; the thread ends with the child, or with us.
fn pass_on(interrupted: Interrupted, child: u32) {
    std::thread::spawn(move || {
        while process::alive(child) {
            if interrupted.is_set() {
                return process::signal(child, rustix::process::Signal::INT);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    });
}

fn show(event: &Value, run: &mut Run) {
    let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
    match event["event"].as_str().unwrap_or_default() {
        "step_started" => {
            let (number, steps) = (&event["number"], &event["steps"]);
            println!("[{number}/{steps}] {}", text("title"));
        }
        "step_finished" => {
            let outcome = &event["outcome"];
            let kind = outcome["kind"].as_str().unwrap_or_default();
            let words = ["evidence", "reason", "error"].map(|name| outcome[name].as_str());
            let words = words.into_iter().flatten().next().unwrap_or_default();
            let millis = event["millis"].as_u64().unwrap_or_default();
            println!("      {kind} in {}: {words}", secs(Duration::from_millis(millis)));
            run.steps.push((text("step"), millis));
        }
        "downtime_started" => println!("   -- downtime begins --"),
        "downtime_ended" => {
            let millis = event["millis"].as_u64().unwrap_or_default();
            println!("   -- downtime ends after {} --", secs(Duration::from_millis(millis)));
            run.downtime_millis = Some(millis);
        }
        "point_of_no_return" => println!("   -- point of no return --"),
        "problem" | "finding" | "note" => println!("      {} {}", text("subject"), text("text")),
        _ => {}
    }
}

fn judge(sandbox: &Sandbox, run: &Run, keep: &Path) -> i32 {
    println!("\nVerifying by other means:");
    let verdict = sandbox.verify_moved();
    for seen in &verdict.seen {
        println!("  ok     {seen}");
    }
    for problem in &verdict.problems {
        println!("  WRONG  {problem}");
    }
    println!("\nTime by step:");
    for (step, millis) in &run.steps {
        println!("  {:>9}  {step}", secs(Duration::from_millis(*millis)));
    }
    println!("  {:>9}  in all", secs(Duration::from_millis(run.millis)));
    match run.downtime_millis {
        Some(millis) => println!("\nDowntime: {}", secs(Duration::from_millis(millis))),
        None => println!("\nDowntime: transhume did not tell"),
    }
    println!("Report:   {}", report(keep).display());
    if verdict.is_good() && run.downtime_millis.is_some() { 0 } else { 1 }
}

/// Copies what transhume left in its state directory: reports, and the journal.
fn keep_reports(sandbox: &Sandbox, keep: &Path) {
    let all = sandbox.state_dir().join(".");
    let copied = Command::new("cp").args(["-r", "--"]).arg(all).arg(keep).status();
    if !copied.is_ok_and(|status| status.success()) {
        eprintln!("what transhume left could not be copied to {}", keep.display());
    }
}

/// The newest HTML page in `keep`, or `keep` itself.
fn report(keep: &Path) -> PathBuf {
    let entries = fs::read_dir(keep).into_iter().flatten().flatten();
    let pages = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "html"));
    let newest =
        pages.max_by_key(|path| fs::metadata(path).and_then(|found| found.modified()).ok());
    newest.unwrap_or_else(|| keep.to_owned())
}

fn size(options: &Options) -> String {
    format!("{} statuses, {} media files, {} jobs", options.statuses, options.files, options.jobs)
}

fn secs(span: Duration) -> String {
    format!("{:.1} s", span.as_secs_f64())
}
