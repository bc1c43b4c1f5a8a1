//! Text for a terminal: what machines say made harmless, colours, columns.
//!
//! Names of files, messages of other programs and texts of other hosts may hold anything. Nothing
//! of theirs reaches a terminal, a log or a page with a control character in it.

use std::borrow::Cow;
use std::fmt::Write;

/// `text` on one line: control characters (C0, DEL, C1), line separators and the marks that turn
/// the reading direction are shown as `\n`, `\u{1b}`, …
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        if is_unsafe(letter) {
            safe.extend(letter.escape_default());
        } else {
            safe.push(letter);
        }
    }
    Cow::Owned(safe)
}

/// The lines of `text`, each escaped; empty ones at the end are left out.
pub fn lines(text: &str) -> impl Iterator<Item = Cow<'_, str>> {
    text.trim_end().split('\n').map(|line| escape(line.trim_end()))
}

/// `text` with its first line where the cursor is and the others indented by `indent` spaces.
pub fn hanging(text: &str, indent: usize) -> String {
    let mut block = String::new();
    for (index, line) in lines(text).enumerate() {
        if index > 0 {
            block.push('\n');
            block.extend(std::iter::repeat_n(' ', indent));
        }
        block.push_str(&line);
    }
    block
}

/// `text` on one line and in at most `columns`, with an ellipsis where it was cut.
pub(super) fn clip(text: &str, columns: usize) -> String {
    let line = escape(text);
    if line.chars().count() <= columns {
        return line.into_owned();
    }
    let kept: String = line.chars().take(columns.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

pub(super) fn is_unsafe(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint(pub bool);

impl Paint {
    pub fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    pub fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    pub fn red(self, text: &str) -> String {
        self.wrap("31", text)
    }

    pub fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }

    pub fn yellow(self, text: &str) -> String {
        self.wrap("33", text)
    }

    pub fn cyan(self, text: &str) -> String {
        self.wrap("36", text)
    }

    /// White on red: for what must not be overlooked.
    pub fn alarm(self, text: &str) -> String {
        self.wrap("1;97;41", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.0 && !text.is_empty() {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Two columns, the second aligned: figures at the end of a run, facts of a report.
pub fn table<L: AsRef<str>, V: AsRef<str>>(rows: &[(L, V)]) -> String {
    let labels: Vec<Cow<'_, str>> = rows.iter().map(|(label, _)| escape(label.as_ref())).collect();
    let width = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (label, (_, value)) in labels.iter().zip(rows) {
        let value = hanging(value.as_ref(), width + 2);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{label:width$}  {value}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_hostile_name_is_shown_and_not_obeyed() {
        assert_eq!(escape("a\u{1b}]0;owned\u{7}b"), "a\\u{1b}]0;owned\\u{7}b");
        assert_eq!(escape("two\nlines\r\t"), "two\\nlines\\r\\t");
        assert_eq!(escape("c1 \u{9b}2J del \u{7f}"), "c1 \\u{9b}2J del \\u{7f}");
        assert_eq!(escape("gnp.\u{202e}exe"), "gnp.\\u{202e}exe");
        assert_eq!(escape("Übergrößenträger 世界 🐘"), "Übergrößenträger 世界 🐘");
    }

    #[test]
    fn a_table_aligns_its_values() {
        let text = table(&[("files", "12"), ("copied bytes", "3.5 GiB\nof which 1 GiB twice")]);
        assert_eq!(
            text,
            "files         12\ncopied bytes  3.5 GiB\n              of which 1 GiB twice\n"
        );
    }

    proptest! {
        /// The law: whatever comes in, one line without control characters comes out.
        #[test]
        fn nothing_unsafe_passes(text in any::<String>()) {
            let safe = escape(&text);
            prop_assert!(!safe.contains(is_unsafe));
            prop_assert_eq!(escape(&safe), safe.clone());
        }
    }
}
