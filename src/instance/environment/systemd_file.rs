//! A file that `EnvironmentFile=` names. Its syntax is systemd's, not dotenv's: no `$variables`,
//! no comment behind a value, and a backslash at the end of a line joins it with the next.

use crate::secret::Secret;

/// The assignments in order. What is none is ignored, as systemd does.
pub(super) fn parse(bytes: &[u8]) -> Vec<(String, Secret)> {
    let text = String::from_utf8_lossy(bytes);
    let mut chars = text.chars().peekable();
    let mut found = Vec::new();
    while let Some(first) = chars.peek().copied() {
        if first.is_whitespace() {
            chars.next();
        } else if first == '#' || first == ';' {
            skip_comment(&mut chars);
        } else {
            found.extend(assignment(&mut chars));
        }
    }
    found
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// A backslash at the end of a comment joins it with the next line before version 254 of systemd,
/// and does not since; this follows the later ones.
fn skip_comment(chars: &mut Chars<'_>) {
    for char in chars {
        if is_newline(char) {
            return;
        }
    }
}

fn assignment(chars: &mut Chars<'_>) -> Option<(String, Secret)> {
    let mut key = String::new();
    loop {
        match chars.next() {
            Some('=') => break,
            None => return None,
            Some(char) if is_newline(char) => return None,
            Some(char) => key.push(char),
        }
    }
    let value = value(chars);
    let key = key.trim_end();
    (!key.is_empty()).then(|| (key.to_owned(), Secret::new(value)))
}

/// The value up to the end of its line: quoted parts in a row, then bare text, in which quotes
/// mean nothing any more.
fn value(chars: &mut Chars<'_>) -> String {
    let mut value = String::new();
    let mut is_bare = false;
    // How much of it stays when the blanks at the end go.
    let mut kept = 0;
    while let Some(char) = chars.next() {
        match char {
            char if is_newline(char) => break,
            '\'' if !is_bare => {
                value.extend(chars.by_ref().take_while(|char| *char != '\''));
            }
            '"' if !is_bare => double_quoted(chars, &mut value),
            '\\' => {
                is_bare = true;
                value.extend(chars.next().filter(|next| !is_newline(*next)));
            }
            blank if blank.is_whitespace() => {
                if is_bare {
                    value.push(blank);
                }
                continue;
            }
            char => {
                is_bare = true;
                value.push(char);
            }
        }
        kept = value.len();
    }
    value.truncate(kept);
    value
}

fn is_newline(char: char) -> bool {
    char == '\n' || char == '\r'
}

fn double_quoted(chars: &mut Chars<'_>, value: &mut String) {
    while let Some(char) = chars.next() {
        match char {
            '"' => return,
            '\\' => match chars.next() {
                Some('\n') | None => {}
                Some(next @ ('"' | '\\' | '`' | '$')) => value.push(next),
                Some(next) => value.extend(['\\', next]),
            },
            char => value.push(char),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_systemd_reads() {
        let text = "# comment\n; another\n  A = plain text  \n\
                    B='single $x # kept'\nC=\"dou\\\"ble \\n\"\nD=x # no comment\nE=one \\\ntwo\n\
                    no assignment\nF=\nG='a' \"b\" c 'd'";
        let found: Vec<(String, String)> = parse(text.as_bytes())
            .into_iter()
            .map(|(key, value)| (key, value.expose().into()))
            .collect();
        let expected = [
            ("A", "plain text"),
            ("B", "single $x # kept"),
            ("C", "dou\"ble \\n"),
            ("D", "x # no comment"),
            ("E", "one two"),
            ("F", ""),
            ("G", "abc 'd'"),
        ];
        assert_eq!(found, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
}
