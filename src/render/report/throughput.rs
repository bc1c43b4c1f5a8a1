//! How fast something went over time, as SVG: one curve.

use std::fmt::Write;

use super::page::escaped;
use super::series::Series;
use super::words::{Clock, tick, tick_label};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 150.0;
const LEFT: f64 = 96.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 26.0;

/// Whether there is enough of it to be a curve.
pub(super) fn is_worth_drawing(series: &Series) -> bool {
    series.rates.len() >= 3 && series.peak() > 0.0
}

/// The SVG of one series.
pub(super) fn svg(series: &Series, number: usize, clock: &Clock) -> String {
    let (base, room) = (HEIGHT - BOTTOM, WIDTH - LEFT - RIGHT);
    let peak = series.peak();
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-labelledby=\"curve{number}-title\">\n\
         <title id=\"curve{number}-title\">{}; at most {}</title>\n",
        escaped(&series.summary(clock)),
        series.rate(peak)
    );
    for (share, label) in [(1.0, series.rate(peak)), (0.5, series.rate(peak / 2.0))] {
        let y = base - share * (base - TOP);
        let _ = writeln!(
            svg,
            "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{:.1}\"/>\
             <text class=\"scale\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            y + 4.0,
            escaped(&label)
        );
    }
    let step = tick(series.span);
    for index in 0..=8 {
        let at = step * index;
        if at > series.span {
            break;
        }
        let x = LEFT + at.as_secs_f64() / series.span.as_secs_f64() * room;
        let _ = writeln!(
            svg,
            "<text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
            base + 17.0,
            tick_label(at)
        );
    }
    let curve = curve(series, base, room);
    let _ = writeln!(
        svg,
        "<path class=\"area\" d=\"M{LEFT} {base}{curve}V{base}Z\"/>\
         <path class=\"curve\" d=\"{}\"/>\
         <path class=\"base\" d=\"M{LEFT} {base}H{:.1}\"/>\n</svg>",
        curve.replacen('L', "M", 1),
        WIDTH - RIGHT
    );
    svg
}

/// Steps through the columns from left to right, as the tail of an SVG path.
fn curve(series: &Series, base: f64, room: f64) -> String {
    let peak = series.peak();
    let span = series.span.as_secs_f64();
    let mut path = String::new();
    for (index, rate) in series.rates.iter().enumerate() {
        let start = index as f64 * series.column.as_secs_f64();
        let end = (start + series.column.as_secs_f64()).min(span);
        let y = base - rate / peak * (base - TOP);
        let _ = write!(
            path,
            "L{:.1} {y:.1}H{:.1}",
            LEFT + start / span * room,
            LEFT + end / span * room
        );
    }
    path
}
