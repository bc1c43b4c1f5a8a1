//! What tootctl prints, understood as it comes: bars that grow, complaints, a closing line. Its
//! memory does not grow with the output.

use std::collections::VecDeque;

const LINE_BYTES_MAX: usize = 4096;
const LINES_KEPT: usize = 20;
const PROBLEMS_KEPT: usize = 50;
/// How wide a bar is asked to be, title and frame included: off a terminal, ruby-progressbar
/// prints nothing but the bar's growth.
pub(super) const BAR_CHARS: usize = 112;
/// `: |` before the bar and `|` behind it.
const FRAME_CHARS: usize = 4;

/// The output so far.
#[derive(Debug, Default)]
pub(super) struct Output {
    line: Vec<u8>,
    lines: VecDeque<String>,
    pub problems: Vec<String>,
    pub problem_count: u64,
    /// `Progress: 42 %`.
    pub progress: Option<String>,
}

impl Output {
    /// Takes in more bytes; true if the progress is another now.
    pub fn feed(&mut self, bytes: &[u8]) -> bool {
        let before = self.progress.clone();
        for &byte in bytes {
            match byte {
                b'\n' | b'\r' => self.end_line(),
                // The rest of an endless line says nothing new.
                _ if self.line.len() >= LINE_BYTES_MAX => {}
                _ => self.line.push(byte),
            }
        }
        // The bar that is still growing: its line has not ended yet.
        self.progress = bar(&String::from_utf8_lossy(&self.line)).or(self.progress.take());
        self.progress != before
    }

    pub fn finish(&mut self) {
        self.end_line();
    }

    /// The last line that contains `part`.
    pub fn line_with(&self, part: &str) -> Option<String> {
        self.lines.iter().rev().find(|line| line.contains(part)).cloned()
    }

    /// The end of what was said.
    pub fn last_words(&self) -> String {
        self.lines.iter().cloned().collect::<Vec<_>>().join("\n")
    }

    fn end_line(&mut self) {
        let line = without_colours(&String::from_utf8_lossy(&std::mem::take(&mut self.line)));
        let line = line.trim();
        if let Some(ended) = bar(line) {
            self.progress = Some(ended);
            return;
        }
        if line.is_empty() {
            return;
        }
        if line.contains("Error processing") || line.contains("Error while importing") {
            self.problem_count += 1;
            if self.problems.len() < PROBLEMS_KEPT {
                self.problems.push(line.to_owned());
            }
            return;
        }
        if self.lines.len() == LINES_KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line.to_owned());
    }
}

/// How far the bar is that `line` begins with: `Progress: |====`, which grows to [`BAR_CHARS`].
fn bar(line: &str) -> Option<String> {
    let (title, marks) = line.split_once(": |")?;
    let done = marks.find(|char| char != '=').unwrap_or(marks.len());
    let whole = BAR_CHARS.checked_sub(title.chars().count() + FRAME_CHARS).filter(|&it| it > 0)?;
    marks[done..]
        .trim_end()
        .trim_end_matches('|')
        .is_empty()
        .then(|| format!("{}: {} %", title.trim(), (done * 100 / whole).min(100)))
}

/// `text` without the sequences that colour a terminal.
fn without_colours(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        let end =
            after.find(|char: char| char.is_ascii_alphabetic()).map_or(after.len(), |it| it + 1);
        rest = &after[end..];
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_counted_and_the_closing_line_is_kept() {
        let mut output = Output::default();
        output.feed(b"\nProgress: |==\nError processing 12: no such feed\nProgress: |====");
        output.feed(b"\n\x1b[31mError processing 13: \xff\x1b[0m\n\x1b[32mRegenerated feeds for 2 accounts \x1b[0m\n");
        output.finish();
        assert_eq!(output.problem_count, 2);
        assert_eq!(
            output.problems,
            ["Error processing 12: no such feed", "Error processing 13: \u{fffd}"]
        );
        assert_eq!(
            output.line_with("Regenerated").as_deref(),
            Some("Regenerated feeds for 2 accounts")
        );
        assert_eq!(output.last_words(), "Regenerated feeds for 2 accounts");
    }

    #[test]
    fn a_bar_tells_how_far_it_is() {
        let mut output = Output::default();
        assert!(output.feed(b"Progress: |"));
        assert_eq!(output.progress.as_deref(), Some("Progress: 0 %"));
        assert!(output.feed(&b"=".repeat(50)));
        assert_eq!(output.progress.as_deref(), Some("Progress: 50 %"));
        assert!(!output.feed(b""));
        output.feed(&b"=".repeat(50));
        assert_eq!(output.progress.as_deref(), Some("Progress: 100 %"));
        assert!(!output.feed(b"|\n"));
    }

    /// How much comes with one read is chance.
    #[test]
    fn a_bar_counts_although_its_line_ended_in_the_same_read() {
        let mut output = Output::default();
        assert!(output.feed(b"Progress: |==\nError processing 1: x\nProgress: |=====\ndone\n"));
        assert_eq!(output.progress.as_deref(), Some("Progress: 5 %"));
    }

    #[test]
    fn endless_output_is_not_kept() {
        let mut output = Output::default();
        output.feed(&b"x".repeat(1 << 20));
        output.feed(&b"\nError processing 1: x".repeat(10_000));
        output.feed(&b"\nsomething".repeat(10_000));
        output.finish();
        assert_eq!((output.problems.len(), output.problem_count), (PROBLEMS_KEPT, 10_000));
        assert_eq!(output.lines.len(), LINES_KEPT);
    }

    proptest::proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let mut output = Output::default();
            output.feed(&bytes);
            output.finish();
        }
    }
}
