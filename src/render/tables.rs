//! What a verb prints at its end: findings, the plan, the status, problems. Pure text.

use std::fmt::Write;
use std::time::Duration;

use jiff::Timestamp;

use super::text::{Paint, escape, hanging};
use super::view::{Finding, StepState, View, span};
use super::words;
use crate::event::{Level, StepOutcome};
use crate::units::{counted, duration};

/// How many problems are listed at the end of a run; the report has them all.
const PROBLEMS_SHOWN_MAX: usize = 20;

/// What `check` found, grouped: what is well, warnings, refusals, each with its remedy. The worst
/// stands last, next to the prompt.
pub fn findings(findings: &[Finding], color: bool) -> String {
    let paint = Paint(color);
    let length = |finding: &Finding| escape(&finding.subject).chars().count();
    let width = findings.iter().map(length).max().unwrap_or(0);
    let mut text = String::new();
    for level in [Level::Ok, Level::Warning, Level::Refusal] {
        let group: Vec<&Finding> = findings.iter().filter(|found| found.level == level).collect();
        if group.is_empty() {
            continue;
        }
        let _ = writeln!(text, "{}", heading(level, group.len(), paint));
        for finding in group {
            let subject = escape(&finding.subject);
            let said = hanging(&finding.text, width + 6);
            let _ = writeln!(text, "  {} {subject:width$}  {said}", mark(level, paint));
            if let Some(remedy) = &finding.remedy {
                let remedy = hanging(remedy, width + 8);
                let _ = writeln!(
                    text,
                    "{:indent$}{} {remedy}",
                    "",
                    paint.cyan("→"),
                    indent = width + 6
                );
            }
        }
        text.push('\n');
    }
    text
}

fn heading(level: Level, count: usize, paint: Paint) -> String {
    let count = count as u64;
    match level {
        Level::Ok => paint.green(&format!("{count} in order")),
        Level::Warning => paint.yellow(&counted(count, "warning")),
        Level::Refusal => {
            let text = format!("{}: migrate will not start", counted(count, "refusal"));
            paint.red(&text)
        }
    }
}

fn mark(level: Level, paint: Paint) -> String {
    match level {
        Level::Ok => paint.green("✓"),
        Level::Warning => paint.yellow("!"),
        Level::Refusal => paint.red("✗"),
    }
}

/// One step of a plan, as it is printed.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanLine {
    pub id: String,
    pub title: String,
    pub segment: Segment,
    pub predicted: Option<Duration>,
    /// Whether it lies past the point of no return.
    pub past_return: bool,
    /// Whether a run that is under way has it behind it.
    pub done: bool,
}

/// The three parts of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    Prepare,
    Cutover,
    Settle,
}

/// The plan: numbered steps with their ids (for `--until`) by segment, the point of no return,
/// predicted times where there are, a mark on what is done.
pub fn plan(lines: &[PlanLine], color: bool) -> String {
    let paint = Paint(color);
    let width = lines.iter().map(|line| line.title.chars().count()).max().unwrap_or(0).min(64);
    let id_width = lines.iter().map(|line| line.id.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    let mut segment = None;
    let mut returned = false;
    for (index, line) in lines.iter().enumerate() {
        if segment != Some(line.segment) {
            if segment.is_some() {
                text.push('\n');
            }
            segment = Some(line.segment);
            let _ = writeln!(text, "{}", segment_heading(line.segment, lines, paint));
        }
        if line.past_return && !returned {
            returned = true;
            let bar = "── point of no return: from here on the run only goes forward ──";
            let _ = writeln!(text, "      {}", paint.yellow(bar));
        }
        let title = escape(&line.title);
        let entry = match line.predicted {
            Some(time) => format!("{title:width$}  {}", paint.dim(&about(time))),
            None => title.into_owned(),
        };
        let id = paint.dim(&format!("{:id_width$}", escape(&line.id)));
        let sign = if line.done { paint.green("✓") } else { " ".to_owned() };
        let _ = writeln!(text, "{sign}{:3}  {id}  {entry}", index + 1);
    }
    text
}

fn segment_heading(segment: Segment, lines: &[PlanLine], paint: Paint) -> String {
    let name = match segment {
        Segment::Prepare => "Prepare: the old server serves as usual",
        Segment::Cutover => "Cutover: nobody can post",
        Segment::Settle => "Settle: the new server serves",
    };
    let times: Option<Vec<Duration>> =
        lines.iter().filter(|line| line.segment == segment).map(|line| line.predicted).collect();
    match times {
        Some(times) => format!("{}, {}", paint.bold(name), about(times.iter().sum())),
        None => paint.bold(name),
    }
}

fn about(time: Duration) -> String {
    match time.as_millis() {
        0..1000 => "under 1 s".to_owned(),
        _ => format!("about {}", words::whole_secs(time)),
    }
}

/// Where a run stands: what is done, what is under way, the downtime, what to do.
pub fn status(view: &View, now: Timestamp) -> String {
    let Some(began) = view.began else {
        return "No move has been started here.\n".to_owned();
    };
    let mut text = String::new();
    let run = escape(view.run.as_deref().unwrap_or("?")).into_owned();
    let ago = words::whole_secs(span(began, now));
    let _ = writeln!(text, "{} (run {run}), started {ago} ago", escape(&view.verb));
    let _ = writeln!(text, "  {}", standing(view, now));
    for step in &view.steps {
        let (sign, said) = match (&step.undo, &step.state) {
            (Some(undo), _) => (sign_of(undo), ended(undo, Duration::ZERO)),
            (None, StepState::Running) => {
                ("▸", format!("running for {}", words::whole_secs(span(step.began, now))))
            }
            (None, StepState::Interrupted) => ("·", "interrupted".to_owned()),
            (None, StepState::Ended { outcome, took }) => (sign_of(outcome), ended(outcome, *took)),
        };
        let _ = writeln!(text, "  {sign} {:>2}  {}: {said}", step.number, escape(&step.title));
    }
    for activity in &view.activities {
        let name = escape(&activity.progress.activity);
        let mut figures = words::figures(activity, now);
        figures.extend(words::left(activity, now));
        let _ = writeln!(text, "        {name}: {}", figures.join(", "));
    }
    if let Some(downtime) = view.downtime(now) {
        let running =
            if view.downtime_running().is_some() { " so far: nobody can post" } else { "" };
        let _ = writeln!(text, "  downtime: {}{running}", duration(downtime));
    }
    if view.no_return.is_some() {
        let _ = writeln!(text, "  the point of no return is passed");
    }
    text.push_str(&problems(view));
    text
}

fn standing(view: &View, now: Timestamp) -> String {
    let mut parts = match &view.finished {
        Some(finished) => vec![words::ended(view, finished.exit).to_owned()],
        None => vec!["not ended".to_owned()],
    };
    parts.extend(words::steps(view).map(|(what, count)| format!("{what}: {count}")));
    if let (None, Some(latest)) = (&view.finished, view.latest) {
        parts.push(format!("last heard of {} ago", words::whole_secs(span(latest, now))));
    }
    parts.join("; ")
}

fn ended(outcome: &StepOutcome, took: Duration) -> String {
    match outcome {
        StepOutcome::Done { .. } => format!("done in {}", duration(took)),
        StepOutcome::Skipped { reason } => format!("skipped: {}", escape(reason)),
        StepOutcome::Failed { error } => format!("failed: {}", hanging(error, 8)),
        StepOutcome::UndoFailed { error } => format!("undo failed: {}", hanging(error, 8)),
        StepOutcome::AlreadyTrue { .. } | StepOutcome::Undone => {
            words::outcome(outcome).0.to_owned()
        }
    }
}

pub(super) fn sign_of(outcome: &StepOutcome) -> &'static str {
    match outcome {
        StepOutcome::Done { .. } | StepOutcome::AlreadyTrue { .. } => "✓",
        StepOutcome::Skipped { .. } => "–",
        StepOutcome::Failed { .. } | StepOutcome::UndoFailed { .. } => "✗",
        StepOutcome::Undone => "↩",
    }
}

/// The problems of a run with their remedies; empty where there were none.
pub fn problems(view: &View) -> String {
    let problems = &view.problems;
    if problems.total == 0 {
        return String::new();
    }
    let mut text = format!("{}:\n", counted(problems.total as u64, "problem"));
    for problem in problems.kept.iter().take(PROBLEMS_SHOWN_MAX) {
        let _ = writeln!(text, "  {}: {}", escape(&problem.subject), hanging(&problem.text, 4));
        if let Some(remedy) = &problem.remedy {
            let _ = writeln!(text, "    → {}", hanging(remedy, 6));
        }
    }
    let more = problems.total.saturating_sub(PROBLEMS_SHOWN_MAX);
    if more > 0 {
        let _ = writeln!(text, "  and {more} more: `transhume report` lists them");
    }
    text
}
