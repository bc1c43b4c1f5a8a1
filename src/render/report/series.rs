//! How fast each activity went over time, from its progress.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use super::words::Clock;
use crate::event::{Event, Progress, Stamped};
use crate::render::rate::started_anew;
use crate::render::view::span;
use crate::render::words::items;
use crate::units::{Bytes, count, duration};

/// How many columns a curve has at most; none is shorter than a second.
const COLUMNS_MAX: usize = 120;
/// Activities past this number are not drawn; the largest are kept.
const SERIES_MAX: usize = 12;

/// One stretch of an activity: its counters only grew.
pub(super) struct Series {
    pub activity: String,
    pub began: Timestamp,
    pub span: Duration,
    pub items: u64,
    pub bytes: u64,
    /// The rate in each column, in bytes a second, or in items a second if no bytes were counted.
    pub rates: Vec<f64>,
    pub column: Duration,
}

impl Series {
    pub fn counts_bytes(&self) -> bool {
        self.bytes > 0
    }

    pub fn peak(&self) -> f64 {
        self.rates.iter().copied().fold(0.0, f64::max)
    }

    /// A rate of this series as people read it.
    pub fn rate(&self, per_sec: f64) -> String {
        if self.counts_bytes() {
            format!("{}/s", Bytes(per_sec as u64))
        } else {
            format!("{} {}/s", count(per_sec as u64), items(&self.activity).0)
        }
    }

    /// `media at 03:00:03: 20,000 files, 1000 MiB in 25.0 s, 40 MiB/s on average`
    pub fn summary(&self, clock: &Clock) -> String {
        let mut amounts = Vec::new();
        if self.items > 0 {
            let (several, one) = items(&self.activity);
            amounts.push(match self.items {
                1 => format!("1 {one}"),
                items => format!("{} {several}", count(items)),
            });
        }
        if self.bytes > 0 {
            amounts.push(Bytes(self.bytes).to_string());
        }
        let amounts = if amounts.is_empty() { "nothing".to_owned() } else { amounts.join(", ") };
        let began = clock.tell(self.began);
        let mut text =
            format!("{} at {began}: {amounts} in {}", self.activity, duration(self.span));
        let secs = self.span.as_secs_f64();
        if secs >= 1.0 {
            let total = if self.counts_bytes() { self.bytes } else { self.items };
            text.push_str(&format!(", {} on average", self.rate(total as f64 / secs)));
        }
        text
    }
}

/// The stretches of all activities in `events`, in the order in which they began.
pub(super) fn series(events: &[Stamped]) -> Vec<Series> {
    let mut open: HashMap<&str, Vec<(Timestamp, &Progress)>> = HashMap::new();
    let mut all = Vec::new();
    for stamped in events {
        let Event::Progress(progress) = &stamped.event else { continue };
        let points = open.entry(&progress.activity).or_default();
        let anew = points.last().is_some_and(|(_, last)| {
            started_anew(last.items_done, progress.items_done)
                || started_anew(last.bytes_done, progress.bytes_done)
        });
        if anew {
            all.extend(one(&std::mem::take(points)));
        }
        points.push((stamped.at, progress));
    }
    all.extend(open.values().filter_map(|points| one(points)));
    all.sort_by_key(|series| std::cmp::Reverse((series.bytes, series.items)));
    all.truncate(SERIES_MAX);
    all.sort_by(|a, b| (a.began, &a.activity).cmp(&(b.began, &b.activity)));
    all
}

fn one(points: &[(Timestamp, &Progress)]) -> Option<Series> {
    let ((began, first), (ended, last)) = (*points.first()?, *points.last()?);
    let span = span(began, ended);
    if last.items_done <= first.items_done && last.bytes_done <= first.bytes_done {
        return None;
    }
    let column = (span / COLUMNS_MAX as u32).max(Duration::from_secs(1));
    let by_bytes = last.bytes_done > first.bytes_done;
    let counter = |progress: &Progress| {
        if by_bytes { progress.bytes_done } else { progress.items_done }
    };
    let columns = (span.as_secs_f64() / column.as_secs_f64()).ceil() as usize;
    let mut amounts = vec![0.0; columns.min(COLUMNS_MAX + 1)];
    let offset = |at| crate::render::view::span(began, at).as_secs_f64() / column.as_secs_f64();
    let mut furthest = counter(first);
    for pair in points.windows(2) {
        // Readings may overtake each other a little: what counts is how far it has come.
        let delta = counter(pair[1].1).saturating_sub(furthest);
        furthest += delta;
        spread(&mut amounts, offset(pair[0].0), offset(pair[1].0), delta as f64);
    }
    let rates = rates(&amounts, span.as_secs_f64(), column.as_secs_f64());
    Some(Series {
        activity: last.activity.clone(),
        began,
        span,
        items: last.items_done.saturating_sub(first.items_done),
        bytes: last.bytes_done.saturating_sub(first.bytes_done),
        rates,
        column,
    })
}

/// Spreads `amount` evenly over the columns between two places.
fn spread(columns: &mut [f64], from: f64, to: f64, amount: f64) {
    if to <= from {
        // Both readings carry the same moment (or the clock went back): it belongs to one column.
        let last = columns.len().saturating_sub(1);
        if let Some(column) = columns.get_mut((from as usize).min(last)) {
            *column += amount;
        }
        return;
    }
    for (index, column) in columns.iter_mut().enumerate() {
        let (start, end) = (index as f64, index as f64 + 1.0);
        let overlap = (to.min(end) - from.max(start)).max(0.0);
        *column += amount * overlap / (to - from);
    }
}

/// Amounts by column to rates; the last column may be shorter than the others.
fn rates(amounts: &[f64], span_secs: f64, column_secs: f64) -> Vec<f64> {
    let full = amounts.len().saturating_sub(1) as f64 * column_secs;
    let last = amounts.len().wrapping_sub(1);
    let secs = |index| if index == last { span_secs - full } else { column_secs };
    amounts.iter().enumerate().map(|(index, amount)| amount / secs(index).max(0.05)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn progress(secs: i64, items_done: u64, bytes_done: u64) -> Stamped {
        Stamped {
            at: Timestamp::from_second(secs).unwrap(),
            event: Event::Progress(Progress {
                activity: "media".into(),
                items_done,
                bytes_done,
                ..Progress::default()
            }),
        }
    }

    #[test]
    fn a_counter_that_starts_anew_is_a_stretch_of_its_own() {
        let events =
            [progress(0, 0, 0), progress(2, 20, 2000), progress(10, 0, 0), progress(14, 4, 4000)];
        let all = series(&events);
        let shapes: Vec<_> =
            all.iter().map(|one| (one.items, one.bytes, one.rates.clone())).collect();
        assert_eq!(shapes, [(20, 2000, vec![1000.0; 2]), (4, 4000, vec![1000.0; 4])]);
    }

    proptest! {
        /// The law: nothing is lost or invented: the columns add up to what was counted.
        #[test]
        fn the_columns_add_up(steps in prop::collection::vec((1i64..500, 0u64..1 << 40), 1..60)) {
            let (mut secs, mut bytes) = (0, 0);
            let mut events = vec![progress(0, 1, 0)];
            for (wait, delta) in steps {
                secs += wait;
                bytes += delta;
                events.push(progress(secs, 1, bytes));
            }
            prop_assume!(bytes > 0);
            let all = series(&events);
            let one = &all[0];
            let full = one.column.as_secs_f64() * (one.rates.len() - 1) as f64;
            let last = one.rates[one.rates.len() - 1] * (secs as f64 - full).max(0.05);
            let sum: f64 = one.rates[..one.rates.len() - 1]
                .iter()
                .map(|rate| rate * one.column.as_secs_f64())
                .sum::<f64>() + last;
            prop_assert!((sum - bytes as f64).abs() <= bytes as f64 * 1e-6 + 1.0);
            prop_assert!(one.rates.len() <= COLUMNS_MAX + 1);
        }
    }
}
