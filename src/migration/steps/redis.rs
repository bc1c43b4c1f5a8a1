//! Redis, key by key: jobs that wait, feeds, counters.

use async_trait::async_trait;
use serde_json::Value;

use super::Scene;
use crate::config::RedisMode;
use crate::event::Event;
use crate::instance::redis::{self, Link, RedisError, copy};
use crate::instance::stores::RedisAddress;
use crate::migration::facts::RedisPair;
use crate::migration::step::{Check, Step, StepError};
use crate::migration::world::Machine;
use crate::units::{Bytes, counted};

pub struct Redis(pub Scene);

pub(super) async fn link(machine: &Machine, address: &RedisAddress) -> Result<Link, RedisError> {
    Link::connect(machine.host(), address, None).await
}

impl Redis {
    async fn links(&self, pair: &RedisPair) -> Result<(Link, Link), RedisError> {
        let world = &self.0.world;
        tokio::try_join!(link(&world.source, &pair.source), link(&world.target, &pair.target))
    }

    fn options<'a>(&'a self, pair: &'a RedisPair) -> copy::Options<'a> {
        copy::Options { run: &self.0.run, namespace: pair.source.namespace.as_deref() }
    }
}

#[async_trait]
impl Step for Redis {
    fn id(&self) -> &'static str {
        "redis"
    }

    fn title(&self) -> String {
        "Copy Redis: queued jobs, feeds, counters".into()
    }

    async fn check(&self) -> Result<Check, StepError> {
        Ok(match self.0.world.config.redis.mode {
            RedisMode::Keys => Check::Needed,
            RedisMode::Skip => Check::NotApplicable("`redis.mode` is \"skip\"".into()),
        })
    }

    async fn run(&self, _: &Value) -> Result<(), StepError> {
        let world = &self.0.world;
        for pair in &self.0.facts.redis {
            let (source, target) = self.links(pair).await?;
            let copied =
                redis::copy(&source, &target, &self.options(pair), &*world.monitor).await?;
            let size = Bytes(copied.bytes);
            let text = format!("Redis: {} copied, {size}", counted(copied.keys, "key"));
            world.monitor.emit(Event::Note { text });
            for text in copied.problems {
                let subject = "redis".to_owned();
                world.monitor.emit(Event::Problem { subject, text, remedy: None });
            }
        }
        Ok(())
    }

    async fn verify(&self) -> Result<String, StepError> {
        let mut keys = 0;
        for pair in &self.0.facts.redis {
            let (source, target) = self.links(pair).await?;
            let found = redis::verify(&source, &target, pair.source.namespace.as_deref()).await?;
            if found.differences > 0 {
                return Err(StepError::new(
                    format!(
                        "{} differ: {}",
                        counted(found.differences, "key"),
                        found.told.join("; ")
                    ),
                    Some("does anything else write to either Redis? stop it and run this again"),
                ));
            }
            keys += found.keys;
        }
        Ok(format!("{} the same on both sides", counted(keys, "key")))
    }

    async fn undo(&self, _: &Value) -> Result<(), StepError> {
        for pair in &self.0.facts.redis {
            let target = link(&self.0.world.target, &pair.target).await?;
            redis::clear(&target, &self.options(pair)).await?;
        }
        Ok(())
    }
}
