//! The mark on a database that says: this is a copy of ours, and how far it got.

use std::fmt;

/// Kept as the comment of the database: it is there as soon as the database holds anything, and
/// goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub run: String,
    pub state: MarkState,
    /// When it was set, in UTC.
    pub at: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkState {
    Copying,
    Failed,
    /// Copied and compared.
    Complete,
}

impl MarkState {
    fn word(self) -> &'static str {
        match self {
            MarkState::Copying => "copying",
            MarkState::Failed => "failed",
            MarkState::Complete => "complete",
        }
    }
}

const PREFIX: &str = "transhume ";

impl Mark {
    pub fn new(run: &str, state: MarkState) -> Mark {
        debug_assert!(!run.contains(char::is_whitespace), "a run's name is one word");
        Mark { run: run.to_owned(), state, at: jiff::Timestamp::now().to_string() }
    }

    /// Reads a comment; `None` where it is not a mark.
    pub fn parse(comment: &str) -> Option<Mark> {
        let words: Vec<&str> = comment.strip_prefix(PREFIX)?.split(' ').collect();
        let [run, state, at] = words.as_slice() else { return None };
        let state = [MarkState::Copying, MarkState::Failed, MarkState::Complete]
            .into_iter()
            .find(|known| state.strip_prefix("state=") == Some(known.word()))?;
        Some(Mark {
            run: run.strip_prefix("run=")?.to_owned(),
            state,
            at: at.strip_prefix("at=")?.to_owned(),
        })
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{PREFIX}run={} state={} at={}", self.run, self.state.word(), self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_and_a_comment_is_not_one() {
        for state in [MarkState::Copying, MarkState::Failed, MarkState::Complete] {
            let mark = Mark::new("2026-11-24-a1b2", state);
            assert_eq!(Mark::parse(&mark.to_string()), Some(mark));
        }
        for comment in ["", "transhume", "our instance", "transhume run=x state=odd at=y"] {
            assert_eq!(Mark::parse(comment), None);
        }
    }
}
