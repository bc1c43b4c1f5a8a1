//! Redis and search of both sides.

use super::{Look, Machine, RedisPair};
use crate::config::RedisMode;
use crate::instance::env_file::EnvFile;
use crate::instance::environment::Environment;
use crate::instance::redis::{self, Link};
use crate::instance::stores::{
    RedisAddress, RedisAddressError, RedisStores, elasticsearch, redis_stores,
};
use crate::instance::variables::Variables;
use crate::units::counted;

impl Look<'_> {
    pub(super) async fn redis(
        &mut self,
        environment: &Environment,
        target_env: &EnvFile,
    ) -> Option<Vec<RedisPair>> {
        let source = stores(&self.world.source, environment);
        let target = stores(&self.world.target, target_env);
        let source = self.keep("Redis on the source", source);
        let target = self.keep("Redis on the target", target);
        let pairs = pairs(source?, target?);
        for pair in &pairs {
            self.redis_pair(pair).await;
        }
        Some(pairs)
    }

    async fn redis_pair(&mut self, pair: &RedisPair) {
        let world = self.world;
        let source = Link::connect(world.source.host(), &pair.source, None).await;
        let target = Link::connect(world.target.host(), &pair.target, None).await;
        let source = self.keep("Redis on the source", source);
        let target = self.keep("Redis on the target", target);
        let (Some(source), Some(target)) = (source, target) else { return };
        if world.config.redis.mode == RedisMode::Skip {
            self.warn(
                "Redis",
                "stays behind: queued jobs are lost, feeds are built anew".into(),
                "set `redis.mode = \"keys\"` to bring it along",
            );
            return;
        }
        let inventories = tokio::join!(
            redis::inspect(&source, pair.source.namespace.as_deref()),
            redis::inspect(&target, pair.target.namespace.as_deref())
        );
        let source = self.keep("Redis on the source", inventories.0);
        let target = self.keep("Redis on the target", inventories.1);
        let (Some(source), Some(target)) = (source, target) else { return };
        if let Some(evidence) = self.keep("Redis", redis::compatible(&source, &target)) {
            self.ok("Redis", format!("{}, {evidence}", counted(source.keys, "key")));
        }
        if target.keys > 0 && target.filled_by.is_none() {
            self.refuse(
                "Redis on the target",
                &format!("{} holds {} already", pair.target, counted(target.keys, "key")),
                Some("stop what uses it and empty it there (`redis-cli FLUSHDB`) if it is not needed".into()),
            );
        }
    }

    pub(super) fn search(&mut self, environment: &Environment) -> bool {
        let search = elasticsearch(environment);
        if let Some(search) = &search {
            self.ok(
                "Elasticsearch",
                format!("{}:{}, filled anew afterwards", search.host, search.port),
            );
        }
        search.is_some()
    }
}

fn stores(machine: &Machine, variables: &dyn Variables) -> Result<RedisStores, RedisAddressError> {
    let mut stores = redis_stores(variables)?;
    if let Some(url) = &machine.side.redis_url {
        let address = RedisAddress::from_url(url)?;
        stores = RedisStores { base: address.clone(), sidekiq: address.clone(), cache: address };
    }
    Ok(stores)
}

/// The databases worth moving, with where each goes.
fn pairs(source: RedisStores, target: RedisStores) -> Vec<RedisPair> {
    let apart = source.worth_moving().len() > 1;
    let mut pairs = vec![RedisPair { source: source.base, target: target.base }];
    if apart {
        pairs.push(RedisPair { source: source.sidekiq, target: target.sidekiq });
    }
    pairs
}
