//! When the new server is live: feeds, search, the lock.

use std::sync::Mutex;

use async_trait::async_trait;
use serde_json::Value;

use super::Scene;
use crate::config::RedisMode;
use crate::event::Event;
use crate::instance::tootctl::{Outcome, Tootctl, TootctlError};
use crate::migration::step::{Check, Step, StepError};

/// A long tootctl command on the target.
pub struct Settle {
    scene: Scene,
    task: Task,
    outcome: Mutex<Option<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    Feeds,
    Search,
}

impl Settle {
    pub fn new(scene: Scene, task: Task) -> Self {
        Settle { scene, task, outcome: Mutex::default() }
    }

    async fn call(&self) -> Result<Outcome, TootctlError> {
        let Scene { world, facts, .. } = &self.scene;
        let side = &world.target.side;
        // Past PgBouncer: the command holds its sessions for long.
        let through = facts.destination.server.port();
        let tootctl = Tootctl {
            root: side.root.clone(),
            user: side.user.clone(),
            words: side.tootctl.clone(),
            env: vec![("DB_PORT".into(), through.to_string())],
        };
        match self.task {
            Task::Feeds => {
                // Feeds came along with Redis: only what is missing is built.
                let skip_filled = world.config.redis.mode == RedisMode::Keys;
                tootctl.feeds_build(world.target.host(), skip_filled, &*world.monitor).await
            }
            Task::Search => tootctl.search_deploy(world.target.host(), &*world.monitor).await,
        }
    }
}

#[async_trait]
impl Step for Settle {
    fn id(&self) -> &'static str {
        match self.task {
            Task::Feeds => "feeds",
            Task::Search => "search",
        }
    }

    fn title(&self) -> String {
        match self.task {
            Task::Feeds => "Build home feeds",
            Task::Search => "Fill the search index",
        }
        .into()
    }

    async fn check(&self) -> Result<Check, StepError> {
        let Scene { world, facts, .. } = &self.scene;
        Ok(match self.task {
            Task::Feeds if !world.config.settle.feeds_build => {
                Check::NotApplicable("`settle.feeds_build` is off".into())
            }
            Task::Search if !facts.search => Check::NotApplicable("no Elasticsearch".into()),
            Task::Search if !world.config.settle.search_deploy => {
                Check::NotApplicable("`settle.search_deploy` is off".into())
            }
            Task::Feeds | Task::Search => Check::Needed,
        })
    }

    async fn run(&self, _: &Value) -> Result<(), StepError> {
        let outcome = self.call().await?;
        for text in outcome.problems {
            let subject = self.id().to_owned();
            self.scene.world.monitor.emit(Event::Problem { subject, text, remedy: None });
        }
        *self.outcome.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) =
            Some(outcome.evidence);
        Ok(())
    }

    async fn verify(&self) -> Result<String, StepError> {
        let outcome = self.outcome.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        Ok(outcome.clone().unwrap_or_default())
    }

    /// Past the point of no return: never called.
    async fn undo(&self, _: &Value) -> Result<(), StepError> {
        Ok(())
    }
}
