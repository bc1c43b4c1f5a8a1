//! A connection to one database of a Redis server, through a machine's door.

use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Cmd, FromRedisValue, Pipeline, RedisConnectionInfo, Value};
use tokio::task::JoinHandle;

use super::RedisError;
use crate::host::Host;
use crate::instance::probe::Tls;
use crate::instance::stores::RedisAddress;

/// How long one command or pipeline may take.
const ANSWER_SECS_MAX: u64 = 120;
const CONNECT_SECS_MAX: u64 = 20;

/// A logged-in connection. Dropping it closes it.
#[derive(Debug)]
pub struct Link {
    connection: MultiplexedConnection,
    driver: JoinHandle<()>,
    server: String,
    pub db: u32,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Link {
    /// Connects as seen from `host`. `tls` is for addresses that want it; by default the
    /// platform's authorities.
    pub async fn connect(
        host: &dyn Host,
        at: &RedisAddress,
        tls: Option<&Tls>,
    ) -> Result<Link, RedisError> {
        let server = format!("{at} on {}", host.name());
        let limit = Duration::from_secs(CONNECT_SECS_MAX);
        match tokio::time::timeout(limit, open(host, at, tls, &server)).await {
            Ok(result) => result,
            Err(_) => Err(RedisError::Lost {
                server,
                command: "the login".into(),
                problem: format!("no answer within {CONNECT_SECS_MAX} s"),
            }),
        }
    }

    /// The server, for messages.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Sends one command.
    pub async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        let mut connection = self.connection.clone();
        let value = command.query_async::<Value>(&mut connection).await;
        let value = value.map_err(|error| self.failure(&name_of(command), &error))?;
        T::from_redis_value(value).map_err(|_| self.unexpected(&name_of(command)))
    }

    /// Sends many commands at once; each answer is a value or the server's refusal.
    pub async fn ask_all(
        &self,
        name: &str,
        pipeline: &mut Pipeline,
    ) -> Result<Vec<::redis::RedisResult<Value>>, RedisError> {
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        let mut connection = self.connection.clone();
        let answers = pipeline.ignore_errors().query_async(&mut connection).await;
        answers.map_err(|error| self.failure(name, &error))
    }

    /// Like [`Link::ask_all`], where no refusal is expected.
    pub async fn ask_each<T: FromRedisValue>(
        &self,
        name: &str,
        pipeline: &mut Pipeline,
    ) -> Result<Vec<T>, RedisError> {
        let answers = self.ask_all(name, pipeline).await?;
        let taken = answers.into_iter().map(|answer| {
            let value = answer.map_err(|error| self.failure(name, &error))?;
            T::from_redis_value(value).map_err(|_| self.unexpected(name))
        });
        taken.collect()
    }

    /// The error for a refusal or a lost connection.
    pub(super) fn failure(&self, command: &str, error: &::redis::RedisError) -> RedisError {
        let (server, command) = (self.server.clone(), command.to_owned());
        let problem = without_arguments(error);
        if error.is_io_error() || error.is_timeout() || error.is_connection_dropped() {
            RedisError::Lost { server, command, problem }
        } else {
            RedisError::Refused { server, command, problem }
        }
    }

    pub(super) fn unexpected(&self, command: &str) -> RedisError {
        RedisError::Answer { server: self.server.clone(), command: command.to_owned() }
    }
}

async fn open(
    host: &dyn Host,
    at: &RedisAddress,
    tls: Option<&Tls>,
    server: &str,
) -> Result<Link, RedisError> {
    let mut stream = host.connect(&at.address).await.map_err(RedisError::Host)?;
    if let Some(name) = &at.tls_name {
        let own;
        let tls = match tls {
            Some(tls) => tls,
            None => {
                own = Tls::new(None)?;
                &own
            }
        };
        stream = tls
            .wrap(stream, name)
            .await
            .map_err(|source| RedisError::TlsHandshake { server: server.to_owned(), source })?;
    }
    let mut info = RedisConnectionInfo::default().set_db(i64::from(at.db)).set_skip_set_lib_name();
    if let Some(user) = &at.user {
        info = info.set_username(user);
    }
    if let Some(password) = &at.password {
        info = info.set_password(password.expose());
    }
    let config = AsyncConnectionConfig::new()
        .set_response_timeout(Some(Duration::from_secs(ANSWER_SECS_MAX)));
    let opened = MultiplexedConnection::new_with_config(&info, stream, config).await;
    let (connection, driver) = opened.map_err(|error| RedisError::Login {
        server: server.to_owned(),
        problem: without_arguments(&error),
    })?;
    let driver = tokio::spawn(driver);
    let link = Link { connection, driver, server: server.to_owned(), db: at.db };
    // A server that wants a password and was given none says so only now.
    let ping = link.ask::<String>(&::redis::cmd("PING")).await;
    ping.map_err(|error| match error {
        RedisError::Refused { server, problem, .. } => RedisError::Login { server, problem },
        other => other,
    })?;
    Ok(link)
}

fn name_of(command: &Cmd) -> String {
    match command.args_iter().next() {
        Some(::redis::Arg::Simple(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        Some(_) | None => "a command".to_owned(),
    }
}

/// The error's text without what a server repeats of the command: it may be a password or a job.
fn without_arguments(error: &::redis::RedisError) -> String {
    let text = error.to_string();
    match text.split_once(", with args beginning with") {
        Some((front, _)) => front.to_owned(),
        None => text,
    }
}
