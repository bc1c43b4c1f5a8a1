//! The database on the target: made like the source's, marked as ours for as long as it is not
//! whole, and dropped by that mark alone, or because the operator named it.

use std::time::Duration;

use super::conninfo::SOCKET_DIR_DEFAULT;
use super::inspect::{DatabaseFacts, Locale};
use super::preflight::contents;
use super::quote::{ident, literal};
use super::server::socket_path;
use super::session::Access;
use super::{DatabaseError, Server, Session, Version, inspect, session};
use crate::host::{Address, RunAs};

mod create;
mod mark;

/// How long sessions of ours get to end, such as those of a restore whose link was cut.
const SESSIONS_WAIT_MAX: Duration = Duration::from_secs(10);
const SESSIONS_POLL: Duration = Duration::from_millis(100);

use create::{create, make_extensions, make_role};
pub use mark::{Mark, MarkState};

/// Where a copy goes.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The database to be, with the login that restores it.
    pub server: Server,
    /// Who creates it: a superuser or a role with CREATEDB. Default: the same login.
    pub admin: Option<Server>,
    /// Who may change the settings of the cluster, where neither of the two may.
    pub tuner: Option<Server>,
    /// The role that will own it and everything in it.
    pub owner: String,
    /// Create that role, with the password of `server`, where it is missing.
    pub create_role: bool,
    /// A database that may be dropped although it is not empty; it counts if it is this one.
    pub replace: Option<String>,
}

/// What is there under the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Existing {
    Absent,
    Empty(DatabaseFacts),
    /// A copy of ours that did not get to its end.
    HalfDone(Mark),
    /// A copy of ours that did.
    Complete(Mark, DatabaseFacts),
    /// Somebody's data.
    Foreign(DatabaseFacts),
}

/// A database that is ready to be filled, and nobody else's for as long as this lives.
pub struct Prepared {
    /// Extensions that a superuser made beforehand: the archive must leave them out.
    pub extensions_made: Vec<String>,
    /// Extensions that come with the archive.
    pub extensions_left: Vec<String>,
    lock: Session,
}

impl Prepared {
    /// The version of the target's server.
    pub fn version(&self) -> Version {
        self.lock.version()
    }
}

impl Destination {
    /// A destination that the login of `server` creates and owns.
    pub fn new(server: Server) -> Destination {
        let owner = server.user.clone();
        Destination { server, admin: None, tuner: None, owner, create_role: false, replace: None }
    }

    pub fn may_replace(&self) -> bool {
        self.replace.as_deref() == Some(&self.server.database)
    }

    /// The same destination with somebody who may create its database: its own role if that may,
    /// else the superuser `postgres`, who comes through the socket as the user `os_user`.
    pub async fn with_admin(self, os_user: &str) -> Destination {
        const MAY_CREATE: &str =
            "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user";
        let may_create = match self.admin_session(Access::Read).await {
            Ok(session) => session.value("read the rights of the role", MAY_CREATE, &[]).await,
            // A role that is to be made cannot log in yet.
            Err(DatabaseError::Login { .. }) if self.create_role => Ok(false),
            Err(error) => Err(error),
        };
        // What went wrong is told when the login is needed.
        if may_create.unwrap_or(true) {
            return self;
        }
        Destination { admin: Some(self.superuser(os_user)), ..self }
    }

    /// The superuser `postgres` of that server, who comes through the socket as the user `os_user`.
    pub fn superuser(&self, os_user: &str) -> Server {
        let address = match &self.server.address {
            Address::Unix { .. } => self.server.address.clone(),
            Address::Tcp { port, .. } => {
                Address::Unix { path: socket_path(SOCKET_DIR_DEFAULT, *port) }
            }
        };
        Server {
            address,
            user: "postgres".into(),
            password: None,
            os_user: RunAs::User(os_user.to_owned()),
            ..self.server.clone()
        }
    }

    /// A session of the administrator, in a database that is not the one to be made.
    pub async fn admin_session(&self, access: Access) -> Result<Session, DatabaseError> {
        self.maintenance_session(self.admin.as_ref().unwrap_or(&self.server), access).await
    }

    /// A session of `login` in a database that is not the one to be made.
    pub(super) async fn maintenance_session(
        &self,
        login: &Server,
        access: Access,
    ) -> Result<Session, DatabaseError> {
        match session::connect(&login.with_database("postgres"), access).await {
            Err(DatabaseError::NoDatabase { .. }) => {
                session::connect(&login.with_database("template1"), access).await
            }
            result => result,
        }
    }

    /// A session in the database itself, with the rights of its owner.
    async fn owner_session(&self) -> Result<Session, DatabaseError> {
        let session = session::connect(&self.server, Access::Write).await?;
        if session.user() != self.owner {
            let sql = format!("SET ROLE {}", ident(&self.owner));
            session.execute("take on the owner's role", &sql).await?;
        }
        Ok(session)
    }
}

/// What is there under the destination's name, as `admin` sees it.
pub async fn existing(
    destination: &Destination,
    admin: &Session,
) -> Result<Existing, DatabaseError> {
    let sql = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = $1";
    let name = &destination.server.database;
    let action = "look for the target database";
    let rows = admin.rows(action, sql, &[name]).await?;
    let Some(row) = rows.first() else { return Ok(Existing::Absent) };
    let comment: Option<String> = admin.get(action, row, 0)?;
    let mark = comment.as_deref().and_then(Mark::parse);
    if let Some(mark) = mark.clone().filter(|mark| mark.state != MarkState::Complete) {
        return Ok(Existing::HalfDone(mark));
    }
    let login = destination.admin.as_ref().unwrap_or(&destination.server);
    let session = session::connect(&login.with_database(name), Access::Read).await?;
    let facts = inspect::inspect_database(&session).await?;
    Ok(match mark {
        Some(mark) => Existing::Complete(mark, facts),
        None if facts.is_empty() => Existing::Empty(facts),
        None => Existing::Foreign(facts),
    })
}

/// Makes an empty database with the properties of `source`, owned by the owner, marked as the
/// copy of `run`. A half-done copy of ours is dropped; anything else that is not empty is left
/// alone unless the operator named it.
pub async fn prepare(
    destination: &Destination,
    source: &DatabaseFacts,
    run: &str,
) -> Result<Prepared, DatabaseError> {
    let admin = destination.admin_session(Access::Write).await?;
    let login = destination.admin.as_ref().unwrap_or(&destination.server);
    let server = inspect::inspect_server(login, &admin).await?;
    lock(destination, &admin).await?;
    make_role(destination, &admin, &server).await?;
    let name = &destination.server.database;
    match existing(destination, &admin).await? {
        Existing::Absent => create(destination, &admin, &source.locale).await?,
        Existing::HalfDone(_) => recreate(destination, &admin, &source.locale).await?,
        Existing::Empty(there)
            if there.owner == destination.owner && there.locale.agrees_with(&source.locale) => {}
        Existing::Empty(_) | Existing::Foreign(_) | Existing::Complete(..)
            if destination.may_replace() =>
        {
            recreate(destination, &admin, &source.locale).await?;
        }
        Existing::Empty(there) => {
            return Err(DatabaseError::Unfit {
                server: admin.server().to_owned(),
                database: name.clone(),
                problem: format!(
                    "has {} and belongs to {}; wanted is {} and {}",
                    there.locale, there.owner, source.locale, destination.owner
                ),
            });
        }
        Existing::Foreign(there) | Existing::Complete(_, there) => {
            return Err(DatabaseError::NotEmpty {
                server: admin.server().to_owned(),
                database: name.clone(),
                what: contents(&there),
            });
        }
    }
    set_mark(destination, &Mark::new(run, MarkState::Copying)).await?;
    let extensions_made = make_extensions(destination, source, &server).await?;
    let names = source.extensions.iter().map(|extension| extension.name.clone());
    let extensions_left = names.filter(|name| !extensions_made.contains(name)).collect();
    Ok(Prepared { extensions_made, extensions_left, lock: admin })
}

/// Keeps another transhume away from the database for as long as the session lives. The session of
/// a run that was cut off may take a moment to go.
async fn lock(destination: &Destination, admin: &Session) -> Result<(), DatabaseError> {
    // The first number is ours: the letters of `trans`.
    let sql = "SELECT pg_try_advisory_lock(x'7472616e'::int, hashtext($1))";
    let name = &destination.server.database;
    let deadline = tokio::time::Instant::now() + SESSIONS_WAIT_MAX;
    while !admin.value::<bool>("lock the target database", sql, &[name]).await? {
        if tokio::time::Instant::now() > deadline {
            return Err(in_use(admin, name, "another transhume".into()));
        }
        tokio::time::sleep(SESSIONS_POLL).await;
    }
    Ok(())
}

async fn recreate(
    destination: &Destination,
    admin: &Session,
    locale: &Locale,
) -> Result<(), DatabaseError> {
    drop_database(destination, admin).await?;
    create(destination, admin, locale).await
}

/// Drops the database. Sessions of ours are ended; those of others stop it.
async fn drop_database(destination: &Destination, admin: &Session) -> Result<(), DatabaseError> {
    let name = &destination.server.database;
    let deadline = tokio::time::Instant::now() + SESSIONS_WAIT_MAX;
    let sql = "SELECT coalesce(string_agg(DISTINCT format('%s (%s)', usename, application_name), ', '), ''),
                   count(pg_terminate_backend(pid)) FILTER (WHERE application_name LIKE 'transhume%')
               FROM pg_stat_activity WHERE datname = $1 AND application_name LIKE 'transhume%'";
    let others = "SELECT coalesce(string_agg(DISTINCT format('%s (%s)', usename, application_name), ', '), '')
                  FROM pg_stat_activity WHERE datname = $1 AND application_name NOT LIKE 'transhume%'
                    AND backend_type = 'client backend'";
    let action = "look who uses the target database";
    loop {
        let who: String = admin.value(action, others, &[name]).await?;
        if !who.is_empty() {
            return Err(in_use(admin, name, who));
        }
        let ours: String = admin.value("end our sessions", sql, &[name]).await?;
        if ours.is_empty() {
            break;
        }
        if tokio::time::Instant::now() > deadline {
            return Err(in_use(admin, name, ours));
        }
        tokio::time::sleep(SESSIONS_POLL).await;
    }
    admin.execute("drop the target database", &format!("DROP DATABASE {}", ident(name))).await
}

fn in_use(admin: &Session, database: &str, who: String) -> DatabaseError {
    let server = admin.server().to_owned();
    DatabaseError::InUse { server, database: database.to_owned(), who }
}

/// Whether the owner is a superuser on the target.
pub(super) async fn is_superuser(destination: &Destination) -> Result<bool, DatabaseError> {
    let session = destination.admin_session(Access::Read).await?;
    let sql = "SELECT coalesce((SELECT rolsuper FROM pg_roles WHERE rolname = $1), false)";
    session.value("read the rights of the owner", sql, &[&destination.owner]).await
}

/// Puts `mark` on the database.
pub async fn set_mark(destination: &Destination, mark: &Mark) -> Result<(), DatabaseError> {
    comment(destination, Some(&mark.to_string())).await
}

/// The mark on the database, if it is there and has one.
pub async fn mark(destination: &Destination) -> Result<Option<Mark>, DatabaseError> {
    let admin = destination.admin_session(Access::Read).await?;
    let sql = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = $1";
    let action = "read the mark";
    let rows = admin.rows(action, sql, &[&destination.server.database]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let comment: Option<String> = admin.get(action, row, 0)?;
    Ok(comment.as_deref().and_then(Mark::parse))
}

/// Replaces the mark by the comment that the source's database has.
pub async fn remove_mark(
    destination: &Destination,
    source: &DatabaseFacts,
) -> Result<(), DatabaseError> {
    comment(destination, source.comment.as_deref()).await
}

async fn comment(destination: &Destination, text: Option<&str>) -> Result<(), DatabaseError> {
    let session = destination.owner_session().await?;
    let text = text.map_or_else(|| "NULL".to_owned(), literal);
    let name = ident(&destination.server.database);
    // This commit reaches the disk, and with it all that was loaded without waiting for that.
    let sql = format!("SET synchronous_commit = on; COMMENT ON DATABASE {name} IS {text}");
    session.execute("mark the target database", &sql).await
}

/// Drops the database if it is a copy of `run` (or, without one, of any run) that is not whole.
/// Says whether there was one.
pub async fn discard(destination: &Destination, run: Option<&str>) -> Result<bool, DatabaseError> {
    let admin = destination.admin_session(Access::Write).await?;
    lock(destination, &admin).await?;
    match existing(destination, &admin).await? {
        Existing::HalfDone(mark) if run.is_none_or(|run| run == mark.run) => {
            drop_database(destination, &admin).await?;
            Ok(true)
        }
        Existing::HalfDone(_)
        | Existing::Absent
        | Existing::Empty(_)
        | Existing::Complete(..)
        | Existing::Foreign(_) => Ok(false),
    }
}
