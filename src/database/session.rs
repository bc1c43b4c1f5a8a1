//! An SQL session: opened through a [`crate::host::Host`], checked to be with PostgreSQL itself
//! and not with a pooler, and read-only unless asked otherwise.

mod copying;

use std::time::Duration;

use tokio::task::AbortHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{FromSqlOwned, ToSql};
use tokio_postgres::{Client, NoTls, Row, SimpleQueryMessage};

use crate::host::helper::{self, Helper};
use crate::host::{Address, RunAs, Stream};

use super::{DatabaseError, Server, SqlError, Version};

/// How long the server may take to accept a login.
const LOGIN_WAIT_MAX: Duration = Duration::from_secs(30);
/// How long a question to the catalogs may take.
const CATALOG_WAIT_MAX: Duration = Duration::from_secs(300);
/// How long one of ours waits for somebody else's lock.
const LOCK_WAIT: &str = "60s";

/// What a session may do. The source is always read only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

/// How the bytes of a session travel.
#[derive(Clone, Debug, Default)]
pub enum Way {
    #[default]
    Plain,
    /// Packed by us and by our helper beside the server, which whoever the server's programs run
    /// as must be able to run.
    Packed { helper: Helper, level: i32 },
}

/// An open session. Dropping it ends it.
pub struct Session {
    client: Client,
    driver: AbortHandle,
    server: String,
    version: Version,
    user: String,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Opens a session with `server`.
pub async fn connect(server: &Server, access: Access) -> Result<Session, DatabaseError> {
    connect_by(server, access, &Way::Plain).await
}

/// Opens a session with `server` whose bytes travel by `way`.
pub async fn connect_by(
    server: &Server,
    access: Access,
    way: &Way,
) -> Result<Session, DatabaseError> {
    let label = server.label();
    let login = async {
        let stream = stream_to(server, way).await.map_err(|error| DatabaseError::Unreachable {
            server: label.clone(),
            source: error.into(),
        })?;
        log_in(server, access, stream).await
    };
    match tokio::time::timeout(LOGIN_WAIT_MAX, login).await {
        Ok(result) => result,
        Err(_) => Err(DatabaseError::NoAnswer { server: label, secs: LOGIN_WAIT_MAX.as_secs() }),
    }
}

async fn stream_to(server: &Server, way: &Way) -> Result<Stream, crate::host::HostError> {
    if let Way::Packed { helper, level } = way {
        let (user, address) = (&server.os_user, &server.address);
        return helper::connect_packed(&*server.host, helper, user, address, *level).await;
    }
    match (&server.address, &server.os_user, &server.helper) {
        (Address::Unix { .. }, user @ (RunAs::User(_) | RunAs::Root), Some(helper)) => {
            helper::connect_as(&*server.host, helper, user, &server.address).await
        }
        (Address::Unix { .. } | Address::Tcp { .. }, _, _) => {
            server.host.connect(&server.address).await
        }
    }
}

/// A setting that PostgreSQL keeps for whoever sets it at login, and that no pooler passes on.
const DIRECT: &str = "transhume.direct";

async fn log_in(server: &Server, access: Access, stream: Stream) -> Result<Session, DatabaseError> {
    let mut config = tokio_postgres::Config::new();
    let read_only = match access {
        Access::Read => "on",
        Access::Write => "off",
    };
    config
        .user(&server.user)
        .dbname(&server.database)
        .application_name("transhume")
        .options(format!("-c {DIRECT}=on -c default_transaction_read_only={read_only}"))
        .ssl_mode(tokio_postgres::config::SslMode::Disable);
    if let Some(password) = &server.password {
        config.password(password.expose());
    }
    let (client, connection) =
        config.connect_raw(stream, NoTls).await.map_err(|error| login_error(server, error))?;
    // How the connection ended is told by the request that was under way.
    let driver = tokio::spawn(async move { drop(connection.await) }).abort_handle();
    let mut session = Session {
        client,
        driver,
        server: server.label(),
        version: Version(0),
        user: server.user.clone(),
    };
    session.settle().await?;
    Ok(session)
}

fn login_error(server: &Server, error: tokio_postgres::Error) -> DatabaseError {
    let label = server.label();
    let said = Box::new(SqlError::from(&error));
    let Some(code) = error.code() else {
        return DatabaseError::Protocol { server: label, source: error };
    };
    let busy =
        [SqlState::TOO_MANY_CONNECTIONS, SqlState::CANNOT_CONNECT_NOW, SqlState::ADMIN_SHUTDOWN];
    if said.message.contains("unsupported startup parameter") {
        DatabaseError::Pooler { server: label }
    } else if *code == SqlState::INVALID_CATALOG_NAME {
        DatabaseError::NoDatabase { server: label, database: server.database.clone() }
    } else if busy.contains(code) {
        DatabaseError::Busy { server: label, source: said }
    } else {
        DatabaseError::Login { server: label, user: server.user.clone(), source: said }
    }
}

impl Session {
    /// Makes the session behave the same whatever was set for server, database and role, and
    /// proves that it is with PostgreSQL itself.
    async fn settle(&mut self) -> Result<(), DatabaseError> {
        let sql = format!(
            "SET search_path = ''; SET lock_timeout = '{LOCK_WAIT}'; SET extra_float_digits = 3;
             SET DateStyle = 'ISO'; SET TimeZone = 'UTC';
             SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings
             WHERE name IN ('statement_timeout', 'idle_in_transaction_session_timeout',
                            'idle_session_timeout', 'transaction_timeout');
             SELECT pg_catalog.current_setting('{DIRECT}', true),
                    pg_catalog.current_setting('server_version_num')"
        );
        let action = "prepare the session";
        let messages = self.patient(action, self.client.simple_query(&sql)).await?;
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let Some(last) = rows.last().filter(|row| row.len() == 2) else {
            return Err(self.nonsense(action, "no row"));
        };
        if last.get(0) != Some("on") {
            return Err(DatabaseError::Pooler { server: self.server.clone() });
        }
        let number = last.get(1).and_then(|text| text.parse().ok());
        self.version = Version(number.ok_or_else(|| self.nonsense(action, "no version"))?);
        Ok(())
    }

    /// The server as messages name it.
    pub fn server(&self) -> &str {
        &self.server
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// The role that is logged in.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Asks the catalogs; `action` names the question in errors: "list the tables".
    pub async fn rows(
        &self,
        action: &'static str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, DatabaseError> {
        let query = self.patient(action, self.client.query(sql, parameters));
        match tokio::time::timeout(CATALOG_WAIT_MAX, query).await {
            Ok(result) => result,
            Err(_) => Err(DatabaseError::TimedOut {
                server: self.server.clone(),
                action,
                secs: CATALOG_WAIT_MAX.as_secs(),
            }),
        }
    }

    /// Asks for exactly one row.
    pub async fn row(
        &self,
        action: &'static str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, DatabaseError> {
        let mut rows = self.rows(action, sql, parameters).await?;
        match rows.pop() {
            Some(row) if rows.is_empty() => Ok(row),
            Some(_) | None => Err(self.nonsense(action, "not one row")),
        }
    }

    /// Asks for one value.
    pub async fn value<T: FromSqlOwned>(
        &self,
        action: &'static str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<T, DatabaseError> {
        self.get(action, &self.row(action, sql, parameters).await?, 0)
    }

    /// Asks for one value that may take as long as it takes: the link's keepalive is the deadline.
    pub async fn slow_value<T: FromSqlOwned>(
        &self,
        action: &'static str,
        sql: &str,
    ) -> Result<T, DatabaseError> {
        let row = self.patient(action, self.client.query_one(sql, &[])).await?;
        self.get(action, &row, 0)
    }

    /// As [`Session::slow_value`], for rows.
    pub async fn slow_rows(
        &self,
        action: &'static str,
        sql: &str,
    ) -> Result<Vec<Row>, DatabaseError> {
        self.patient(action, self.client.query(sql, &[])).await
    }

    /// Runs statements that give nothing back, however long they take.
    pub async fn execute(&self, action: &'static str, sql: &str) -> Result<(), DatabaseError> {
        self.patient(action, self.client.batch_execute(sql)).await
    }

    /// A column of a row.
    pub(super) fn get<T: FromSqlOwned>(
        &self,
        action: &'static str,
        row: &Row,
        column: usize,
    ) -> Result<T, DatabaseError> {
        row.try_get(column).map_err(|error| {
            self.nonsense(action, &format!("column {column}: {}", crate::error::one_line(&error)))
        })
    }

    /// Whether the connection is known to be gone.
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Runs statements, however long they take, and gives the rows of all of them as text.
    pub async fn texts(
        &self,
        action: &'static str,
        sql: &str,
    ) -> Result<Vec<Vec<Option<String>>>, DatabaseError> {
        let messages = self.patient(action, self.client.simple_query(sql)).await?;
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
            }
            _ => None,
        });
        Ok(rows.collect())
    }

    async fn patient<T>(
        &self,
        action: &'static str,
        request: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, DatabaseError> {
        request.await.map_err(|error| self.fault(action, &error))
    }

    fn fault(&self, action: &'static str, error: &tokio_postgres::Error) -> DatabaseError {
        let server = self.server.clone();
        let source = Box::new(SqlError::from(error));
        if error.is_closed() || error.as_db_error().is_none() || is_shutdown(error.code()) {
            DatabaseError::Lost { server, action }
        } else if source.is(&SqlState::DISK_FULL) {
            DatabaseError::DiskFull { server, cause: source.message }
        } else {
            DatabaseError::Sql { server, action, source }
        }
    }

    pub(super) fn nonsense(&self, action: &'static str, problem: &str) -> DatabaseError {
        DatabaseError::Answer { server: self.server.clone(), action, problem: problem.to_owned() }
    }
}

fn is_shutdown(code: Option<&SqlState>) -> bool {
    let ends = [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN];
    code.is_some_and(|code| ends.contains(code))
}

/// Whether the server's files are on the machine of `server.host`, as far as its address tells.
pub fn is_on_host(address: &Address) -> bool {
    match address {
        Address::Unix { .. } => true,
        Address::Tcp { host, .. } => {
            host == "localhost"
                || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    }
}
