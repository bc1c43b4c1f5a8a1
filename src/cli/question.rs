//! A question on the terminal.

use std::io::{BufRead, IsTerminal, Write};

use super::{Exit, Failure};

/// Asks the operator to type `word`. Without a terminal there is nobody to ask: that is an error,
/// never a yes.
pub(super) fn confirm(question: &str, word: &str) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::message(
            Exit::Usage,
            "there is no terminal to ask on",
            Some("give --yes when you have read the plan (`transhume plan`)".into()),
        ));
    }
    let fail = |error| Failure::from_io("ask on the terminal", error);
    eprint!("{question} Type `{word}` to go on: ");
    std::io::stderr().flush().map_err(fail)?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(fail)?;
    Ok(answer.trim() == word)
}
