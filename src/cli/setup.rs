//! From the configuration file to two connected machines: what every verb of a move begins with.

use std::io::IsTerminal;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{Config, ConfigError, Side};
use crate::event::{Event, Monitor};
use crate::host::Host;
use crate::host::gone::Gone;
use crate::host::local::Local;
use crate::host::ssh::destination::NotADestination;
use crate::host::ssh::{self, Destination, NoPrompt, Prompt, TerminalPrompt};
use crate::migration::world::{Machine, World};

use super::{Exit, Failure};

/// Where the configuration is looked for when `-c` does not name it.
fn places() -> Vec<PathBuf> {
    let home = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")));
    let mut places = vec![PathBuf::from("transhume.toml")];
    places.extend(home.map(|home| home.join("transhume/transhume.toml")));
    places
}

/// Reads the configuration that `-c` names, or the first that is found.
pub(super) fn config(named: Option<&Path>) -> Result<Config, Failure> {
    let looked = named.map_or_else(places, |path| vec![path.to_owned()]);
    let Some(path) = looked.iter().find(|path| path.exists()) else {
        return Err(Failure::new(Exit::Usage, ConfigError::Missing { looked }));
    };
    Config::load(path).map_err(|error| Failure::new(Exit::Usage, error))
}

/// Makes the state directory, 0700: journal, reports and manifests tell much about an instance.
pub(super) fn state_dir(config: &Config) -> Result<(), Failure> {
    let dir = &config.state_dir;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| {
        Failure::message(
            Exit::Usage,
            format!("cannot make the state directory {}: {error}", dir.display()),
            Some("run transhume as root, or set `state_dir` to a directory of yours".into()),
        )
    })
}

/// Connects to both servers.
pub(super) async fn world(config: Config, monitor: Arc<dyn Monitor>) -> Result<World, Failure> {
    state_dir(&config)?;
    let owner = owner(&config.state_dir)?;
    connected(config, monitor, owner).await
}

/// Connects to both servers for a verb that only looks, or copies media: nothing is kept in the
/// state directory, which need not be there.
pub(super) async fn world_to_look(
    config: Config,
    monitor: Arc<dyn Monitor>,
) -> Result<World, Failure> {
    let owner = match known_owner(&config.state_dir)? {
        Some(owner) => owner,
        None => new_owner()?,
    };
    connected(config, monitor, owner).await
}

async fn connected(
    config: Config,
    monitor: Arc<dyn Monitor>,
    owner: String,
) -> Result<World, Failure> {
    let source = machine(&config.source).await?;
    let target = machine(&config.target).await?;
    Ok(World::new(config, source, target, monitor, owner))
}

/// Connects to both servers, and does without the target if that cannot be reached: the old
/// server can be put back all the same.
pub(super) async fn world_to_undo(
    config: Config,
    monitor: Arc<dyn Monitor>,
) -> Result<World, Failure> {
    state_dir(&config)?;
    let owner = owner(&config.state_dir)?;
    let source = machine(&config.source).await?;
    let target: Arc<dyn Host> = match host(&config.target).await {
        Ok(target) => target,
        Err(failure) => {
            let name = destination(&config.target)?.map_or_else(String::new, |place| place.host);
            monitor.emit(Event::Problem {
                subject: name.clone(),
                text: format!("{}; the old server is put back without it", failure.text()),
                remedy: Some("when it is there again, `transhume rollback` clears it".into()),
            });
            Arc::new(Gone::new(name))
        }
    };
    let target = Machine::new(target, config.target.clone());
    Ok(World::new(config, source, target, monitor, owner))
}

fn destination(side: &Side) -> Result<Option<Destination>, Failure> {
    let parse = |text: &String| {
        text.parse().map_err(|error: NotADestination| {
            let hint = Some("correct `host` in transhume.toml".to_owned());
            Failure::message(Exit::Usage, error.to_string(), hint)
        })
    };
    side.host.as_ref().map(parse).transpose()
}

async fn machine(side: &Side) -> Result<Machine, Failure> {
    Ok(Machine::new(host(side).await?, side.clone()))
}

async fn host(side: &Side) -> Result<Arc<dyn Host>, Failure> {
    let Some(destination) = destination(side)? else { return Ok(Arc::new(Local::new())) };
    let options = ssh::Options {
        identity: side.identity.clone(),
        options: side.ssh_options.clone(),
        ..ssh::Options::default()
    };
    let host = ssh::connect(&destination, &options, prompt()).await;
    Ok(host.map_err(|error| Failure::new(Exit::Failed, error))?)
}

/// Asks on the terminal where there is one.
pub(super) fn prompt() -> Arc<dyn Prompt> {
    if std::io::stdin().is_terminal() { Arc::new(TerminalPrompt) } else { Arc::new(NoPrompt) }
}

/// The name that this installation writes on locks and databases; made at the first use.
fn owner(state_dir: &Path) -> Result<String, Failure> {
    if let Some(name) = known_owner(state_dir)? {
        return Ok(name);
    }
    let name = new_owner()?;
    let path = state_dir.join("owner");
    let mut options = std::fs::OpenOptions::new();
    let written = options.write(true).create(true).truncate(true).mode(0o600).open(&path).and_then(
        |mut file| {
            std::io::Write::write_all(&mut file, format!("{name}\n").as_bytes())?;
            file.sync_all()
        },
    );
    written.map_err(|error| Failure::from_io(&format!("use {}", path.display()), error))?;
    Ok(name)
}

/// The name, if there is one yet.
fn known_owner(state_dir: &Path) -> Result<Option<String>, Failure> {
    let path = state_dir.join("owner");
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|name| !name.is_empty())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::from_io(&format!("use {}", path.display()), error)),
    }
}

fn new_owner() -> Result<String, Failure> {
    let mut random = [0; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| Failure::from_io("make a name for this installation", error.into()))?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}
