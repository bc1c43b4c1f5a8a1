//! What an assignment's text means: quotes, escapes, `$variables`.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::scan::{Place, Statement};
use super::{EnvFileError, Value};
use crate::secret::Secret;

const LINEBREAK_MODE: &str = "DOTENV_LINEBREAK_MODE";

/// The last value of every key.
pub(super) fn evaluate(
    text: &str,
    statements: &[Statement],
) -> Result<BTreeMap<String, Value>, EnvFileError> {
    let mut values = BTreeMap::new();
    for statement in statements {
        let key = statement.key.clone();
        match &statement.value {
            Place::At(_) | Place::None(_) if statement.is_bare_export => {
                if !values.contains_key(&key) {
                    return Err(EnvFileError::ExportOfUnset { line: statement.line, key });
                }
            }
            Place::At(range) => {
                let value = interpret(&text[range.clone()], &values);
                values.insert(key, value);
            }
            Place::None(_) => {
                values.insert(key, Value::Known(Secret::new("")));
            }
        }
    }
    Ok(values)
}

fn interpret(text: &str, earlier: &BTreeMap<String, Value>) -> Value {
    let text = Zeroizing::new(text.replace("\r\n", "\n").replace('\r', "\n"));
    let (quote, inner) = unquote(&text);
    if quote == Some('\'') {
        return Value::Known(Secret::new(inner));
    }
    let mut value = Zeroizing::new(inner.to_owned());
    if quote == Some('"') {
        let legacy = match earlier.get(LINEBREAK_MODE) {
            Some(Value::Known(mode)) => mode.expose() == "legacy",
            Some(Value::Command) | None => false,
        };
        let (newline, carriage_return) = if legacy { ("\n", "\r") } else { (r"\\n", r"\\r") };
        value = Zeroizing::new(value.replace(r"\n", newline).replace(r"\r", carriage_return));
    }
    let value = Zeroizing::new(unescape(&value));
    if runs_command(&value) { Value::Command } else { substitute(&value, earlier) }
}

/// The quote that surrounds `text`, if one does, and what is inside.
fn unquote(text: &str) -> (Option<char>, &str) {
    for quote in ['\'', '"'] {
        let inner = text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        if let Some(inner) = inner {
            return (Some(quote), inner);
        }
    }
    (None, text)
}

/// A backslash goes, except before `$`, where it still has its work to do.
fn unescape(text: &str) -> String {
    let mut value = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match (char, chars.peek()) {
            ('\\', Some(next)) if *next != '$' => value.extend(chars.next()),
            _ => value.push(char),
        }
    }
    value
}

/// Whether `$(…)`, not escaped, with something inside and balanced, is in `text`.
fn runs_command(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find("$(") {
        let end = command_len(&rest[at + 1..]);
        if end.is_some() && !rest[..at].ends_with('\\') {
            return true;
        }
        // What an escaped command holds is not run either.
        rest = &rest[at + 1 + end.unwrap_or(1)..];
    }
    false
}

/// The length of the command in parentheses that `text` begins with: balanced, no pair empty.
fn command_len(text: &str) -> Option<usize> {
    let mut depth = 0;
    let mut previous = ' ';
    for (at, char) in text.char_indices() {
        match char {
            '(' => depth += 1,
            ')' if previous == '(' => return None,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at + 1);
        }
        previous = char;
    }
    None
}

/// Replaces `$NAME` and `${NAME}` by earlier values. dotenv would also look at the environment of
/// the process; what is in neither becomes nothing.
fn substitute(text: &str, earlier: &BTreeMap<String, Value>) -> Value {
    let mut value = Zeroizing::new(String::with_capacity(text.len()));
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let escaped = rest[..at].ends_with('\\');
        let after = &rest[at + 1..];
        if let Some(command) = after.strip_prefix('(') {
            // An escaped command loses its backslash.
            let escaped = escaped && command_len(after).is_some();
            value.push_str(if escaped { &rest[..at - 1] } else { &rest[..at] });
            value.push_str("$(");
            rest = command;
            continue;
        }
        let open = usize::from(after.starts_with('{'));
        let name_len = after[open..].bytes().take_while(|byte| is_name(*byte)).count();
        let name = &after[open..open + name_len];
        let close = usize::from(after[open + name_len..].starts_with('}'));
        let end = open + name_len + close;
        if escaped {
            value.push_str(&rest[..at - 1]);
            value.push_str(&rest[at..at + 1 + end]);
        } else if name.is_empty() {
            value.push_str(&rest[..at + 1 + end]);
        } else {
            value.push_str(&rest[..at]);
            match earlier.get(name) {
                Some(Value::Known(secret)) => value.push_str(secret.expose()),
                Some(Value::Command) => return Value::Command,
                None => {}
            }
        }
        rest = &after[end..];
    }
    value.push_str(rest);
    Value::Known(Secret::new(value.as_str()))
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}
