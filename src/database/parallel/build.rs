//! Indexes, the constraints that stand on them, and statistics: what follows a table as soon as
//! its rows are in.

use tokio_postgres::error::SqlState;

use super::super::quote::literal;
use super::super::{DatabaseError, Session};
use super::inventory::{ForeignKey, Index, Table};
use super::recover::{LOSSES_MAX, is_lost};
use super::seat::Writer;
use super::told::Told;

/// One worker.
pub(super) struct Builder<'a> {
    pub writer: Writer<'a>,
    pub told: &'a Told<'a>,
}

impl Builder<'_> {
    /// Marks the rows as seen by all, which COPY does only where it fills a table at one go.
    pub async fn vacuum(&mut self, table: &Table) -> Result<(), DatabaseError> {
        let sql = format!("VACUUM {}", table.name);
        self.writer.again("mark rows as seen by all", &sql, self.told).await
    }

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

    /// Makes `keys` at one go, and looks at no row.
    pub async fn add_foreign_keys(&mut self, keys: &[ForeignKey]) -> Result<(), DatabaseError> {
        let Some(first) = keys.first() else { return Ok(()) };
        let statements: Vec<String> = keys.iter().map(ForeignKey::add).collect();
        // All in one transaction: one that is there tells that all are.
        let there = format!(
            "SELECT EXISTS (SELECT FROM pg_constraint
             WHERE conrelid = to_regclass($1) AND conname = {})",
            literal(&first.label)
        );
        self.once("add foreign keys", &statements.join("; "), &there, &first.table).await
    }

    /// Checks that every row has what it points to.
    pub async fn validate(&mut self, key: &ForeignKey) -> Result<(), DatabaseError> {
        let checked = self.writer.again("check a foreign key", &key.validate(), self.told).await;
        match checked {
            Err(DatabaseError::Sql { source, .. })
                if source.is(&SqlState::FOREIGN_KEY_VIOLATION) =>
            {
                let cause = source.to_string();
                Err(DatabaseError::Orphans { constraint: key.label.clone(), cause })
            }
            checked => checked,
        }
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
