//! Sessions that come back when they were lost: one with the source, in the snapshot; one with the
//! target, through a connection of its own.

use std::time::Duration;

use super::super::quote::ident;
use super::super::session::{self, Access, Way};
use super::super::target::Destination;
use super::super::{DatabaseError, Server, Session, Snapshot};
use super::recover::{LOSSES_MAX, Patience, is_lost};
use super::told::Told;

/// Text that means the same on both sides, whatever is set for server, database and role.
const EXACT: &str = "SET IntervalStyle = 'postgres'; SET bytea_output = 'hex'; \
                     SET xmloption = 'content'; SET array_nulls = on";
/// How long the last session's server process may take to go.
const FAREWELL_MAX: Duration = Duration::from_secs(60);
const FAREWELL_POLL: Duration = Duration::from_millis(100);

/// A session with the source that sees what the snapshot sees.
pub(super) struct Reader<'a> {
    pub source: &'a Server,
    pub snapshot: &'a Snapshot,
    pub patience: Duration,
    pub session: Option<Session>,
}

impl Reader<'_> {
    /// The session; a new one if there is none.
    pub async fn session(&mut self) -> Result<&Session, DatabaseError> {
        let session = match self.session.take() {
            Some(session) if !session.is_closed() => session,
            Some(_) | None => {
                let mut patience = Patience::new(self.patience);
                loop {
                    match self.open().await {
                        Ok(session) => break session,
                        Err(error) => patience.after(error).await?,
                    }
                }
            }
        };
        Ok(self.session.insert(session))
    }

    async fn open(&self) -> Result<Session, DatabaseError> {
        let host = self.source.host.dedicated().await?;
        let session = self.snapshot.join(&Server { host, ..self.source.clone() }).await?;
        // Rows that a policy hides would be missed: an error is better.
        let sql = format!(
            "{EXACT}; SET row_security = off; SET synchronize_seqscans = off;
             SET max_parallel_workers_per_gather = 0"
        );
        session.execute("prepare to read", &sql).await?;
        Ok(session)
    }
}

/// A session with the target, with the rights of the owner.
pub(super) struct Writer<'a> {
    pub destination: &'a Destination,
    /// How rows travel, over a connection of their own. Without, only statements do, over the one
    /// that is there.
    pub bulk: Option<&'a Way>,
    /// Settings of its own.
    pub settings: &'a str,
    pub patience: Duration,
    open: Option<Open>,
    /// The server process of the session before, as long as it may still be at work.
    before: Option<Backend>,
}

struct Open {
    session: Session,
    backend: Backend,
}

/// A server process, which is no other of the same number.
#[derive(Clone, Debug)]
struct Backend {
    pid: i32,
    since: String,
}

impl<'a> Writer<'a> {
    pub fn new(
        destination: &'a Destination,
        bulk: Option<&'a Way>,
        settings: &'a str,
        patience: Duration,
    ) -> Self {
        Writer { destination, bulk, settings, patience, open: None, before: None }
    }

    /// The session; a new one if there is none. Whatever the one before was doing is over then,
    /// done or undone.
    pub async fn session(&mut self) -> Result<&Session, DatabaseError> {
        let open = match self.open.take() {
            Some(open) if !open.session.is_closed() => open,
            lost => {
                if let Some(lost) = lost {
                    self.before = Some(lost.backend);
                }
                let mut patience = Patience::new(self.patience);
                let open = loop {
                    match self.connect().await {
                        Ok(open) => break open,
                        Err(error) => patience.after(error).await?,
                    }
                };
                self.before = None;
                open
            }
        };
        Ok(&self.open.insert(open).session)
    }

    /// Gives the session up: nothing is known about what it did last.
    pub fn leave(&mut self) {
        if let Some(open) = self.open.take() {
            self.before = Some(open.backend);
        }
    }

    /// Runs `sql`, which may run twice, until it was answered.
    pub async fn again(
        &mut self,
        action: &'static str,
        sql: &str,
        told: &Told<'_>,
    ) -> Result<(), DatabaseError> {
        for losses in 0.. {
            match self.session().await?.execute(action, sql).await {
                Err(error) if is_lost(&error) && losses < LOSSES_MAX => {
                    told.lost(&error, action);
                    self.leave();
                }
                result => return result,
            }
        }
        unreachable!("the loop ends by returning")
    }

    async fn connect(&self) -> Result<Open, DatabaseError> {
        let session = self.log_in().await?;
        if let Some(before) = &self.before {
            see_off(&session, before).await?;
        }
        let action = "prepare to write";
        let sql = format!(
            "{EXACT}; SET default_tablespace = ''; {};
             SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid();
             SET ROLE {}",
            self.settings,
            ident(&self.destination.owner)
        );
        let rows = session.texts(action, &sql).await?;
        let backend = match rows.last().map(Vec::as_slice) {
            Some([Some(pid), Some(since)]) => pid.parse().ok().map(|pid| (pid, since.clone())),
            Some(_) | None => None,
        };
        let (pid, since) =
            backend.ok_or_else(|| session.nonsense(action, "no process of our own"))?;
        Ok(Open { session, backend: Backend { pid, since } })
    }

    async fn log_in(&self) -> Result<Session, DatabaseError> {
        let server = &self.destination.server;
        let Some(way) = self.bulk else {
            return session::connect(server, Access::Write).await;
        };
        let host = server.host.dedicated().await?;
        let server = Server { host, ..server.clone() };
        session::connect_by(&server, Access::Write, way).await
    }
}

/// Ends a server process of ours and waits until it is gone: it may not have noticed that nobody
/// listens any more.
async fn see_off(session: &Session, backend: &Backend) -> Result<(), DatabaseError> {
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE pid = $1 AND backend_start::text = $2 AND pid <> pg_backend_pid()";
    let action = "end our session that was lost";
    let deadline = tokio::time::Instant::now() + FAREWELL_MAX;
    while !session.rows(action, sql, &[&backend.pid, &backend.since]).await?.is_empty() {
        if tokio::time::Instant::now() > deadline {
            return Err(DatabaseError::TimedOut {
                server: session.server().to_owned(),
                action,
                secs: FAREWELL_MAX.as_secs(),
            });
        }
        tokio::time::sleep(FAREWELL_POLL).await;
    }
    Ok(())
}
