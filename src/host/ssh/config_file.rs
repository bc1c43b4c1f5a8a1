//! The part of ssh_config(5) that decides how a host is reached: `Host` blocks, `Match all`,
//! `Include`. In flow the texts of the files, out flow [`Settings`] for one host. What we do not
//! evaluate (other `Match` lines) is skipped with its block and noted.

use super::pattern::list_matches;
use super::settings::Settings;

const INCLUDE_DEPTH_MAX: usize = 16;

/// A text with the name to call it by in messages.
#[derive(Clone, Debug)]
pub struct Source {
    pub name: String,
    pub text: String,
}

/// A line that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}, line {line}: {problem}")]
pub struct ConfigError {
    pub file: String,
    pub line: usize,
    pub problem: String,
}

/// Finds the files of an `Include` pattern, in order; the error is the problem in words.
pub type Include<'a> = dyn FnMut(&str) -> Result<Vec<Source>, String> + 'a;

/// Reads settings for one host from one file after the other.
pub struct Reading<'a> {
    /// The host as the operator named it.
    pub host: &'a str,
    pub settings: Settings,
    /// What was skipped and why, for people.
    pub notes: Vec<String>,
}

impl Reading<'_> {
    /// Applies a file and what it includes.
    pub fn apply(&mut self, source: &Source, include: &mut Include<'_>) -> Result<(), ConfigError> {
        self.apply_nested(source, true, 0, include)
    }

    fn apply_nested(
        &mut self,
        source: &Source,
        outer_active: bool,
        depth: usize,
        include: &mut Include<'_>,
    ) -> Result<(), ConfigError> {
        let mut active = outer_active;
        for (index, line) in source.text.lines().enumerate() {
            let place =
                |problem| ConfigError { file: source.name.clone(), line: index + 1, problem };
            let Some((name, values)) = split_line(line).map_err(place)? else { continue };
            match name.to_ascii_lowercase().as_str() {
                "host" => {
                    active =
                        outer_active && list_matches(values.iter().map(String::as_str), self.host);
                }
                "match" => {
                    let all = values.len() == 1 && values[0].eq_ignore_ascii_case("all");
                    active = outer_active && all;
                    if outer_active && !all {
                        self.notes.push(format!(
                            "{}, line {}: `{}` is not evaluated, so its block does not apply",
                            source.name,
                            index + 1,
                            line.trim()
                        ));
                    }
                }
                "include" if active => {
                    if depth == INCLUDE_DEPTH_MAX {
                        return Err(place("too many nested Include lines".into()));
                    }
                    for pattern in &values {
                        for file in include(pattern).map_err(place)? {
                            self.apply_nested(&file, active, depth + 1, include)?;
                        }
                    }
                }
                _ if active => {
                    self.settings.set(&name, &values).map_err(place)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Splits `Key value…` or `Key=value…`; `None` for a blank line or a comment.
fn split_line(line: &str) -> Result<Option<(String, Vec<String>)>, String> {
    let line = line.trim_matches(is_blank);
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let end = line.find(|c| is_blank(c) || c == '=' || c == '"').unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    let rest = rest.trim_start_matches(is_blank);
    let rest = rest.strip_prefix('=').unwrap_or(rest);
    Ok(Some((name.to_owned(), split_words(rest)?)))
}

/// Words separated by blanks; `"…"` and `'…'` hold blanks, `\` holds a quote or itself.
pub fn split_words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| is_blank(*c)).is_some() {}
        match chars.peek() {
            // A comment may follow the values.
            None | Some('#') => return Ok(words),
            Some(_) => words.push(take_word(&mut chars)?),
        }
    }
}

fn take_word(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<String, String> {
    let mut word = String::new();
    let mut quote = None;
    while let Some(c) = chars.next_if(|c| quote.is_some() || !is_blank(*c)) {
        match (c, quote) {
            ('\\', _) => match chars.next_if(|next| matches!(next, '"' | '\'' | '\\')) {
                Some(escaped) => word.push(escaped),
                None => word.push('\\'),
            },
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            (c, None | Some(_)) => word.push(c),
        }
    }
    match quote {
        Some(open) => Err(format!("{open} without its end")),
        None => Ok(word),
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\x0c')
}

#[cfg(test)]
mod tests {
    use super::super::settings::Proxy;
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str, host: &str) -> Result<(Settings, Vec<String>), ConfigError> {
        read_with(text, host, &mut |_| Ok(Vec::new()))
    }

    fn read_with(
        text: &str,
        host: &str,
        include: &mut Include<'_>,
    ) -> Result<(Settings, Vec<String>), ConfigError> {
        let mut reading = Reading { host, settings: Settings::default(), notes: Vec::new() };
        let source = Source { name: "config".into(), text: text.into() };
        reading.apply(&source, include)?;
        Ok((reading.settings, reading.notes))
    }

    #[test]
    fn the_first_value_wins_and_identities_add_up() {
        let text = "
# a comment
Port 2200
Host new old*\t!older
    HostName=10.0.0.7
    Port 22
    IdentityFile \"~/keys/my key\"   # and why
\tIDENTITYFILE\t=\t~/.ssh/b
Host *
    User root
    ProxyJump admin@jump:2222,second
    IdentityFile ~/.ssh/c
";
        let (new, _) = read(text, "new").unwrap();
        assert_eq!(new.host_name.as_deref(), Some("10.0.0.7"));
        assert_eq!(new.port, Some(2200));
        assert_eq!(new.user.as_deref(), Some("root"));
        assert_eq!(new.identity_files, ["~/keys/my key", "~/.ssh/b", "~/.ssh/c"]);
        assert_eq!(new.proxy, Some(Proxy::Jump(Some("admin@jump:2222,second".into()))));
        let (older, _) = read(text, "older").unwrap();
        assert_eq!((older.host_name, older.port), (None, Some(2200)));
    }

    #[test]
    fn a_match_block_does_not_leak_into_the_block_before_it() {
        let text = "Host new\n User a\nMatch exec \"true\"\n Port 99\nMatch all\n HostName real\n";
        let (settings, notes) = read(text, "new").unwrap();
        assert_eq!((settings.port, settings.host_name.as_deref()), (None, Some("real")));
        assert_eq!(
            notes,
            ["config, line 3: `Match exec \"true\"` is not evaluated, so its block does not apply"]
        );
    }

    #[test]
    fn an_include_applies_only_where_it_stands() {
        let mut asked = Vec::new();
        let mut include = |pattern: &str| {
            asked.push(pattern.to_owned());
            Ok(vec![Source { name: "inc".into(), text: "User x\nHost other\nPort 9\n".into() }])
        };
        let text = "Host new\nInclude conf.d/*\nHost other\nInclude never\nHost new\nPort 7\n";
        let (settings, _) = read_with(text, "new", &mut include).unwrap();
        assert_eq!((settings.user.as_deref(), settings.port), (Some("x"), Some(7)));
        assert_eq!(asked, ["conf.d/*"]);
    }

    #[test]
    fn what_cannot_be_understood_is_an_error_with_its_line() {
        let cases = [
            ("\nPort nine", "config, line 2: Port nine is not a number from 1 to 65535"),
            ("User \"root", "config, line 1: \" without its end"),
            ("User", "config, line 1: User has no value"),
            (
                "StrictHostKeyChecking perhaps",
                "config, line 1: StrictHostKeyChecking perhaps is none of yes, ask, accept-new, no",
            ),
        ];
        for (text, wanted) in cases {
            assert_eq!(read(text, "new").unwrap_err().to_string(), wanted);
        }
    }

    #[test]
    fn a_loop_of_includes_ends() {
        let mut include =
            |_: &str| Ok(vec![Source { name: "loop".into(), text: "Include loop".into() }]);
        let error = read_with("Include loop", "new", &mut include).unwrap_err();
        assert!(error.problem.contains("nested"));
    }

    fn quoted(word: &str) -> String {
        format!("\"{}\"", word.replace('\\', r"\\").replace('"', "\\\""))
    }

    proptest! {
        /// The law: quoted words read back the same, however they are spaced.
        #[test]
        fn quoted_words_read_back(
            words in prop::collection::vec("[ -~\t]{0,10}", 1..4),
            gap in "[ \t]{1,3}",
        ) {
            let line = format!("{gap}Key{gap}={gap}{}", words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(&gap));
            prop_assert_eq!(split_line(&line), Ok(Some(("Key".to_owned(), words))));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[ -~\t\n]{0,80}", host in "[a-z]{1,5}") {
            let _ = read(&text, &host);
        }
    }
}
