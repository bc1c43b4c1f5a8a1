//! What differs between two runs of the same story, taken out of what was told: times, sizes,
//! ports, places, versions. What is left is golden.

use std::collections::BTreeMap;
use std::process::Output;

use serde_json::Value;

use crate::harness::sandbox::Sandbox;

/// Steps of this stage run at the same time: they end in any order.
const AT_ONCE: [&str; 4] = ["media-final", "database", "redis", "env"];
/// What reports progress. How often it does depends on how long things take.
const ACTIVITIES: [&str; 6] = ["media", "database", "indexes", "analyze", "compare", "redis"];

/// The names that a sandbox gives to things, and what they are called in a transcript.
pub struct Names {
    /// Longer ones first: some lie in others.
    texts: Vec<(String, &'static str)>,
    /// Whole words.
    words: BTreeMap<String, &'static str>,
}

impl Names {
    pub fn of(sandbox: &Sandbox) -> Names {
        let (old, new) = (&sandbox.old, &sandbox.new);
        let path = |path: &std::path::Path| path.display().to_string();
        let mut texts = vec![
            (path(&old.nginx.site_path()), "OLD/site.conf"),
            (path(&new.nginx.site_path()), "NEW/site.conf"),
            (old.address.clone(), "OLD-IP"),
            (new.address.clone(), "NEW-IP"),
            (path(&old.dir), "OLD"),
            (path(&new.dir), "NEW"),
            (path(sandbox.dir()), "DIR"),
            (format!("\"{}\"", old.user), "\"USER\""),
        ];
        texts.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        let postgres = old.postgres.sql("postgres", "SHOW server_version");
        let redis = old.redis.cli(&["INFO", "server"]);
        let redis = redis.lines().find_map(|line| line.strip_prefix("redis_version:"));
        let mut words = BTreeMap::from([
            // Debian's has more words than the number.
            (postgres.split_whitespace().next().unwrap_or_default().to_owned(), "VERSION"),
            (redis.unwrap_or_default().trim().to_owned(), "VERSION"),
        ]);
        for side in [old, new] {
            for port in [
                side.web_port,
                side.streaming_port,
                side.https_port,
                side.postgres.port(),
                side.redis.port(),
                side.ssh.port(),
            ] {
                words.insert(port.to_string(), "PORT");
            }
        }
        Names { texts, words }
    }

    /// What a command told: standard output, then standard error with a mark, then the exit code.
    pub fn transcript(&self, output: &Output) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut told: Vec<String> = self.lines(&text(&output.stdout));
        told.extend(self.lines(&text(&output.stderr)).into_iter().map(|line| format!("! {line}")));
        told.push(format!("[exit {}]", output.status.code().map_or(-1, i64::from)));
        told.join("\n")
    }

    /// The lines of `text`, each made the same in every run.
    pub fn lines(&self, text: &str) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        let mut section = "";
        for line in text.lines() {
            section = if line.is_empty() { "" } else { section };
            section = if line == "Throughput" { line } else { section };
            // Only what took long enough to be measured has a curve.
            if section == "Throughput" || is_progress(line) {
                continue;
            }
            lines.push(self.line(line));
        }
        // Two empty lines where a section was left out.
        lines.dedup_by(|one, other| one.is_empty() && other.is_empty());
        sort_stage(&mut lines);
        lines
    }

    fn line(&self, line: &str) -> String {
        if let Some(object) = line.starts_with('{').then(|| serde_json::from_str(line)) {
            return self.json("", &object.expect("a line of JSON")).to_string();
        }
        let mut line = line.to_owned();
        for mark in ["  ✓ source  ", "  ✓ target  "] {
            if line.starts_with(mark) {
                line = format!("{mark}… MACHINE");
            }
        }
        if line.starts_with("# Units: ") {
            line = "# Units: UNITS".to_owned();
        }
        if let Some((_, rest)) = line.split_once(" UTC to ") {
            let rest = rest.split_once('.').map_or("", |(_, rest)| rest);
            line = format!("DAY, hh:mm:ss UTC to hh:mm:ss.{rest}");
        }
        self.words(&line)
    }

    fn words(&self, line: &str) -> String {
        let mut line = line.to_owned();
        for (text, name) in &self.texts {
            line = line.replace(text, name);
        }
        let line = figures(&map_words(&line, |word| self.word(word)));
        match line.split_once(" free on ") {
            Some((before, _)) => format!("{before} free on MOUNT"),
            None => line,
        }
    }

    /// A word of letters, digits and what numbers are made of.
    fn word(&self, word: &str) -> Option<String> {
        if let Some(name) = self.words.get(word) {
            return Some((*name).to_owned());
        }
        let shape: String =
            word.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
        match shape.as_str() {
            "9999-99-99" => Some("yyyy-mm-dd".into()),
            "99:99:99" => Some("hh:mm:ss".into()),
            _ => {
                let process = shape.strip_prefix("99999999T999999Z-")?;
                process.chars().all(|c| c == '9').then(|| "RUN".into())
            }
        }
    }

    fn json(&self, key: &str, value: &Value) -> Value {
        match value {
            Value::String(_) if matches!(key, "at" | "started" | "digest") => {
                key.to_uppercase().into()
            }
            Value::String(text) => self.words(text).into(),
            Value::Number(_) if key.ends_with("millis") => "MILLIS".into(),
            Value::Array(items) => {
                let mut items: Vec<Value> = items.iter().map(|item| self.json("", item)).collect();
                if key == "steps_done" {
                    let at_once =
                        |item: &Value| item.as_str().is_some_and(|id| AT_ONCE.contains(&id));
                    let first = items.iter().position(at_once).unwrap_or(items.len());
                    let count = items[first..].iter().take_while(|item| at_once(item)).count();
                    items[first..first + count].sort_by_key(ToString::to_string);
                }
                items.into()
            }
            Value::Object(fields) => {
                let is_machine = matches!(value["subject"].as_str(), Some("source" | "target"));
                let fields = fields.iter().map(|(key, value)| {
                    let shown = match key.as_str() {
                        "text" if is_machine => "MACHINE".into(),
                        key => self.json(key, value),
                    };
                    (key.clone(), shown)
                });
                Value::Object(fields.collect())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }
}

/// `2026-11-24 03:00:00  media: 40 %, 8,000 of 20,000 files`
fn is_progress(line: &str) -> bool {
    let said = line.get(21..).unwrap_or_default();
    let is_activity =
        said.split_once(": ").is_some_and(|(activity, _)| ACTIVITIES.contains(&activity));
    is_activity && line.starts_with("20") && line[..21].ends_with("  ")
        || line.starts_with('{') && line.contains("\"event\":\"progress\"")
}

fn sort_stage(lines: &mut [String]) {
    let is_of_stage = |line: &String| {
        let said = line.get(21..).unwrap_or_default();
        let mut words = said.split([' ', ':']);
        match (words.next(), words.next(), words.next()) {
            (Some("step"), Some(id), Some("undone")) => AT_ONCE.contains(&id),
            (Some("step"), Some(_), Some(id)) => AT_ONCE.contains(&id),
            (Some("Redis"), ..) => line.starts_with("yyyy"),
            _ => false,
        }
    };
    let Some(first) = lines.iter().position(is_of_stage) else { return };
    let count = lines[first..].iter().take_while(|line| is_of_stage(line)).count();
    lines[first..first + count].sort();
}

/// `line` with each word that `name` knows replaced.
fn map_words(line: &str, name: impl Fn(&str) -> Option<String>) -> String {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '-' | ':' | '.' | ',' | '_');
    let mut text = String::new();
    let mut rest = line;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        text.push_str(&map_word(&rest[..end], &name));
        let next = rest[end..].find(is_part).map_or(rest.len(), |at| end + at);
        text.push_str(&rest[end..next]);
        rest = &rest[next..];
    }
    text
}

/// A word as a whole, or else its parts: `127.0.0.1:5432`, `report-RUN.html`, `15.4,`.
fn map_word(word: &str, name: &impl Fn(&str) -> Option<String>) -> String {
    if let Some(known) = name(word) {
        return known;
    }
    if let Some(body) = word.strip_suffix([',', ':', '.']).filter(|body| !body.is_empty()) {
        return map_word(body, name) + &word[body.len()..];
    }
    for (at, mark) in word.match_indices([',', ':', '.', '-']) {
        let (before, after) = (&word[..at], &word[at + 1..]);
        let parts = (map_word(before, name), map_word(after, name));
        if parts.0 != before || parts.1 != after {
            return format!("{}{mark}{}", parts.0, parts.1);
        }
    }
    word.to_owned()
}

/// Durations become `T`, sizes `SIZE`, and numbers of what comes and goes by itself `N`.
fn figures(line: &str) -> String {
    const TIMES: [&str; 4] = ["ms", "s", "min", "h"];
    const SIZES: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    // Jobs come and go, and rows with them.
    const VOLATILE: [&str; 3] = ["rows", "keys", "key"];
    // Ids are made of the time, and directories of ids: how many share one differs by the hour.
    const OF_IDS: [&str; 2] = ["Source directories ", "Other changes "];
    let mut text = String::new();
    let mut rest = line;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let is_inside =
            rest[..start].ends_with(|c: char| c.is_alphanumeric() || "/.:-_".contains(c));
        let number = &rest[start..];
        let end = number
            .find(|c: char| !c.is_ascii_digit() && c != '.' && c != ',')
            .unwrap_or(number.len());
        let after = &number[end..];
        let unit = after.strip_prefix(' ').unwrap_or_default();
        let length = unit.find(|c: char| !c.is_alphabetic()).unwrap_or(unit.len());
        let found = match &unit[..length] {
            unit if TIMES.contains(&unit) => Some(("T", unit)),
            unit if SIZES.contains(&unit) => Some(("SIZE", unit)),
            unit if VOLATILE.contains(&unit) => Some(("N", "")),
            _ if OF_IDS.iter().any(|name| rest.starts_with(name)) => Some(("N", "")),
            _ => None,
        };
        let before = &rest[..start];
        let Some((placeholder, unit)) = found.filter(|_| !is_inside) else {
            text.push_str(&rest[..start + end]);
            rest = after;
            continue;
        };
        let taken = if unit.is_empty() { end } else { end + 1 + unit.len() };
        rest = &number[taken..];
        // `1 min 14 s` is one duration.
        if placeholder == "T" && before == " " && text.ends_with('T') {
            continue;
        }
        text.push_str(before);
        // In a column to the right, the blanks before it make up for its length.
        if before.ends_with("  ") && rest.starts_with("  ") {
            text.push_str(&" ".repeat(taken.saturating_sub(placeholder.len())));
        }
        text.push_str(placeholder);
    }
    text + rest
}

#[test]
fn figures_become_the_same_in_every_run() {
    let same = [
        ("done after 1 min 14 s: 3 files, 1.5 MiB", "done after T: 3 files, SIZE"),
        ("   1  hh:mm:ss       49 ms  Lock", "   1  hh:mm:ss           T  Lock"),
        ("   1  hh:mm:ss       1.4 s  Lock", "   1  hh:mm:ss           T  Lock"),
        (
            "2,847 rows and their content, 50 sequences; step 7/19",
            "N rows and their content, 50 sequences; step 7/19",
        ),
    ];
    for (line, expected) in same {
        assert_eq!(figures(line), expected);
    }
    let name = |word: &str| (word == "5432" || word == "r-1").then(|| "PORT".to_owned());
    assert_eq!(map_words("report-r-1.html", name), "report-PORT.html");
    assert_eq!(
        map_words("at 127.0.0.1:5432, not @5432 or 15432", name),
        "at 127.0.0.1:PORT, not @PORT or 15432"
    );
}
