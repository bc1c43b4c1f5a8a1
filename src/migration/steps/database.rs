//! The database: made, filled and compared.

use std::sync::Mutex;

use async_trait::async_trait;
use serde_json::Value;

use super::Scene;
use crate::config::{self, DatabaseMode, DatabaseVerify};
use crate::database::cluster;
use crate::database::compare;
use crate::database::predict::{Packing, Prediction, Wanted};
use crate::database::stream::{self, Compression, Level};
use crate::database::target::{self, Mark, MarkState};
use crate::database::{self, DatabaseError, Mode, parallel};
use crate::migration::facts::Facts;
use crate::migration::step::{Check, Step, StepError};
use crate::migration::world::World;

/// Above this gzip gains little and takes long.
const GZIP_LEVEL: u32 = 4;

/// The step in plan and journal.
pub const ID: &str = "database";

pub struct Database {
    scene: Scene,
    /// What the comparison of this process saw.
    evidence: Mutex<Option<String>>,
}

impl Database {
    pub fn new(scene: Scene) -> Self {
        Database { scene, evidence: Mutex::default() }
    }

    async fn mark(&self) -> Result<Option<Mark>, DatabaseError> {
        let mark = target::mark(&self.scene.facts.destination).await?;
        Ok(mark.filter(|mark| mark.run == self.scene.run))
    }

    fn seen(&self) -> String {
        let evidence = self.evidence.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        evidence.clone().unwrap_or_else(|| "marked as copied and compared by this run".into())
    }
}

#[async_trait]
impl Step for Database {
    fn id(&self) -> &'static str {
        ID
    }

    fn title(&self) -> String {
        "Copy the database and compare it".into()
    }

    async fn check(&self) -> Result<Check, StepError> {
        Ok(match self.mark().await? {
            Some(mark) if mark.state == MarkState::Complete => Check::AlreadyTrue(self.seen()),
            Some(_) | None => Check::Needed,
        })
    }

    async fn run(&self, _: &Value) -> Result<(), StepError> {
        let Scene { world, facts, run, .. } = &self.scene;
        let database = &world.config.database;
        let mode = mode(database, compression(world).await);
        let options = database::Options {
            mode,
            compare: comparing(database),
            tune_cluster: database.tune_cluster,
            ..Default::default()
        };
        let (source, target) = (&facts.database, &facts.destination);
        let done = database::transfer(source, target, run, &options, &*world.monitor).await?;
        for problem in done.copied.problems {
            world.monitor.emit(crate::event::Event::Problem {
                subject: "database".into(),
                text: problem,
                remedy: None,
            });
        }
        if let Some(comparison) = done.comparison {
            for warning in &comparison.warnings {
                let (text, remedy) = (warning.text.clone(), Some(warning.remedy.into()));
                let subject = "database".into();
                world.monitor.emit(crate::event::Event::Problem { subject, text, remedy });
            }
            if !comparison.is_equal() {
                return Err(different(&comparison));
            }
            *self.evidence.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) =
                Some(format!("equal on both sides: {comparison}"));
        }
        Ok(())
    }

    async fn verify(&self) -> Result<String, StepError> {
        match self.mark().await? {
            Some(mark) if mark.state == MarkState::Complete => Ok(self.seen()),
            Some(_) | None => Err(StepError::new("the copy was not completed", None)),
        }
    }

    /// Puts back what a copy that was cut off had raised; drops the copy, and nothing that is not
    /// this run's copy.
    async fn undo(&self, _: &Value) -> Result<(), StepError> {
        let (destination, run) = (&self.scene.facts.destination, &self.scene.run);
        let monitor = &*self.scene.world.monitor;
        cluster::tell(cluster::try_restore(destination, monitor).await?, monitor);
        let complete = self.mark().await?.is_some_and(|mark| mark.state == MarkState::Complete);
        if complete {
            target::set_mark(destination, &Mark::new(run, MarkState::Failed)).await?;
        }
        target::discard(destination, Some(run)).await?;
        Ok(())
    }
}

/// How long the copy will take and the comparison after it, as far as can be told now. Nothing is
/// written for it on either side.
pub async fn predict(world: &World, facts: &Facts) -> Result<Prediction, DatabaseError> {
    let config = &world.config.database;
    let wanted = Wanted {
        is_parallel: config.mode == DatabaseMode::Parallel,
        jobs: config.jobs,
        packing: if is_on_one_machine(world) { Packing::Local } else { Packing::Fitting },
        compares_content: config.verify == DatabaseVerify::Content,
    };
    database::predict(&facts.database, &facts.destination, wanted).await
}

fn is_on_one_machine(world: &World) -> bool {
    world.target.side.host.is_none() && world.source.side.host.is_none()
}

/// How the configuration wants two databases compared.
pub fn comparing(config: &config::Database) -> compare::Options {
    let depth = match config.verify {
        DatabaseVerify::Content => compare::Depth::Content,
        DatabaseVerify::Rows => compare::Depth::Rows,
    };
    compare::Options { jobs: config.jobs, depth, ..Default::default() }
}

fn mode(config: &config::Database, compression: Compression) -> Mode {
    let jobs = config.jobs;
    match config.mode {
        DatabaseMode::Stream => {
            Mode::Stream(stream::Options { compression, jobs, ..Default::default() })
        }
        DatabaseMode::Parallel => {
            Mode::Parallel(parallel::Options { compression, jobs, ..Default::default() })
        }
    }
}

/// zstd where our helper can unpack it; nothing to be installed otherwise.
async fn compression(world: &World) -> Compression {
    if is_on_one_machine(world) {
        return Compression::None;
    }
    match world.target.helper().await {
        Ok(helper) => Compression::Helper { helper: helper.clone(), level: Level::Fitting },
        Err(error) => {
            let instead = match world.config.database.mode {
                DatabaseMode::Stream => "pg_dump compresses by itself",
                DatabaseMode::Parallel => "rows cross as they are",
            };
            let text = format!("{instead}: {}", crate::error::one_line(&error));
            world.monitor.emit(crate::event::Event::Note { text });
            Compression::Archive { level: GZIP_LEVEL }
        }
    }
}

fn different(comparison: &compare::Comparison) -> StepError {
    const TOLD_MAX: usize = 10;
    let told: Vec<String> =
        comparison.differences.iter().take(TOLD_MAX).map(ToString::to_string).collect();
    let more = comparison.differences.len().saturating_sub(TOLD_MAX);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    StepError::new(
        format!("the copy differs from the source: {}{more}", told.join("; ")),
        Some("does anything else write to the source's database? stop it and run this again"),
    )
}

/// The copy becomes Mastodon's: our mark gives way to the comment that the source has.
pub struct Adopt(pub Scene);

#[async_trait]
impl Step for Adopt {
    fn id(&self) -> &'static str {
        "adopt"
    }

    fn title(&self) -> String {
        "Hand database and Redis of the new server over to Mastodon".into()
    }

    async fn check(&self) -> Result<Check, StepError> {
        Ok(Check::Needed)
    }

    async fn run(&self, _: &Value) -> Result<(), StepError> {
        let Scene { world, facts, run, .. } = &self.0;
        // If the copy could not put back what it had raised, the way there may be better now.
        let left = cluster::restore_if_raised(&facts.destination, &*world.monitor).await?;
        cluster::tell(left, &*world.monitor);
        let session = database::session::connect(&facts.database, database::Access::Read).await?;
        let source = database::inspect::inspect_database(&session).await?;
        target::remove_mark(&facts.destination, &source).await?;
        for pair in &facts.redis {
            let target = super::redis::link(&world.target, &pair.target).await?;
            crate::instance::redis::forget(&target, run).await?;
        }
        Ok(())
    }

    async fn verify(&self) -> Result<String, StepError> {
        match target::mark(&self.0.facts.destination).await? {
            None => Ok("no mark of ours is left".into()),
            Some(_) => Err(StepError::new("our mark is still on the database", None)),
        }
    }

    /// Past the point of no return: never called.
    async fn undo(&self, _: &Value) -> Result<(), StepError> {
        Ok(())
    }
}
