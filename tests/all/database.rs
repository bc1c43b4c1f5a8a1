//! The database engine on real clusters.

mod cluster;
mod content;
mod copy;
mod differences;
mod extremes;
mod faults;
mod generated;
mod helped;
mod kinds;
mod large_objects;
mod parallel;
mod predicted;
mod refusals;
mod risks;
mod verb;
mod views;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use transhume::database::target::Destination;
use transhume::database::{
    DatabaseError, Mode, Options, Server, Transferred, parallel as by_workers, session, transfer,
};
use transhume::event::Silent;
use transhume::host::local::Local;
use transhume::host::ssh::surroundings::Surroundings;
use transhume::host::ssh::{self, NoPrompt, Ssh};
use transhume::host::{Address, Host, RunAs};
use transhume::secret::Secret;

use crate::harness::postgres::Postgres;
use crate::harness::sshd::Sshd;

const SCHEMA: &str = include_str!("database/schema.sql");
pub const DATABASE: &str = "mastodon_production";
pub const OWNER: &str = "mastodon";
pub const PASSWORD: &str = "pw: with \\ and 'quotes'";

/// Two clusters: one with a small Mastodon in it, one with its role only.
pub struct Pair {
    pub source: Postgres,
    pub target: Postgres,
}

impl Pair {
    pub fn start() -> Pair {
        let pair = Pair::with_role();
        pair.source.create_database(DATABASE, OWNER, "");
        pair.source.sql(DATABASE, &format!("SET ROLE {OWNER}; {SCHEMA}"));
        pair
    }

    /// Two clusters with the role, and nothing else in them.
    pub fn with_role() -> Pair {
        let (source, target) = Postgres::start_two();
        add_role(&source);
        add_role(&target);
        Pair { source, target }
    }

    /// The source as its owner, over TCP with the password.
    pub fn source_server(&self) -> Server {
        server(&self.source, Arc::new(Local::new()))
    }

    /// The target as its owner, over TCP with the password.
    pub fn destination(&self) -> Destination {
        Destination::new(server(&self.target, Arc::new(Local::new())))
    }
}

pub fn add_role(cluster: &Postgres) {
    let password = PASSWORD.replace('\'', "''");
    cluster.create_role(OWNER, &password, "CREATEDB");
}

/// The database on `cluster` as its owner, over TCP with the password.
pub fn server(cluster: &Postgres, host: Arc<dyn Host>) -> Server {
    Server {
        host,
        address: Address::Tcp { host: "127.0.0.1".into(), port: cluster.port() },
        database: DATABASE.into(),
        user: OWNER.into(),
        password: Some(Secret::new(PASSWORD)),
        os_user: RunAs::Login,
        bin_dir: Some(text(cluster.bin_dir())),
        helper: None,
    }
}

/// An sshd whose logins have a cache directory of their own: a helper goes there.
pub struct Machine {
    pub sshd: Sshd,
    pub cache: TempDir,
}

impl Machine {
    pub fn start() -> Machine {
        let cache = tempfile::tempdir_in("/var/tmp").unwrap();
        let sshd = Sshd::builder().env("XDG_CACHE_HOME", &text(cache.path())).start();
        Machine { sshd, cache }
    }
}

/// A login at `sshd`, on `port`: its own or that of a proxy before it.
pub async fn log_in(sshd: &Sshd, port: u16) -> Arc<Ssh> {
    let config = sshd.dir().join("no_config");
    std::fs::write(&config, "").unwrap();
    let options = ssh::Options {
        identity: Some(sshd.client_key()),
        options: BTreeMap::from([
            ("UserKnownHostsFile".to_owned(), text(&sshd.known_hosts())),
            ("GlobalKnownHostsFile".to_owned(), "none".to_owned()),
            ("HostKeyAlias".to_owned(), format!("[127.0.0.1]:{}", sshd.port())),
        ]),
        config_file: Some(config),
        surroundings: Surroundings { user: sshd.user(), home: sshd.dir().to_owned(), agent: None },
    };
    let machine = format!("ssh://127.0.0.1:{port}").parse().unwrap();
    ssh::connect(&machine, &options, Arc::new(NoPrompt)).await.unwrap()
}

pub fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Mode `parallel` with two workers, and tables cut into parts of this size or more.
pub fn in_parallel(part_bytes_min: u64) -> Options {
    let parallel = by_workers::Options { jobs: 2, part_bytes_min, ..Default::default() };
    Options { mode: Mode::Parallel(parallel), ..Options::default() }
}

/// A transfer that must not work.
pub async fn transfer_badly(source: &Server, destination: &Destination) -> DatabaseError {
    transfer_badly_by(source, destination, &Options::default()).await
}

pub async fn transfer_badly_by(
    source: &Server,
    destination: &Destination,
    options: &Options,
) -> DatabaseError {
    match transfer(source, destination, "run-1", options, &Silent).await {
        Ok(done) => panic!("it worked: {done:?}"),
        Err(error) => error,
    }
}

/// A transfer that has to work and to be found equal.
pub async fn transfer_well(source: &Server, destination: &Destination) -> Transferred {
    transfer_well_by(source, destination, &Options::default()).await
}

pub async fn transfer_well_by(
    source: &Server,
    destination: &Destination,
    options: &Options,
) -> Transferred {
    let transferred = transfer(source, destination, "run-1", options, &Silent)
        .await
        .unwrap_or_else(|error| panic!("{}", transhume::error::one_line(&error)));
    let comparison = transferred.comparison.as_ref().unwrap();
    assert_eq!(comparison.differences, []);
    transferred
}
