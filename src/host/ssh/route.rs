//! From what the operator wrote to the machines to log in to: the destination, the options, and
//! the ssh_config files become hops, the last of which is the target.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::config_file::{ConfigError, Reading, Source, split_words};
use super::destination::{Destination, NotADestination};
use super::settings::{NAMES, Proxy, Settings, is_relaxed};
use super::surroundings::Surroundings;

const HOPS_MAX: usize = 8;
const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
const IDENTITIES_DEFAULT: [&str; 3] = ["~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa"];
const USER_KNOWN_HOSTS_DEFAULT: [&str; 2] = ["~/.ssh/known_hosts", "~/.ssh/known_hosts2"];
const GLOBAL_KNOWN_HOSTS_DEFAULT: [&str; 2] =
    ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"];

/// How to connect, beside the destination.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// A private key to try first (`--identity`).
    pub identity: Option<PathBuf>,
    /// Options of ssh_config(5) by name (in any case), stronger than the files; one that is
    /// not known is an error that lists those that are.
    pub options: BTreeMap<String, String>,
    /// Read instead of `~/.ssh/config` and `/etc/ssh/ssh_config`, like `ssh -F`.
    pub config_file: Option<PathBuf>,
    /// Whose files and agent are used.
    pub surroundings: Surroundings,
}

/// A machine on the way, with all that is needed to log in to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HopPlan {
    /// As the operator named it.
    pub name: String,
    pub host: String,
    pub port: u16,
    pub user: String,
    /// Key files named on purpose, in order.
    pub identities: Vec<PathBuf>,
    /// Key files tried because they are the usual ones.
    pub usual_identities: Vec<PathBuf>,
    pub identities_only: bool,
    pub agent: Option<PathBuf>,
    /// The name in known_hosts.
    pub record_name: String,
    pub user_known_hosts: Vec<PathBuf>,
    pub global_known_hosts: Vec<PathBuf>,
    pub hash_known_hosts: bool,
    /// Refuse an unknown host key without asking.
    pub strict: bool,
    /// Ask nobody.
    pub batch_mode: bool,
    pub connect_timeout: Duration,
}

/// The hops in order, and what was skipped on the way, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePlan {
    pub hops: Vec<HopPlan>,
    pub notes: Vec<String>,
}

/// Why there is no route.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    #[error("{name} is not an SSH option that transhume knows")]
    UnknownOption { name: String },
    #[error("{problem}")]
    BadOption { problem: String },
    #[error("StrictHostKeyChecking={value} is refused: host keys are always verified")]
    Relaxed { value: String },
    #[error("cannot read {}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Destination(#[from] NotADestination),
    #[error("{host} is reached through ProxyCommand (`{command}`), which transhume does not run")]
    ProxyCommand { host: String, command: String },
    #[error("the ProxyJump of {host} leads through more than {HOPS_MAX} machines")]
    TooManyHops { host: String },
}

impl RouteError {
    pub fn hint(&self) -> Option<String> {
        match self {
            RouteError::UnknownOption { .. } => Some(format!("it knows {}", NAMES.join(", "))),
            RouteError::Relaxed { .. } => Some(
                "log in once with `ssh` and compare the fingerprint, or put the host's key into \
                 known_hosts"
                    .into(),
            ),
            RouteError::ProxyCommand { .. } => Some(
                "use `ProxyJump` (`-e ProxyJump=[user@]host[:port]`), or `-e ProxyCommand=none` \
                 if the machine can be reached directly"
                    .into(),
            ),
            RouteError::BadOption { .. }
            | RouteError::Unreadable { .. }
            | RouteError::Config(_)
            | RouteError::Destination(_)
            | RouteError::TooManyHops { .. } => None,
        }
    }
}

/// Works out the hops to `destination`. Reads the configuration files, and nothing else.
pub fn plan(destination: &Destination, options: &Options) -> Result<RoutePlan, RouteError> {
    let mut settings = Settings::default();
    // The operator's word first: the first value wins.
    if let Some(identity) = &options.identity {
        // It is a path, not a pattern.
        settings.identity_files.push(identity.to_string_lossy().replace('%', "%%"));
    }
    settings.port = destination.port;
    settings.user.clone_from(&destination.user);
    for (name, value) in &options.options {
        if name.eq_ignore_ascii_case("StrictHostKeyChecking") && is_relaxed(value) {
            return Err(RouteError::Relaxed { value: value.clone() });
        }
        let values = split_words(value);
        match values.and_then(|values| settings.set(name, &values)) {
            Ok(true) => {}
            Ok(false) => return Err(RouteError::UnknownOption { name: name.clone() }),
            Err(problem) => return Err(RouteError::BadOption { problem }),
        }
    }
    let files = Files::read(options)?;
    let mut plan = RoutePlan { hops: Vec::new(), notes: Vec::new() };
    files.extend(&mut plan, destination, settings, 0)?;
    plan.notes.dedup();
    Ok(plan)
}

/// The configuration files, read once.
struct Files<'a> {
    surroundings: &'a Surroundings,
    sources: Vec<(Source, PathBuf)>,
}

impl<'a> Files<'a> {
    fn read(options: &'a Options) -> Result<Self, RouteError> {
        let ssh_dir = options.surroundings.home.join(".ssh");
        let paths = match &options.config_file {
            Some(path) => vec![(path.clone(), ssh_dir)],
            None => vec![
                (ssh_dir.join("config"), ssh_dir),
                ("/etc/ssh/ssh_config".into(), "/etc/ssh".into()),
            ],
        };
        let mut sources = Vec::new();
        for (path, include_dir) in paths {
            match std::fs::read_to_string(&path) {
                Ok(text) => {
                    let name = path.display().to_string();
                    sources.push((Source { name, text }, include_dir));
                }
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound && options.config_file.is_none() => {
                }
                Err(source) => return Err(RouteError::Unreadable { path, source }),
            }
        }
        Ok(Files { surroundings: &options.surroundings, sources })
    }

    /// Adds `destination`, and before it the machines it is reached through.
    fn extend(
        &self,
        plan: &mut RoutePlan,
        destination: &Destination,
        settings: Settings,
        depth: usize,
    ) -> Result<(), RouteError> {
        let host = &destination.host;
        if depth >= HOPS_MAX || plan.hops.len() >= HOPS_MAX {
            return Err(RouteError::TooManyHops { host: host.clone() });
        }
        let mut reading = Reading { host, settings, notes: std::mem::take(&mut plan.notes) };
        for (source, include_dir) in &self.sources {
            let mut include =
                |pattern: &str| super::include::find(pattern, include_dir, &self.surroundings.home);
            reading.apply(source, &mut include)?;
        }
        plan.notes = reading.notes;
        let settings = reading.settings;
        match &settings.proxy {
            Some(Proxy::Command(Some(command))) => {
                return Err(RouteError::ProxyCommand {
                    host: host.clone(),
                    command: command.clone(),
                });
            }
            Some(Proxy::Jump(Some(jumps))) => self.extend_jumps(plan, jumps, depth)?,
            Some(Proxy::Jump(None) | Proxy::Command(None)) | None => {}
        }
        plan.hops.push(hop(host, settings, self.surroundings)?);
        Ok(())
    }

    /// `ProxyJump a,b`: a by its own configuration, b through a, the target through b.
    fn extend_jumps(
        &self,
        plan: &mut RoutePlan,
        jumps: &str,
        depth: usize,
    ) -> Result<(), RouteError> {
        for (index, jump) in jumps.split(',').enumerate() {
            let jump: Destination = jump.trim().parse()?;
            // Only the first one's own ProxyJump counts: the others are reached through it.
            let proxy = (index > 0).then_some(Proxy::Jump(None));
            let (port, user) = (jump.port, jump.user.clone());
            let settings = Settings { port, user, proxy, ..Settings::default() };
            self.extend(plan, &jump, settings, depth + 1)?;
        }
        Ok(())
    }
}

fn hop(name: &str, settings: Settings, own: &Surroundings) -> Result<HopPlan, RouteError> {
    let host = match &settings.host_name {
        Some(template) => expand("HostName", template, &[('h', name)])?,
        None => name.to_owned(),
    };
    let port = settings.port.unwrap_or(22);
    let user = settings.user.unwrap_or_else(|| own.user.clone());
    let (port_text, home) = (port.to_string(), own.home.to_string_lossy());
    let tokens = [
        ('h', host.as_str()),
        ('n', name),
        ('p', port_text.as_str()),
        ('r', user.as_str()),
        ('u', own.user.as_str()),
        ('d', &home),
    ];
    let path = |option: &str, text: &str| -> Result<PathBuf, RouteError> {
        Ok(own.absolute(&expand(option, text, &tokens)?))
    };
    let paths = |option: &str, texts: &[String]| -> Result<Vec<PathBuf>, RouteError> {
        let named = texts.iter().filter(|text| !text.eq_ignore_ascii_case("none"));
        named.map(|text| path(option, text)).collect()
    };
    let usual = |texts: &[&str]| texts.iter().map(|text| own.absolute(text)).collect::<Vec<_>>();
    let agent = match settings.identity_agent.as_deref() {
        None | Some("SSH_AUTH_SOCK") => own.agent.clone(),
        Some("none") => None,
        Some(text) => Some(path("IdentityAgent", text)?),
    };
    let named_identities = !settings.identity_files.is_empty();
    Ok(HopPlan {
        name: name.to_owned(),
        record_name: super::known_hosts::record_name(
            settings.host_key_alias.as_deref().unwrap_or(&host),
            // An alias stands for the machine whatever its port.
            if settings.host_key_alias.is_some() { 22 } else { port },
        ),
        port,
        identities: paths("IdentityFile", &settings.identity_files)?,
        usual_identities: if named_identities { Vec::new() } else { usual(&IDENTITIES_DEFAULT) },
        identities_only: settings.identities_only.unwrap_or(false),
        agent,
        user_known_hosts: match &settings.user_known_hosts {
            Some(texts) => paths("UserKnownHostsFile", texts)?,
            None => usual(&USER_KNOWN_HOSTS_DEFAULT),
        },
        global_known_hosts: match &settings.global_known_hosts {
            Some(texts) => paths("GlobalKnownHostsFile", texts)?,
            None => usual(&GLOBAL_KNOWN_HOSTS_DEFAULT),
        },
        hash_known_hosts: settings.hash_known_hosts.unwrap_or(false),
        strict: settings.strict.unwrap_or(false),
        batch_mode: settings.batch_mode.unwrap_or(false),
        connect_timeout: settings.connect_timeout.unwrap_or(CONNECT_TIMEOUT_DEFAULT),
        user,
        host,
    })
}

/// Replaces `%h` and the like; `%%` is a percent sign.
fn expand(option: &str, text: &str, tokens: &[(char, &str)]) -> Result<String, RouteError> {
    let mut expanded = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            expanded.push(c);
            continue;
        }
        match chars.next() {
            Some('%') => expanded.push('%'),
            token => match tokens.iter().find(|(name, _)| Some(*name) == token) {
                Some((_, value)) => expanded.push_str(value),
                None => {
                    let token = token.map(String::from).unwrap_or_default();
                    let problem = format!("`%{token}` in {option} {text} is not supported");
                    return Err(RouteError::BadOption { problem });
                }
            },
        }
    }
    Ok(expanded)
}

#[cfg(test)]
mod tests;
