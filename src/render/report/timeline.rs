//! The steps over time, as SVG: a bar for each, the downtime shaded, the point of no return.

use std::fmt::Write;
use std::time::Duration;

use jiff::Timestamp;

use super::page::escaped;
use super::story::{Bar, Row, Story, whole};
use super::words::{tick, tick_label};
use crate::render::text::clip;
use crate::render::view::span;
use crate::units::duration;

const WIDTH: f64 = 960.0;
const LABELS: f64 = 300.0;
/// Room at the right for the time of a step that ends at the edge.
const MARGIN: f64 = 84.0;
const ROW: f64 = 24.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 28.0;
const LABEL_CHARS: usize = 44;

/// A stretch of time to draw.
pub(super) struct Window {
    pub id: &'static str,
    pub title: String,
    pub from: Timestamp,
    pub span: Duration,
}

/// The whole run, and the downtime enlarged where it would be too small to see.
pub(super) fn windows(story: &Story) -> Vec<Window> {
    let (from, total) = whole(story);
    let mut windows =
        vec![Window { id: "run", title: "The whole run".to_owned(), from, span: total }];
    let (Some(first), Some(last)) = (story.view.downtimes.first(), story.view.downtimes.last())
    else {
        return windows;
    };
    let to = last.ended.map_or(story.now, |(at, _)| at);
    let down = span(first.began, to);
    if !down.is_zero() && down < total / 3 {
        let around = down / 12;
        windows.push(Window {
            id: "downtime",
            title: "The downtime, enlarged".to_owned(),
            from: first.began.checked_sub(around).unwrap_or(first.began),
            span: down + 2 * around,
        });
    }
    windows
}

impl Window {
    /// Where a moment lies, from 0 at the left to 1 at the right, and beyond.
    fn place(&self, at: Timestamp) -> f64 {
        at.duration_since(self.from).as_secs_f64() / self.span.as_secs_f64()
    }

    fn x(&self, at: Timestamp) -> f64 {
        LABELS + self.place(at).clamp(0.0, 1.0) * (WIDTH - LABELS - MARGIN)
    }

    fn shows(&self, bar: &Bar) -> bool {
        self.place(bar.to) >= 0.0 && self.place(bar.from) <= 1.0
    }
}

/// The SVG of one window.
pub(super) fn svg(story: &Story, window: &Window) -> String {
    let rows: Vec<&Row> =
        story.rows.iter().filter(|row| row.bars.iter().any(|bar| window.shows(bar))).collect();
    let height = TOP + rows.len() as f64 * ROW + BOTTOM;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-labelledby=\"{id}-title {id}-desc\">\n\
         <title id=\"{id}-title\">{}</title>\n<desc id=\"{id}-desc\">{}</desc>\n",
        escaped(&window.title),
        escaped(&description(story, window)),
        id = window.id,
    );
    let bottom = height - BOTTOM;
    axis(&mut svg, story, window, bottom);
    downtimes(&mut svg, story, window, bottom);
    no_return(&mut svg, story, window, bottom);
    for (index, row) in rows.iter().enumerate() {
        draw_row(&mut svg, window, row, TOP + index as f64 * ROW);
    }
    svg.push_str("</svg>\n");
    svg
}

fn description(story: &Story, window: &Window) -> String {
    let began = story.clock.tell(window.from);
    let mut text = format!("{} from {began} on, a bar for each step.", duration(window.span));
    if let Some(downtime) = story.view.downtime(story.now) {
        text.push_str(&format!(" The shaded part is the downtime of {}.", duration(downtime)));
    }
    text.push_str(" The table of steps below has the same times.");
    text
}

fn axis(svg: &mut String, story: &Story, window: &Window, bottom: f64) {
    let tick = tick(window.span);
    for index in 0..=8 {
        let at = tick * index;
        if at > window.span {
            break;
        }
        let x = window.x(window.from.checked_add(at).unwrap_or(window.from));
        let _ = writeln!(
            svg,
            "<path class=\"grid\" d=\"M{x:.1} {TOP}V{bottom:.1}\"/>\
             <text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
            bottom + 17.0,
            tick_label(at)
        );
    }
    let _ = writeln!(
        svg,
        "<text class=\"clock\" x=\"{:.1}\" y=\"{:.1}\">from {}</text>",
        LABELS - 14.0,
        bottom + 17.0,
        story.clock.tell(window.from)
    );
}

fn downtimes(svg: &mut String, story: &Story, window: &Window, bottom: f64) {
    for downtime in &story.view.downtimes {
        let (to, took) = match downtime.ended {
            Some((at, took)) => (at, took),
            None => (story.now, span(downtime.began, story.now)),
        };
        let (left, right) = (window.x(downtime.began), window.x(to));
        let _ = writeln!(
            svg,
            "<rect class=\"downtime\" x=\"{left:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\"/>",
            (right - left).max(1.5),
            bottom - TOP
        );
        let middle = (left + right) / 2.0;
        // Kept inside the picture however near to an edge the downtime is.
        let middle = middle.clamp(LABELS + 70.0, WIDTH - 70.0);
        let _ = writeln!(
            svg,
            "<text class=\"downtime-label\" x=\"{middle:.1}\" y=\"{:.1}\">downtime {}</text>",
            TOP - 18.0,
            duration(took)
        );
    }
}

fn no_return(svg: &mut String, story: &Story, window: &Window, bottom: f64) {
    let Some(at) = story.view.no_return else { return };
    if !(0.0..=1.0).contains(&window.place(at)) {
        return;
    }
    let x = window.x(at);
    let (anchor, shift) = if x > WIDTH / 2.0 { ("end", -5.0) } else { ("start", 5.0) };
    let _ = writeln!(
        svg,
        "<path class=\"no-return\" d=\"M{x:.1} {:.1}V{bottom:.1}\"/>\
         <text class=\"no-return-label\" text-anchor=\"{anchor}\" x=\"{:.1}\" y=\"{:.1}\">point of no return</text>",
        TOP - 12.0,
        x + shift,
        TOP - 4.0
    );
}

fn draw_row(svg: &mut String, window: &Window, row: &Row, top: f64) {
    let title = match row.number {
        Some(number) => format!("{number}  {}", row.title),
        None => row.title.clone(),
    };
    let _ = writeln!(
        svg,
        "<g><title>{}</title><text class=\"label\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
        escaped(&format!("{title}: {} {}", row.outcome, row.took)),
        LABELS - 14.0,
        top + 16.0,
        escaped(&clip(&title, LABEL_CHARS))
    );
    let mut end = LABELS;
    for bar in row.bars.iter().filter(|bar| window.shows(bar)) {
        let (left, right) = (window.x(bar.from), window.x(bar.to));
        let width = (right - left).max(3.0);
        end = end.max(left + width);
        let _ = writeln!(
            svg,
            "<rect class=\"bar {}\" x=\"{left:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"12\" rx=\"2\"/>",
            bar.look,
            top + 6.0
        );
    }
    let _ = writeln!(
        svg,
        "<text class=\"took\" x=\"{:.1}\" y=\"{:.1}\">{}</text></g>",
        end + 6.0,
        top + 16.0,
        escaped(if row.took.is_empty() { row.outcome } else { &row.took })
    );
}
