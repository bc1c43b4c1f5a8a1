//! What a terminal shows of a run under way: the running steps, their bars and figures, and the
//! downtime. A pure function of the view, the moment and the width.

use jiff::Timestamp;

use super::text::{Paint, escape};
use super::view::{Activity, Step, View, span};
use super::words::{self, clock};

/// Where titles start: past the mark, the step's number and its time.
pub(super) const TITLE_COLUMN: usize = 23;
/// Below this many columns the figures move to the left edge and the bars are left out.
const NARROW_COLUMNS: usize = 60;
const BAR_COLUMNS: usize = 24;

/// The lines below the finished ones, to be cut at the terminal's edge.
pub(super) fn lines(view: &View, now: Timestamp, width: usize, paint: Paint) -> Vec<String> {
    let mut lines = Vec::new();
    if view.finished.is_some() {
        return lines;
    }
    for step in view.running() {
        lines.push(step_line(view, step, now, paint));
        for activity in &view.activities {
            if activity.step.as_deref() == Some(&step.id) {
                lines.extend(activity_lines(activity, now, width, paint));
            }
        }
    }
    let loose: Vec<&Activity> =
        view.activities.iter().filter(|activity| activity.step.is_none()).collect();
    if let (true, Some(began)) = (lines.is_empty(), view.began) {
        let time = words::whole_secs(span(began, now));
        lines.push(format!("{}          {time:>10}  {}", paint.cyan("▸"), escape(&view.verb)));
    }
    lines.extend(loose.into_iter().flat_map(|one| activity_lines(one, now, width, paint)));
    lines.extend(downtime_line(view, now, paint));
    lines
}

fn step_line(view: &View, step: &Step, now: Timestamp, paint: Paint) -> String {
    let time = words::whole_secs(span(step.began, now));
    let title = paint.bold(&escape(&step.title));
    format!("{} {}  {time:>10}  {title}", paint.cyan("▸"), place(view, step.number))
}

/// `  4/21`, or the same width of nothing for a step without a place.
pub(super) fn place(view: &View, number: usize) -> String {
    match number {
        0 => " ".repeat(7),
        _ => format!("{number:>3}/{:<3}", view.steps_total),
    }
}

fn activity_lines(activity: &Activity, now: Timestamp, width: usize, paint: Paint) -> Vec<String> {
    let wide = width >= NARROW_COLUMNS;
    let indent = " ".repeat(if wide { TITLE_COLUMN } else { 2 });
    let name = escape(&activity.progress.activity);
    let mut figures = words::figures(activity, now);
    if let Some(detail) = &activity.progress.detail {
        figures.push(paint.dim(&escape(detail)));
    }
    let figures = figures.join(" · ");
    match activity.share() {
        Some(share) => {
            let bar = if wide { bar(share, paint) } else { String::new() };
            let percent = (share * 100.0).floor();
            let left = words::left(activity, now).map_or(String::new(), |left| format!("  {left}"));
            vec![
                format!("{indent}{bar}{percent:>3.0} %  {name}{left}"),
                format!("{indent}{figures}"),
            ]
        }
        None => vec![format!("{indent}{name}: {figures}")],
    }
}

fn bar(share: f64, paint: Paint) -> String {
    let full = ((share * BAR_COLUMNS as f64).floor() as usize).min(BAR_COLUMNS);
    let rest = "╌".repeat(BAR_COLUMNS - full);
    format!("{}{} ", paint.cyan(&"━".repeat(full)), paint.dim(&rest))
}

fn downtime_line(view: &View, now: Timestamp, paint: Paint) -> Option<String> {
    view.downtime_running()?;
    let time = clock(view.downtime(now)?);
    let said = if view.no_return.is_some() {
        "past the point of no return: the run only goes forward"
    } else {
        "nobody can post"
    };
    Some(format!("{}  {said}", paint.alarm(&format!(" DOWNTIME {time} "))))
}
