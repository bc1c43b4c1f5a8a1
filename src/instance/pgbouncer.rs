//! PgBouncer's configuration: where it listens, and where it leads a database.
//!
//! Pure apart from [`load`], which reads the file and what it includes. pg_dump through a pool
//! spoils the pool's connections for everyone else, so the real server has to be found.

mod connstr;
mod ini;

use std::collections::BTreeMap;

use crate::error::{Advice, Retry};
use crate::host::{Address, Host, HostError, RunAs, files};
use crate::secret::Secret;
use ini::Item;

/// Where Debian and the others put it.
pub const INI_DEFAULT: &str = "/etc/pgbouncer/pgbouncer.ini";
const PORT_DEFAULT: u16 = 6432;
/// As PgBouncer itself has it.
const INCLUDE_DEPTH_MAX: usize = 10;
const FILES_MAX: usize = 100;

/// What the configuration says, of what matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgBouncer {
    /// Names and addresses; `*` for all. Empty where it listens on no TCP port.
    pub listen_addr: Vec<String>,
    pub listen_port: u16,
    /// Absent where it has no socket.
    pub unix_socket_dir: Option<String>,
    /// The wish for TLS towards the server, as `sslmode`.
    pub server_tls_sslmode: Option<String>,
    databases: BTreeMap<String, Entry>,
}

/// Where one database leads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Absent for the Unix socket in PgBouncer's own directory.
    pub host: Option<String>,
    pub port: Option<u16>,
    pub dbname: Option<String>,
    pub user: Option<String>,
    pub password: Option<Secret>,
}

/// Why the configuration tells nothing.
#[derive(Debug, thiserror::Error)]
pub enum PgBouncerError {
    #[error("cannot read PgBouncer's configuration {path}")]
    Unreadable { path: String, source: Box<HostError> },
    #[error("PgBouncer's configuration includes {path}, which is not there")]
    IncludeMissing { path: String },
    #[error("PgBouncer's configuration includes more than {FILES_MAX} files, or itself")]
    IncludeLoop,
    #[error("{path}, line {line}: {problem}")]
    Syntax { path: String, line: usize, problem: &'static str },
}

impl Advice for PgBouncerError {
    fn hint(&self) -> Option<String> {
        match self {
            PgBouncerError::Unreadable { source, .. } => source.hint(),
            PgBouncerError::IncludeMissing { .. }
            | PgBouncerError::IncludeLoop
            | PgBouncerError::Syntax { .. } => None,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            PgBouncerError::Unreadable { source, .. } => source.retry(),
            PgBouncerError::IncludeMissing { .. }
            | PgBouncerError::IncludeLoop
            | PgBouncerError::Syntax { .. } => Retry::Never,
        }
    }
}

/// Reads the configuration at `path` as root; `None` where there is none.
pub async fn load(host: &dyn Host, path: &str) -> Result<Option<PgBouncer>, PgBouncerError> {
    let Some(text) = read(host, path).await? else { return Ok(None) };
    let mut settings = Settings::default();
    // Files still to take in: the last is the innermost.
    let mut open = vec![(path.to_owned(), parsed(path, &text)?.into_iter())];
    let mut files = 1;
    while let Some((_, items)) = open.last_mut() {
        let Some((line, item)) = items.next() else {
            open.pop();
            continue;
        };
        let Item::Include(included) = item else {
            let path = open.last().map(|(path, _)| path.clone()).unwrap_or_default();
            settings.take(item).map_err(|problem| PgBouncerError::Syntax {
                path,
                line,
                problem,
            })?;
            continue;
        };
        // Relative to PgBouncer's working directory, which is the root for a service.
        let included = if included.starts_with('/') { included } else { format!("/{included}") };
        files += 1;
        if open.len() > INCLUDE_DEPTH_MAX || files > FILES_MAX {
            return Err(PgBouncerError::IncludeLoop);
        }
        let text = read(host, &included).await?;
        let text = text.ok_or(PgBouncerError::IncludeMissing { path: included.clone() })?;
        let items = parsed(&included, &text)?.into_iter();
        open.push((included, items));
    }
    Ok(Some(settings.finish()))
}

async fn read(host: &dyn Host, path: &str) -> Result<Option<String>, PgBouncerError> {
    // A directory that is not there means no file, as much as a file that is not there.
    let dir = path.rsplit_once('/').map_or("/", |(dir, _)| if dir.is_empty() { "/" } else { dir });
    let unreadable =
        |source| PgBouncerError::Unreadable { path: path.to_owned(), source: Box::new(source) };
    if files::list(host, &RunAs::Root, dir).await.map_err(unreadable)?.is_empty() {
        return Ok(None);
    }
    let bytes = files::read(host, &RunAs::Root, path).await.map_err(unreadable)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

fn parsed(path: &str, text: &str) -> Result<Vec<(usize, Item)>, PgBouncerError> {
    ini::items(text).map_err(|(line, problem)| PgBouncerError::Syntax {
        path: path.to_owned(),
        line,
        problem,
    })
}

/// The configuration while it is read: the section goes on through included files.
#[derive(Default)]
struct Settings {
    section: String,
    general: BTreeMap<String, String>,
    databases: BTreeMap<String, Entry>,
}

impl Settings {
    fn take(&mut self, item: Item) -> Result<(), &'static str> {
        match item {
            Item::Section(name) => self.section = name,
            // The caller reads files.
            Item::Include(_) => {}
            Item::Pair(key, value) => match self.section.as_str() {
                "databases" => {
                    self.databases.insert(key, connstr::entry(&value)?);
                }
                "pgbouncer" => {
                    self.general.insert(key, value);
                }
                _ => {}
            },
        }
        Ok(())
    }

    fn finish(mut self) -> PgBouncer {
        let listen_addr = self.general.remove("listen_addr").unwrap_or_default();
        let port = self.general.get("listen_port").and_then(|port| port.parse().ok());
        let socket_dir = self.general.remove("unix_socket_dir").unwrap_or_else(|| "/tmp".into());
        PgBouncer {
            listen_addr: listen_addr
                .split(',')
                .map(|address| address.trim().to_owned())
                .filter(|address| !address.is_empty())
                .collect(),
            listen_port: port.unwrap_or(PORT_DEFAULT),
            unix_socket_dir: Some(socket_dir).filter(|dir| !dir.is_empty()),
            server_tls_sslmode: self.general.remove("server_tls_sslmode"),
            databases: self.databases,
        }
    }
}

impl PgBouncer {
    /// Understands one file that includes none; `path` is for messages.
    pub fn parse(text: &str, path: &str) -> Result<PgBouncer, PgBouncerError> {
        let mut settings = Settings::default();
        for (line, item) in parsed(path, text)? {
            settings.take(item).map_err(|problem| PgBouncerError::Syntax {
                path: path.to_owned(),
                line,
                problem,
            })?;
        }
        Ok(settings.finish())
    }

    /// Whether a connection to `address` ends here. `own_names` are the machine's names and
    /// addresses beside loopback.
    pub fn listens_on(&self, address: &Address, own_names: &[String]) -> bool {
        match address {
            Address::Tcp { host, port } => {
                *port == self.listen_port && self.listens_as(host, own_names)
            }
            Address::Unix { path } => self.unix_socket_dir.as_deref().is_some_and(|dir| {
                plain(path) == plain(&format!("{dir}/.s.PGSQL.{}", self.listen_port))
            }),
        }
    }

    fn listens_as(&self, host: &str, own_names: &[String]) -> bool {
        let is_own = is_loopback(host) || own_names.iter().any(|name| name == host);
        self.listen_addr.iter().any(|listen| match listen.as_str() {
            "*" | "0.0.0.0" | "::" => is_own,
            // Loopback has many names.
            listen => listen == host || is_loopback(listen) && is_loopback(host),
        })
    }

    /// Where `database` leads: its own entry, or `*`.
    pub fn entry(&self, database: &str) -> Option<&Entry> {
        self.databases.get(database).or_else(|| self.databases.get("*"))
    }
}

/// Whether `host` is a name or address of the loopback interface.
pub fn is_loopback(host: &str) -> bool {
    let parsed: Option<std::net::IpAddr> = host.parse().ok();
    host == "localhost" || parsed.is_some_and(|address| address.is_loopback())
}

/// `/var/run` is a symlink to `/run`, and both are written.
fn plain(path: &str) -> String {
    let path = path.replace("//", "/");
    path.strip_prefix("/var/run/").map_or(path.clone(), |rest| format!("/run/{rest}"))
}

#[cfg(test)]
mod tests;
