//! Running `ExecStart=` as the manager would: words, environment, user, directory, a session of
//! its own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::unit::Unit;

/// The environment that the unit's processes get.
fn environment(unit: &Unit) -> Result<BTreeMap<String, String>, String> {
    let mut environment = BTreeMap::from([(
        "PATH".to_owned(),
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
    )]);
    if let Some(account) = account(unit)? {
        environment.insert("USER".into(), account.name.clone());
        environment.insert("LOGNAME".into(), account.name);
        environment.insert("HOME".into(), account.home);
    }
    environment.extend(assignments(unit));
    for file in unit.values("Service", "EnvironmentFile") {
        let (optional, path) = optional(&file);
        match fs::read_to_string(path) {
            Ok(text) => environment.extend(file_assignments(&text)),
            Err(_) if optional => {}
            Err(error) => return Err(format!("{path}: {error}")),
        }
    }
    Ok(environment)
}

/// The `Environment=` assignments in order.
pub fn assignments(unit: &Unit) -> Vec<(String, String)> {
    let values = unit.values("Service", "Environment");
    let words = values.iter().flat_map(|value| split(value));
    words.filter_map(|word| pair(&word)).collect()
}

fn file_assignments(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
    lines
        .filter_map(pair)
        .map(|(key, value)| {
            let quoted = value.starts_with(['"', '\'']);
            let value =
                if quoted { split(&value).into_iter().next() } else { None }.unwrap_or(value);
            (key.trim().to_owned(), value)
        })
        .collect()
}

fn pair(word: &str) -> Option<(String, String)> {
    word.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()))
}

pub fn optional(path: &str) -> (bool, &str) {
    path.strip_prefix('-').map_or((false, path), |path| (true, path))
}

struct Account {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

/// The account that `User=` names.
fn account(unit: &Unit) -> Result<Option<Account>, String> {
    let Some(user) = unit.get("Service", "User") else { return Ok(None) };
    let passwd = fs::read_to_string("/etc/passwd").map_err(|error| error.to_string())?;
    let lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let mut accounts = lines.filter(|fields| fields.len() == 7);
    let fields = accounts
        .find(|fields| fields[0] == user || fields[2] == user)
        .ok_or_else(|| format!("no user {user}"))?;
    let number = |text: &str| text.parse().map_err(|_| format!("bad account of {user}"));
    Ok(Some(Account {
        name: fields[0].to_owned(),
        uid: number(fields[2])?,
        gid: number(fields[3])?,
        home: fields[5].to_owned(),
    }))
}

/// Starts the first `line` of `ExecStart=` (or `ExecReload=`), its output appended to `log`.
pub fn spawn(unit: &Unit, line: &str, log: &Path, main_pid: i32) -> Result<Child, String> {
    let mut environment = environment(unit)?;
    if main_pid != 0 {
        environment.insert("MAINPID".into(), main_pid.to_string());
    }
    let words = command_words(line, &environment);
    let program =
        words.first().ok_or("ExecStart= is empty")?.trim_start_matches(['-', '@', ':', '+', '!']);
    let log =
        File::options().create(true).append(true).open(log).map_err(|error| error.to_string())?;
    // setsid(1) becomes the program, with the same pid, at the head of a new session.
    let mut command = Command::new("setsid");
    command.arg(program).args(&words[1..]).env_clear().envs(&environment).stdin(Stdio::null());
    command.stdout(log.try_clone().map_err(|error| error.to_string())?).stderr(log);
    let account = account(unit)?;
    let home = account.as_ref().map(|account| account.home.clone());
    command.current_dir(working_directory(unit, home));
    let own = rustix::process::geteuid().as_raw();
    if let Some(account) = account.filter(|account| account.uid != own) {
        command.uid(account.uid).gid(account.gid);
    }
    command.spawn().map_err(|error| format!("{program}: {error}"))
}

fn working_directory(unit: &Unit, home: Option<String>) -> String {
    let dir = unit.get("Service", "WorkingDirectory").unwrap_or_else(|| "/".into());
    let (optional, dir) = optional(&dir);
    match dir {
        "~" => home.unwrap_or_else(|| "/".into()),
        dir if optional && !Path::new(dir).is_dir() => "/".into(),
        dir => dir.to_owned(),
    }
}

/// The words of a command line: `$NAME` as a word of its own is split, `${NAME}` is not.
fn command_words(line: &str, environment: &BTreeMap<String, String>) -> Vec<String> {
    let value = |name: &str| environment.get(name).cloned().unwrap_or_default();
    let mut words = Vec::new();
    for word in split(line) {
        match word.strip_prefix('$') {
            Some(name) if !name.starts_with(['{', '$']) => {
                words.extend(value(name).split_whitespace().map(str::to_owned));
            }
            _ => words.push(braced(&word, &value)),
        }
    }
    words
}

fn braced(word: &str, value: &dyn Fn(&str) -> String) -> String {
    let mut text = String::new();
    let mut rest = word;
    while let Some(at) = rest.find('$') {
        text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            text.push('$');
            rest = after;
        } else if let Some((name, after)) =
            rest.strip_prefix('{').and_then(|rest| rest.split_once('}'))
        {
            text.push_str(&value(name));
            rest = after;
        } else {
            text.push('$');
        }
    }
    text + rest
}

/// Splits at blanks; quotes group, a backslash takes the next character as it is.
pub fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(char) = chars.next() {
        match (char, quote) {
            ('\\', _) => word.get_or_insert_default().extend(chars.next()),
            ('"' | '\'', None) => {
                quote = Some(char);
                word.get_or_insert_default();
            }
            (_, Some(open)) if open == char => quote = None,
            (_, None) if char.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(char),
        }
    }
    words.extend(word);
    words
}

/// A time span in seconds: `15`, `1min 30s`, `500ms`; `None` for `infinity`.
pub fn span_secs(text: &str) -> Option<f64> {
    if text == "infinity" {
        return None;
    }
    let mut total = 0.0;
    for word in text.split_whitespace() {
        let digits = word.find(|char: char| !char.is_ascii_digit() && char != '.');
        let (number, unit) = word.split_at(digits.unwrap_or(word.len()));
        let factor = match unit {
            "ms" => 0.001,
            "min" | "m" => 60.0,
            "h" | "hr" => 3600.0,
            _ => 1.0,
        };
        total += number.parse::<f64>().unwrap_or(0.0) * factor;
    }
    Some(total)
}
