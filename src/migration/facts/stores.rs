//! Media, Redis and search of both sides.

use std::time::Duration;

use super::{Look, Machine, MediaPaths, RedisPair};
use crate::config::RedisMode;
use crate::instance::env_file::EnvFile;
use crate::instance::environment::Environment;
use crate::instance::layout::{self, MediaRoot};
use crate::instance::redis::{self, Link};
use crate::instance::stores::{
    MediaStore, RedisAddress, RedisAddressError, RedisStores, elasticsearch, media_store,
    redis_stores,
};
use crate::instance::variables::Variables;
use crate::units::{Bytes, counted};

/// How long the media are counted for; what is not seen by then is not needed to begin.
const COUNT_LIMIT: Duration = Duration::from_secs(20);

impl Look<'_> {
    /// `Some(None)` where uploads are in object storage.
    pub(super) async fn media(
        &mut self,
        environment: &Environment,
        target_env: &EnvFile,
    ) -> Option<Option<MediaPaths>> {
        if let MediaStore::Remote { kind, bucket } = media_store(environment) {
            let bucket = bucket.unwrap_or_else(|| "its bucket".into());
            self.ok("media", format!("kept in {kind:?} ({bucket}): they stay where they are"));
            return Some(None);
        }
        let world = self.world;
        if self.to_undo {
            return Some(None);
        }
        let source = media_root(&world.source, environment).await;
        let target = media_root(&world.target, target_env).await;
        let source = self.keep("media on the source", source);
        let target = self.keep("media on the target", target);
        let (source, target) = (source?, target?);
        self.source_media(&source)?;
        self.room_for_media(&source, &target).await;
        Some(Some(MediaPaths { source, target }))
    }

    /// A source without media is more likely a disk that is not mounted than an empty instance.
    fn source_media(&mut self, root: &MediaRoot) -> Option<()> {
        let remedy = "mount it, or set PAPERCLIP_ROOT_PATH to where the media are";
        match &root.there {
            None => {
                self.refuse("media", &format!("there is no {}", root.path), Some(remedy.into()));
                None
            }
            Some(dir) if dir.empty == Some(true) => {
                self.refuse("media", &format!("{} is empty", dir.real), Some(remedy.into()));
                None
            }
            Some(_) => Some(()),
        }
    }

    async fn room_for_media(&mut self, source: &MediaRoot, target: &MediaRoot) {
        let world = self.world;
        let root = source.there.as_ref().map_or(&source.path, |dir| &dir.real);
        let mastodon = world.source.mastodon();
        let size = layout::media_size(world.source.host(), &mastodon, root, COUNT_LIMIT).await;
        let root_user = crate::host::RunAs::Root;
        let space = layout::space(world.target.host(), &root_user, &target.path).await;
        let size = self.keep("media on the source", size);
        let space = self.keep("disk on the target", space);
        let (Some(size), Some(space)) = (size, space) else { return };
        if !world.config.media.delete {
            self.warn(
                "deleted media",
                "what is deleted on the source between two passes stays on the target".into(),
                "set `media.delete = true` if the target's media directory is the move's alone",
            );
        }
        let least = if size.complete { "" } else { "at least " };
        let files = counted(size.files, "file");
        let text = format!("{least}{files}, {}, in {}", Bytes(size.bytes), source.path);
        self.ok("media", text);
        if size.unreadable > 0 {
            self.warn(
                "media",
                format!("{} places cannot be read", size.unreadable),
                "run transhume as root, or mend their modes",
            );
        }
        // What an earlier pass brought is on the target already.
        let there = target.there.is_some();
        let free = Bytes(space.free_bytes);
        let remedy = "give the target a larger disk, or make `cache/` smaller on the source first: \
                      `tootctl media remove --days=7`";
        if space.free_bytes < size.bytes && !there {
            let text = format!("{free} free on {}, {} needed", space.mounted_on, Bytes(size.bytes));
            self.refuse("disk on the target", &text, Some(remedy.into()));
        } else {
            self.ok("disk on the target", format!("{free} free on {}", space.mounted_on));
        }
        let needed = size.files + size.dirs;
        if let Some(inodes) = space.inodes.filter(|inodes| inodes.free < needed && !there) {
            let text = format!("{} inodes free, {needed} needed", inodes.free);
            self.refuse("inodes on the target", &text, Some(remedy.into()));
        }
    }

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

async fn media_root(
    machine: &Machine,
    variables: &dyn Variables,
) -> Result<MediaRoot, crate::host::HostError> {
    layout::media_root(machine.host(), &machine.mastodon(), variables, &machine.side.root).await
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
