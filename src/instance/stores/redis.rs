//! The up to three Redis databases of an instance, found as Mastodon's
//! `lib/mastodon/redis_configuration.rb` finds them.

use std::fmt;

use crate::error::Advice;
use crate::host::Address;
use crate::secret::Secret;

use super::super::url::Url;
use super::super::variables::{Variables, filled, filled_secret};

const PORT_DEFAULT: u16 = 6379;

/// A database of a Redis server, as seen from Mastodon's machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisAddress {
    pub address: Address,
    /// The name that the server's certificate must have; absent without TLS.
    pub tls_name: Option<String>,
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub db: u32,
    /// `REDIS_NAMESPACE`, with which every key begins; gone since Mastodon 4.4.
    pub namespace: Option<String>,
}

/// What is kept where; without variables of their own, Sidekiq and the cache use the main one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisStores {
    /// Home feeds, counters, trends.
    pub base: RedisAddress,
    /// Jobs that wait: what must not be lost.
    pub sidekiq: RedisAddress,
    /// Of no value: it is filled again within minutes.
    pub cache: RedisAddress,
}

impl RedisStores {
    /// The databases worth moving, each once: the base, and Sidekiq's where it is another.
    pub fn worth_moving(&self) -> Vec<&RedisAddress> {
        let mut stores = vec![&self.base];
        if !self.sidekiq.is_same_database(&self.base) {
            stores.push(&self.sidekiq);
        }
        stores
    }
}

/// Why Redis cannot be found. No error repeats a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedisAddressError {
    #[error("{key} cannot be understood: {problem}")]
    Variable { key: String, problem: &'static str },
    /// Of the configuration.
    #[error("`redis_url` cannot be understood: {problem}")]
    Url { problem: &'static str },
    #[error("Redis is found through Sentinel ({key}), which transhume does not ask")]
    Sentinel { key: String },
}

impl Advice for RedisAddressError {
    fn hint(&self) -> Option<String> {
        match self {
            RedisAddressError::Variable { key, .. } => Some(format!(
                "correct {key} in .env.production, or set `redis_url` of that side in transhume.toml"
            )),
            RedisAddressError::Url { .. } => {
                Some("write it as redis://:PASSWORD@HOST:PORT/DB, special characters as %XX".into())
            }
            RedisAddressError::Sentinel { .. } => Some(
                "set `redis_url` of that side in transhume.toml to the server that is the master now"
                    .into(),
            ),
        }
    }
}

/// For messages: without the login.
impl fmt::Display for RedisAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.address)?;
        if self.db == 0 { Ok(()) } else { write!(out, "/{}", self.db) }
    }
}

impl RedisAddress {
    /// From the operator's `redis_url`: `redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]`, `rediss://…`
    /// or `unix:///PATH[?db=DB]`.
    pub fn from_url(url: &Secret) -> Result<RedisAddress, RedisAddressError> {
        parse(url.expose()).map_err(|problem| RedisAddressError::Url { problem })
    }

    fn is_same_database(&self, other: &RedisAddress) -> bool {
        self.address == other.address && self.db == other.db
    }
}

/// Where Mastodon keeps what in Redis.
pub fn redis_stores(variables: &dyn Variables) -> Result<RedisStores, RedisAddressError> {
    let namespace = filled(variables, "REDIS_NAMESPACE");
    let base = RedisAddress {
        namespace: namespace.clone(),
        ..find(variables, "", Some("localhost"))?.unwrap_or_else(default)
    };
    let of = |prefix| {
        let own = find(variables, prefix, None)?;
        let own = own.map(|own| RedisAddress { namespace: namespace.clone(), ..own });
        Ok(own.unwrap_or_else(|| base.clone()))
    };
    let cache_namespace = namespace.as_ref().map_or("cache".into(), |name| format!("{name}_cache"));
    Ok(RedisStores {
        sidekiq: of("SIDEKIQ_")?,
        cache: RedisAddress { namespace: Some(cache_namespace), ..of("CACHE_")? },
        base,
    })
}

/// What a Redis client without any address connects to.
fn default() -> RedisAddress {
    RedisAddress {
        address: Address::Tcp { host: "localhost".into(), port: PORT_DEFAULT },
        tls_name: None,
        user: None,
        password: None,
        db: 0,
        namespace: None,
    }
}

/// One role: its URL; else its host, with port, database and login of its own; else none.
fn find(
    variables: &dyn Variables,
    prefix: &str,
    host_default: Option<&str>,
) -> Result<Option<RedisAddress>, RedisAddressError> {
    let key = |name: &str| format!("{prefix}REDIS_{name}");
    let wrong = |name| move |problem| RedisAddressError::Variable { key: key(name), problem };
    if let Some(url) = variables.get(&key("URL")).filter(|url| !url.is_empty()) {
        let found = parse(url.expose()).map_err(wrong("URL"))?;
        // The Ruby client has no way to name the database of a socket.
        let is_socket = matches!(found.address, Address::Unix { .. });
        return Ok(Some(RedisAddress { db: if is_socket { 0 } else { found.db }, ..found }));
    }
    if ["SENTINEL_MASTER", "SENTINELS"].iter().all(|name| filled(variables, &key(name)).is_some()) {
        return Err(RedisAddressError::Sentinel { key: key("SENTINELS") });
    }
    let host = filled(variables, &key("HOST")).or(host_default.map(str::to_owned));
    let Some(host) = host else { return Ok(None) };
    let port = filled(variables, &key("PORT")).map(|port| port.trim().parse()).transpose();
    let db = filled(variables, &key("DB")).map(|db| db.trim().parse()).transpose();
    let port = port.map_err(|_| "it is no port").map_err(wrong("PORT"))?;
    Ok(Some(RedisAddress {
        address: Address::Tcp { host, port: port.unwrap_or(PORT_DEFAULT) },
        user: filled(variables, &key("USER")),
        password: filled_secret(variables, &key("PASSWORD")),
        db: db.map_err(|_| "it is no number").map_err(wrong("DB"))?.unwrap_or(0),
        ..default()
    }))
}

fn parse(text: &str) -> Result<RedisAddress, &'static str> {
    if text.starts_with('/') {
        return Ok(RedisAddress { address: Address::Unix { path: text.to_owned() }, ..default() });
    }
    let url = Url::parse(text)?;
    let number = |text: &str| match text {
        "" => Ok(0),
        text => text.parse().map_err(|_| "its database is not a number"),
    };
    let login = login(&url);
    match url.scheme.as_str() {
        "unix" if url.path.len() < 2 => Err("the socket has no path"),
        "unix" => Ok(RedisAddress {
            db: number(url.asked("db").unwrap_or_default())?,
            address: Address::Unix { path: format!("{}{}", url.host, url.path) },
            user: login.0,
            password: login.1,
            ..default()
        }),
        "redis" | "rediss" => {
            let host = if url.host.is_empty() { "localhost".into() } else { url.host.clone() };
            Ok(RedisAddress {
                tls_name: (url.scheme == "rediss").then(|| host.clone()),
                address: Address::Tcp { host, port: url.port.unwrap_or(PORT_DEFAULT) },
                db: number(url.path.trim_start_matches('/'))?,
                user: login.0,
                password: login.1,
                ..default()
            })
        }
        _ => Err("its scheme is none of redis, rediss and unix"),
    }
}

/// User and password. A lone word before the @ is the password, as in redis-client.
fn login(url: &Url) -> (Option<String>, Option<Secret>) {
    let filled = |secret: &Option<Secret>| secret.clone().filter(|text| !text.is_empty());
    match (&url.user, &url.password) {
        (user, None) => (None, filled(user)),
        (user, Some(_)) => {
            (filled(user).map(|user| user.expose().to_owned()), filled(&url.password))
        }
    }
}
