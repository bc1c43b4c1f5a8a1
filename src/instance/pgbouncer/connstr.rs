//! The value of a line under `[databases]`: `host=… port=… password='it''s'`.

use crate::secret::Secret;

use super::Entry;

/// What a connection string says; parameters that do not lead anywhere are passed over.
pub(super) fn entry(text: &str) -> Result<Entry, &'static str> {
    let mut entry = Entry::default();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or("a parameter has no =")?;
        let (value, after) = value(after.trim_start())?;
        let filled = Some(value).filter(|value| !value.is_empty());
        match name.trim_end() {
            "host" => entry.host = filled,
            "port" => {
                let port = filled.map(|port| port.parse()).transpose();
                entry.port = port.map_err(|_| "a port is not a port")?;
            }
            "dbname" => entry.dbname = filled,
            "user" => entry.user = filled,
            "password" => entry.password = filled.map(Secret::new),
            _ => {}
        }
        rest = after.trim_start();
    }
    Ok(entry)
}

/// A value and what follows it: up to the next space, or in single quotes with `''` for one.
fn value(text: &str) -> Result<(String, &str), &'static str> {
    let Some(mut rest) = text.strip_prefix('\'') else {
        let end = text.find(|char: char| char.is_ascii_whitespace()).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return Ok((value.to_owned(), rest));
    };
    let mut value = String::new();
    loop {
        let (part, after) = rest.split_once('\'').ok_or("a quoted value is not closed")?;
        value.push_str(part);
        match after.strip_prefix('\'') {
            Some(more) => {
                value.push('\'');
                rest = more;
            }
            None => return Ok((value, after)),
        }
    }
}
