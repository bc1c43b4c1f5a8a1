//! How a verb ends: the exit codes, and the one place that prints an error.

use std::error::Error;
use std::process::ExitCode;

use crate::error::{Advice, causes};

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

impl Failure {
    pub fn new(exit: Exit, error: impl Advice + Send + Sync + 'static) -> Self {
        let hint = error.hint();
        Failure { exit, error: Box::new(error), hint }
    }

    /// A failure told in words alone, such as wrong arguments.
    pub fn message(exit: Exit, text: impl Into<String>, hint: Option<String>) -> Self {
        Failure { exit, error: text.into().into(), hint }
    }

    pub fn from_io(action: &str, error: std::io::Error) -> Self {
        Failure {
            exit: Exit::Failed,
            error: format!("cannot {action}: {error}").into(),
            hint: None,
        }
    }

    pub fn exit(&self) -> Exit {
        self.exit
    }
}

/// Prints the failure with its causes and its hint, and gives its exit code.
pub(super) fn report(failure: &Failure) -> ExitCode {
    eprintln!("transhume: {}", failure.error);
    for cause in causes(failure.error.as_ref()) {
        eprintln!("  caused by: {cause}");
    }
    if let Some(hint) = &failure.hint {
        eprintln!("  hint: {hint}");
    }
    failure.exit.into()
}
