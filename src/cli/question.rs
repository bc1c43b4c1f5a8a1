//! A question on the terminal.

use std::io::{BufRead, IsTerminal, Write};

use super::{Exit, Failure};

/// Whether there is anybody to ask. Without a terminal there is not: that is an error, never a yes.
pub(super) fn possible() -> Result<(), Failure> {
    if std::io::stdin().is_terminal() {
        return Ok(());
    }
    Err(Failure::message(
        Exit::Usage,
        "there is no terminal to ask on",
        Some("give --yes when you have read the plan (`transhume plan`)".into()),
    ))
}

/// Asks the operator to type `word`.
pub(super) fn confirm(question: &str, word: &str) -> Result<bool, Failure> {
    possible()?;
    let fail = |error| Failure::from_io("ask on the terminal", error);
    eprint!("{question} Type `{word}` to go on: ");
    std::io::stderr().flush().map_err(fail)?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(fail)?;
    Ok(answer.trim() == word)
}
