//! Whether a configuration that holds secrets lies where others can read it, and one whose
//! commands we run where others can write it. Pure.

use crate::secret::Secret;

use super::{Config, Side};

/// What is wrong with the mode of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// The keys that hold secrets, and others may read them.
    Secrets(Vec<String>),
    /// Others may put commands into it.
    Commands,
}

/// What a file of this mode gives away. A group counts as others, as for a private SSH key.
pub fn exposure(config: &Config, mode: u32) -> Option<Exposure> {
    let secrets = secrets(config);
    match mode {
        mode if mode & 0o002 != 0 => Some(Exposure::Commands),
        mode if mode & 0o077 != 0 && !secrets.is_empty() => Some(Exposure::Secrets(secrets)),
        _ => None,
    }
}

/// The keys that hold secrets, as an operator would name them.
fn secrets(config: &Config) -> Vec<String> {
    let sides = [("source", &config.source), ("target", &config.target)];
    sides.into_iter().flat_map(|(name, side)| secrets_of(name, side)).collect()
}

fn secrets_of(name: &str, side: &Side) -> Vec<String> {
    let named = |key: &str| format!("{name}.{key}");
    let variables = side.env.iter().filter(|(key, value)| is_secret(key, value));
    let mut found: Vec<String> = variables.map(|(key, _)| named(&format!("env.{key}"))).collect();
    if side.database.url.as_ref().is_some_and(holds_password) {
        found.push(named("database.url"));
    }
    if side.redis_url.as_ref().is_some_and(|url| url.expose().contains('@')) {
        found.push(named("redis_url"));
    }
    found
}

/// Whether a variable of Mastodon's is one, by its name; a URL, by the login in it.
fn is_secret(key: &str, value: &Secret) -> bool {
    const WORDS: [&str; 5] = ["PASS", "SECRET", "PRIVATE", "TOKEN", "_KEY"];
    // Amazon calls a name a key, and the other half of a pair is public by its nature.
    const PUBLIC: [&str; 2] = ["AWS_ACCESS_KEY_ID", "VAPID_PUBLIC_KEY"];
    let text = value.expose();
    let is_named = WORDS.iter().any(|word| key.contains(word)) && !PUBLIC.contains(&key);
    !text.is_empty() && (is_named || text.contains("://") && text.contains('@'))
}

/// Whether a connection string has a password: as a keyword, or after a user in a URI.
fn holds_password(url: &Secret) -> bool {
    let text = url.expose();
    let login = text.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@'));
    text.contains("password") || login.is_some_and(|(login, _)| login.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn of(text: &str, mode: u32) -> Option<Exposure> {
        let text = format!("[target]\nhost = \"h\"\n{text}");
        exposure(&Config::parse(&text, Path::new("transhume.toml")).unwrap(), mode)
    }

    #[test]
    fn a_file_without_secrets_may_be_read_but_not_written_by_others() {
        for plain in [
            "",
            "env = { DB_HOST = \"/run/pg\", DB_PASS = \"\", VAPID_PUBLIC_KEY = \"B\" }",
            "redis_url = \"redis://localhost\"",
            "database.url = \"postgres://mastodon@localhost/x\"",
        ] {
            assert_eq!(of(plain, 0o644), None, "{plain}");
            assert_eq!(of(plain, 0o664), None, "{plain}");
            assert_eq!(of(plain, 0o666), Some(Exposure::Commands), "{plain}");
        }
    }

    #[test]
    fn a_secret_is_for_its_owner_alone() {
        for (text, key) in [
            ("env = { DB_PASS = \"x\", DB_PORT = \"1\" }", "target.env.DB_PASS"),
            ("env = { REDIS_URL = \"redis://:x@h\" }", "target.env.REDIS_URL"),
            ("env = { AWS_SECRET_ACCESS_KEY = \"x\" }", "target.env.AWS_SECRET_ACCESS_KEY"),
            ("redis_url = \"redis://x@localhost\"", "target.redis_url"),
            ("database.url = \"postgres://m:x@localhost/x\"", "target.database.url"),
            ("database.url = \"user=m password=x\"", "target.database.url"),
        ] {
            assert_eq!(of(text, 0o600), None, "{text}");
            for mode in [0o640, 0o604, 0o644] {
                assert_eq!(of(text, mode), Some(Exposure::Secrets(vec![key.into()])), "{text}");
            }
        }
    }
}
