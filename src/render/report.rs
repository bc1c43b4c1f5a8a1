//! The report of a run: what happened, for people, as text and as one self-contained page.
//!
//! In flow the recorded events and a few facts about the instance; out flows text. The page loads
//! nothing from anywhere and runs no script. Everything that came from a machine is escaped.

mod page;
mod series;
mod story;
mod throughput;
mod timeline;
mod words;

use std::fmt::Write;

use jiff::tz::TimeZone;

use super::text::{escape, hanging, table};
use crate::event::Stamped;
use story::{Row, Story};

/// What the events do not tell.
#[derive(Clone, Debug)]
pub struct Meta {
    /// The instance's domain.
    pub instance: Option<String>,
    /// The two machines as the operator knows them.
    pub source: String,
    pub target: String,
    /// Ours.
    pub version: String,
    /// More about the environment, as label and value: versions, sizes, modes. No secrets.
    pub facts: Vec<(String, String)>,
    /// Times are told in this zone.
    pub zone: TimeZone,
    /// How many lines of the events file could not be read.
    pub skipped_lines: usize,
}

/// The newest run in `events` as one HTML page.
pub fn html(meta: &Meta, events: &[Stamped]) -> String {
    page::page(&Story::of(meta, events))
}

/// The newest run in `events` as plain text.
pub fn text(meta: &Meta, events: &[Stamped]) -> String {
    let story = Story::of(meta, events);
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{}\n{}\n", escape(&story.headline), escape(&story.lead));
    text.push_str(&table(&story.figures));
    let failures = story.failures.iter();
    section(
        &mut text,
        "What went wrong",
        failures.map(|(step, error)| format!("- {}: {}", escape(step), hanging(error, 4))),
    );
    section(
        &mut text,
        "What to do next",
        story.next.iter().map(|note| format!("- {}", hanging(note, 4))),
    );
    section(
        &mut text,
        "Problems",
        story.view.problems.kept.iter().map(|problem| {
            said(&format!("- {}", problem.subject), &problem.text, problem.remedy.as_deref())
        }),
    );
    section(
        &mut text,
        "Findings",
        story.findings().map(|finding| {
            let name = format!("- {}, {}", super::words::level(finding.level), finding.subject);
            said(&name, &finding.text, finding.remedy.as_deref())
        }),
    );
    section(&mut text, "Steps", story.rows.iter().map(step_line));
    section(
        &mut text,
        "What was verified",
        story
            .verified()
            .map(|row| format!("- {}: {}", escape(&row.title), hanging(&row.detail, 4))),
    );
    section(
        &mut text,
        "Throughput",
        story.series.iter().map(|series| format!("- {}", escape(&series.summary(&story.clock)))),
    );
    section(
        &mut text,
        "Notes",
        story.notes.iter().map(|(time, note)| format!("{time}  {}", hanging(note, 12))),
    );
    let _ = write!(text, "\nEnvironment\n{}", indented(&table(&story.environment)));
    text
}

fn section(text: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    let lines: Vec<String> = lines.collect();
    if !lines.is_empty() {
        let _ = writeln!(text, "\n{title}");
        lines.iter().for_each(|line| text.push_str(&indented(line)));
    }
}

fn indented(block: &str) -> String {
    block.lines().map(|line| format!("  {}\n", line.trim_end())).collect()
}

fn said(name: &str, text: &str, remedy: Option<&str>) -> String {
    let mut said = format!("{}: {}", escape(name), hanging(text, 4));
    if let Some(remedy) = remedy {
        let _ = write!(said, "\n    remedy: {}", hanging(remedy, 4));
    }
    said
}

fn step_line(row: &Row) -> String {
    let place = row.number.map_or(String::new(), |number| number.to_string());
    let mut line = format!(
        "{place:>3}  {}  {:>10}  {}: {}",
        row.began,
        row.took,
        escape(&row.title),
        row.outcome
    );
    if !row.predicted.is_empty() {
        let _ = write!(line, " (predicted: {})", row.predicted);
    }
    if row.bad || row.outcome == "skipped" {
        let _ = write!(line, ": {}", hanging(&row.detail, 27));
    }
    line
}

#[cfg(test)]
mod tests;
