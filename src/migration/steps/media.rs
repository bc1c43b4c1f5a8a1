//! The media: a pass while the old server is live, the final pass in the window, and a look at
//! everything once the new server is up.

mod class;

use std::sync::Mutex;

use async_trait::async_trait;
use serde_json::Value;

use super::Scene;
use crate::config;
use crate::event::{Event, Monitor};
use crate::media::{self, DeleteLimit, Endpoint, MediaError, Options, Outcome, Owner, Stats};
use crate::migration::facts::MediaPaths;
use crate::migration::step::{Check, Step, StepError};
use crate::migration::world::World;
use crate::units::{Bytes, counted};
pub use class::Class;

/// Which pass a step makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// The old server is live.
    Base,
    /// It is fenced: whatever was written since.
    Final,
    /// Both sides are looked at; nothing is copied.
    Check,
}

pub struct Media {
    scene: Scene,
    pass: Pass,
    evidence: Mutex<Option<String>>,
}

impl Media {
    pub fn new(scene: Scene, pass: Pass) -> Self {
        Media { scene, pass, evidence: Mutex::default() }
    }
}

/// Both ends of a pass, for `sync` as well.
pub async fn endpoints(
    world: &World,
    paths: &MediaPaths,
) -> Result<(Endpoint, Endpoint, Owner), StepError> {
    let real = |root: &crate::instance::layout::MediaRoot| {
        root.there.as_ref().map_or_else(|| root.path.clone(), |dir| dir.real.clone())
    };
    let config = &world.config.media;
    let manifests = world.config.state_dir.join("manifests");
    let source = match &world.source.side.host {
        None => Endpoint::remembered(real(&paths.source), Some(manifests.clone())),
        Some(_) => {
            let helper = world.source.media_helper(config.transport, &*world.monitor).await?;
            Endpoint::remote(
                world.source.host.clone(),
                real(&paths.source),
                config.transport,
                helper,
                crate::host::RunAs::Login,
                config.connections,
            )?
        }
    };
    let target = &world.target;
    if target.side.host.is_none() {
        let owner = Owner::Named { user: target.side.user.clone(), group: None };
        let target = Endpoint::remembered(real(&paths.target), Some(manifests));
        return Ok((source, target, owner));
    }
    let helper = target.media_helper(config.transport, &*world.monitor).await?;
    // The helper writes as Mastodon's user; an SFTP session writes as whoever logs in.
    let (user, owner) = match &helper {
        Some(_) => (target.mastodon(), Owner::Writer),
        None => {
            let owner = Owner::Named { user: target.side.user.clone(), group: None };
            (crate::host::RunAs::Login, owner)
        }
    };
    let target = Endpoint::remote(
        target.host.clone(),
        real(&paths.target),
        config.transport,
        helper,
        user,
        config.connections,
    )?;
    let target = target.remembering(Some(manifests));
    Ok((source, target, owner))
}

/// One pass as the configuration says; none where the media are in object storage.
pub async fn pass(
    world: &World,
    paths: Option<&MediaPaths>,
    pass: Pass,
    class: Class,
    monitor: &dyn Monitor,
) -> Result<Option<Outcome>, StepError> {
    pass_with(world, paths, pass, monitor, |options| Options {
        walks: class.walks(options.hard_links),
        ..options
    })
    .await
}

/// One pass with options that differ from what the configuration says.
pub async fn pass_with(
    world: &World,
    paths: Option<&MediaPaths>,
    pass: Pass,
    monitor: &dyn Monitor,
    change: impl FnOnce(Options) -> Options,
) -> Result<Option<Outcome>, StepError> {
    let Some(paths) = paths else { return Ok(None) };
    let (source, target, owner) = endpoints(world, paths).await?;
    let options = change(options(&world.config.media, pass, owner));
    let outcome: Result<Outcome, MediaError> =
        media::sync(&source, &target, &options, monitor).await;
    Ok(Some(outcome?))
}

/// What a pass does and may do.
pub fn options(config: &config::Media, pass: Pass, owner: Owner) -> Options {
    Options {
        dry_run: pass == Pass::Check,
        // Only if the operator said so: the target may hold what we did not put there.
        delete: match pass {
            Pass::Base | Pass::Final => config.delete,
            Pass::Check => false,
        },
        max_delete: Some(DeleteLimit::Percent(config.max_delete_percent)),
        exclude: config.exclude.iter().map(|pattern| pattern.clone().into_bytes()).collect(),
        hard_links: config.hard_links,
        bwlimit: config.bwlimit,
        // In the window nobody is there to be kept waiting.
        gentle: config.gentle && pass == Pass::Base,
        owner,
        ..Options::default()
    }
}

/// What a pass did, or would do, in words.
pub fn summary(pass: Pass, stats: &Stats) -> String {
    match pass {
        Pass::Base | Pass::Final if stats.transferred_files > 0 => {
            let files = counted(stats.transferred_files, "file");
            format!("{files} copied, {}", Bytes(stats.transferred_bytes))
        }
        Pass::Check if stats.differing() > 0 => {
            let files = counted(stats.differing_files, "file");
            format!("{files} to copy, {}; nothing was changed", Bytes(stats.differing_bytes))
        }
        Pass::Base | Pass::Final | Pass::Check => {
            format!("nothing to copy: {} are there", counted(stats.source_files, "file"))
        }
    }
}

#[async_trait]
impl Step for Media {
    fn id(&self) -> &'static str {
        match self.pass {
            Pass::Base => "media",
            Pass::Final => "media-final",
            Pass::Check => "media-check",
        }
    }

    fn title(&self) -> String {
        match self.pass {
            Pass::Base => "Copy the media while the old server is live",
            Pass::Final => "Copy what changed in the media since",
            Pass::Check => "Look at all media on both sides once more",
        }
        .into()
    }

    async fn check(&self) -> Result<Check, StepError> {
        Ok(match &self.scene.facts.media {
            Some(_) => Check::Needed,
            None => Check::NotApplicable("the media are in object storage and stay there".into()),
        })
    }

    async fn run(&self, _: &Value) -> Result<(), StepError> {
        let Scene { world, facts, .. } = &self.scene;
        let Some(outcome) =
            pass(world, facts.media.as_ref(), self.pass, Class::All, &*world.monitor).await?
        else {
            return Ok(());
        };
        let stats = &outcome.stats;
        let evidence = match self.pass {
            Pass::Base | Pass::Final => summary(self.pass, stats),
            Pass::Check if stats.differing() == 0 => {
                format!("{} of the old server are all there", counted(stats.source_files, "file"))
            }
            Pass::Check => {
                let files = counted(stats.differing(), "file");
                format!("{files} of the old server are missing or differ")
            }
        };
        if self.pass == Pass::Check && stats.differing() > 0 {
            let text = evidence.clone();
            let remedy = Some("`transhume files` copies what is missing".into());
            world.monitor.emit(Event::Problem { subject: "media".into(), text, remedy });
        }
        if self.pass == Pass::Final && outcome.problems_total > 0 {
            let what = counted(outcome.problems_total, "file");
            return Err(StepError::new(
                format!("{what} could not be copied with the old server at rest"),
                Some("the problems above name them; mend their modes or exclude them"),
            ));
        }
        *self.evidence.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(evidence);
        Ok(())
    }

    /// After a pass that copied, both sides are scanned again: a pass must find nothing to do.
    async fn verify(&self) -> Result<String, StepError> {
        let Scene { world, facts, .. } = &self.scene;
        let evidence =
            self.evidence.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        let evidence = evidence.unwrap_or_default();
        if self.pass != Pass::Final {
            return Ok(evidence);
        }
        let again =
            pass(world, facts.media.as_ref(), Pass::Check, Class::All, &crate::event::Silent)
                .await?;
        let left = again.map_or(0, |outcome| outcome.stats.differing());
        if left > 0 {
            let what = counted(left, "file");
            return Err(StepError::new(format!("{what} still differ after the pass"), None));
        }
        Ok(format!("{evidence}; scanned again: no difference"))
    }

    /// Copied media stay: the next pass goes on from them.
    async fn undo(&self, _: &Value) -> Result<(), StepError> {
        Ok(())
    }
}
