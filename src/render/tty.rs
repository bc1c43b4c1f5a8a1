//! A terminal: a line for everything that is over, and below it, redrawn in place, what is under
//! way. It draws from the view; the cursor is never hidden, so nothing is left to put right but
//! the lines that are redrawn, and those are removed at the end.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;

use super::live::{self, TITLE_COLUMN};
use super::outlet::Sink;
use super::text::{Paint, clip, escape, hanging};
use super::view::{View, span};
use super::{tables, words};
use crate::event::{Event, Level, Stamped, StepOutcome};
use crate::units::duration;

/// Less room than this is not used for what was seen.
const ASIDE_COLUMNS_MIN: usize = 12;
const REDRAW: Duration = Duration::from_millis(100);

pub(super) struct Tty {
    bars: MultiProgress,
    live: Vec<ProgressBar>,
    width: Box<dyn Fn() -> usize + Send>,
    paint: Paint,
    view: View,
    drawn: Option<Timestamp>,
}

impl Tty {
    pub fn new(
        target: ProgressDrawTarget,
        width: impl Fn() -> usize + Send + 'static,
        paint: Paint,
    ) -> Self {
        Tty {
            bars: MultiProgress::with_draw_target(target),
            live: Vec::new(),
            width: Box::new(width),
            paint,
            view: View::default(),
            drawn: None,
        }
    }

    fn draw(&mut self, now: Timestamp) {
        let lines = live::lines(&self.view, now, (self.width)(), self.paint);
        while self.live.len() > lines.len() {
            if let Some(bar) = self.live.pop() {
                bar.finish_and_clear();
                self.bars.remove(&bar);
            }
        }
        while self.live.len() < lines.len() {
            let bar = ProgressBar::new_spinner();
            // The template is a constant that parses; if it did not, the default is a line too.
            if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
                bar.set_style(style);
            }
            self.live.push(self.bars.add(bar));
        }
        for (bar, line) in self.live.iter().zip(lines) {
            bar.set_message(line);
        }
        self.drawn = Some(now);
    }

    fn clear(&mut self) {
        for bar in self.live.drain(..).rev() {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
        // A terminal that is gone takes nothing; there is nobody to tell.
        let _ = self.bars.clear();
    }

    /// The line for what has happened, if it deserves one of its own.
    fn line(&self, event: &Event) -> Option<String> {
        let paint = self.paint;
        match event {
            Event::RunStarted { run, verb } => {
                let again = if self.view.resumed > 0 { " goes on" } else { "" };
                let title = paint.bold(&format!("{}{again}", escape(verb)));
                Some(format!("{title}  {}", paint.dim(&format!("run {}", escape(run)))))
            }
            Event::StepStarted { .. } | Event::Progress(_) => None,
            Event::StepPredicted { step, text, .. } => {
                Some(paint.dim(&escape(&words::predicted(step, text))))
            }
            Event::DowntimeStarted => {
                Some(format!("{}  downtime started: nobody can post", paint.red("■")))
            }
            Event::StepFinished { step, outcome, millis } => {
                Some(self.step_line(step, outcome, Duration::from_millis(*millis)))
            }
            Event::DowntimeEnded { millis } => {
                let time = duration(Duration::from_millis(*millis));
                Some(format!("{}  downtime over after {}", paint.green("■"), paint.bold(&time)))
            }
            Event::PointOfNoReturn => Some(
                paint.yellow("── point of no return: from here on the run only goes forward ──"),
            ),
            Event::Finding { level, subject, text, remedy } => {
                let color = match level {
                    Level::Ok => return None,
                    Level::Warning => Paint::yellow,
                    Level::Refusal => Paint::red,
                };
                // `check` prints its findings itself, as a table.
                let shown = self.view.verb != "check";
                let name = words::level(*level);
                shown.then(|| self.said(&color(paint, name), subject, text, remedy.as_deref()))
            }
            Event::Problem { subject, text, remedy } => {
                Some(self.said(&paint.yellow("problem"), subject, text, remedy.as_deref()))
            }
            Event::Note { text } => Some(format!("{} {}", paint.dim("·"), hanging(text, 2))),
            Event::RunFinished { exit, millis, .. } => Some(self.end_line(*exit, *millis)),
        }
    }

    fn step_line(&self, id: &str, outcome: &StepOutcome, took: Duration) -> String {
        let paint = self.paint;
        let step = self.view.steps.iter().find(|step| step.id == id);
        let place = live::place(&self.view, step.map_or(0, |step| step.number));
        let title = escape(step.map_or(id, |step| &step.title));
        let sign = tables::sign_of(outcome);
        let (word, detail) = words::outcome(outcome);
        let took = duration(took);
        let (sign, time, said) = match outcome {
            StepOutcome::Done { .. } => (paint.green(sign), &*took, self.aside("", detail, &title)),
            StepOutcome::AlreadyTrue { .. } | StepOutcome::Skipped { .. } => {
                (paint.dim(sign), "", self.aside(word, detail, &title))
            }
            StepOutcome::Undone => (paint.yellow(sign), "", format!("  {word}")),
            StepOutcome::Failed { .. } => (paint.red(sign), &*took, below(detail)),
            StepOutcome::UndoFailed { .. } => {
                (paint.red(sign), "", format!("  {}{}", paint.red(word), below(detail)))
            }
        };
        format!("{sign} {place}  {time:>10}  {title}{said}")
    }

    /// What was seen, dim, in what is left of the line; the report has all of it.
    fn aside(&self, word: &str, detail: &str, title: &str) -> String {
        let text = match (word, detail) {
            ("", detail) => detail.to_owned(),
            (word, "") => word.to_owned(),
            (word, detail) => format!("{word}: {detail}"),
        };
        let left = (self.width)().saturating_sub(TITLE_COLUMN + title.chars().count() + 2);
        if text.is_empty() || left < ASIDE_COLUMNS_MIN {
            return String::new();
        }
        format!("  {}", self.paint.dim(&clip(&text, left)))
    }

    fn said(&self, kind: &str, subject: &str, text: &str, remedy: Option<&str>) -> String {
        let mut line = format!("{kind}: {}: {}", escape(subject), hanging(text, 4));
        if let Some(remedy) = remedy {
            line.push_str(&format!("\n    {} {}", self.paint.cyan("→"), hanging(remedy, 6)));
        }
        line
    }

    fn end_line(&self, exit: u8, millis: u64) -> String {
        let result = words::ended(&self.view, exit);
        let result = match exit {
            0 => self.paint.green(result),
            3 | 130 => self.paint.yellow(result),
            _ => self.paint.red(result),
        };
        let took = duration(Duration::from_millis(millis));
        let mut line = format!("{}: {result}  ({took}", self.paint.bold(&escape(&self.view.verb)));
        if let Some(downtime) = self.view.latest.and_then(|now| self.view.downtime(now)) {
            line.push_str(&format!(", downtime {}", duration(downtime)));
        }
        line.push(')');
        tables::problems(&self.view) + &line
    }
}

/// An error in full, under the title.
fn below(text: &str) -> String {
    format!("\n{:TITLE_COLUMN$}{}", "", hanging(text, TITLE_COLUMN))
}

impl Sink for Tty {
    fn take(&mut self, stamped: &Stamped) {
        self.view.apply(stamped);
        if let Some(line) = self.line(&stamped.event) {
            // Printed above the live lines, which must not hold what is over by now.
            self.draw(stamped.at);
            let _ = self.bars.println(line);
        }
    }

    fn tick(&mut self, now: Timestamp) {
        // A clock that was set back does not stop the drawing.
        let fresh = |drawn| now >= drawn && span(drawn, now) < REDRAW;
        if !self.drawn.is_some_and(fresh) {
            self.draw(now);
        }
    }

    fn pause(&mut self) {
        self.clear();
    }

    fn finish(&mut self) {
        self.clear();
    }
}
