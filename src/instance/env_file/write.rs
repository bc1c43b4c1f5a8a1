//! Putting a value into the file, and proving that it says what it should.

use zeroize::Zeroizing;

use super::scan::{Place, Statement, is_key};
use super::{EnvFile, EnvFileError, Value};
use crate::secret::Secret;

/// `file` with `key` set to `value`.
pub(super) fn set(file: &EnvFile, key: &str, value: &Secret) -> Result<EnvFile, EnvFileError> {
    if key.is_empty() || !key.bytes().all(is_key) {
        return Err(EnvFileError::BadKey { key: key.to_owned() });
    }
    if file.get(key).as_ref() == Some(value) {
        return Ok(file.clone());
    }
    let written = quotations(value.expose()).into_iter().find_map(|text| {
        let bytes = splice(file, key, &text);
        EnvFile::parse(&bytes).ok().filter(|edited| is_the_only_change(file, edited, key, value))
    });
    written.ok_or_else(|| EnvFileError::Unwritable { key: key.to_owned() })
}

/// The ways to write a value, the plainest first. Node's dotenv, which streaming uses, and systemd
/// read the first two as Ruby's does.
fn quotations(value: &str) -> Vec<Zeroizing<String>> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.,:/@%+=".contains(&byte);
    let mut ways = Vec::new();
    if value.bytes().all(plain) {
        ways.push(Zeroizing::new(value.to_owned()));
    }
    if !value.contains('\'') {
        ways.push(Zeroizing::new(format!("'{value}'")));
    }
    ways.push(escaped(value, |_| true));
    // What begins like a command and is none would keep the backslash.
    ways.push(escaped(value, |next| next != Some('(')));
    ways
}

/// In double quotes. A `$` gets its backslash if `escapes` the character after it.
fn escaped(value: &str, escapes: impl Fn(Option<char>) -> bool) -> Zeroizing<String> {
    let mut escaped = Zeroizing::new(String::from("\""));
    let mut chars = value.chars().peekable();
    while let Some(char) = chars.next() {
        if matches!(char, '"' | '\\') || char == '$' && escapes(chars.peek().copied()) {
            escaped.push('\\');
        }
        escaped.push(char);
    }
    escaped.push('"');
    escaped
}

/// The bytes with `text` where the last value of `key` is, or on a new last line.
fn splice(file: &EnvFile, key: &str, text: &str) -> Zeroizing<Vec<u8>> {
    let last = last_assignment(file, key).map(|index| &file.statements[index]);
    let bytes: &[u8] = &file.bytes;
    let (range, before) = match last.map(|statement| &statement.value) {
        Some(Place::At(range)) => (range.clone(), String::new()),
        Some(Place::None(at)) => (*at..*at, "=".to_owned()),
        None => {
            let newline = if bytes.is_empty() || bytes.ends_with(b"\n") { "" } else { "\n" };
            (bytes.len()..bytes.len(), format!("{newline}{key}="))
        }
    };
    let rest = &bytes[range.end..];
    // A comment right behind the value would be read as part of it by other programs.
    let after = match rest.first() {
        _ if last.is_none() => "\n",
        Some(b'#') => " ",
        Some(_) | None => "",
    };
    let parts = [&bytes[..range.start], before.as_bytes(), text.as_bytes(), after.as_bytes(), rest];
    Zeroizing::new(parts.concat())
}

/// Whether the statements of `edited` are those of `file`, apart from the last one of `key`, and
/// `key` has its value.
fn is_the_only_change(file: &EnvFile, edited: &EnvFile, key: &str, value: &Secret) -> bool {
    let others = |file: &EnvFile, last: Option<usize>| -> Vec<(String, bool, Zeroizing<Vec<u8>>)> {
        let statements = file.statements.iter().enumerate();
        let others = statements.filter(|(index, _)| Some(*index) != last);
        others
            .map(|(_, found)| (found.key.clone(), found.is_bare_export, raw(file, found)))
            .collect()
    };
    let before = others(file, last_assignment(file, key));
    let after = others(edited, last_assignment(edited, key));
    before == after && edited.values.get(key) == Some(&Value::Known(value.clone()))
}

fn raw(file: &EnvFile, statement: &Statement) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(match &statement.value {
        Place::At(range) => file.bytes[range.clone()].to_vec(),
        Place::None(_) => Vec::new(),
    })
}

/// The index of the statement that gives `key` its value.
fn last_assignment(file: &EnvFile, key: &str) -> Option<usize> {
    file.statements.iter().rposition(|found| found.key == key && !found.is_bare_export)
}
