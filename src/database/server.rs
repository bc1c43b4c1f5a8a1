//! A PostgreSQL server: where it is, as whom we come, and how its own programs are run.

use std::fmt;
use std::sync::Arc;

use crate::host::helper::Helper;
use crate::host::{Address, Host, RunAs};
use crate::secret::Secret;

/// One database on one server. The sockets and programs are those of `host`.
#[derive(Clone, Debug)]
pub struct Server {
    pub host: Arc<dyn Host>,
    /// The real endpoint, as seen from `host`.
    pub address: Address,
    pub database: String,
    /// The role to log in as.
    pub user: String,
    pub password: Option<Secret>,
    /// Who `pg_dump` and its like run as, and whom a peer login sees.
    pub os_user: RunAs,
    /// Where `pg_dump` and its like are, if not on the PATH.
    pub bin_dir: Option<String>,
    /// Our helper on `host`: it reaches the socket as `os_user`. Whoever that is must be able to
    /// run it. Without it the socket sees the login user.
    pub helper: Option<Helper>,
}

impl Server {
    /// The server as messages name it.
    pub fn label(&self) -> String {
        format!("{} ({})", self.address, self.host.name())
    }

    /// The same login for another database of the server.
    pub fn with_database(&self, database: &str) -> Server {
        Server { database: database.to_owned(), ..self.clone() }
    }

    /// The port, also of a socket.
    pub fn port(&self) -> u16 {
        self.libpq_address().1
    }

    /// What libpq calls `host` and `port`.
    pub(super) fn libpq_address(&self) -> (String, u16) {
        match &self.address {
            Address::Tcp { host, port } => (host.clone(), *port),
            Address::Unix { path } => socket_parts(path),
        }
    }
}

/// Splits `/var/run/postgresql/.s.PGSQL.5432` into what libpq wants to hear.
pub(super) fn socket_parts(path: &str) -> (String, u16) {
    const PORT_DEFAULT: u16 = 5432;
    match path.rsplit_once("/.s.PGSQL.") {
        Some((dir, port)) => (dir.to_owned(), port.parse().unwrap_or(PORT_DEFAULT)),
        None => (path.to_owned(), PORT_DEFAULT),
    }
}

/// The socket that a server on `port` has in `dir`.
pub fn socket_path(dir: &str, port: u16) -> String {
    format!("{}/.s.PGSQL.{port}", dir.trim_end_matches('/'))
}

/// A PostgreSQL version as `server_version_num` tells it: 150018.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32);

impl Version {
    pub fn major(self) -> u32 {
        self.0 / 10_000
    }

    /// Reads what a program says to `--version`: `pg_dump (PostgreSQL) 15.18 (Debian …)`.
    pub fn parse(text: &str) -> Option<Version> {
        let number = text.split(") ").nth(1)?.split_whitespace().next()?;
        let (major, rest) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str| {
            let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            text[..end].parse::<u32>().ok()
        };
        // `17beta1` and `18devel` have no minor number.
        Some(Version(digits(major)? * 10_000 + digits(rest).unwrap_or(0)))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.major(), self.0 % 10_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_shown() {
        let parse = |text| Version::parse(text).unwrap();
        assert_eq!(parse("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)").0, 150_018);
        assert_eq!(parse("pg_restore (PostgreSQL) 18beta2").major(), 18);
        assert_eq!(Version(150_018).to_string(), "15.18");
        assert_eq!(Version::parse("command not found"), None);
    }

    #[test]
    fn a_socket_is_told_to_libpq_by_directory_and_port() {
        assert_eq!(
            socket_parts("/var/run/postgresql/.s.PGSQL.5433"),
            ("/var/run/postgresql".into(), 5433)
        );
        assert_eq!(socket_path("/var/run/postgresql/", 5433), "/var/run/postgresql/.s.PGSQL.5433");
    }
}
