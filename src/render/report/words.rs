//! Headlines and moments, in words.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Meta;
use crate::render::view::View;
use crate::render::words::result;
use crate::units::duration;

/// What happened, in one line.
pub(super) fn headline(meta: &Meta, view: &View) -> String {
    let what = meta.instance.as_deref().unwrap_or(&meta.source);
    let exit = view.finished.as_ref().map(|finished| finished.exit);
    match (view.verb.as_str(), exit) {
        ("", _) => "No run is recorded".to_owned(),
        ("migrate", Some(0)) if view.stopped_early() => {
            format!("{what} is on its way to {}: stopped as asked", meta.target)
        }
        ("migrate", Some(0 | 3)) => format!("{what} moved to {}", meta.target),
        ("migrate", Some(1)) => format!("{what} did not move and is served as before"),
        ("migrate", Some(4)) => format!("{what} was not moved: the check refused"),
        ("migrate", Some(5)) => format!("{what} is on its way to {}: go on", meta.target),
        ("migrate", Some(6)) => format!("{what} needs you: undoing failed"),
        ("rehearse", Some(0 | 3)) => format!("The move of {what} was rehearsed"),
        ("rollback", Some(0 | 3)) => format!("{what} is back on {}", meta.source),
        ("sync", Some(0 | 3)) => format!("The media of {what} are on {}", meta.target),
        (verb, Some(exit)) => format!("{verb} of {what}: {}", result(verb, exit)),
        (verb, None) => format!("{verb} of {what} has not ended"),
    }
}

/// When it happened and what it meant for those who post.
pub(super) fn lead(view: &View, now: Timestamp, zone: &TimeZone) -> String {
    let Some(began) = view.began else { return "There are no events.".to_owned() };
    let mut lead = format!("{} to {}.", moment(began, zone), until(began, now, zone));
    match view.resumed {
        0 => {}
        1 => lead.push_str(" It was taken up again once."),
        2 => lead.push_str(" It was taken up again twice."),
        times => lead.push_str(&format!(" It was taken up again {times} times.")),
    }
    match view.downtime(now) {
        Some(time) if view.downtime_running().is_some() => {
            lead.push_str(&format!(" Nobody could post for {} so far.", duration(time)));
        }
        Some(time) => lead.push_str(&format!(" Nobody could post for {}.", duration(time))),
        None => lead.push_str(" The old server took posts all the time."),
    }
    lead
}

/// `24 November 2026, 03:00:00 UTC`
fn moment(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned_datetime(zone.clone()).strftime("%-d %B %Y, %H:%M:%S %Z").to_string()
}

/// The end of a span: its time of day alone if it is the day of the start.
fn until(began: Timestamp, ended: Timestamp, zone: &TimeZone) -> String {
    let day = |at: Timestamp| at.to_zoned_datetime(zone.clone()).date();
    if day(began) == day(ended) {
        ended.to_zoned_datetime(zone.clone()).strftime("%H:%M:%S").to_string()
    } else {
        moment(ended, zone)
    }
}

/// Tells moments of one run: by the time of day, with the date where the run took several days.
pub(super) struct Clock {
    zone: TimeZone,
    dated: bool,
}

impl Clock {
    pub fn of(view: &View, now: Timestamp, zone: &TimeZone) -> Clock {
        let day = |at: Timestamp| at.to_zoned_datetime(zone.clone()).date();
        let dated = view.began.is_some_and(|began| day(began) != day(now));
        Clock { zone: zone.clone(), dated }
    }

    pub fn tell(&self, at: Timestamp) -> String {
        let form = if self.dated { "%b %-d, %H:%M:%S" } else { "%H:%M:%S" };
        at.to_zoned_datetime(self.zone.clone()).strftime(form).to_string()
    }
}

/// A round length for the marks of an axis over `span`, so that there are eight or fewer.
pub(super) fn tick(span: Duration) -> Duration {
    const MILLIS: [u64; 22] = [
        10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000, 120_000,
        300_000, 600_000, 900_000, 1_800_000, 3_600_000, 7_200_000, 21_600_000, 43_200_000,
    ];
    const DAY_MILLIS: u64 = 86_400_000;
    let wanted = span.as_millis() as u64 / 8;
    let millis = MILLIS.into_iter().find(|millis| *millis > wanted);
    Duration::from_millis(millis.unwrap_or_else(|| (wanted / DAY_MILLIS + 1) * DAY_MILLIS))
}

/// A mark of an axis: `0`, `30 s`, `1 h 30 min`.
pub(super) fn tick_label(at: Duration) -> String {
    let secs = at.as_secs();
    match secs {
        0 if at.is_zero() => "0".to_owned(),
        0 => format!("{} ms", at.as_millis()),
        1..=59 if at.subsec_millis() > 0 => format!("{:.1} s", at.as_secs_f64()),
        1..=59 => format!("{secs} s"),
        60..=3599 if secs.is_multiple_of(60) => format!("{} min", secs / 60),
        60..=3599 => format!("{}:{:02} min", secs / 60, secs % 60),
        _ if secs.is_multiple_of(3600) => format!("{} h", secs / 3600),
        _ => format!("{}:{:02} h", secs / 3600, secs % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_has_round_marks_and_not_too_many() {
        for millis in [1, 900, 4_000, 74_000, 3_600_000, 90_000_000, 3_000_000_000u64] {
            let span = Duration::from_millis(millis);
            assert!(span.as_millis() / tick(span).as_millis() <= 8, "{millis}");
        }
        assert_eq!(tick(Duration::from_secs(74)), Duration::from_secs(10));
        let labels = [0, 200, 1_500, 30_000, 90_000, 5_400_000, 7_200_000]
            .map(|millis| tick_label(Duration::from_millis(millis)));
        assert_eq!(labels, ["0", "200 ms", "1.5 s", "30 s", "1:30 min", "1:30 h", "2 h"]);
    }
}
