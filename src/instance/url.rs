//! URLs with a login, as `DATABASE_URL` and `REDIS_URL` hold them. Pure. Whoever reports an error
//! says what is wrong, never what the text is: it holds a password.

use crate::secret::Secret;

/// A URL taken apart, percent-encoding undone. What is not there is `None` or empty.
pub(super) struct Url {
    pub scheme: String,
    pub user: Option<Secret>,
    pub password: Option<Secret>,
    pub host: String,
    pub port: Option<u16>,
    /// With its leading slash.
    pub path: String,
    pub query: Vec<(String, String)>,
}

impl Url {
    /// Takes `text` apart, or says what is wrong with it.
    pub fn parse(text: &str) -> Result<Url, &'static str> {
        let (scheme, rest) = text.split_once(':').ok_or("it has no scheme")?;
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (login, place) = match authority.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, authority),
        };
        let (user, password) = match login.map(|login| login.split_once(':').ok_or(login)) {
            None => (None, None),
            Some(Ok((user, password))) => (Some(user), Some(password)),
            Some(Err(user)) => (Some(user), None),
        };
        let secret =
            |text: Option<&str>| text.map(decoded).transpose().map(|it| it.map(Secret::new));
        let (host, port) = host_and_port(place)?;
        Ok(Url {
            scheme: scheme.to_ascii_lowercase(),
            user: secret(user)?,
            password: secret(password)?,
            host: decoded(host)?,
            port,
            path: decoded(path)?,
            query: pairs(query)?,
        })
    }

    /// The last value that the query gives `key`.
    pub fn asked(&self, key: &str) -> Option<&str> {
        self.query.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

fn host_and_port(place: &str) -> Result<(&str, Option<u16>), &'static str> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or("a [ is not closed")?;
            let port = rest.strip_prefix(':').or(rest.is_empty().then_some(""));
            (host, port.ok_or("something follows the ] that is no port")?)
        }
        None if place.contains(',') => return Err("it names several servers"),
        None => place.split_once(':').unwrap_or((place, "")),
    };
    match port {
        "" => Ok((host, None)),
        port => port.parse().map(|port| (host, Some(port))).map_err(|_| "its port is not a port"),
    }
}

fn pairs(query: &str) -> Result<Vec<(String, String)>, &'static str> {
    let pair = |text: &str| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        Ok((decoded(name)?, decoded(value)?))
    };
    query.split('&').filter(|text| !text.is_empty()).map(pair).collect()
}

/// `text` with its %XX undone.
pub(super) fn decoded(text: &str) -> Result<String, &'static str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |index: usize| tail.get(index).and_then(|&it| char::from(it).to_digit(16));
        let (Some(high), Some(low)) = (digit(0), digit(1)) else {
            return Err("a % in it is not followed by two hexadecimal digits");
        };
        // Two hexadecimal digits fit into a byte.
        bytes.push((high * 16 + low) as u8);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).map_err(|_| "a part of it is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn all_parts() {
        let url = Url::parse("postgres://a%40b:p%3Aw%2F@[::1]:6432/my%20db?host=x&sslmode=require")
            .unwrap_or_else(|problem| panic!("{problem}"));
        assert_eq!(url.scheme, "postgres");
        assert_eq!(url.user, Some(Secret::new("a@b")));
        assert_eq!(url.password, Some(Secret::new("p:w/")));
        assert_eq!((url.host.as_str(), url.port), ("::1", Some(6432)));
        assert_eq!(url.path, "/my db");
        assert_eq!(url.asked("sslmode"), Some("require"));
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, problem) in [
            ("nothing", "it has no scheme"),
            ("redis://h:x", "its port is not a port"),
            ("redis://h:70000", "its port is not a port"),
            ("redis://[::1", "a [ is not closed"),
            ("redis://:%zz@h", "a % in it is not followed by two hexadecimal digits"),
            ("redis://:%é@h", "a % in it is not followed by two hexadecimal digits"),
            ("redis://:%ff@h", "a part of it is not UTF-8"),
            ("postgres://a,b/db", "it names several servers"),
        ] {
            assert_eq!(Url::parse(text).err(), Some(problem), "{text}");
        }
    }

    fn encoded(text: &str) -> String {
        text.bytes().map(|byte| format!("%{byte:02X}")).collect()
    }

    proptest! {
        /// The law: whatever a password is, its encoded form gives it back.
        #[test]
        fn a_password_comes_back(password in any::<String>(), user in "[a-z]{1,8}") {
            let text = format!("postgres://{user}:{}@h:1/d", encoded(&password));
            let url = Url::parse(&text).map_err(TestCaseError::fail)?;
            prop_assert_eq!(url.password, Some(Secret::new(password)));
            prop_assert_eq!(url.user, Some(Secret::new(user)));
        }

        #[test]
        fn never_panics(text in "[a-z]{0,3}:?/?/?[%:@/?&=,a-f0-9\\[\\]é]{0,30}") {
            let _ = Url::parse(&text);
        }
    }
}
