//! What both servers are, found by looking, and whether a move can work: everything that the
//! steps need to know, and the findings for the operator. Changes nothing.

mod databases;
mod machines;
mod media;
mod stores;

use std::sync::Arc;

use crate::database::Server;
use crate::database::target::Destination;
use crate::error::Advice;
use crate::event::Finding;
use crate::instance::cron::Cron;
use crate::instance::env_file::EnvFile;
use crate::instance::environment::{self, Environment};
use crate::instance::fence::Fence;
use crate::instance::layout::MediaRoot;
use crate::instance::services::{self, Systemd, Unit};
use crate::instance::stores::{Domains, RedisAddress, domains};

use super::world::{Machine, World};

/// What the steps need to know.
pub struct Facts {
    pub domains: Domains,
    /// The units of the source, as they are now.
    pub units: Vec<Unit>,
    pub environment: Environment,
    /// The source's `.env.production` with what the target has of its own.
    pub target_env: EnvFile,
    /// Absent where uploads are kept in object storage.
    pub media: Option<MediaPaths>,
    pub database: Server,
    pub destination: Destination,
    pub redis: Vec<RedisPair>,
    pub search: bool,
}

/// The media directories of both sides.
pub struct MediaPaths {
    pub source: MediaRoot,
    pub target: MediaRoot,
}

/// A Redis database and where it goes.
pub struct RedisPair {
    pub source: RedisAddress,
    pub target: RedisAddress,
}

/// What a look gave: facts where all that cannot be done without was found.
pub struct Gathered<F = Arc<Facts>> {
    pub facts: Option<F>,
    pub findings: Vec<Finding>,
}

/// Collects findings while it looks.
struct Look<'a> {
    world: &'a World,
    findings: Vec<Finding>,
    /// Only what undoing needs, which the target may be missing for.
    to_undo: bool,
}

/// Looks at both servers.
pub async fn gather(world: &World) -> Gathered {
    look(world, false).await
}

/// Looks at what undoing needs to know. Does without the target where it must.
pub async fn gather_to_undo(world: &World) -> Gathered {
    look(world, true).await
}

/// Looks at what a media pass needs to know, and at nothing else: databases may be down, and the
/// code may differ. `Some(None)` where the media are in object storage.
pub async fn gather_media(world: &World) -> Gathered<Option<MediaPaths>> {
    let mut look = Look { world, findings: Vec::new(), to_undo: false };
    let facts = look.media_alone().await;
    look.end(facts)
}

/// Where the source's database is, for those who only ask it something.
pub async fn gather_database(world: &World) -> Gathered<Server> {
    let mut look = Look { world, findings: Vec::new(), to_undo: false };
    let facts = look.source_database().await;
    look.end(facts)
}

async fn look(world: &World, to_undo: bool) -> Gathered {
    let mut look = Look { world, findings: Vec::new(), to_undo };
    let facts = look.all().await.map(Arc::new);
    look.end(facts)
}

impl Look<'_> {
    fn end<F>(mut self, facts: Option<F>) -> Gathered<F> {
        self.findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
        Gathered { facts, findings: self.findings }
    }

    async fn media_alone(&mut self) -> Option<Option<MediaPaths>> {
        if !self.machines().await {
            return None;
        }
        let environment = self.source_environment().await?;
        let target_env = self.target_env(&environment)?;
        self.media(&environment, &target_env).await
    }

    /// What Mastodon on the source is told. Its units may set something; there need not be any.
    async fn source_environment(&mut self) -> Option<Environment> {
        let source = &self.world.source;
        let units = services::discover(source.host(), &source.systemd()).await;
        let units = self.keep("units on the source", units)?;
        self.environment(&units).await
    }

    async fn all(&mut self) -> Option<Facts> {
        let reachable = self.machines().await;
        if !reachable && !self.to_undo {
            return None;
        }
        let layout = self.layouts().await;
        let units = self.units().await?;
        let environment = self.environment(&units).await?;
        let version = layout.as_ref().and_then(|layout| layout.version.as_ref());
        self.findings.extend(environment.findings(version));
        let Some(domains) = domains(&environment) else {
            let remedy = "set it in .env.production; it must never change afterwards";
            self.refuse("domain", "LOCAL_DOMAIN is not set", Some(remedy.into()));
            return None;
        };
        let target_env = self.target_env(&environment)?;
        let databases = self.databases(&environment, &target_env).await;
        let redis = self.redis(&environment, &target_env).await;
        let media = self.media(&environment, &target_env).await;
        self.nginx().await;
        let search = self.search(&environment);
        let (database, destination) = databases?;
        Some(Facts {
            domains,
            units,
            environment,
            target_env,
            media: media?,
            database,
            destination,
            redis: redis?,
            search,
        })
    }

    /// Mastodon's units on both sides; those of the source.
    async fn units(&mut self) -> Option<Vec<Unit>> {
        let world = self.world;
        for machine in world.machines() {
            let found = services::discover(machine.host(), &machine.systemd()).await;
            let is_source = std::ptr::eq(machine, &world.source);
            let subject = format!("units on the {}", if is_source { "source" } else { "target" });
            let Some(units) = self.keep(&subject, found) else {
                if self.to_undo && !is_source {
                    continue;
                }
                return None;
            };
            let names: Vec<&str> = units.iter().map(short).collect();
            if !names.is_empty() {
                self.findings.push(Finding::ok(&subject, names.join(", ")));
            } else if is_source || !world.config.copy.systemd {
                let remedy = if is_source {
                    "set `source.units` to the names of Mastodon's units"
                } else {
                    "install them there, or set `copy.systemd = true`"
                };
                self.refuse(&subject, "there is none of Mastodon's units", Some(remedy.into()));
            }
            if is_source && names.is_empty() {
                return None;
            }
            if !is_source {
                self.idle_target(&subject, &units);
            }
        }
        let units = services::discover(world.source.host(), &world.source.systemd()).await;
        self.keep("units", units)
    }

    /// There are never two Sidekiqs for one domain: the new one is started by the move.
    fn idle_target(&mut self, subject: &str, units: &[Unit]) {
        let running: Vec<&str> = units.iter().filter(|unit| unit.is_running()).map(short).collect();
        if !running.is_empty() {
            let text = format!("running already: {}", running.join(", "));
            let remedy = format!("stop them there: `systemctl stop {}`", running.join(" "));
            self.refuse(subject, &text, Some(remedy));
        }
    }

    async fn environment(&mut self, units: &[Unit]) -> Option<Environment> {
        let source = &self.world.source;
        let path = source.side.env_path();
        let read = environment::read(source.host(), &path, units).await;
        self.keep(".env.production", read)
    }

    /// The source's `.env.production` with what the target has of its own.
    fn target_env(&mut self, environment: &Environment) -> Option<EnvFile> {
        self.keep("target.env", environment.file.with(&self.world.config.target.env))
    }

    /// The value, or a refusal that says why there is none.
    fn keep<T, E: Advice + 'static>(&mut self, subject: &str, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                let text = crate::error::one_line(&error);
                self.refuse(subject, &text, error.hint());
                None
            }
        }
    }

    fn refuse(&mut self, subject: &str, text: &str, remedy: Option<String>) {
        self.findings.push(Finding::refusal(subject, text, remedy));
    }

    fn warn(&mut self, subject: &str, text: String, remedy: &str) {
        self.findings.push(Finding::warning(subject, text, Some(remedy.into())));
    }

    fn ok(&mut self, subject: &str, text: impl Into<String>) {
        self.findings.push(Finding::ok(subject, text));
    }
}

/// A unit's name as people say it, and as systemctl takes it.
fn short(unit: &Unit) -> &str {
    unit.name.strip_suffix(".service").unwrap_or(&unit.name)
}

impl Machine {
    /// How its units are reached.
    pub fn systemd(&self) -> Systemd {
        Systemd {
            systemctl: self.side.systemctl.clone(),
            unit_dir: self.side.unit_dir.clone(),
            patterns: self.side.units.clone(),
        }
    }

    /// What is fenced on it.
    pub fn fence(&self) -> Fence {
        let cron = Cron {
            user: self.side.user.clone(),
            root: self.side.root.clone(),
            crontab: self.side.crontab.clone(),
            system_dir: self.side.cron_dir.clone(),
        };
        Fence { systemd: self.systemd(), cron }
    }
}
