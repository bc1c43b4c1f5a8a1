//! Where Mastodon's database really is, as seen from its machine.
//!
//! In flow Mastodon's variables, or a URL that the operator gives instead; out flows a
//! [`DatabaseAddress`]. Where the variables lead to PgBouncer, its configuration is followed to
//! the server behind it; where that cannot be done, it is an error: never a guess.

mod text;

use std::fmt;

use crate::error::{Advice, Retry};
use crate::host::{Address, Command, Host, HostError, run_ok};
use crate::secret::Secret;

use super::pgbouncer::{self, PgBouncer, PgBouncerError, is_loopback};
use super::variables::{Variables, filled, filled_secret, text as value};

/// Where Debian's PostgreSQL has its socket.
pub const SOCKET_DIR_DEFAULT: &str = "/var/run/postgresql";
const PORT_DEFAULT: u16 = 5432;
/// Where poolers listen by convention.
const POOLER_PORT: u16 = 6432;

/// A database on a PostgreSQL server, and how to log in to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseAddress {
    pub address: Address,
    pub database: String,
    pub user: String,
    pub password: Option<Secret>,
    pub tls: SslMode,
    /// The pooler that was bypassed.
    pub through: Option<PgBouncerRoute>,
}

/// The way that Mastodon itself takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgBouncerRoute {
    pub address: Address,
    pub database: String,
    pub ini: String,
}

/// libpq's `sslmode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SslMode {
    Disable,
    Allow,
    #[default]
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl SslMode {
    fn parse(word: &str) -> Result<SslMode, &'static str> {
        match word {
            "disable" => Ok(SslMode::Disable),
            "allow" => Ok(SslMode::Allow),
            "prefer" => Ok(SslMode::Prefer),
            "require" => Ok(SslMode::Require),
            "verify-ca" => Ok(SslMode::VerifyCa),
            "verify-full" => Ok(SslMode::VerifyFull),
            _ => Err("its sslmode is none that libpq knows"),
        }
    }

    /// Whether a connection without TLS must be refused.
    pub fn is_required(self) -> bool {
        match self {
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => true,
            SslMode::Disable | SslMode::Allow | SslMode::Prefer => false,
        }
    }
}

/// For messages: without the password.
impl fmt::Display for DatabaseAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} at {}", self.database, self.address)
    }
}

/// Why the database cannot be found. No error repeats a value that may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseAddressError {
    #[error("{key} cannot be understood: {problem}")]
    Variable { key: &'static str, problem: &'static str },
    /// Of the configuration.
    #[error("`database.url` cannot be understood: {problem}")]
    Url { problem: &'static str },
    #[error(
        "{address} looks like PgBouncer (port 6432, or PREPARED_STATEMENTS=false), and {ini} does \
         not tell where it leads"
    )]
    UnknownPooler { address: Address, ini: String },
    #[error("{ini} does not say where the database {database} is")]
    NoEntry { ini: String, database: String },
    #[error("{ini} leads the database {database} to a place that is not one server: {problem}")]
    Entry { ini: String, database: String, problem: &'static str },
    #[error("cannot tell whether {address} is PgBouncer")]
    PgBouncer { address: Address, source: Box<PgBouncerError> },
    #[error(transparent)]
    Host(HostError),
}

impl Advice for DatabaseAddressError {
    fn hint(&self) -> Option<String> {
        const SET: &str = "set `database.url` of that side in transhume.toml to PostgreSQL itself, \
                           such as postgres://mastodon@localhost:5432/mastodon_production";
        match self {
            DatabaseAddressError::Variable { key, .. } => {
                Some(format!("correct {key} in .env.production, or {SET}"))
            }
            DatabaseAddressError::Url { .. } => Some(
                "write it as postgres://USER:PASSWORD@HOST:PORT/DATABASE, special characters as %XX"
                    .into(),
            ),
            DatabaseAddressError::UnknownPooler { .. } => Some(format!(
                "name its PgBouncer's configuration as `database.pgbouncer_ini`, or {SET}"
            )),
            DatabaseAddressError::NoEntry { .. } | DatabaseAddressError::Entry { .. } => {
                Some(SET.into())
            }
            DatabaseAddressError::PgBouncer { source, .. } => {
                Some(source.hint().map_or(SET.into(), |hint| format!("{hint}; or {SET}")))
            }
            DatabaseAddressError::Host(error) => error.hint(),
        }
    }

    fn retry(&self) -> Retry {
        match self {
            DatabaseAddressError::PgBouncer { source, .. } => source.retry(),
            DatabaseAddressError::Host(error) => error.retry(),
            DatabaseAddressError::Variable { .. }
            | DatabaseAddressError::Url { .. }
            | DatabaseAddressError::UnknownPooler { .. }
            | DatabaseAddressError::NoEntry { .. }
            | DatabaseAddressError::Entry { .. } => Retry::Never,
        }
    }
}

/// A connection in pieces; what is missing has a default that depends on who asks.
#[derive(Clone, Default, PartialEq, Eq)]
struct Parts {
    host: Option<String>,
    port: Option<u16>,
    database: Option<String>,
    user: Option<String>,
    password: Option<Secret>,
    tls: Option<SslMode>,
}

impl Parts {
    /// The parts of `self`, and those of `below` where it has none.
    fn over(self, below: Parts) -> Parts {
        Parts {
            host: self.host.or(below.host),
            port: self.port.or(below.port),
            database: self.database.or(below.database),
            user: self.user.or(below.user),
            password: self.password.or(below.password),
            tls: self.tls.or(below.tls),
        }
    }

    /// With libpq's defaults for a process of the user `os_user`.
    fn finish(self, os_user: &str) -> DatabaseAddress {
        let user = self.user.unwrap_or_else(|| os_user.to_owned());
        DatabaseAddress {
            address: place(self.host, self.port, SOCKET_DIR_DEFAULT),
            database: self.database.unwrap_or_else(|| user.clone()),
            user,
            password: self.password,
            tls: self.tls.unwrap_or_default(),
            through: None,
        }
    }
}

/// No host means a socket in `socket_dir`, and a host that begins with a slash is such a directory.
fn place(host: Option<String>, port: Option<u16>, socket_dir: &str) -> Address {
    let port = port.unwrap_or(PORT_DEFAULT);
    let dir = match host {
        None => socket_dir.to_owned(),
        Some(dir) if dir.starts_with('/') => dir,
        Some(host) => return Address::Tcp { host, port },
    };
    Address::Unix { path: format!("{}/.s.PGSQL.{port}", dir.trim_end_matches('/')) }
}

/// From the operator's `database.url`: a URI or keywords, as libpq takes them. Taken at its word:
/// nobody looks for PgBouncer behind it.
pub fn from_url(url: &Secret, os_user: &str) -> Result<DatabaseAddress, DatabaseAddressError> {
    let parts = text::connection(url.expose());
    let parts = parts.map_err(|problem| DatabaseAddressError::Url { problem })?;
    Ok(parts.finish(os_user))
}

/// Where the variables lead, be it a pooler: `DATABASE_URL` over `DB_*` over the defaults of
/// Mastodon's `config/database.yml`. A variable that is set but empty means libpq's own default.
pub fn from_variables(
    variables: &dyn Variables,
    os_user: &str,
) -> Result<DatabaseAddress, DatabaseAddressError> {
    let or = |key, default: &str| {
        let value = value(variables, key).unwrap_or_else(|| default.to_owned());
        Some(value).filter(|value| !value.is_empty())
    };
    let wrong = |key| move |problem| DatabaseAddressError::Variable { key, problem };
    let port = filled(variables, "DB_PORT").map(|port| port.trim().parse()).transpose();
    let tls = filled(variables, "DB_SSLMODE").map(|word| SslMode::parse(&word)).transpose();
    let yml = Parts {
        host: or("DB_HOST", "localhost"),
        port: port.map_err(|_| "it is no port").map_err(wrong("DB_PORT"))?,
        database: or("DB_NAME", "mastodon_production"),
        user: or("DB_USER", "mastodon"),
        password: filled_secret(variables, "DB_PASS"),
        tls: tls.map_err(wrong("DB_SSLMODE"))?,
    };
    let parts = match filled_secret(variables, "DATABASE_URL") {
        None => yml,
        Some(url) => text::uri(url.expose()).map_err(wrong("DATABASE_URL"))?.over(yml),
    };
    Ok(parts.finish(os_user))
}

/// Whether Mastodon also reads from a replica, which the new server may not have.
pub fn has_replica(variables: &dyn Variables) -> bool {
    ["REPLICA_DB_NAME", "REPLICA_DATABASE_URL"].iter().any(|key| filled(variables, key).is_some())
}

/// Where PostgreSQL itself is: as [`from_variables`], and on through the PgBouncer whose
/// configuration is at `ini`.
pub async fn resolve(
    host: &dyn Host,
    variables: &dyn Variables,
    os_user: &str,
    ini: &str,
) -> Result<DatabaseAddress, DatabaseAddressError> {
    let asked = from_variables(variables, os_user)?;
    let suspect = looks_pooled(&asked.address, variables);
    let loaded = match pgbouncer::load(host, ini).await {
        Ok(loaded) => loaded,
        // A file that root may not read matters only to those who may use PgBouncer.
        Err(PgBouncerError::Unreadable { source, .. })
            if is_plain_server(&asked.address)
                && !is_unprepared(variables)
                && source.retry() == Retry::Never =>
        {
            None
        }
        Err(source) => {
            let (address, source) = (asked.address, Box::new(source));
            return Err(DatabaseAddressError::PgBouncer { address, source });
        }
    };
    let names = own_names(host, &asked.address, loaded.as_ref()).await?;
    match loaded {
        Some(bouncer) if bouncer.listens_on(&asked.address, &names) => behind(&bouncer, asked, ini),
        Some(_) | None if suspect => {
            Err(DatabaseAddressError::UnknownPooler { address: asked.address, ini: ini.to_owned() })
        }
        Some(_) | None => Ok(asked),
    }
}

/// PostgreSQL's own port, or the socket of that number.
fn is_plain_server(address: &Address) -> bool {
    match address {
        Address::Tcp { port, .. } => *port == PORT_DEFAULT,
        Address::Unix { path } => path.ends_with(&format!(".{PORT_DEFAULT}")),
    }
}

/// Whether this would be a pooler even if its configuration is not found. Prepared statements are
/// switched off for poolers; a leftover of that beside a server of this machine is harmless.
fn looks_pooled(address: &Address, variables: &dyn Variables) -> bool {
    let (is_pooler_port, is_here) = match address {
        Address::Tcp { host, port } => (*port == POOLER_PORT, is_loopback(host)),
        Address::Unix { path } => (path.ends_with(&format!(".{POOLER_PORT}")), true),
    };
    is_pooler_port || is_unprepared(variables) && !(is_here && is_plain_server(address))
}

fn is_unprepared(variables: &dyn Variables) -> bool {
    filled(variables, "PREPARED_STATEMENTS").as_deref() == Some("false")
}

/// The machine's names and addresses, where they decide anything.
async fn own_names(
    host: &dyn Host,
    asked: &Address,
    bouncer: Option<&PgBouncer>,
) -> Result<Vec<String>, DatabaseAddressError> {
    match (asked, bouncer) {
        (Address::Tcp { host: name, port }, Some(bouncer))
            if *port == bouncer.listen_port && !is_loopback(name) =>
        {
            let script = "uname -n; hostname -f 2>/dev/null; hostname -I 2>/dev/null; exit 0";
            let text = run_ok(host, &Command::script(script, &[])).await;
            let text = text.map_err(DatabaseAddressError::Host)?;
            Ok(text.split_ascii_whitespace().map(str::to_owned).collect())
        }
        _ => Ok(Vec::new()),
    }
}

/// The server that `bouncer` leads to, with the login that it would use there.
fn behind(
    bouncer: &PgBouncer,
    asked: DatabaseAddress,
    ini: &str,
) -> Result<DatabaseAddress, DatabaseAddressError> {
    let (ini, database) = (ini.to_owned(), asked.database);
    let Some(entry) = bouncer.entry(&database).cloned() else {
        return Err(DatabaseAddressError::NoEntry { ini, database });
    };
    let host = entry.host.as_deref().unwrap_or_default();
    let socket_dir = bouncer.unix_socket_dir.as_deref().unwrap_or(SOCKET_DIR_DEFAULT);
    let address = place(entry.host.clone(), entry.port, socket_dir);
    let pooler_port = Address::Tcp { host: host.to_owned(), port: POOLER_PORT };
    let problem = match () {
        () if host.contains(',') => Some("it names several hosts"),
        () if host.starts_with('@') || entry.host.is_none() && socket_dir.starts_with('@') => {
            Some("it is an abstract socket")
        }
        () if address == pooler_port => Some("port 6432 is another pooler"),
        () => None,
    };
    if let Some(problem) = problem {
        return Err(DatabaseAddressError::Entry { ini, database, problem });
    }
    let tls = bouncer.server_tls_sslmode.as_deref().map(SslMode::parse).transpose();
    Ok(DatabaseAddress {
        address,
        database: entry.dbname.unwrap_or_else(|| database.clone()),
        user: entry.user.unwrap_or(asked.user),
        password: entry.password.or(asked.password),
        tls: tls.ok().flatten().unwrap_or_default(),
        through: Some(PgBouncerRoute { address: asked.address, database, ini }),
    })
}

#[cfg(test)]
mod tests;
