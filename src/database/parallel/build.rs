//! Indexes, the constraints that stand on them, and statistics: what follows a table as soon as
//! its rows are in.

use tokio_postgres::error::SqlState;

use crate::host::{Command, Host, RunAs, run};

use super::super::{DatabaseError, Session};
use super::inventory::{Index, Table};
use super::recover::{LOSSES_MAX, is_lost};
use super::seat::Writer;
use super::told::Told;

/// One worker.
pub(super) struct Builder<'a> {
    pub writer: Writer<'a>,
    pub told: &'a Told<'a>,
}

impl Builder<'_> {
    pub async fn build(&mut self, index: &Index) -> Result<(), DatabaseError> {
        let there = "SELECT to_regclass($1) IS NOT NULL";
        let built = self.once("build an index", &index.definition, there, &index.name).await;
        match built {
            Err(DatabaseError::Sql { source, .. }) if source.is(&SqlState::UNIQUE_VIOLATION) => {
                let cause = source.to_string();
                Err(DatabaseError::Duplicate { index: index.label.clone(), cause })
            }
            Ok(()) => {
                self.told.built(&index.name);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Makes the constraints of a table whose indexes are built, and takes its statistics.
    pub async fn finish(&mut self, table: &Table) -> Result<(), DatabaseError> {
        let constraints: Vec<&str> = table
            .indexes
            .iter()
            .filter_map(|index| Some(index.constraint.as_ref()?.definition.as_str()))
            .collect();
        if !constraints.is_empty() {
            // All in one statement: they are there together or not at all.
            let sql = format!("ALTER TABLE ONLY {} {}", table.name, constraints.join(", "));
            let there = "SELECT EXISTS (SELECT FROM pg_constraint
                         WHERE conrelid = to_regclass($1) AND contype IN ('p', 'u'))";
            self.once("add constraints", &sql, there, &table.name).await?;
        }
        if table.has_more || table.settings.is_some() {
            return Ok(());
        }
        self.writer.again("analyze a table", &format!("ANALYZE {}", table.name), self.told).await
    }

    /// Runs `sql`, which works once only; after a loss, unless `there` says of `name` that it did.
    async fn once(
        &mut self,
        action: &'static str,
        sql: &str,
        there: &str,
        name: &str,
    ) -> Result<(), DatabaseError> {
        for losses in 0.. {
            let session = self.writer.session().await?;
            match unless(session, action, sql, (losses > 0).then_some(there), name).await {
                Err(error) if is_lost(&error) && losses < LOSSES_MAX => {
                    self.told.lost(&error, name);
                    self.writer.leave();
                }
                result => return result,
            }
        }
        unreachable!("the loop ends by returning")
    }
}

async fn unless(
    session: &Session,
    action: &'static str,
    sql: &str,
    there: Option<&str>,
    name: &str,
) -> Result<(), DatabaseError> {
    if let Some(there) = there
        && session.value(action, there, &[&name]).await?
    {
        return Ok(());
    }
    session.execute(action, sql).await
}

const MIB: u64 = 1 << 20;
/// What one index may take where the machine does not tell what it has.
const MEMORY_DEFAULT: u64 = 256 * MIB;
const MEMORY_MIN: u64 = 64 * MIB;
/// More does not make it faster.
const MEMORY_MAX: u64 = 1024 * MIB;
const HELPERS_MAX: usize = 4;

/// The settings of sessions that build indexes, `jobs` at the same time, on `host`.
pub(super) async fn settings(host: &dyn Host, cores: usize, jobs: usize) -> String {
    let command = Command::new(["cat", "/proc/meminfo"]).run_as(RunAs::Login);
    let told = run(host, &command).await;
    let available = told.ok().and_then(|output| available_bytes(&output.text()));
    // A quarter of what is free: the cache of the system is needed as well.
    let memory = available.map_or(MEMORY_DEFAULT, |bytes| bytes / 4 / jobs.max(1) as u64);
    let memory = memory.clamp(MEMORY_MIN, MEMORY_MAX);
    let helpers = (cores / jobs.max(1)).saturating_sub(1).min(HELPERS_MAX);
    // The second one is unknown to servers before 11.
    format!(
        "SET synchronous_commit = on; SET maintenance_work_mem = '{}kB';
         SELECT set_config(name, '{helpers}', false) FROM pg_settings
         WHERE name = 'max_parallel_maintenance_workers'",
        memory / 1024
    )
}

/// `MemAvailable` of /proc/meminfo.
fn available_bytes(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::{Reply, Scripted};

    async fn on(meminfo: Reply, cores: usize, jobs: usize) -> String {
        settings(&Scripted::new("new.example").on("meminfo", [meminfo]), cores, jobs).await
    }

    #[tokio::test]
    async fn indexes_get_a_share_of_what_the_machine_has() {
        let gib = |number: u64| {
            Reply::ok(format!("MemTotal: 1 kB\nMemAvailable:   {} kB\n", number << 20))
        };
        assert!(on(gib(4), 2, 2).await.contains("maintenance_work_mem = '524288kB'"));
        assert!(on(gib(400), 2, 2).await.contains("'1048576kB'"));
        assert!(on(Reply::fail(1, "no"), 2, 2).await.contains("'262144kB'"));
        assert!(on(gib(4), 8, 2).await.contains("'3'"));
        assert!(on(gib(4), 2, 4).await.contains("'0'"));
    }
}
