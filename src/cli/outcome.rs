//! How a verb ends: the exit codes, and the one place that prints an error.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use crate::error::{Advice, causes};
use crate::render::text::hanging;

/// The exit codes; `docs/exit-codes.md` explains each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Done = 0,
    /// Failed; the source serves as before.
    Failed = 1,
    /// Wrong arguments or configuration.
    Usage = 2,
    /// Done, with problems listed.
    Problems = 3,
    /// Refused by check; nothing was touched.
    Refused = 4,
    /// Stopped past the point of no return: run `migrate` again.
    Unfinished = 5,
    /// An undo failed: read the report.
    UndoFailed = 6,
    /// Interrupted; unwound or resumable.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// A verb that did not work: what to print and how to exit.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    error: Box<dyn Error + Send + Sync>,
    hint: Option<String>,
}

#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct StepFailure {
    text: String,
    #[source]
    cause: Box<dyn Error + Send + Sync>,
}

impl Failure {
    pub fn new(exit: Exit, error: impl Advice + Send + Sync + 'static) -> Self {
        let hint = error.hint();
        Failure { exit, error: Box::new(error), hint }
    }

    /// A failure told in words alone, such as wrong arguments.
    pub fn message(exit: Exit, text: impl Into<String>, hint: Option<String>) -> Self {
        Failure { exit, error: text.into().into(), hint }
    }

    /// A failure of the move: `text` says what it means, the step's error why.
    pub fn of_step(exit: Exit, text: String, error: crate::migration::step::StepError) -> Self {
        let hint = error.hint().map(str::to_owned);
        Failure { exit, error: Box::new(StepFailure { text, cause: error.into_inner() }), hint }
    }

    /// The same with what it means for the servers.
    pub fn with_exit(self, exit: Exit) -> Self {
        Failure { exit, ..self }
    }

    /// Adds to the hint.
    pub fn with_hint(mut self, more: &str) -> Self {
        self.hint = Some(match self.hint {
            Some(hint) => format!("{hint}; {more}"),
            None => more.to_owned(),
        });
        self
    }

    pub fn from_io(action: &str, error: std::io::Error) -> Self {
        Failure {
            exit: Exit::Failed,
            error: format!("cannot {action}: {error}").into(),
            hint: None,
        }
    }

    /// The message with its causes on one line.
    pub fn text(&self) -> String {
        crate::error::one_line(self.error.as_ref())
    }

    pub fn exit(&self) -> Exit {
        self.exit
    }
}

/// Prints what was asked for on standard output.
pub(super) fn say(text: &str) {
    // A reader that has seen enough, such as `head`, is no failure of ours.
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints the failure with its causes and its hint, and gives its exit code.
pub(super) fn report(failure: &Failure) -> ExitCode {
    // Nothing can be done about a closed terminal.
    let _ = std::io::stderr().write_all(told(failure).as_bytes());
    failure.exit.into()
}

/// The failure as it is printed. Parts of it come from other machines: they are escaped.
fn told(failure: &Failure) -> String {
    let mut text = format!("transhume: {}\n", hanging(&failure.error.to_string(), 2));
    for cause in causes(failure.error.as_ref()) {
        text.push_str(&format!("  caused by: {}\n", hanging(&cause.to_string(), 4)));
    }
    if let Some(hint) = &failure.hint {
        text.push_str(&format!("  hint: {}\n", hanging(hint, 4)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Exit as HostExit, HostError};

    #[test]
    fn an_error_is_told_with_its_causes_and_its_hint() {
        let error = HostError::Unreachable {
            host: "new.example".into(),
            source: std::io::Error::other("no route to host"),
            hint: Some("check the address in transhume.toml".into()),
        };
        assert_eq!(
            told(&Failure::new(Exit::Failed, error)),
            "transhume: cannot reach new.example\n  caused by: no route to host\n  \
             hint: check the address in transhume.toml\n"
        );
    }

    #[test]
    fn what_another_machine_said_is_not_obeyed() {
        let error = HostError::Failed {
            host: "new.example".into(),
            command: "tootctl".into(),
            exit: HostExit::Code(1),
            stderr_tail: "one\n\u{1b}]0;owned\u{7}two".into(),
        };
        assert_eq!(
            told(&Failure::new(Exit::Failed, error)),
            "transhume: `tootctl` on new.example failed with exit code 1: one\n  \
             \\u{1b}]0;owned\\u{7}two\n"
        );
    }
}
