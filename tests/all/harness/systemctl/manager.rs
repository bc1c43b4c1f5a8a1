//! The running side: what is loaded, what is active, starting, stopping and signalling.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::execution::{self, span_secs};
use super::process::{self, Process};
use super::unit::{Dirs, Load, Unit};
use super::{Refusal, Request};

/// What is remembered of a unit between two calls.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// Started and not stopped since.
    pub up: bool,
    pub main: Option<Process>,
    /// Why it failed: `timeout`, `exit-code`.
    pub failure: Option<String>,
}

pub struct Manager<'a> {
    pub dirs: &'a Dirs,
    state_dir: PathBuf,
}

impl<'a> Manager<'a> {
    pub fn open(dirs: &'a Dirs, root: &Path) -> Result<Self, Refusal> {
        let state_dir = root.join("run/systemctl");
        fs::create_dir_all(&state_dir)?;
        Ok(Manager { dirs, state_dir })
    }

    /// The unit as loaded: what `start` once read stays in force until daemon-reload.
    pub fn unit(&self, name: &str) -> Unit {
        let name = self.dirs.canonical(name);
        let loaded = fs::read(self.path(&name, "loaded")).ok();
        loaded
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_else(|| Unit::read(self.dirs, &name))
    }

    pub fn forget_loaded(&self) -> Result<(), Refusal> {
        for path in super::files::entries(&self.state_dir) {
            if path.extension().is_some_and(|extension| extension == "loaded") {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// The units that a manager would have in memory: started once, or wanted by an enabled link.
    pub fn known(&self) -> Vec<String> {
        let mut names = BTreeSet::new();
        for path in super::files::entries(&self.state_dir) {
            if path.extension().is_some_and(|extension| extension == "state") {
                names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
            }
        }
        for target in ["multi-user.target", "timers.target", "default.target"] {
            names.extend(self.dirs.linked(target, "wants"));
        }
        names
            .into_iter()
            .map(|name| self.dirs.canonical(&name))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    pub fn state(&self, name: &str) -> State {
        let read = fs::read(self.path(&self.dirs.canonical(name), "state")).ok();
        read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// ActiveState and SubState.
    pub fn activity(&self, name: &str) -> (&'static str, &'static str) {
        let state = self.state(name);
        match (state.up, state.main, &state.failure) {
            (true, Some(main), _) if main.is_alive() => ("active", "running"),
            (true, Some(_), _) | (false, _, Some(_)) => ("failed", "failed"),
            (true, None, _) if name.ends_with(".timer") => ("active", "waiting"),
            (true, None, _) if name.ends_with(".service") => ("active", "exited"),
            (true, None, _) => ("active", "active"),
            (false, _, None) => ("inactive", "dead"),
        }
    }

    pub fn is_active(&self, name: &str) -> bool {
        self.activity(name).0 == "active"
    }

    /// Starts them all, and tells the first that failed.
    pub fn start(&self, names: &[String]) -> Result<(), Refusal> {
        names.iter().map(|name| self.start_one(name)).fold(Ok(()), Result::and)
    }

    fn start_one(&self, name: &str) -> Result<(), Refusal> {
        let unit = self.unit(name);
        match unit.load {
            Load::Loaded => {}
            Load::NotFound => {
                return Err(Refusal::new(
                    5,
                    format!("Failed to start {name}: Unit {name} not found."),
                ));
            }
            Load::Masked => {
                return Err(Refusal::new(
                    1,
                    format!("Failed to start {name}: Unit {name} is masked."),
                ));
            }
        }
        let Some(state) = self.bring_up(&unit)? else { return Ok(()) };
        let linked = self.dirs.linked(&unit.name, "wants");
        for wanted in unit.names("Unit", "Wants").into_iter().chain(linked) {
            // A wish that cannot be fulfilled does not hold up the unit.
            let _ = self.start_one(&wanted);
        }
        for required in unit.names("Unit", "Requires") {
            self.start_one(&required)?;
        }
        match state.failure {
            None => Ok(()),
            Some(_) => {
                let cause = "because the control process exited with error code";
                Err(Refusal::new(1, format!("Job for {name} failed {cause}.")))
            }
        }
    }

    /// Starts the unit itself; `None` where it is up already.
    fn bring_up(&self, unit: &Unit) -> Result<Option<State>, Refusal> {
        let _lock = self.lock(&unit.name)?;
        if self.is_active(&unit.name) {
            return Ok(None);
        }
        self.write(&self.path(&unit.name, "loaded"), &unit)?;
        let state = if unit.name.ends_with(".service") {
            self.run(unit)?
        } else {
            State { up: true, ..State::default() }
        };
        self.write(&self.path(&unit.name, "state"), &state)?;
        Ok(Some(state))
    }

    fn run(&self, unit: &Unit) -> Result<State, Refusal> {
        let oneshot = unit.get("Service", "Type").as_deref() == Some("oneshot");
        let line = unit.values("Service", "ExecStart").into_iter().next().unwrap_or_default();
        let failed = State { failure: Some("exit-code".into()), ..State::default() };
        let mut child = match execution::spawn(unit, &line, &self.path(&unit.name, "log"), 0) {
            Ok(child) => child,
            Err(text) => {
                fs::write(self.path(&unit.name, "log"), text)?;
                return Ok(failed);
            }
        };
        if oneshot {
            let stays = unit.get("Service", "RemainAfterExit").is_some_and(|value| is_yes(&value));
            let up = State { up: stays, ..State::default() };
            return Ok(if child.wait()?.success() { up } else { failed });
        }
        let pid = i32::try_from(child.id()).unwrap_or_default();
        Ok(State { up: true, main: Process::observe(pid), failure: None })
    }

    pub fn stop(&self, names: &[String]) -> Result<(), Refusal> {
        let mut all = Vec::new();
        for name in names {
            let name = self.dirs.canonical(name);
            if self.unit(&name).load == Load::NotFound && !self.state(&name).up {
                return Err(Refusal::new(
                    5,
                    format!("Failed to stop {name}: Unit {name} not loaded."),
                ));
            }
            self.with_parts(&name, &mut all);
        }
        // As a real manager does, all are told before any is waited for.
        for name in &all {
            let signal = self.unit(name).get("Service", "KillSignal");
            let signal = signal.and_then(|name| process::signal(&name)).unwrap_or(Signal::TERM);
            self.group(name).iter().for_each(|member| member.send(signal));
        }
        all.iter().try_for_each(|name| self.finish_stop(name))
    }

    /// `name`, and the active units that are part of it or cannot be without it.
    fn with_parts(&self, name: &str, all: &mut Vec<String>) {
        if all.iter().any(|known| known == name) {
            return;
        }
        all.push(name.to_owned());
        for other in self.known() {
            let unit = self.unit(&other);
            let belongs = ["PartOf", "Requires", "BindsTo"]
                .iter()
                .any(|key| unit.names("Unit", key).iter().any(|part| part == name));
            if belongs && self.is_active(&other) {
                self.with_parts(&other, all);
            }
        }
    }

    fn finish_stop(&self, name: &str) -> Result<(), Refusal> {
        let _lock = self.lock(name)?;
        let group = self.group(name);
        let mut state = State::default();
        if !process::wait_gone(&group, self.stop_limit(name)) {
            let rest = self.group(name);
            rest.iter().for_each(|member| member.send(Signal::KILL));
            process::wait_gone(&rest, None);
            state.failure = Some("timeout".into());
        }
        if self.path(name, "state").exists() {
            self.write(&self.path(name, "state"), &state)?;
        }
        Ok(())
    }

    pub fn stop_limit(&self, name: &str) -> Option<Duration> {
        let unit = self.unit(name);
        let set = ["TimeoutStopSec", "TimeoutSec"].iter().find_map(|key| unit.get("Service", key));
        match set {
            Some(text) => span_secs(&text).map(Duration::from_secs_f64),
            None => Some(Duration::from_secs(90)),
        }
    }

    /// The living processes of a unit.
    fn group(&self, name: &str) -> Vec<Process> {
        self.state(name).main.map(Process::group).unwrap_or_default()
    }

    pub fn restart(&self, names: &[String]) -> Result<(), Refusal> {
        let mut all = Vec::new();
        for name in names {
            self.with_parts(&self.dirs.canonical(name), &mut all);
        }
        all.retain(|name| self.is_active(name) || names.contains(name));
        self.stop(names)?;
        self.start(&all)
    }

    pub fn reload(&self, names: &[String]) -> Result<(), Refusal> {
        for name in names {
            let unit = self.unit(name);
            let main = self.state(name).main.filter(|main| main.is_alive());
            let line = unit.get("Service", "ExecReload");
            let (Some(main), Some(line)) = (main, line) else {
                let text = format!(
                    "Failed to reload {name}: Job type reload is not applicable for unit {name}."
                );
                return Err(Refusal::new(1, text));
            };
            let child = execution::spawn(&unit, &line, &self.path(name, "log"), main.pid);
            let ended = child.map_err(|text| Refusal::new(1, text))?.wait()?;
            if !ended.success() {
                return Err(Refusal::new(1, format!("Job for {name} failed.")));
            }
        }
        Ok(())
    }

    pub fn kill(&self, request: &Request) -> Result<(), Refusal> {
        let text = request.signal.as_deref().unwrap_or("TERM");
        let signal = process::signal(text)
            .ok_or_else(|| Refusal::new(1, format!("Failed to parse signal string {text}.")))?;
        for name in &request.units {
            let main = self.state(name).main.filter(|main| main.is_alive());
            match (main, request.main_only) {
                (Some(main), true) => main.send(signal),
                (Some(main), false) => main.group().iter().for_each(|member| member.send(signal)),
                (None, true) => {
                    let text = format!("Failed to kill unit {name}: No main process to kill");
                    return Err(Refusal::new(1, text));
                }
                (None, false) if self.unit(name).load == Load::NotFound => {
                    let text = format!("Failed to kill unit {name}: Unit {name} not loaded.");
                    return Err(Refusal::new(1, text));
                }
                (None, false) => {}
            }
        }
        Ok(())
    }

    pub fn reset_failed(&self, names: &[String]) -> Result<(), Refusal> {
        let known = if names.is_empty() { self.known() } else { names.to_vec() };
        for name in known.iter().filter(|name| self.activity(name).0 == "failed") {
            self.write(&self.path(name, "state"), &State::default())?;
        }
        Ok(())
    }

    fn path(&self, name: &str, kind: &str) -> PathBuf {
        self.state_dir.join(format!("{name}.{kind}"))
    }

    fn lock(&self, name: &str) -> Result<File, Refusal> {
        let file = File::create(self.path(name, "lock"))?;
        file.lock()?;
        Ok(file)
    }

    fn write(&self, path: &Path, value: &impl Serialize) -> Result<(), Refusal> {
        let temporary = path.with_extension(format!("new-{}", std::process::id()));
        fs::write(&temporary, serde_json::to_vec(value).map_err(std::io::Error::from)?)?;
        fs::rename(temporary, path)?;
        Ok(())
    }
}

pub fn is_yes(value: &str) -> bool {
    matches!(value, "yes" | "true" | "1" | "on")
}
