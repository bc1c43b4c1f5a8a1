//! Connection strings: URIs as Rails and libpq take them, and libpq's keywords. Errors say what
//! is wrong and never repeat the text.

use crate::secret::Secret;

use super::super::url::Url;
use super::{Parts, SslMode};

/// A URI or keywords.
pub(super) fn connection(text: &str) -> Result<Parts, &'static str> {
    let is_uri = text.trim_start().split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.chars().all(|char| char.is_ascii_alphanumeric())
    });
    if is_uri {
        return uri(text.trim());
    }
    keywords(text)
}

/// `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=…`; the query wins over the rest.
pub(super) fn uri(text: &str) -> Result<Parts, &'static str> {
    let url = Url::parse(text)?;
    if !["postgres", "postgresql", "postgis"].contains(&url.scheme.as_str()) {
        return Err("it is no postgres:// URL");
    }
    let asked = |key: &str| url.asked(key).map(str::to_owned);
    let port = asked("port").map(|port| port.parse()).transpose();
    let path = url.path.strip_prefix('/').unwrap_or(&url.path).to_owned();
    let exposed = |secret: &Option<Secret>| secret.as_ref().map(|it| it.expose().to_owned());
    let parts = Parts {
        host: asked("host").or(Some(url.host.clone())),
        port: port.map_err(|_| "its port is not a port")?.or(url.port),
        database: asked("dbname").or_else(|| asked("database")).or(Some(path)),
        user: asked("user").or_else(|| asked("username")).or(exposed(&url.user)),
        password: asked("password").map(Secret::new).or(url.password.clone()),
        tls: asked("sslmode").map(|word| SslMode::parse(&word)).transpose()?,
    };
    checked(parts)
}

/// `host=… dbname=… password='it\'s'`. Keywords that do not lead anywhere are passed over.
fn keywords(text: &str) -> Result<Parts, &'static str> {
    let mut parts = Parts::default();
    let mut rest = text.trim_start();
    if rest.is_empty() {
        return Err("it is empty");
    }
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or("a keyword has no =")?;
        let (value, after) = value(after.trim_start())?;
        match name.trim_end() {
            "host" | "hostaddr" => parts.host = Some(value),
            "port" => parts.port = Some(value.parse().map_err(|_| "its port is not a port")?),
            "dbname" => parts.database = Some(value),
            "user" => parts.user = Some(value),
            "password" => parts.password = Some(Secret::new(value)),
            "sslmode" => parts.tls = Some(SslMode::parse(&value)?),
            _ => {}
        }
        rest = after.trim_start();
    }
    checked(parts)
}

/// A value and what follows it: up to the next space, or in single quotes; a backslash takes the
/// next character as it is.
fn value(text: &str) -> Result<(String, &str), &'static str> {
    let (quoted, body) = match text.strip_prefix('\'') {
        Some(body) => (true, body),
        None => (false, text),
    };
    let mut value = String::new();
    let mut chars = body.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' => value.extend(chars.next().map(|(_, char)| char)),
            '\'' if quoted => return Ok((value, &body[at + 1..])),
            char if !quoted && char.is_ascii_whitespace() => return Ok((value, &body[at..])),
            char => value.push(char),
        }
    }
    if quoted { Err("a quoted value is not closed") } else { Ok((value, "")) }
}

/// What is empty is not there, and one connection has one server.
fn checked(parts: Parts) -> Result<Parts, &'static str> {
    if parts.host.as_deref().is_some_and(|host| host.contains(',')) {
        return Err("it names several servers");
    }
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    Ok(Parts {
        host: filled(parts.host),
        database: filled(parts.database),
        user: filled(parts.user),
        password: parts.password.filter(|password| !password.is_empty()),
        ..parts
    })
}
