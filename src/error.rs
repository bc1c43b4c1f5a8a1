//! What every error of ours can tell beside its message: what the operator can do about it, and
//! whether trying again makes sense. Each engine has its own typed enum; this is what they share.

use std::error::Error;

/// An error that an operator reads.
///
/// `Display` says what was being done and to what, and never repeats its `source()`: whoever
/// prints the error prints the chain.
pub trait Advice: Error {
    /// The remedy in one line, with the command to run where there is one.
    fn hint(&self) -> Option<String> {
        None
    }

    /// Whether the same call may succeed if it is made again.
    fn retry(&self) -> Retry {
        Retry::Never
    }
}

/// What is known about repeating a call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It failed, nothing happened, and it would fail again.
    Never,
    /// It failed, nothing happened, and another try may work.
    Safe,
    /// Whether it happened is not known (the link was cut after the request was sent): observe
    /// the machine before repeating it.
    Unknown,
}

/// The chain of causes below `error`, outermost first, without `error` itself.
pub fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |&cause| cause.source())
}

/// `error` and its causes on one line, for places that have no room for a chain.
pub fn one_line(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    for cause in causes(error) {
        let text = cause.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the page")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn one_line_tells_the_whole_chain() {
        let error = Outer(std::io::Error::other("disk on fire"));
        assert_eq!(one_line(&error), "cannot read the page: disk on fire");
    }
}
