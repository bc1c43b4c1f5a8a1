//! `check`: gathers the facts of both sides and gives what there is to say. Changes nothing.

use super::preflight::{Facts, findings};
use super::session::Access;
use super::target::Destination;
use super::tools::Tool;
use super::{DatabaseError, Server, cluster, inspect, risks, session, target, tools};
use crate::event::Finding;

/// What to look at.
#[derive(Clone, Copy, Debug)]
pub struct Looking {
    /// Rows are looked at in tables up to this size. Without, they are not looked at: whatever is
    /// wrong with them shows when their indexes and constraints are made.
    pub table_bytes_max: Option<u64>,
    /// How many the copy is to do at the same time; 0 for one for each core.
    pub jobs: usize,
    /// Whether settings of the target's cluster are to be raised for the copy.
    pub tune_cluster: bool,
}

/// Findings about a copy from `source` to `destination`. Rows are looked at too, in tables up to
/// `table_bytes_max`.
pub async fn check(
    source: &Server,
    destination: &Destination,
    table_bytes_max: u64,
) -> Result<Vec<Finding>, DatabaseError> {
    let looking = Looking { table_bytes_max: Some(table_bytes_max), jobs: 0, tune_cluster: false };
    check_for(source, destination, looking).await
}

/// As [`check`](check()), for a copy of so many jobs.
pub async fn check_for(
    source: &Server,
    destination: &Destination,
    looking: Looking,
) -> Result<Vec<Finding>, DatabaseError> {
    let mut facts = gather(source, destination).await?;
    facts.jobs = looking.jobs;
    let mut found = findings(&facts);
    found.extend(cluster::findings(destination, &facts.database, looking.tune_cluster).await?);
    if let Some(table_bytes_max) = looking.table_bytes_max {
        found.extend(risks::find(source, table_bytes_max).await?);
    }
    found.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    Ok(found)
}

/// The names of the tables of `server`'s database, as a first look.
pub async fn tables(server: &Server) -> Result<Vec<String>, DatabaseError> {
    let session = session::connect(server, Access::Read).await?;
    let facts = inspect::inspect_database(&session).await?;
    Ok(facts.tables.into_iter().map(|table| table.name).collect())
}

/// The facts alone.
pub async fn gather(source: &Server, destination: &Destination) -> Result<Facts, DatabaseError> {
    let session = session::connect(source, Access::Read).await?;
    let admin = destination.admin_session(Access::Read).await?;
    let login = destination.admin.as_ref().unwrap_or(&destination.server);
    Ok(Facts {
        source: inspect::inspect_server(source, &session).await?,
        database: inspect::inspect_database(&session).await?,
        dump: tools::version(source, Tool::Dump).await?,
        target: inspect::inspect_server(login, &admin).await?,
        restore: tools::version(&destination.server, Tool::Restore).await?,
        wanted: destination.server.database.clone(),
        owner: destination.owner.clone(),
        owner_is_superuser: target::is_superuser(destination).await?,
        existing: target::existing(destination, &admin).await?,
        may_replace: destination.may_replace(),
        may_create_role: destination.create_role,
        jobs: 0,
    })
}
