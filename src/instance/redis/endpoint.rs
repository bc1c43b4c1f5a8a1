//! Where a Redis is and how to log in: from a URL or from Mastodon's variables. Pure.

use crate::host::Address;
use crate::secret::Secret;

use super::RedisError;

/// A database of a Redis server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub address: Address,
    /// The name that the server's certificate must have; absent without TLS.
    pub tls_name: Option<String>,
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub db: u32,
}

impl Endpoint {
    /// From `redis://[USER[:PASSWORD]@]HOST[:PORT][/DB]`, `rediss://…` or `unix:///PATH[?db=DB]`.
    pub fn from_url(url: &Secret) -> Result<Endpoint, RedisError> {
        let problem = |problem| RedisError::Url { problem };
        let (scheme, rest) = url.expose().split_once("://").ok_or(problem("it has no scheme"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let db_asked = query.split('&').find_map(|pair| pair.strip_prefix("db="));
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, rest),
        };
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, "")))
        {
            Some((user, password)) => (decoded(user)?, decoded(password)?),
            None => (None, None),
        };
        let number = |text: &str| match text {
            "" => Ok(0),
            text => text.parse().map_err(|_| problem("the database is not a number")),
        };
        let (address, tls_name, db) = match scheme {
            "unix" => {
                let path = decoded(place)?.ok_or(problem("the socket has no path"))?;
                (Address::Unix { path }, None, number(db_asked.unwrap_or_default())?)
            }
            "redis" | "rediss" => {
                let (place, path) = place.split_once('/').unwrap_or((place, ""));
                let (host, port) =
                    host_and_port(place).ok_or(problem("the port is not a number"))?;
                let tls_name = (scheme == "rediss").then(|| host.clone());
                (Address::Tcp { host, port }, tls_name, number(db_asked.unwrap_or(path))?)
            }
            _ => return Err(problem("the scheme is none of redis, rediss and unix")),
        };
        Ok(Endpoint { address, tls_name, user, password: password.map(Secret::new), db })
    }

    /// As Mastodon finds it from its variables. `prefix` is empty for the main one, `SIDEKIQ_` or
    /// `CACHE_` for those that may be apart; `None` where such a one is not named and the main
    /// one serves.
    pub fn from_env(
        get: impl Fn(&str) -> Option<String>,
        prefix: &str,
    ) -> Result<Option<Endpoint>, RedisError> {
        let named = |name: &str| {
            let variable = format!("{prefix}REDIS_{name}");
            get(&variable).filter(|value| !value.is_empty())
        };
        if named("SENTINELS").is_some() {
            return Err(RedisError::Sentinel { variable: format!("{prefix}REDIS_SENTINELS") });
        }
        if let Some(url) = named("URL") {
            return Endpoint::from_url(&Secret::new(url)).map(Some);
        }
        if !prefix.is_empty() && ["HOST", "PORT", "DB"].iter().all(|name| named(name).is_none()) {
            return Ok(None);
        }
        let number = |name, default: &str| named(name).unwrap_or_else(|| default.to_owned());
        let port = number("PORT", "6379").parse();
        let port = port.map_err(|_| RedisError::Url { problem: "REDIS_PORT is not a number" })?;
        let db = number("DB", "0").parse();
        let db = db.map_err(|_| RedisError::Url { problem: "REDIS_DB is not a number" })?;
        let host = named("HOST").unwrap_or_else(|| "localhost".to_owned());
        Ok(Some(Endpoint {
            address: Address::Tcp { host, port },
            tls_name: None,
            user: named("USER"),
            password: named("PASSWORD").map(Secret::new),
            db,
        }))
    }
}

/// For messages: without the login.
impl std::fmt::Display for Endpoint {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}", self.address)?;
        if self.db == 0 { Ok(()) } else { write!(out, "/{}", self.db) }
    }
}

fn host_and_port(place: &str) -> Option<(String, u16)> {
    let default =
        |host: &str| if host.is_empty() { "localhost".to_owned() } else { host.to_owned() };
    if let Some(rest) = place.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        let port = rest.strip_prefix(':').map_or(Ok(6379), str::parse).ok()?;
        return Some((host.to_owned(), port));
    }
    match place.split_once(':') {
        Some((host, port)) => Some((default(host), port.parse().ok()?)),
        None => Some((default(place), 6379)),
    }
}

/// `text` with its %XX undone; `None` for nothing.
fn decoded(text: &str) -> Result<Option<String>, RedisError> {
    let problem = RedisError::Url { problem: "a % is not followed by two hexadecimal digits" };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.map(|digits| u8::from_str_radix(digits, 16)) {
            Some(Ok(byte)) => bytes.push(byte),
            Some(Err(_)) | None => return Err(problem),
        }
        rest = &tail[2..];
    }
    match String::from_utf8(bytes) {
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(RedisError::Url { problem: "the login is not UTF-8" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Result<Endpoint, RedisError> {
        Endpoint::from_url(&Secret::new(text))
    }

    #[test]
    fn urls_as_mastodon_takes_them() {
        let plain = url("redis://localhost:6380/2").unwrap();
        assert_eq!(plain.to_string(), "localhost:6380/2");
        assert_eq!((plain.user, plain.password), (None, None));
        let login = url("rediss://:p%40ss%3Aw@[::1]").unwrap();
        assert_eq!(login.address, Address::Tcp { host: "::1".into(), port: 6379 });
        assert_eq!(login.password, Some(Secret::new("p@ss:w")));
        assert_eq!(login.tls_name.as_deref(), Some("::1"));
        let user = url("redis://alice:x@h").unwrap();
        assert_eq!((user.user.as_deref(), user.db), (Some("alice"), 0));
        let socket = url("unix:///run/redis.sock?db=3").unwrap();
        assert_eq!((socket.address.to_string().as_str(), socket.db), ("/run/redis.sock", 3));
    }

    #[test]
    fn a_bad_url_is_not_repeated_in_the_error() {
        for text in [
            "hunter2",
            "http://hunter2@h",
            "redis://hunter2@h:x",
            "redis://:%hunter2@h",
            "redis://h/hunter2",
        ] {
            let error = url(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn mastodons_variables() {
        let env = |name: &str| {
            let pairs = [
                ("REDIS_HOST", "redis.internal"),
                ("REDIS_PASSWORD", "x"),
                ("SIDEKIQ_REDIS_URL", "redis://jobs/1"),
            ];
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        let base = Endpoint::from_env(env, "").unwrap().unwrap();
        assert_eq!(base.to_string(), "redis.internal:6379");
        assert_eq!(base.password, Some(Secret::new("x")));
        assert_eq!(
            Endpoint::from_env(env, "SIDEKIQ_").unwrap().unwrap().to_string(),
            "jobs:6379/1"
        );
        assert_eq!(Endpoint::from_env(env, "CACHE_").unwrap(), None);
        let sentinel = |name: &str| (name == "REDIS_SENTINELS").then(|| "a:1".to_owned());
        assert!(matches!(Endpoint::from_env(sentinel, ""), Err(RedisError::Sentinel { .. })));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "(redis|unix|rediss)://[%:@/?a-z0-9\\[\\]é]{0,30}") {
            let _ = url(&text);
        }
    }
}
