//! `transhume.toml`: what the operator may say. Everything has a default that is what Mastodon's
//! own guide and units use; an unknown key is an error, because a mistyped one would be ignored
//! at the worst moment. Reference: `docs/config.md`.

mod error;
mod exposure;

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::secret::Secret;
pub use error::ConfigError;
use exposure::Exposure;

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where journal, lock, manifests and reports lie on the machine that runs transhume.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    #[serde(default)]
    pub source: Side,
    pub target: Side,
    #[serde(default)]
    pub media: Media,
    #[serde(default)]
    pub database: Database,
    #[serde(default)]
    pub redis: Redis,
    #[serde(default)]
    pub copy: Copy,
    #[serde(default)]
    pub cutover: Cutover,
    #[serde(default)]
    pub settle: Settle,
}

/// One of the two servers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Side {
    /// `ssh://[user@]host[:port]` or `[user@]host`; absent for the machine that runs transhume.
    pub host: Option<String>,
    /// A private key file to try first.
    pub identity: Option<PathBuf>,
    /// Options as in ssh_config(5): `UserKnownHostsFile`, `ProxyJump`, …
    pub ssh_options: BTreeMap<String, String>,
    /// Where transhume keeps its lock, its helper and its backups on this side.
    pub work_dir: String,
    /// Mastodon's directory (`~/live`).
    pub root: String,
    /// The user that Mastodon runs as.
    pub user: String,
    /// Default: `.env.production` in `root`.
    pub env_file: Option<String>,
    /// Values of `.env.production` that differ on this side (used on the target).
    pub env: BTreeMap<String, Secret>,
    /// Names or glob patterns of Mastodon's units.
    pub units: Vec<String>,
    /// Where unit files are installed.
    pub unit_dir: String,
    pub systemctl: Vec<String>,
    /// Prints and (with `-`) installs the crontab of the Mastodon user.
    pub crontab: Vec<String>,
    /// Where the system's own crontabs are.
    pub cron_dir: String,
    pub tootctl: Vec<String>,
    /// Runs Ruby code in Mastodon (`rails runner`).
    pub rails: Vec<String>,
    pub nginx: Nginx,
    pub database: SideDatabase,
    pub redis_url: Option<Secret>,
    /// Where the web process answers on this side, as `host:port`.
    pub web: String,
    /// Where the streaming process answers on this side.
    pub streaming: String,
    /// The addresses that DNS should name for this side, after the move (target) or before it.
    pub public_addresses: Vec<std::net::IpAddr>,
}

/// The web server of one side.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nginx {
    /// The site file; absent files mean that nginx is not managed.
    pub site: String,
    /// A symlink that enables the site, if there is one.
    pub enabled: Option<String>,
    pub test: Vec<String>,
    pub reload: Vec<String>,
    /// Where nginx answers on this side: `host:port`. TLS is used when the port is 443 or `tls`.
    pub address: String,
    pub tls: Option<bool>,
    /// Extra certificate authority (PEM) to trust when this side is probed.
    pub ca_file: Option<PathBuf>,
}

/// The database of one side.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SideDatabase {
    /// The real PostgreSQL endpoint, when it is not what `.env.production` says (PgBouncer is
    /// recognised and bypassed without it).
    pub url: Option<Secret>,
    /// Who may create the database: an operating system user (peer login), default `postgres`.
    pub admin_user: Option<String>,
    /// Where `pg_dump`, `pg_restore` and `psql` are, if not on the PATH.
    pub bin_dir: Option<String>,
    /// PgBouncer's configuration, by which it is bypassed; default: Debian's place for it.
    pub pgbouncer_ini: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Media {
    /// Remove from the target what is no longer on the source.
    pub delete: bool,
    /// Deletions above this share of the target's files stop the pass.
    pub max_delete_percent: u8,
    pub transport: Transport,
    /// SSH connections at most.
    pub connections: usize,
    /// Patterns as in rsync's `--exclude`.
    pub exclude: Vec<String>,
    /// Keep hard links.
    pub hard_links: bool,
    /// Bytes a second over all connections.
    pub bwlimit: Option<u64>,
    /// Slow down while the disks or processors of the source are busy.
    pub gentle: bool,
    /// Bytes a second that each side reads to compare contents, at most.
    pub verify_rate: Option<u64>,
}

/// How the media reach the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// The helper where it can run, else SFTP.
    #[default]
    Auto,
    Helper,
    Sftp,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    pub mode: DatabaseMode,
    /// Index builds on the target, tables copied in mode `parallel`, and connections that compare, at
    /// the same time; 0 for one per core.
    pub jobs: usize,
    /// How closely the copy is compared with the source.
    pub verify: DatabaseVerify,
    /// Raise settings of the target's whole cluster for the time of the copy.
    pub tune_cluster: bool,
    /// Drop and replace this database on the target although it holds tables. Must be its name.
    pub replace_target: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseMode {
    /// `pg_dump` through SSH into `pg_restore`.
    #[default]
    Stream,
    /// Several tables at the same time, indexes as soon as their table is in.
    Parallel,
}

/// How closely two databases are compared, beside their definitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseVerify {
    /// Every value of every row.
    #[default]
    Content,
    /// How many rows each table has.
    Rows,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Redis {
    pub mode: RedisMode,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum RedisMode {
    /// Copy every key with its expiry.
    #[default]
    Keys,
    /// Leave it behind: queued jobs are lost, feeds are rebuilt.
    Skip,
}

/// Which files beside `.env.production` come along.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Copy {
    pub nginx: bool,
    pub systemd: bool,
    pub pgbouncer: bool,
    /// Certificate files or directories, copied to the same path with their modes.
    pub certificates: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cutover {
    /// How long to wait for running jobs after Sidekiq was told to take no more.
    pub drain_secs_max: u64,
    /// How long a service may take to answer after its start.
    pub start_secs_max: u64,
    /// Turn the old nginx into a proxy to the new server after the move.
    pub proxy: bool,
    /// What the old nginx says while nobody can post.
    pub retry_after_secs: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settle {
    pub feeds_build: bool,
    pub search_deploy: bool,
}

impl Default for Side {
    fn default() -> Self {
        Side {
            host: None,
            identity: None,
            ssh_options: BTreeMap::new(),
            work_dir: "/var/lib/transhume".into(),
            root: "/home/mastodon/live".into(),
            user: "mastodon".into(),
            env_file: None,
            env: BTreeMap::new(),
            units: vec!["mastodon*".into()],
            unit_dir: "/etc/systemd/system".into(),
            systemctl: words(&["systemctl"]),
            crontab: words(&["crontab"]),
            cron_dir: "/etc".into(),
            tootctl: words(&["bin/tootctl"]),
            rails: words(&["bin/rails"]),
            nginx: Nginx::default(),
            database: SideDatabase::default(),
            redis_url: None,
            web: "127.0.0.1:3000".into(),
            streaming: "127.0.0.1:4000".into(),
            public_addresses: Vec::new(),
        }
    }
}

impl Default for Nginx {
    fn default() -> Self {
        Nginx {
            site: "/etc/nginx/sites-available/mastodon".into(),
            enabled: None,
            test: words(&["nginx", "-t", "-q"]),
            reload: words(&["systemctl", "reload", "nginx"]),
            address: "127.0.0.1:443".into(),
            tls: None,
            ca_file: None,
        }
    }
}

impl Default for Media {
    fn default() -> Self {
        Media {
            delete: false,
            max_delete_percent: 20,
            transport: Transport::Auto,
            connections: 4,
            exclude: Vec::new(),
            hard_links: false,
            bwlimit: None,
            gentle: false,
            verify_rate: None,
        }
    }
}

impl Default for Cutover {
    fn default() -> Self {
        Cutover { drain_secs_max: 60, start_secs_max: 120, proxy: true, retry_after_secs: 300 }
    }
}

impl Default for Settle {
    fn default() -> Self {
        Settle { feeds_build: true, search_deploy: true }
    }
}

impl Side {
    /// The path of `.env.production`.
    pub fn env_path(&self) -> String {
        self.env_file.clone().unwrap_or_else(|| format!("{}/.env.production", self.root))
    }
}

impl Nginx {
    pub fn speaks_tls(&self) -> bool {
        self.tls.unwrap_or_else(|| self.address.ends_with(":443"))
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn default_state_dir() -> PathBuf {
    "/var/lib/transhume".into()
}

impl Config {
    /// Reads the file at `path`, whose mode has to suit what it holds.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let (text, mode) = read(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let config = Config::parse(&text, path)?;
        let path = path.to_owned();
        match exposure::exposure(&config, mode) {
            None => Ok(config),
            Some(Exposure::Secrets(keys)) => Err(ConfigError::Readable { path, mode, keys }),
            Some(Exposure::Commands) => Err(ConfigError::Writable { path, mode }),
        }
    }

    /// The configuration in `text`; `path` is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        let invalid = |line, message| ConfigError::Invalid { path: path.to_owned(), line, message };
        let config: Config = toml::from_str(text).map_err(|error: toml::de::Error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = text[..start.min(text.len())].matches('\n').count() + 1;
            invalid(line, error.message().replace('\n', " "))
        })?;
        if config.target.host.is_none() && config.source.host.is_none() {
            return Err(invalid(1, "`target.host` is missing: where does the move go?".into()));
        }
        Ok(config)
    }
}

/// The text and the permission bits of one and the same file.
fn read(path: &Path) -> std::io::Result<(String, u32)> {
    let mut file = std::fs::File::open(path)?;
    let mode = file.metadata()?.permissions().mode() & 0o7777;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok((text, mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("transhume.toml"))
    }

    #[test]
    fn two_lines_are_enough() {
        let config = parse("[target]\nhost = \"root@new.example\"\n").unwrap();
        assert_eq!(config.source.root, "/home/mastodon/live");
        assert_eq!(config.target.env_path(), "/home/mastodon/live/.env.production");
        assert_eq!(config.media.connections, 4);
    }

    #[test]
    fn the_mode_of_the_database_is_a_word() {
        let with = |mode: &str| {
            parse(&format!("[target]\nhost = \"h\"\n[database]\nmode = \"{mode}\"\njobs = 3\n"))
        };
        assert_eq!(with("parallel").unwrap().database.mode, DatabaseMode::Parallel);
        assert_eq!(with("stream").unwrap().database.mode, DatabaseMode::Stream);
        let text = with("quick").unwrap_err().to_string();
        assert!(text.contains("expected `stream` or `parallel`"), "{text}");
    }

    #[test]
    fn an_unknown_key_is_told_with_its_line() {
        let error = parse("[target]\nhost = \"h\"\n\n[media]\nconections = 8\n").unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("transhume.toml, line 5: unknown field `conections`"), "{text}");
    }

    #[test]
    fn a_broken_file_does_not_print_its_secrets() {
        let error = parse("[target]\nhost = \"h\"\nenv = { DB_PASS = \"hunter2 }\n").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}
