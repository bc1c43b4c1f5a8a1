//! Where the assignments are. This follows the pattern of dotenv 3.2 with its backtracking, also
//! where that is surprising: a value in quotes may begin on the line after its `=`, and a bare
//! key is set to nothing.

use std::ops::Range;

/// An assignment, or an `export` without one. Ranges are byte positions in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    pub key: String,
    pub line: usize,
    /// `export KEY`, also with a `=` but nothing behind it: it demands that the key is set.
    pub is_bare_export: bool,
    pub value: Place,
}

/// Where a statement's value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Its text without surrounding blanks, quotes included. Empty, it is right after the `=`.
    At(Range<usize>),
    /// There is no `=`; it would go to this position.
    None(usize),
}

/// The number of the line, from 1, that holds position `at`.
pub(super) fn line_of(bytes: &[u8], at: usize) -> usize {
    let before = &bytes[..at.min(bytes.len())];
    let returns = before.windows(2).filter(|pair| pair[0] == b'\r' && pair[1] != b'\n').count();
    before.iter().filter(|byte| **byte == b'\n').count() + returns + 1
}

pub(super) fn statements(text: &str) -> Vec<Statement> {
    let scanner = Scanner { bytes: text.as_bytes() };
    let mut found = Vec::new();
    // dotenv reads with "bom|utf-8".
    let mut start = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    while start < text.len() {
        match scanner.statement(start) {
            Some((statement, end)) => {
                found.push(statement);
                start = scanner.next_line(end);
            }
            None => start = scanner.next_line(start),
        }
    }
    found
}

struct Scanner<'a> {
    bytes: &'a [u8],
}

impl Scanner<'_> {
    /// The statement that begins at the line start `start`, and where it ends.
    fn statement(&self, start: usize) -> Option<(Statement, usize)> {
        let start = self.skip(start, is_space);
        let exported = self.bytes[start..].starts_with(b"export").then(|| start + b"export".len());
        let exported = exported.and_then(|end| {
            let key = self.skip(end, is_space);
            (key > end).then(|| self.assignment(key, true)).flatten()
        });
        exported.or_else(|| self.assignment(start, false))
    }

    fn assignment(&self, start: usize, is_export: bool) -> Option<(Statement, usize)> {
        let key_end = self.skip(start, is_key);
        if key_end == start {
            return None;
        }
        let (value, end, is_bare) = match self.separator(key_end) {
            Some(after) => self.value(after)?,
            None => (Place::None(key_end), self.rest(key_end)?, true),
        };
        let is_bare_export = is_export && is_bare;
        let key = String::from_utf8_lossy(&self.bytes[start..key_end]).into_owned();
        let line = line_of(self.bytes, start);
        Some((Statement { key, line, is_bare_export, value }, end))
    }

    /// The position after `=`, or after `:` and one blank.
    fn separator(&self, at: usize) -> Option<usize> {
        let equals = self.skip(at, is_space);
        if self.bytes.get(equals) == Some(&b'=') {
            return Some(equals + 1);
        }
        match self.bytes.get(at..)? {
            [b':', b'\r', b'\n', ..] => Some(at + 3),
            [b':', blank, ..] if is_space(*blank) => Some(at + 2),
            _ => None,
        }
    }

    /// The value after a separator, where the statement ends, and whether not even a blank is
    /// there.
    fn value(&self, after: usize) -> Option<(Place, usize, bool)> {
        let open = self.skip(after, is_space);
        if let Some(quote @ (b'\'' | b'"')) = self.bytes.get(open) {
            for close in self.closings(open, *quote) {
                if let Some(end) = self.rest(close + 1) {
                    return Some((Place::At(open..close + 1), end, false));
                }
            }
        }
        let end = self.skip(after, |byte| byte != b'#' && !is_newline(byte));
        let text = &self.bytes[after..end];
        let first = text.iter().position(|byte| !is_space(*byte));
        let last = text.iter().rposition(|byte| !is_space(*byte));
        let range = match (first, last) {
            (Some(first), Some(last)) => after + first..after + last + 1,
            (None, _) | (_, None) => after..after,
        };
        Some((Place::At(range), self.rest(end)?, text.is_empty()))
    }

    /// Where the quote opened at `open` may close, the best first: the first quote without a
    /// backslash, then those with one, backwards.
    fn closings(&self, open: usize, quote: u8) -> Vec<usize> {
        let mut closings = Vec::new();
        for at in open + 1..self.bytes.len() {
            if self.bytes[at] == quote {
                closings.push(at);
                if self.bytes[at - 1] != b'\\' || at - 1 == open {
                    break;
                }
            }
        }
        closings.reverse();
        closings
    }

    /// Blanks, an optional comment, the end of a line: where that ends, if that is what comes.
    fn rest(&self, at: usize) -> Option<usize> {
        let next = self.skip(at, is_space);
        if self.bytes.get(next) == Some(&b'#') {
            return Some(self.skip(next, |byte| !is_newline(byte)));
        }
        let crossed = self.bytes[at..next].iter().rposition(|byte| is_newline(*byte));
        match crossed {
            _ if next == self.bytes.len() => Some(next),
            Some(newline) => Some(at + newline),
            None => None,
        }
    }

    /// The start of the line after position `at`.
    fn next_line(&self, at: usize) -> usize {
        let end = self.skip(at, |byte| !is_newline(byte));
        (end + 1).min(self.bytes.len())
    }

    fn skip(&self, start: usize, wanted: impl Fn(u8) -> bool) -> usize {
        let rest = self.bytes[start..].iter();
        rest.take_while(|byte| wanted(**byte)).count() + start
    }
}

pub(super) fn is_key(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.'
}

fn is_newline(byte: u8) -> bool {
    byte == b'\n' || byte == b'\r'
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}
