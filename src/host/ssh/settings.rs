//! The options of ssh_config(5) that we honour, for one host: the first value of each wins.

use std::time::Duration;

/// What is set so far. Values are as written: `~` and `%` are expanded by [`super::route`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    pub host_name: Option<String>,
    pub port: Option<u16>,
    pub user: Option<String>,
    /// These add up, as in OpenSSH.
    pub identity_files: Vec<String>,
    pub identities_only: Option<bool>,
    pub identity_agent: Option<String>,
    pub user_known_hosts: Option<Vec<String>>,
    pub global_known_hosts: Option<Vec<String>>,
    pub hash_known_hosts: Option<bool>,
    pub host_key_alias: Option<String>,
    /// `Some(true)`: an unknown host key is refused without asking. It is never accepted unasked.
    pub strict: Option<bool>,
    pub connect_timeout: Option<Duration>,
    pub proxy: Option<Proxy>,
    pub batch_mode: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// ProxyJump; `None` for the value `none`.
    Jump(Option<String>),
    /// ProxyCommand, which we cannot honour; `None` for the value `none`.
    Command(Option<String>),
}

/// The names [`Settings::set`] knows, as ssh_config(5) spells them.
pub const NAMES: [&str; 15] = [
    "BatchMode",
    "ConnectTimeout",
    "GlobalKnownHostsFile",
    "HashKnownHosts",
    "HostKeyAlias",
    "HostName",
    "IdentitiesOnly",
    "IdentityAgent",
    "IdentityFile",
    "Port",
    "ProxyCommand",
    "ProxyJump",
    "StrictHostKeyChecking",
    "User",
    "UserKnownHostsFile",
];

impl Settings {
    /// Sets option `name` (in any case) unless it is set. Whether the name is one of ours; the
    /// error says what is wrong with the value.
    pub fn set(&mut self, name: &str, values: &[String]) -> Result<bool, String> {
        let Some(first) = values.first() else { return Err(format!("{name} has no value")) };
        match name.to_ascii_lowercase().as_str() {
            "hostname" => keep(&mut self.host_name, first.clone()),
            "port" => keep(&mut self.port, port(first)?),
            "user" => keep(&mut self.user, first.clone()),
            "identityfile" => self.identity_files.push(first.clone()),
            "identitiesonly" => keep(&mut self.identities_only, yes_no(name, first)?),
            "identityagent" => keep(&mut self.identity_agent, first.clone()),
            "userknownhostsfile" => keep(&mut self.user_known_hosts, values.to_vec()),
            "globalknownhostsfile" => keep(&mut self.global_known_hosts, values.to_vec()),
            "hashknownhosts" => keep(&mut self.hash_known_hosts, yes_no(name, first)?),
            "hostkeyalias" => keep(&mut self.host_key_alias, first.clone()),
            "stricthostkeychecking" => keep(&mut self.strict, strict(first)?),
            "connecttimeout" => {
                let secs = first.parse().map_err(|_| format!("{name} {first} is not a number"))?;
                keep(&mut self.connect_timeout, Duration::from_secs(secs));
            }
            "batchmode" => keep(&mut self.batch_mode, yes_no(name, first)?),
            "proxyjump" => keep(&mut self.proxy, Proxy::Jump(not_none(first.clone()))),
            "proxycommand" => keep(&mut self.proxy, Proxy::Command(not_none(values.join(" ")))),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Whether a value of StrictHostKeyChecking asks us to accept keys that nobody looked at.
pub fn is_relaxed(value: &str) -> bool {
    ["no", "off", "accept-new", "false"].contains(&value.to_ascii_lowercase().as_str())
}

fn keep<T>(slot: &mut Option<T>, value: T) {
    slot.get_or_insert(value);
}

fn not_none(value: String) -> Option<String> {
    (!value.eq_ignore_ascii_case("none")).then_some(value)
}

fn port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(format!("Port {text} is not a number from 1 to 65535")),
        Ok(port) => Ok(port),
    }
}

fn yes_no(name: &str, text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" => Ok(true),
        "no" | "false" => Ok(false),
        _ => Err(format!("{name} {text} is neither yes nor no")),
    }
}

fn strict(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" => Ok(true),
        // A relaxed value in somebody's config file means `ask` to us.
        "ask" | "no" | "off" | "accept-new" | "false" => Ok(false),
        _ => Err(format!("StrictHostKeyChecking {text} is none of yes, ask, accept-new, no")),
    }
}
