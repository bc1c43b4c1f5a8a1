//! Why the database engine could not do what it was asked.

use std::fmt;

use tokio_postgres::error::SqlState;

use crate::error::{Advice, Retry};
use crate::host::HostError;
use crate::units::Bytes;

use crate::event::Finding;

#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error("`{text}` does not say where a database is: {reason}")]
    Conninfo { text: String, reason: String },
    #[error("cannot reach PostgreSQL at {server}")]
    Unreachable { server: String, source: Box<HostError> },
    #[error("PostgreSQL at {server} did not answer within {secs} s")]
    NoAnswer { server: String, secs: u64 },
    #[error("what answers at {server} is not a PostgreSQL server that we can talk to")]
    Protocol { server: String, source: tokio_postgres::Error },
    #[error("{server} does not accept the login as {user}")]
    Login { server: String, user: String, source: Box<SqlError> },
    #[error("there is no database {database} on {server}")]
    NoDatabase { server: String, database: String },
    #[error("{server} is a connection pooler, not PostgreSQL itself")]
    Pooler { server: String },
    #[error("{server} takes no connection at the moment")]
    Busy { server: String, source: Box<SqlError> },
    #[error("cannot {action} on {server}")]
    Sql { server: String, action: &'static str, source: Box<SqlError> },
    #[error("the connection to {server} was lost while it was to {action}")]
    Lost { server: String, action: &'static str },
    /// The session that held the moment to be copied is gone; no other can have the same.
    #[error("the session on {server} that held the snapshot was lost: the copy cannot go on")]
    SnapshotLost { server: String },
    #[error("{server} gave an answer to `{action}` that makes no sense: {problem}")]
    Answer { server: String, action: &'static str, problem: String },
    #[error("{server} did not {action} within {secs} s")]
    TimedOut { server: String, action: &'static str, secs: u64 },
    #[error(transparent)]
    Host(#[from] HostError),
    #[error("{tool} on {host} failed with {exit}: {cause}")]
    Tool { tool: &'static str, host: String, exit: String, cause: String },
    #[error("the disk of {server} is full")]
    DiskFull { server: String, cause: String },
    #[error("a value occurs twice under the unique index {index} of the source")]
    Duplicate { index: String, cause: String },
    #[error(
        "rows of the source point to nothing, although its foreign key {constraint} forbids it"
    )]
    Orphans { constraint: String, cause: String },
    #[error("the index and constraint definitions of the source take more than {}", Bytes(*limit))]
    SchemaTooLarge { limit: u64 },
    #[error("the target is not fit for a copy: {}", first(findings))]
    Refused { findings: Vec<Finding> },
    #[error("the database {database} on {server} is not empty: it holds {what}")]
    NotEmpty { server: String, database: String, what: String },
    #[error("the database {database} on {server} is there already, but {problem}")]
    Unfit { server: String, database: String, problem: String },
    #[error("other sessions are using the database {database} on {server}: {who}")]
    InUse { server: String, database: String, who: String },
    #[error("{user} may not create the database {database} on {server}")]
    NoCreateRight { server: String, user: String, database: String },
    /// `grants` says whether that server's version can allow it to others than superusers, the
    /// source why somebody else who was to do it could not.
    #[error("{user} may not change the settings of the cluster at {server}")]
    NoTuneRight { server: String, user: String, grants: bool, source: Option<Box<DatabaseError>> },
    #[error("{server} does not have the locale {locale}")]
    LocaleMissing { server: String, locale: String, source: Box<SqlError> },
}

fn first(findings: &[Finding]) -> String {
    let refusals = findings.iter().filter(|finding| finding.level == crate::event::Level::Refusal);
    refusals.map(|finding| finding.text.as_str()).collect::<Vec<_>>().join("; ")
}

impl Advice for DatabaseError {
    fn hint(&self) -> Option<String> {
        match self {
            DatabaseError::Conninfo { .. } => Some(
                "for example `host=/var/run/postgresql user=mastodon dbname=mastodon_production` \
                 or `postgresql://mastodon@127.0.0.1:5432/mastodon_production`"
                    .into(),
            ),
            DatabaseError::Unreachable { source, .. } => source.hint().or_else(|| {
                Some(
                    "check that it runs (`pg_lsclusters`) and listens there (`ss -lx -lt | grep \
                     -i postgres`)"
                        .into(),
                )
            }),
            DatabaseError::NoAnswer { .. } => {
                Some("check that a PostgreSQL server listens there and is not overloaded".into())
            }
            DatabaseError::Protocol { .. } => {
                Some("check host and port; TLS to PostgreSQL is not spoken: use SSH".into())
            }
            DatabaseError::Login { source, user, .. } => Some(login_hint(source, user)),
            DatabaseError::NoDatabase { .. } => {
                Some("`psql -l` on that server lists its databases; is DB_NAME right?".into())
            }
            DatabaseError::Pooler { .. } => Some(
                "name the real endpoint (`url` in `[source.database]` of transhume.toml): the \
                 [databases] section of /etc/pgbouncer/pgbouncer.ini says where it is. A dump \
                 through a pooler would poison its connections"
                    .into(),
            ),
            DatabaseError::Busy { .. } => Some(
                "wait, or raise max_connections; `SELECT count(*), state FROM pg_stat_activity \
                 GROUP BY 2` shows who is connected"
                    .into(),
            ),
            DatabaseError::Sql { source, .. } => sql_hint(source),
            DatabaseError::Lost { .. } | DatabaseError::TimedOut { .. } => {
                Some("run the same command again: it starts from what is there".into())
            }
            DatabaseError::SnapshotLost { .. } => Some(
                "run the same command again: it starts over with a new snapshot. If it happens \
                 again, the server's log says who ended the session"
                    .into(),
            ),
            DatabaseError::Answer { .. } => None,
            DatabaseError::Host(error) => error.hint(),
            DatabaseError::Tool { cause, .. } => tool_hint(cause),
            DatabaseError::DiskFull { .. } => Some(
                "make room (`df -h`), then run the same command again: the half-done database is \
                 recognised and replaced"
                    .into(),
            ),
            DatabaseError::Duplicate { index, .. } => Some(format!(
                "the index is corrupt on the source. Find the rows with index scans switched off \
                 (`SET enable_indexscan=off; SET enable_bitmapscan=off`), remove the surplus ones, \
                 `REINDEX INDEX {index}`, then run this again. `transhume db --dry-run` and \
                 `transhume check` search all tables for such rows. See Mastodon's documentation on \
                 index corruption"
            )),
            DatabaseError::Orphans { cause, .. } => Some(format!(
                "an index was corrupt on the source when they came in ({cause}). `transhume db \
                 --dry-run` and `transhume check` find them and give the query that shows them: \
                 delete them or what they point with, REINDEX the table they point to, then run \
                 this again"
            )),
            DatabaseError::SchemaTooLarge { .. } => None,
            DatabaseError::Refused { findings } => {
                findings.iter().find_map(|finding| finding.remedy.clone())
            }
            DatabaseError::NotEmpty { database, .. } => Some(format!(
                "name another database, or allow that it is dropped: `--replace {database}` \
                 (`database.replace_target` in the configuration)"
            )),
            DatabaseError::Unfit { database, .. } => Some(format!(
                "drop it (`dropdb {database}`), or allow it: `--replace {database}` \
                 (`database.replace_target` in the configuration)"
            )),
            DatabaseError::InUse { .. } => Some(
                "stop what uses it; `SELECT * FROM pg_stat_activity` shows the sessions".into(),
            ),
            DatabaseError::NoCreateRight { user, .. } => Some(format!(
                "as the superuser: `ALTER ROLE \"{user}\" CREATEDB`, or name an administrator's \
                 login"
            )),
            DatabaseError::NoTuneRight { .. } => Some(super::cluster::remedy(self)),
            DatabaseError::LocaleMissing { locale, .. } => Some(format!(
                "on the target: add `{locale}` to /etc/locale.gen, run `locale-gen`, restart \
                 PostgreSQL"
            )),
        }
    }

    fn retry(&self) -> Retry {
        match self {
            DatabaseError::Unreachable { source, .. } => source.retry(),
            DatabaseError::Host(source) => source.retry(),
            DatabaseError::NoAnswer { .. } | DatabaseError::Busy { .. } => Retry::Safe,
            DatabaseError::Lost { .. }
            | DatabaseError::SnapshotLost { .. }
            | DatabaseError::TimedOut { .. } => Retry::Unknown,
            DatabaseError::Conninfo { .. }
            | DatabaseError::Protocol { .. }
            | DatabaseError::Login { .. }
            | DatabaseError::NoDatabase { .. }
            | DatabaseError::Pooler { .. }
            | DatabaseError::Sql { .. }
            | DatabaseError::Answer { .. }
            | DatabaseError::Tool { .. }
            | DatabaseError::DiskFull { .. }
            | DatabaseError::Duplicate { .. }
            | DatabaseError::Orphans { .. }
            | DatabaseError::SchemaTooLarge { .. }
            | DatabaseError::Refused { .. }
            | DatabaseError::NotEmpty { .. }
            | DatabaseError::Unfit { .. }
            | DatabaseError::InUse { .. }
            | DatabaseError::NoCreateRight { .. }
            | DatabaseError::NoTuneRight { .. }
            | DatabaseError::LocaleMissing { .. } => Retry::Never,
        }
    }
}

fn login_hint(source: &SqlError, user: &str) -> String {
    if source.message.contains("Peer authentication") || source.message.contains("Ident") {
        format!(
            "peer login wants the operating system user {user}: run as root, allow `sudo -n -u \
             {user}`, or give a password"
        )
    } else if source.message.contains("pg_hba.conf") {
        "add a line for this login to pg_hba.conf and `SELECT pg_reload_conf()`".into()
    } else {
        format!(
            "check the password of {user}: DB_PASS in .env.production or under `[target.env]`, \
             ~/.pgpass for `transhume db`"
        )
    }
}

fn sql_hint(source: &SqlError) -> Option<String> {
    if let Some(hint) = &source.hint {
        return Some(hint.clone());
    }
    match source.code.as_str() {
        "42501" => Some("log in as the owner of the database or as a superuser".into()),
        "55P03" => Some(
            "another session holds a lock: `SELECT * FROM pg_locks WHERE NOT granted` and \
             pg_stat_activity show which"
                .into(),
        ),
        _ => None,
    }
}

fn tool_hint(cause: &str) -> Option<String> {
    if cause.contains("server version mismatch") {
        Some("use the programs of the newer PostgreSQL (`bin_dir`)".into())
    } else if cause.contains("unsupported version") {
        Some("pg_restore of the target is older than pg_dump of the source: use a newer one".into())
    } else if cause.contains("LOCK TABLE") || cause.contains("lock timeout") {
        Some(
            "another session holds a lock on that table: `SELECT * FROM pg_locks WHERE NOT \
             granted` shows it"
                .into(),
        )
    } else {
        None
    }
}

/// What PostgreSQL said, without the driver's wrapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlError {
    /// The five characters of SQLSTATE; empty where the driver itself complained.
    pub code: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

impl SqlError {
    pub fn is(&self, state: &SqlState) -> bool {
        self.code == state.code()
    }
}

impl From<&tokio_postgres::Error> for SqlError {
    fn from(error: &tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(said) => SqlError {
                code: said.code().code().to_owned(),
                message: said.message().to_owned(),
                detail: said.detail().map(str::to_owned),
                hint: said.hint().map(str::to_owned),
            },
            None => SqlError {
                code: String::new(),
                message: crate::error::one_line(error),
                detail: None,
                hint: None,
            },
        }
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)?;
        if let Some(detail) = &self.detail {
            write!(out, " ({detail})")?;
        }
        Ok(())
    }
}

impl std::error::Error for SqlError {}
