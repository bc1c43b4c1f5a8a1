//! What people read: the events file and the report through the public door, and the documents,
//! which must say what the program does.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use transhume::config::Config;
use transhume::event::{Event, Level, Monitor, Progress, Recorder, StepOutcome};
use transhume::render::{self, Kind, Tee, View, events, report};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The part of `text` between the heading `heading` and the next one.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let start = text.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    let rest = &text[start + heading.len() + 2..];
    &rest[..rest.find("\n#").unwrap_or(rest.len())]
}

/// The first cells of the tables in `text`, without their backticks.
fn keys(text: &str) -> BTreeSet<String> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    rows.map(|(key, _)| key.to_owned()).collect()
}

fn set<const N: usize>(keys: [&str; N]) -> BTreeSet<String> {
    keys.map(str::to_owned).into()
}

#[test]
fn a_recorded_run_is_told_again_by_the_report() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let file = Arc::new(events::record(&path).unwrap());
    let seen = Arc::new(Recorder::default());
    let tee = Tee(vec![file.clone(), seen.clone()]);
    for event in every_event() {
        tee.emit(event);
    }
    file.finish();

    let recording = events::read(&path).unwrap();
    assert_eq!(recording.skipped_lines, 0);
    let told: Vec<Event> = recording.events.iter().map(|stamped| stamped.event.clone()).collect();
    assert_eq!(told, seen.events());
    let view = View::of(&recording.events);
    assert_eq!(view.problems.total, 1);

    let meta = report::Meta {
        instance: Some("social.example".into()),
        source: "this server".into(),
        target: "new.example".into(),
        version: "0.1.0".into(),
        facts: Vec::new(),
        zone: jiff::tz::TimeZone::UTC,
        skipped_lines: recording.skipped_lines,
    };
    for form in [report::text(&meta, &recording.events), report::html(&meta, &recording.events)] {
        assert!(form.contains("social.example moved to new.example"), "{form}");
    }
}

#[test]
fn what_to_show_depends_on_the_options_and_the_terminal() {
    assert_eq!(Kind::choose(true, true, true, Some("xterm")), Kind::Json);
    assert_eq!(Kind::choose(false, true, true, Some("xterm")), Kind::Quiet);
    assert_eq!(Kind::choose(false, false, true, Some("xterm")), Kind::Tty);
    assert_eq!(Kind::choose(false, false, true, Some("dumb")), Kind::Plain);
    assert_eq!(Kind::choose(false, false, false, Some("xterm")), Kind::Plain);
    assert!(render::wants_color(None, None, true) && render::wants_color(None, Some(""), true));
    assert!(!render::wants_color(None, Some("1"), true) && !render::wants_color(None, None, false));
    assert!(render::wants_color(Some(true), Some("1"), false), "what was asked for wins");
    assert!(!render::wants_color(Some(false), None, true));
}

fn every_event() -> Vec<Event> {
    let text = || "text".to_owned();
    vec![
        Event::RunStarted { run: "a-run".into(), verb: "migrate".into() },
        Event::StepPredicted { step: text(), millis: 2, text: text() },
        Event::StepStarted { step: text(), title: text(), number: 1, steps: 2 },
        Event::StepFinished {
            step: text(),
            outcome: StepOutcome::Done { evidence: text() },
            millis: 3,
        },
        Event::DowntimeStarted,
        Event::DowntimeEnded { millis: 4 },
        Event::PointOfNoReturn,
        Event::Progress(Progress { activity: "media".into(), ..Progress::default() }),
        Event::Finding { level: Level::Warning, subject: text(), text: text(), remedy: None },
        Event::Problem { subject: text(), text: text(), remedy: Some(text()) },
        Event::Note { text: text() },
        Event::RunFinished { run: "a-run".into(), exit: 3, millis: 5 },
    ]
}

fn fields(value: &serde_json::Value) -> BTreeSet<String> {
    value.as_object().unwrap().keys().filter(|key| *key != "event").cloned().collect()
}

#[test]
fn every_event_and_field_is_documented() {
    let text = read("docs/events.md");
    for event in every_event() {
        let value = serde_json::to_value(&event).unwrap();
        let documented = section(&text, &format!("### {}", value["event"].as_str().unwrap()));
        let own = documented.split("\n| `outcome.kind`").next().unwrap();
        assert_eq!(keys(own), fields(&value), "{event:?}");
    }
    assert_eq!(text.matches("\n### ").count(), every_event().len(), "nothing else is documented");

    let said = || "said".to_owned();
    let outcomes = [
        StepOutcome::Done { evidence: said() },
        StepOutcome::AlreadyTrue { evidence: said() },
        StepOutcome::Skipped { reason: said() },
        StepOutcome::Failed { error: said() },
        StepOutcome::Undone,
        StepOutcome::UndoFailed { error: said() },
    ];
    let table = section(&text, "### step_finished");
    for outcome in outcomes {
        let value = serde_json::to_value(outcome).unwrap();
        let kind = format!("| `{}` |", value["kind"].as_str().unwrap());
        let row = table.lines().find(|line| line.starts_with(&kind)).expect(&kind);
        for field in fields(&value).iter().filter(|field| *field != "kind") {
            assert!(row.contains(&format!("`{field}`")), "{row} lacks {field}");
        }
    }
}

#[test]
fn every_exit_code_is_documented() {
    let source = read("src/cli/outcome.rs");
    let start = source.find("pub enum Exit {").unwrap();
    let variants: BTreeSet<String> = source[start..source[start..].find('}').unwrap() + start]
        .lines()
        .filter_map(|line| line.trim().strip_suffix(',')?.split_once(" = "))
        .map(|(name, code)| format!("| {code} | `{name}` |"))
        .collect();
    assert!(variants.len() >= 8, "{variants:?}");
    let text = read("docs/exit-codes.md");
    for variant in &variants {
        assert!(text.contains(variant), "{variant} is missing");
        let code = variant.split(' ').nth(1).unwrap().parse().unwrap();
        assert_ne!(render::result("migrate", code), "ended in an unknown way", "{variant}");
    }
    assert_eq!(text.matches("\n| ").count() - 1, variants.len(), "nothing else is documented");
}

/// The fields of the structs in `source` that are read from a file, by struct.
fn config_keys(source: &str) -> Vec<(String, BTreeSet<String>)> {
    let mut structs = Vec::new();
    for part in source.split("#[derive(").skip(1) {
        let (derives, rest) = part.split_once(")]").unwrap();
        let Some((_, body)) = rest.split_once("pub struct ") else { continue };
        if !derives.contains("Deserialize") || rest.find("pub enum").is_some_and(|at| at < 60) {
            continue;
        }
        let (name, body) = body.split_once(" {").unwrap();
        let body = &body[..body.find("\n}").unwrap()];
        let fields = body
            .lines()
            .filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(':'))
            .map(|(field, _)| field.to_owned());
        structs.push((name.to_owned(), fields.collect()));
    }
    structs
}

#[test]
fn every_key_of_the_configuration_is_documented_and_no_other() {
    let text = read("docs/config.md");
    let structs = config_keys(&read("src/config.rs"));
    let headings = [
        ("Config", "## The top"),
        ("Side", "## source and target"),
        ("Nginx", "### source.nginx and target.nginx"),
        ("SideDatabase", "### source.database and target.database"),
        ("Media", "## media"),
        ("Database", "## database"),
        ("Redis", "## redis"),
        ("Copy", "## copy"),
        ("Cutover", "## cutover"),
        ("Settle", "## settle"),
    ];
    let names: BTreeSet<&str> = structs.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, headings.iter().map(|(name, _)| *name).collect());
    for (name, heading) in headings {
        let (_, fields) = structs.iter().find(|(known, _)| known == name).unwrap();
        assert_eq!(&keys(section(&text, heading)), fields, "{heading}");
    }
    assert_eq!(keys(section(&text, "## redis")), set(["mode"]), "the reading works");
}

#[test]
fn the_examples_of_the_configuration_are_valid() {
    let text = read("docs/config.md");
    let examples: Vec<&str> =
        text.split("```toml\n").skip(1).map(|part| part.split("```").next().unwrap()).collect();
    assert_eq!(examples.len(), 2);
    for example in examples {
        Config::parse(example, Path::new("docs/config.md")).unwrap();
    }
}

#[test]
fn links_between_the_documents_lead_somewhere() {
    let mut files: Vec<PathBuf> =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"]
            .map(|name| root().join(name))
            .into();
    files
        .extend(std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    for file in files.iter().filter(|file| file.extension().is_some_and(|end| end == "md")) {
        let text = std::fs::read_to_string(file).unwrap();
        for link in text.split("](").skip(1).map(|part| part.split(')').next().unwrap()) {
            if link.starts_with("http") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target =
                if path.is_empty() { file.clone() } else { file.parent().unwrap().join(path) };
            assert!(target.exists(), "{} leads to {link}", file.display());
            if !anchor.is_empty() {
                let text = std::fs::read_to_string(&target).unwrap();
                let anchors = text.lines().filter_map(|line| line.strip_prefix('#')).map(slug);
                assert!(anchors.into_iter().any(|known| known == anchor), "{link}");
            }
        }
    }
}

/// The anchor of a heading.
fn slug(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
