//! The ini dialect of PgBouncer: `[section]`, `key = value` to the end of the line, `%include`,
//! comments only on lines of their own.

/// A line that says something.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Item {
    Section(String),
    Include(String),
    Pair(String, String),
}

/// The items in `text` with their line numbers, or the line that is wrong and why.
pub(super) fn items(text: &str) -> Result<Vec<(usize, Item)>, (usize, &'static str)> {
    let numbered = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    numbered
        .filter(|(_, line)| !line.is_empty() && !line.starts_with(['#', ';']))
        .map(|(number, line)| match item(line) {
            Ok(item) => Ok((number, item)),
            Err(problem) => Err((number, problem)),
        })
        .collect()
}

fn item(line: &str) -> Result<Item, &'static str> {
    if let Some(rest) = line.strip_prefix('[') {
        let (name, _) = rest.split_once(']').ok_or("a section name is not closed")?;
        return Ok(Item::Section(name.to_owned()));
    }
    if let Some(rest) = line.strip_prefix("%include").filter(|rest| rest.starts_with([' ', '\t'])) {
        return Ok(Item::Include(rest.trim().to_owned()));
    }
    let (key, rest) = key(line)?;
    let value = rest.trim_start().strip_prefix('=').ok_or("there is no = after the name")?;
    Ok(Item::Pair(key, value.trim().to_owned()))
}

/// The name a line begins with: plain, or in double quotes with `""` for one of them.
fn key(line: &str) -> Result<(String, &str), &'static str> {
    let Some(mut rest) = line.strip_prefix('"') else {
        let plain = |char: char| char.is_ascii_alphanumeric() || "_.-*".contains(char);
        let end = line.find(|char| !plain(char)).unwrap_or(line.len());
        let (key, rest) = line.split_at(end);
        return if key.is_empty() { Err("a name is missing") } else { Ok((key.to_owned(), rest)) };
    };
    let mut key = String::new();
    loop {
        let (part, after) = rest.split_once('"').ok_or("a quoted name is not closed")?;
        key.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                key.push('"');
                rest = more;
            }
            None => return Ok((key, after)),
        }
    }
}
