//! What Mastodon's processes have in common when they boot: settings, secrets, connections.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::sync::Mutex;
use tokio_postgres::{Client, NoTls};

use super::cipher::Cipher;
use super::settings::Settings;

/// Why a process does not start or a request fails, in words.
#[derive(Debug)]
pub struct Problem(String);

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl From<String> for Problem {
    fn from(text: String) -> Self {
        Problem(text)
    }
}

impl From<&str> for Problem {
    fn from(text: &str) -> Self {
        Problem(text.to_owned())
    }
}

impl From<tokio_postgres::Error> for Problem {
    fn from(error: tokio_postgres::Error) -> Self {
        // Its Display hides what the server said.
        match error.as_db_error() {
            Some(said) => Problem(format!("PG::Error: {}", said.message())),
            None => Problem(format!("PG::ConnectionBad: {error}")),
        }
    }
}

impl From<redis::RedisError> for Problem {
    fn from(error: redis::RedisError) -> Self {
        Problem(format!("Redis: {error}"))
    }
}

impl From<std::io::Error> for Problem {
    fn from(error: std::io::Error) -> Self {
        Problem(error.to_string())
    }
}

/// A booted instance.
pub struct Application {
    pub settings: Settings,
    pub domain: String,
    pub cipher: Cipher,
    database: Mutex<Option<Arc<Client>>>,
    redis: redis::Client,
}

impl Application {
    /// Boots as Rails does, in production only.
    pub async fn boot() -> Result<Arc<Application>, Problem> {
        if std::env::var("RAILS_ENV").as_deref() != Ok("production") {
            return Err(
                "RAILS_ENV is not production: the development database is not set up".into()
            );
        }
        Application::connect().await
    }

    /// Reads `.env.production`, and proves that database and Redis are there.
    pub async fn connect() -> Result<Arc<Application>, Problem> {
        let settings = Settings::read(Path::new(".env.production"))?;
        // Each of these aborts the start of Mastodon 4.3 and later.
        settings.required("ACTIVE_RECORD_ENCRYPTION_DETERMINISTIC_KEY")?;
        let cipher = Cipher::new(
            &settings.required("ACTIVE_RECORD_ENCRYPTION_PRIMARY_KEY")?,
            &settings.required("ACTIVE_RECORD_ENCRYPTION_KEY_DERIVATION_SALT")?,
            &settings.required("SECRET_KEY_BASE")?,
        );
        let domain = settings.required("LOCAL_DOMAIN")?;
        let redis = redis::Client::open(redis_url(&settings))?;
        let database = Mutex::new(None);
        let application = Application { settings, domain, cipher, database, redis };
        application
            .database()
            .await?
            .simple_query("SELECT max(version) FROM schema_migrations")
            .await?;
        application.redis().await?;
        Ok(Arc::new(application))
    }

    /// The shared session, as a pool keeps it; opened again after it was lost.
    pub async fn database(&self) -> Result<Arc<Client>, Problem> {
        let mut shared = self.database.lock().await;
        if let Some(client) = shared.as_ref().filter(|client| !client.is_closed()) {
            return Ok(client.clone());
        }
        let client = Arc::new(self.open_database().await?);
        *shared = Some(client.clone());
        Ok(client)
    }

    async fn open_database(&self) -> Result<Client, Problem> {
        let settings = &self.settings;
        let mut config = tokio_postgres::Config::new();
        config.host(settings.get("DB_HOST").unwrap_or_else(|| "/var/run/postgresql".into()));
        let port = settings.get("DB_PORT").unwrap_or_else(|| "5432".into());
        config.port(port.parse().map_err(|_| format!("DB_PORT is {port:?}"))?);
        config.user(settings.get("DB_USER").unwrap_or_else(|| "mastodon".into()));
        config.dbname(settings.get("DB_NAME").unwrap_or_else(|| "mastodon_production".into()));
        config.password(settings.get("DB_PASS").unwrap_or_default());
        config.application_name("mastodon").connect_timeout(Duration::from_secs(10));
        let (client, connection) = config.connect(NoTls).await?;
        // It ends when the client is dropped or the server goes; both are seen at the next query.
        tokio::spawn(async move { connection.await.is_ok() });
        Ok(client)
    }

    /// A connection of the caller's own; replies may take as long as they like (BRPOP).
    pub async fn redis(&self) -> Result<MultiplexedConnection, Problem> {
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(10)))
            .set_response_timeout(None);
        Ok(self.redis.get_multiplexed_async_connection_with_config(&config).await?)
    }

    /// Decrypts every one-time-password secret; how many there were.
    pub async fn decrypt_all(&self) -> Result<usize, Problem> {
        let query = "SELECT otp_secret FROM users WHERE otp_secret IS NOT NULL";
        let rows = self.database().await?.query(query, &[]).await?;
        if rows.iter().all(|row| self.cipher.open(row.get(0)).is_some()) {
            Ok(rows.len())
        } else {
            Err("ActiveRecord::Encryption::Errors::Decryption".into())
        }
    }
}

fn redis_url(settings: &Settings) -> String {
    settings.get("REDIS_URL").unwrap_or_else(|| {
        let host = settings.get("REDIS_HOST").unwrap_or_else(|| "localhost".into());
        let port = settings.get("REDIS_PORT").unwrap_or_else(|| "6379".into());
        let login = settings.get("REDIS_PASSWORD").map(|password| format!(":{password}@"));
        format!("redis://{}{host}:{port}/0", login.unwrap_or_default())
    })
}
