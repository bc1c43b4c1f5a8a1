//! What the read-only verbs print.

use std::collections::BTreeSet;
use std::fs;

use super::execution::{assignments, optional, split};
use super::manager::Manager;
use super::unit::{Dirs, Load, Unit, is_template, matches, template_of};
use super::{Refusal, Request, files};

pub fn is_active(request: &Request, manager: &Manager<'_>) -> i32 {
    let states: Vec<&str> = request.units.iter().map(|name| manager.activity(name).0).collect();
    print_states(request, &states);
    if states.contains(&"active") { 0 } else { 3 }
}

pub fn is_failed(request: &Request, manager: &Manager<'_>) -> i32 {
    let states: Vec<&str> = request.units.iter().map(|name| manager.activity(name).0).collect();
    print_states(request, &states);
    if states.contains(&"failed") { 0 } else { 1 }
}

fn print_states(request: &Request, states: &[&str]) {
    if !request.quiet {
        states.iter().for_each(|state| println!("{state}"));
    }
}

pub fn is_enabled(request: &Request, dirs: &Dirs) -> Result<i32, Refusal> {
    let mut code = 1;
    for name in &request.units {
        let state = files::state(dirs, name).ok_or_else(|| {
            let text =
                format!("Failed to get unit file state for {name}: No such file or directory");
            Refusal::new(1, text)
        })?;
        if !request.quiet {
            println!("{state}");
        }
        if matches!(state, "enabled" | "static" | "alias" | "indirect") {
            code = 0;
        }
    }
    Ok(code)
}

pub fn list_units(request: &Request, manager: &Manager<'_>) -> i32 {
    let mut rows = Vec::new();
    for name in by_type(manager.known()).iter().filter(|name| wanted(request, name)) {
        let unit = manager.unit(name);
        let (active, sub) = manager.activity(name);
        if request.all || active != "inactive" {
            let load = load_text(&unit);
            rows.push([name.clone(), load.into(), active.into(), sub.into(), description(&unit)]);
        }
    }
    print_table(request, &["UNIT", "LOAD", "ACTIVE", "SUB", "DESCRIPTION"], &rows);
    if request.legend {
        println!("\n{} loaded units listed.", rows.len());
    }
    0
}

pub fn list_unit_files(request: &Request, dirs: &Dirs) -> i32 {
    let found = dirs.all().into_iter().flat_map(|dir| files::entries(dir));
    let names: BTreeSet<String> = found
        .filter(|path| !path.is_dir())
        .map(|path| super::unit::file_name(&path))
        .filter(|name| super::unit::mangle(name) == *name && wanted(request, name))
        .collect();
    let rows: Vec<[String; 3]> = by_type(names)
        .into_iter()
        .filter_map(|name| {
            let state = files::state(dirs, &name)?;
            let preset = if state == "static" || state == "alias" { "-" } else { "enabled" };
            Some([name, state.into(), preset.into()])
        })
        .collect();
    print_table(request, &["UNIT FILE", "STATE", "PRESET"], &rows);
    if request.legend {
        println!("\n{} unit files listed.", rows.len());
    }
    i32::from(rows.is_empty())
}

/// In the order of the lists: by type, then by name.
fn by_type(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut names: Vec<String> = names.into_iter().collect();
    let kind = |name: &str| name.rsplit_once('.').map(|(_, kind)| kind.to_owned());
    names.sort_by_key(|name| (kind(name), name.clone()));
    names
}

fn wanted(request: &Request, name: &str) -> bool {
    let kind = request.kind.as_deref().is_none_or(|kind| {
        kind.split(',').any(|kind| name.rsplit_once('.').is_some_and(|(_, own)| own == kind))
    });
    let units = &request.units;
    kind && (units.is_empty() || units.iter().any(|pattern| matches(pattern, name)))
}

fn print_table<const N: usize>(request: &Request, head: &[&str; N], rows: &[[String; N]]) {
    let head = head.map(str::to_owned);
    let head = request.legend.then_some(&head);
    let lines: Vec<&[String; N]> = head.into_iter().chain(rows).collect();
    for line in &lines {
        let mut text = String::new();
        for (column, cell) in line.iter().enumerate() {
            let width = lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
            text.push_str(&format!("{cell:width$} "));
        }
        println!("{}", text.trim_end());
    }
}

fn load_text(unit: &Unit) -> &'static str {
    match unit.load {
        Load::Loaded => "loaded",
        Load::NotFound => "not-found",
        Load::Masked => "masked",
    }
}

fn description(unit: &Unit) -> String {
    unit.get("Unit", "Description").unwrap_or_else(|| unit.name.clone())
}

pub fn properties(request: &Request, manager: &Manager<'_>) -> Result<i32, Refusal> {
    for (index, name) in request.units.iter().enumerate() {
        if is_template(name) {
            let text = format!(
                "Failed to get properties: Unit name {name} is neither a valid invocation ID nor unit name."
            );
            return Err(Refusal::new(1, text));
        }
        if index > 0 {
            println!();
        }
        for (key, value) in lines(name, manager) {
            let wanted = &request.properties;
            if wanted.is_empty() || wanted.iter().any(|wanted| wanted == key) {
                let label = if request.value { String::new() } else { format!("{key}=") };
                println!("{label}{value}");
            }
        }
    }
    Ok(0)
}

fn lines(name: &str, manager: &Manager<'_>) -> Vec<(&'static str, String)> {
    let unit = manager.unit(name);
    let (active, sub) = manager.activity(name);
    let state = manager.state(name);
    let main = state.main.filter(|main| main.is_alive()).map_or(0, |main| main.pid);
    let service = |key: &str| unit.get("Service", key).unwrap_or_default();
    let paths = unit.drop_ins.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
    let mut lines = Vec::new();
    if name.ends_with(".service") {
        lines.push(("Type", unit.get("Service", "Type").unwrap_or_else(|| "simple".into())));
        lines.push(("TimeoutStopUSec", limit_text(manager, name)));
        lines.push(("MainPID", main.to_string()));
        lines.push(("Result", state.failure.unwrap_or_else(|| "success".into())));
        lines.extend(
            unit.values("Service", "ExecStart").iter().map(|line| ("ExecStart", exec_text(line))),
        );
        let words = assignments(&unit)
            .iter()
            .map(|(key, value)| quoted(&format!("{key}={value}")))
            .collect::<Vec<_>>();
        lines.push(("Environment", words.join(" ")));
        for file in unit.values("Service", "EnvironmentFile") {
            let (optional, path) = optional(&file);
            let ignored = if optional { "yes" } else { "no" };
            lines.push(("EnvironmentFiles", format!("{path} (ignore_errors={ignored})")));
        }
        lines.push(("WorkingDirectory", service("WorkingDirectory")));
        lines.push(("User", service("User")));
    }
    if name.ends_with(".timer") {
        let stem = name.trim_end_matches(".timer");
        lines
            .push(("Unit", unit.get("Timer", "Unit").unwrap_or_else(|| format!("{stem}.service"))));
    }
    let state_text = files::state(manager.dirs, name).unwrap_or_default();
    lines.extend([
        ("Id", unit.name.clone()),
        ("Names", unit.name.clone()),
        ("Wants", unit.names("Unit", "Wants").join(" ")),
        ("PartOf", unit.names("Unit", "PartOf").join(" ")),
        ("Description", description(&unit)),
        ("LoadState", load_text(&unit).into()),
        ("ActiveState", active.into()),
        ("SubState", sub.into()),
        (
            "FragmentPath",
            unit.fragment.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
        ),
        ("DropInPaths", paths.join(" ")),
        ("UnitFileState", state_text.into()),
    ]);
    lines
}

fn limit_text(manager: &Manager<'_>, name: &str) -> String {
    match manager.stop_limit(name) {
        None => "infinity".into(),
        Some(limit) => match (limit.as_secs() / 60, limit.as_secs() % 60) {
            (0, secs) => format!("{secs}s"),
            (mins, 0) => format!("{mins}min"),
            (mins, secs) => format!("{mins}min {secs}s"),
        },
    }
}

fn exec_text(line: &str) -> String {
    let words = split(line);
    let program = words.first().cloned().unwrap_or_default();
    let (ignored, path) = optional(&program);
    let argv = std::iter::once(path.to_owned()).chain(words[1.min(words.len())..].iter().cloned());
    let argv = argv.collect::<Vec<_>>().join(" ");
    let ignored = if ignored { "yes" } else { "no" };
    format!(
        "{{ path={path} ; argv[]={argv} ; ignore_errors={ignored} ; start_time=[n/a] ; \
         stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }}"
    )
}

/// A list entry as systemctl prints it since version 246.
fn quoted(word: &str) -> String {
    let special = |char: char| char.is_whitespace() || "\"\\`$*?['()<>|&;!".contains(char);
    if word.contains(special) {
        format!("$'{}'", word.replace('\\', r"\\").replace('\'', r"\'").replace('\n', r"\n"))
    } else {
        word.to_owned()
    }
}

pub fn cat(request: &Request, manager: &Manager<'_>) -> Result<i32, Refusal> {
    for name in &request.units {
        let name = manager.dirs.canonical(name);
        let unit = Unit::read(manager.dirs, &name);
        match (unit.load, unit.fragment) {
            (Load::Masked, _) => println!("# Unit {name} is masked."),
            (Load::Loaded, Some(fragment)) => {
                for path in std::iter::once(&fragment).chain(&unit.drop_ins) {
                    println!(
                        "# {}\n{}",
                        path.display(),
                        fs::read_to_string(path).unwrap_or_default()
                    );
                }
            }
            (Load::NotFound | Load::Loaded, _) => {
                let template = template_of(&name).unwrap_or_default();
                let text = format!("No files found for {name}{template}.");
                return Err(Refusal::new(1, text));
            }
        }
    }
    Ok(0)
}
