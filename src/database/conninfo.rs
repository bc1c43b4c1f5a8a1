//! Connection strings as an operator writes them: libpq's keywords or a URI, with an optional
//! `ssh://[user@]host[:port]/` in front that names the machine.

use tokio_postgres::config::{Host as PgHost, SslMode};

use crate::host::Address;
use crate::host::ssh::destination;
use crate::secret::Secret;

use super::DatabaseError;
use super::server::socket_path;

const PORT_DEFAULT: u16 = 5432;
/// Where Debian's PostgreSQL has its sockets.
pub(super) const SOCKET_DIR_DEFAULT: &str = "/var/run/postgresql";

/// What a connection string says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conninfo {
    /// `[user@]host[:port]` of the machine to reach the server from; absent for this one.
    pub ssh: Option<String>,
    pub address: Address,
    pub database: String,
    pub user: Option<String>,
    pub password: Option<Secret>,
}

impl Conninfo {
    /// Reads `text`. No part of a password gets into an error.
    pub fn parse(text: &str) -> Result<Conninfo, DatabaseError> {
        let (ssh, rest) = split_ssh(text)?;
        let refuse = |reason: &str| DatabaseError::Conninfo {
            text: without_password(text),
            reason: reason.to_owned(),
        };
        let config: tokio_postgres::Config = rest
            .parse()
            .map_err(|error: tokio_postgres::Error| refuse(&crate::error::one_line(&error)))?;
        if config.get_ssl_mode() == SslMode::Require {
            return Err(refuse(
                "TLS to PostgreSQL is not spoken; reach the server through SSH (`ssh://…/`)",
            ));
        }
        let user = config.get_user().map(str::to_owned);
        let database = config.get_dbname().map(str::to_owned).or_else(|| user.clone());
        let password =
            config.get_password().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        Ok(Conninfo {
            ssh,
            address: address(&config).map_err(refuse)?,
            database: database.ok_or_else(|| refuse("it names no database (`dbname=`)"))?,
            user,
            password: password.map(Secret::new),
        })
    }
}

fn address(config: &tokio_postgres::Config) -> Result<Address, &'static str> {
    let port = match config.get_ports() {
        [] => PORT_DEFAULT,
        [port] => *port,
        [_, _, ..] => return Err("it names several servers; name the primary"),
    };
    if config.get_hosts().len() > 1 || config.get_hostaddrs().len() > 1 {
        return Err("it names several servers; name the primary");
    }
    let host = match (config.get_hostaddrs(), config.get_hosts()) {
        ([address, ..], _) => address.to_string(),
        ([], [PgHost::Tcp(name), ..]) => name.clone(),
        ([], [PgHost::Unix(dir), ..]) => {
            return Ok(Address::Unix { path: socket_path(&dir.to_string_lossy(), port) });
        }
        ([], []) => return Ok(Address::Unix { path: socket_path(SOCKET_DIR_DEFAULT, port) }),
    };
    Ok(Address::Tcp { host, port })
}

fn split_ssh(text: &str) -> Result<(Option<String>, &str), DatabaseError> {
    let Some(rest) = text.strip_prefix("ssh://") else { return Ok((None, text)) };
    match rest.split_once('/') {
        Some((machine, rest)) if !machine.is_empty() && !rest.is_empty() => {
            Ok((Some(machine.to_owned()), rest))
        }
        Some(_) | None => Err(DatabaseError::Conninfo {
            text: without_password(text),
            reason: "after `ssh://host/` comes a connection string".into(),
        }),
    }
}

/// The text with whatever may be a password taken out.
fn without_password(text: &str) -> String {
    let mut shown = text.to_owned();
    if let Some(rest) = text.strip_prefix("ssh://") {
        let end = rest.find('/').unwrap_or(rest.len());
        shown = format!("ssh://{}{}", destination::without_password(&rest[..end]), &rest[end..]);
    }
    if let Some(at) = shown.rfind("password") {
        shown.truncate(at);
        shown.push_str("password=…");
    }
    if let Some((scheme, at)) = ["postgresql://", "postgres://"]
        .iter()
        .find_map(|scheme| shown.find(scheme).map(|at| (scheme.len(), at)))
    {
        let start = at + scheme;
        if let Some(end) = shown[start..].rfind('@') {
            let login = &shown[start..start + end];
            let user = login.split(':').next().unwrap_or_default();
            shown = format!("{}{user}{}", &shown[..start], &shown[start + end..]);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Conninfo {
        Conninfo::parse(text).unwrap()
    }

    #[test]
    fn keywords_and_uris_say_the_same() {
        let keywords = parse("host=db.internal port=5433 user=mastodon dbname=prod password='a b'");
        assert_eq!(keywords, parse("postgresql://mastodon:a%20b@db.internal:5433/prod"));
        assert_eq!(keywords.address, Address::Tcp { host: "db.internal".into(), port: 5433 });
        assert_eq!(keywords.password.unwrap().expose(), "a b");
    }

    #[test]
    fn without_a_host_it_is_the_socket() {
        let socket = Address::Unix { path: "/var/run/postgresql/.s.PGSQL.5432".into() };
        assert_eq!(parse("dbname=prod").address, socket);
        assert_eq!(parse("postgresql:///prod?host=/var/run/postgresql").address, socket);
        assert_eq!(parse("user=mastodon").database, "mastodon");
    }

    #[test]
    fn a_machine_goes_in_front() {
        let target = parse("ssh://root@new.example:2222/host=/tmp user=mastodon dbname=prod");
        assert_eq!(target.ssh.as_deref(), Some("root@new.example:2222"));
        assert_eq!(target.address, Address::Unix { path: "/tmp/.s.PGSQL.5432".into() });
        let uri = parse("ssh://new.example/postgresql:///prod?host=/tmp");
        assert_eq!((uri.ssh.as_deref(), uri.database.as_str()), (Some("new.example"), "prod"));
    }

    #[test]
    fn what_is_refused_is_told_without_its_password() {
        for text in [
            "postgresql://m:hunter2@a,b/prod",
            "host=a,b password=hunter2 dbname=prod",
            "host=a password='hunter2 dbname=prod",
            "ssh://new.example/postgresql://m:hunter2@a:port/prod",
            "postgresql://m:hunter2@h/prod?sslmode=require",
            "ssh://root:hunter2@new.example",
            "ssh://root:hunter2@new.example/host=a,b dbname=prod",
        ] {
            let error = Conninfo::parse(text).unwrap_err();
            assert!(!crate::error::one_line(&error).contains("hunter2"), "{error}");
        }
    }
}
