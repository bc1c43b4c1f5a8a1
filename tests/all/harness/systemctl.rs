//! A stand-in for systemctl(1), for machines on which no systemd runs. It starts and stops real
//! processes, and keeps unit files, drop-ins, enablement and masks as the real one does, below one
//! directory given by `--root=DIR` (or `SYSTEMCTL_ROOT`): `etc/systemd/system`,
//! `run/systemd/system` and `usr/lib/systemd/system`, in this order of precedence. The real
//! `systemctl --root=DIR` works on the same tree, and is the oracle for it.
//!
//! There is no daemon, so: a process that ends by itself makes its unit `failed`, whatever its
//! exit code; `Restart=` does nothing; timers are active or not, but never elapse. What `start`
//! has loaded stays in force until `daemon-reload`, as it would in a real manager.

// The paths are explicit so that an example program can include this file by path as well.
#[path = "systemctl/execution.rs"]
mod execution;
#[path = "systemctl/files.rs"]
mod files;
#[path = "systemctl/manager.rs"]
mod manager;
#[path = "systemctl/process.rs"]
mod process;
#[path = "systemctl/show.rs"]
mod show;
#[path = "systemctl/unit.rs"]
mod unit;

use std::path::PathBuf;

/// What went wrong, and the exit code that systemctl gives for it.
struct Refusal {
    code: i32,
    text: String,
}

impl Refusal {
    fn new(code: i32, text: impl Into<String>) -> Self {
        Refusal { code, text: text.into() }
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        Refusal::new(1, error.to_string())
    }
}

/// The command line, taken apart.
#[derive(Default)]
struct Request {
    root: PathBuf,
    verb: String,
    /// Unit names or patterns; a name without a type is a service.
    units: Vec<String>,
    properties: Vec<String>,
    signal: Option<String>,
    kind: Option<String>,
    /// `kill` signals the main process alone.
    main_only: bool,
    all: bool,
    legend: bool,
    quiet: bool,
    runtime: bool,
    now: bool,
    value: bool,
}

/// Runs the program for `args` (without its own name) and gives its exit code.
pub fn main(args: &[String]) -> i32 {
    match parse(args).and_then(|request| dispatch(&request)) {
        Ok(code) => code,
        Err(refusal) => {
            eprintln!("{}", refusal.text);
            refusal.code
        }
    }
}

fn parse(args: &[String]) -> Result<Request, Refusal> {
    let mut request = Request { legend: true, ..Request::default() };
    request.root = std::env::var_os("SYSTEMCTL_ROOT").map(PathBuf::from).unwrap_or_default();
    let mut words = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let (name, inline) = match arg.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
            _ => (arg.as_str(), None),
        };
        let mut value = || {
            inline.clone().or_else(|| args.next().cloned()).ok_or_else(|| {
                Refusal::new(1, format!("systemctl: option '{name}' requires an argument"))
            })
        };
        match name {
            "--root" => request.root = value()?.into(),
            "-p" | "--property" => {
                request.properties.extend(value()?.split(',').map(str::to_owned));
            }
            "-s" | "--signal" => request.signal = Some(value()?),
            "--kill-who" | "--kill-whom" => request.main_only = value()? == "main",
            "-t" | "--type" => request.kind = Some(value()?),
            "-a" | "--all" => request.all = true,
            "-q" | "--quiet" => request.quiet = true,
            "--no-legend" => request.legend = false,
            "--runtime" => request.runtime = true,
            "--now" => request.now = true,
            "--value" => request.value = true,
            "-l" | "--full" | "--plain" | "--no-pager" | "--no-ask-password" | "--system" => {}
            "--" => words.extend(args.by_ref().cloned()),
            _ if arg.starts_with('-') => {
                return Err(Refusal::new(1, format!("systemctl: unrecognized option '{arg}'")));
            }
            _ => words.push(arg.clone()),
        }
    }
    if request.root.as_os_str().is_empty() {
        return Err(Refusal::new(1, "systemctl stand-in: --root=DIR is missing"));
    }
    let mut words = words.into_iter();
    request.verb = words.next().unwrap_or_else(|| "list-units".to_owned());
    request.units = words.map(|name| unit::mangle(&name)).collect();
    Ok(request)
}

fn dispatch(request: &Request) -> Result<i32, Refusal> {
    let dirs = unit::Dirs::new(&request.root);
    let manager = manager::Manager::open(&dirs, &request.root)?;
    let done = |result: Result<(), Refusal>| result.map(|()| 0);
    match request.verb.as_str() {
        "start" => done(manager.start(&request.units)),
        "stop" => done(manager.stop(&request.units)),
        "restart" => done(manager.restart(&request.units)),
        "reload" => done(manager.reload(&request.units)),
        "kill" => done(manager.kill(request)),
        "reset-failed" => done(manager.reset_failed(&request.units)),
        "daemon-reload" => done(manager.forget_loaded()),
        "enable" | "disable" | "mask" | "unmask" => done(change_files(request, &dirs, &manager)),
        "is-active" => Ok(show::is_active(request, &manager)),
        "is-failed" => Ok(show::is_failed(request, &manager)),
        "is-enabled" => show::is_enabled(request, &dirs),
        "list-units" => Ok(show::list_units(request, &manager)),
        "list-unit-files" => Ok(show::list_unit_files(request, &dirs)),
        "show" => show::properties(request, &manager),
        "cat" => show::cat(request, &manager),
        verb => Err(Refusal::new(1, format!("Unknown command verb {verb}."))),
    }
}

/// The verbs that change files end with an implicit daemon-reload, as the real ones do.
fn change_files(
    request: &Request,
    dirs: &unit::Dirs,
    manager: &manager::Manager,
) -> Result<(), Refusal> {
    let units = &request.units;
    match request.verb.as_str() {
        "enable" => files::enable(dirs, units)?,
        "disable" => files::disable(dirs, units)?,
        "mask" => files::mask(dirs, units, request.runtime)?,
        _ => files::unmask(dirs, units, request.runtime)?,
    }
    manager.forget_loaded()?;
    match (request.now, request.verb.as_str()) {
        (true, "enable") => manager.start(units),
        (true, "disable" | "mask") => manager.stop(units),
        _ => Ok(()),
    }
}
