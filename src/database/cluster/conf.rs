//! The server's settings: what is in force, what stands in the file that ALTER SYSTEM writes, and
//! the statements that change it. ALTER SYSTEM replaces that file as a whole and durably.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::quote::literal;
use super::super::{DatabaseError, Session};
use super::record::{Change, Record};

/// The setting that holds the record.
pub const RECORD: &str = "transhume.raised";

/// How long the server may take to read its files again.
const RELOAD_WAIT_MAX: Duration = Duration::from_secs(5);
const RELOAD_POLL: Duration = Duration::from_millis(20);

/// What we change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    MaxWalSize,
    CheckpointTimeout,
}

impl Setting {
    pub const ALL: [Setting; 2] = [Setting::MaxWalSize, Setting::CheckpointTimeout];

    pub fn name(self) -> &'static str {
        match self {
            Setting::MaxWalSize => "max_wal_size",
            Setting::CheckpointTimeout => "checkpoint_timeout",
        }
    }
}

/// Whose value stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Ours,
    Former,
    Foreign(String),
}

/// A setting as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce {
    /// In the setting's own unit: MiB for sizes, seconds for times.
    pub value: u64,
    pub text: String,
    /// Whether ALTER SYSTEM would change it: not what the command line says.
    pub yields_to_file: bool,
}

pub async fn in_force(session: &Session, setting: Setting) -> Result<InForce, DatabaseError> {
    let action = "read the settings of the cluster";
    let sql = "SELECT setting::bigint, current_setting(name),
                   source IN ('default', 'configuration file')
               FROM pg_settings WHERE name = $1";
    let row = session.row(action, sql, &[&setting.name()]).await?;
    Ok(InForce {
        value: session.get::<i64>(action, &row, 0)?.unsigned_abs(),
        text: session.get(action, &row, 1)?,
        yields_to_file: session.get(action, &row, 2)?,
    })
}

/// What stands in the file for the setting, applied or not.
pub async fn entry(session: &Session, setting: Setting) -> Result<Option<String>, DatabaseError> {
    entry_of(session, setting.name()).await
}

async fn entry_of(session: &Session, name: &str) -> Result<Option<String>, DatabaseError> {
    let action = "read postgresql.auto.conf";
    let sql = "SELECT setting FROM pg_file_settings
               WHERE name = $1 AND sourcefile LIKE '%/postgresql.auto.conf'
               ORDER BY seqno DESC LIMIT 1";
    let rows = session.rows(action, sql, &[&name]).await?;
    rows.first().map(|row| session.get(action, row, 0)).transpose()
}

/// The record that stands in the file.
pub async fn record(session: &Session) -> Result<Option<Record>, DatabaseError> {
    let Some(text) = entry_of(session, RECORD).await? else { return Ok(None) };
    match Record::parse(&text) {
        Some(record) => Ok(Some(record)),
        None => Err(session.nonsense("read what was raised", &format!("{RECORD} = {text}"))),
    }
}

/// Whether a record is in force.
pub async fn is_noted_down(session: &Session) -> Result<bool, DatabaseError> {
    let sql = format!("SELECT coalesce(current_setting('{RECORD}', true), '') <> ''");
    session.value("look for raised settings", &sql, &[]).await
}

/// Writes the record and has it in force, for those who may not look into the file.
pub async fn note_down(session: &Session, record: &Record) -> Result<(), DatabaseError> {
    let action = "note down the settings of the cluster";
    let text = serde_json::to_string(record)
        .map_err(|error| session.nonsense(action, &error.to_string()))?;
    introduce(session).await?;
    session.execute(action, &format!("ALTER SYSTEM SET {RECORD} = {}", literal(&text))).await?;
    reload(session).await
}

/// Takes the record away.
pub async fn forget(session: &Session) -> Result<(), DatabaseError> {
    introduce(session).await?;
    let action = "remove the note about the settings of the cluster";
    session.execute(action, &format!("ALTER SYSTEM RESET {RECORD}")).await?;
    reload(session).await
}

/// ALTER SYSTEM knows only names that the session knows. A server that read its file does; a session
/// that began earlier, or before the name was ever used, does not.
async fn introduce(session: &Session) -> Result<(), DatabaseError> {
    let sql = format!(
        "SELECT set_config('{RECORD}', coalesce(current_setting('{RECORD}', true), ''), false)"
    );
    session.execute("name the note about the settings of the cluster", &sql).await
}

/// Sets the value in the file, or removes it there. It is in force after [`reload`].
pub async fn set(
    session: &Session,
    setting: Setting,
    value: Option<&str>,
) -> Result<(), DatabaseError> {
    let name = setting.name();
    let sql = match value {
        Some(value) => format!("ALTER SYSTEM SET {name} = {}", literal(value)),
        None => format!("ALTER SYSTEM RESET {name}"),
    };
    session.execute("change the settings of the cluster", &sql).await
}

/// Has the server read its files again, which it does a moment later.
pub async fn reload(session: &Session) -> Result<(), DatabaseError> {
    let action = "have the settings read again";
    match session.value::<bool>(action, "SELECT pg_reload_conf()", &[]).await? {
        true => Ok(()),
        false => Err(session.nonsense(action, "the server could not be told")),
    }
}

/// Waits until the change is in force; whether it is.
pub async fn takes_effect(session: &Session, change: &Change) -> Result<bool, DatabaseError> {
    let deadline = tokio::time::Instant::now() + RELOAD_WAIT_MAX;
    while in_force(session, change.setting).await?.text != change.ours {
        if tokio::time::Instant::now() > deadline {
            return Ok(false);
        }
        tokio::time::sleep(RELOAD_POLL).await;
    }
    Ok(true)
}
