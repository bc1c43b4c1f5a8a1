//! The new Mastodon: a dark probe first, then everything, proved.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use super::fence::fenced;
use super::{Scene, recalled, remembered};
use crate::host::run;
use crate::instance::fence::FenceRecord;
use crate::instance::probe::checks;
use crate::instance::services::{self, ActiveState, UnitKind};
use crate::instance::tootctl::Tootctl;
use crate::instance::variables::Variables;
use crate::migration::step::{Check, Step, StepError};
use crate::migration::world::Machine;

/// How long nginx may take to pass on the answers of a process that answers.
const FRONT_LIMIT: Duration = Duration::from_secs(10);

/// A unit that ran on the old server before it was fenced.
struct Wanted {
    name: String,
    kind: UnitKind,
    /// It started at boot.
    enabled: bool,
}

/// What ran on the old server, as far as the target has it: by name, or as an instance of a
/// template there.
async fn wanted(scene: &Scene) -> Result<Vec<Wanted>, StepError> {
    let memory = scene.memories.memory("fence").unwrap_or(Value::Null);
    let record: FenceRecord = recalled(&memory)?;
    let target = &scene.world.target;
    let there = services::discover(target.host(), &target.systemd()).await?;
    let has = |name: &str| there.iter().any(|unit| unit.name == name);
    let ran = record.units.into_iter().filter(|unit| unit.was_running);
    let ran = ran.filter(|unit| {
        has(&unit.name) || services::template_of(&unit.name).is_some_and(|name| has(&name))
    });
    let kind = |name: &str| {
        let known = there.iter().find(|unit| unit.name == name).map(|unit| unit.kind);
        known.unwrap_or_else(|| UnitKind::of(name, ""))
    };
    let wanted = ran.map(|unit| Wanted {
        kind: kind(&unit.name),
        enabled: !unit.links.is_empty(),
        name: unit.name,
    });
    Ok(wanted.collect())
}

fn names<'a>(units: impl IntoIterator<Item = &'a Wanted>) -> Vec<String> {
    units.into_iter().map(|unit| unit.name.clone()).collect()
}

fn of_kind(units: &[Wanted], kind: UnitKind) -> Vec<String> {
    names(units.iter().filter(|unit| unit.kind == kind))
}

impl Scene {
    fn start_limit(&self) -> Duration {
        Duration::from_secs(self.world.config.cutover.start_secs_max)
    }

    async fn web_answers(&self) -> Result<String, StepError> {
        let target = &self.world.target;
        let front = self.process(target, &target.side.web)?;
        Ok(checks::wait_healthy(self.start_limit(), || checks::web_health(&front)).await?)
    }

    /// The same through the new nginx, which has nothing more to wait for.
    async fn front_answers(&self) -> Result<String, StepError> {
        let front = self.front(&self.world.target)?;
        let answer = checks::wait_healthy(FRONT_LIMIT, || checks::web_health(&front)).await;
        answer.map_err(|error| {
            let why = crate::error::one_line(&error);
            let hint = "its site and certificate must be there before the move: copy them by hand, \
                        or with `copy` (docs/config.md); `target.nginx` tells where it answers";
            StepError::new(format!("nginx on the target does not pass it on: {why}"), Some(hint))
        })
    }
}

/// The web process alone, and stopped again: does it start with these secrets, this database and
/// this Redis, and does the new nginx pass it on? Nobody is led there yet.
pub struct DarkProbe(pub Scene);

#[async_trait]
impl Step for DarkProbe {
    fn id(&self) -> &'static str {
        "dark-probe"
    }

    fn title(&self) -> String {
        "Try the new web process in the dark".into()
    }

    async fn check(&self) -> Result<Check, StepError> {
        Ok(Check::Needed)
    }

    async fn remember(&self) -> Result<Value, StepError> {
        remembered(&of_kind(&wanted(&self.0).await?, UnitKind::Web))
    }

    async fn run(&self, memory: &Value) -> Result<(), StepError> {
        let units: Vec<String> = recalled(memory)?;
        let target = &self.0.world.target;
        if units.is_empty() {
            let hint = "install Mastodon's units on the target, or set `target.units`";
            return Err(StepError::new("the target has no unit of the web process", Some(hint)));
        }
        services::start(target.host(), &target.systemd(), &units, self.0.start_limit()).await?;
        let answers = async {
            self.0.web_answers().await?;
            self.0.front_answers().await
        };
        let answered = answers.await;
        let stopped = services::stop(target.host(), &target.systemd(), &units).await;
        // The first cause is the one that is told.
        answered?;
        Ok(stopped?)
    }

    /// Also the last look at the old server before the point of no return: a hole in the fence
    /// that is found here still unwinds.
    async fn verify(&self) -> Result<String, StepError> {
        fenced(&self.0).await?;
        let target = &self.0.world.target;
        let version = program(target, &target.side.tootctl).version(target.host()).await?;
        let decrypted = decrypted(&self.0).await?;
        Ok(format!(
            "it started, answered /health, also through nginx, and was stopped; \
             Mastodon {version}; {decrypted}"
        ))
    }

    async fn undo(&self, memory: &Value) -> Result<(), StepError> {
        let units: Vec<String> = recalled(memory)?;
        let target = &self.0.world.target;
        Ok(services::stop(target.host(), &target.systemd(), &units).await?)
    }
}

/// One of Mastodon's own programs on a machine.
fn program(machine: &Machine, words: &[String]) -> Tootctl {
    Tootctl {
        root: machine.side.root.clone(),
        user: machine.side.user.clone(),
        words: words.to_vec(),
        env: Vec::new(),
    }
}

/// Decrypts what the source's database holds encrypted with the keys that are now on the target:
/// with others nobody could log in with a second factor, and from Mastodon 4.7 on nothing could be
/// signed.
async fn decrypted(scene: &Scene) -> Result<String, StepError> {
    /// Prints how many it decrypted; the secret itself is not printed.
    const CODE: &str =
        "puts User.where.not(otp_secret: nil).limit(1).filter_map(&:otp_secret).size";
    const LIMIT: Duration = Duration::from_secs(300);
    let environment = &scene.facts.environment;
    if environment.get("ACTIVE_RECORD_ENCRYPTION_PRIMARY_KEY").is_none() {
        return Ok("this version encrypts nothing".into());
    }
    let target = &scene.world.target;
    let rails = program(target, &target.side.rails);
    let command = rails.command(target.host(), &["runner", CODE]).await?.deadline(LIMIT);
    let output = run(target.host(), &command).await?;
    if !output.success() {
        return Err(StepError::new(
            format!(
                "Mastodon cannot decrypt a secret with its keys: {}",
                output.stderr_tail.trim()
            ),
            Some(
                "the ACTIVE_RECORD_ENCRYPTION_* values must be those of the old server: look at \
                 `target.env` in transhume.toml, and at the units of the target",
            ),
        ));
    }
    Ok(match output.text().lines().last().and_then(|line| line.trim().parse::<u64>().ok()) {
        Some(0) => "no secret to decrypt".into(),
        Some(_) => "a secret was decrypted".into(),
        None => return Err(StepError::new("`rails runner` did not say what it decrypted", None)),
    })
}

/// Everything of the new Mastodon enabled and started, once the old one is proved to be fenced.
pub struct Start(pub Scene);

#[async_trait]
impl Step for Start {
    fn id(&self) -> &'static str {
        "start"
    }

    fn title(&self) -> String {
        "Start the new Mastodon".into()
    }

    async fn check(&self) -> Result<Check, StepError> {
        Ok(Check::Needed)
    }

    async fn run(&self, _: &Value) -> Result<(), StepError> {
        fenced(&self.0).await?;
        let target = &self.0.world.target;
        let (host, systemd) = (target.host(), target.systemd());
        let units = wanted(&self.0).await?;
        services::enable(host, &systemd, &names(units.iter().filter(|unit| unit.enabled))).await?;
        services::start(host, &systemd, &names(&units), self.0.start_limit()).await?;
        Ok(())
    }

    async fn verify(&self) -> Result<String, StepError> {
        let target = &self.0.world.target;
        let units = wanted(&self.0).await?;
        let states = services::states(target.host(), &target.systemd(), &names(&units)).await?;
        let idle = |state: &ActiveState| *state != ActiveState::Active;
        if let Some((unit, _)) = states.iter().find(|(_, state)| idle(state)) {
            let hint = format!("look at `journalctl -u {unit}` on the target");
            return Err(StepError::new(format!("{unit} does not run"), Some(&hint)));
        }
        let web = self.0.web_answers().await?;
        let front = self.0.process(target, &target.side.streaming)?;
        let limit = self.0.start_limit();
        let streaming = match of_kind(&units, UnitKind::Streaming).is_empty() {
            true => "there is no streaming".to_owned(),
            false => checks::wait_healthy(limit, || checks::streaming_health(&front)).await?,
        };
        Ok(format!("{} units run; {web}; {streaming}", units.len()))
    }

    /// Past the point of no return: never called.
    async fn undo(&self, _: &Value) -> Result<(), StepError> {
        Ok(())
    }
}

/// The new server as others see it: through its nginx, by the instance's name.
pub struct Prove(pub Scene);

#[async_trait]
impl Step for Prove {
    fn id(&self) -> &'static str {
        "prove"
    }

    fn title(&self) -> String {
        "Prove the new server through its nginx".into()
    }

    async fn check(&self) -> Result<Check, StepError> {
        Ok(Check::Needed)
    }

    async fn run(&self, _: &Value) -> Result<(), StepError> {
        Ok(())
    }

    async fn verify(&self) -> Result<String, StepError> {
        let front = self.0.front(&self.0.world.target)?;
        let limit = self.0.start_limit();
        let health = checks::wait_healthy(limit, || checks::web_health(&front)).await?;
        let page = checks::front_page(&front).await?;
        let domain = &self.0.facts.domains.web;
        let actor = checks::instance_actor(&front, domain).await?;
        Ok(format!("through nginx: {health}; {page}; {actor}"))
    }

    /// Past the point of no return: never called.
    async fn undo(&self, _: &Value) -> Result<(), StepError> {
        Ok(())
    }
}
