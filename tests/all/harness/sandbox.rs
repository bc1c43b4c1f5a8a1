//! Two small servers on loopback, `old` and `new`, each with its own sshd, PostgreSQL cluster,
//! Redis, nginx, systemctl, crontab and Mastodon directory. The old one holds a Mastodon-shaped
//! instance that is up and working; the new one is what the install guide leaves: everything
//! installed, no database, nothing started. What is a stand-in, and for what, is told in
//! `stand_in`; all else is real.
//!
//! Dropping the sandbox stops everything that was started for it, also by the program under test.

#[path = "sandbox/files.rs"]
mod files;
#[path = "sandbox/program.rs"]
mod program;
#[path = "sandbox/settings.rs"]
mod settings;
#[path = "sandbox/side.rs"]
mod side;
#[path = "sandbox/untouched.rs"]
mod untouched;
#[path = "sandbox/verify.rs"]
mod verify;
#[path = "sandbox/web.rs"]
pub mod web;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::media_tree::Tree;
use super::nginx::Certificate;
use super::process::wait_until;
use super::{process, random, seed};
use settings::Secrets;
pub use side::{DATABASE, DOMAIN, ROLE, Side};
pub use untouched::Snapshot;
pub use verify::Verdict;

/// Loopback addresses for an old server and a new one, claimed for as long as this lives: services
/// start long after their ports were chosen, and must find them free.
struct Claim {
    addresses: [String; 2],
    _listeners: [TcpListener; 2],
}

impl Claim {
    /// Takes the first pair from a random start that no other sandbox of this machine holds.
    fn take() -> Claim {
        /// 127.1.0.0 to 127.250.255.0.
        const NETS: u32 = 250 * 256;
        /// Where nobody listens but the holder of a claim.
        const MARK: u16 = 2999;
        let start = u32::from_str_radix(&random::hex(4), 16).expect("eight digits");
        let mut number = start % NETS;
        loop {
            let (high, low) = (1 + number / 256, number % 256);
            let addresses = [2, 3].map(|host| format!("127.{high}.{low}.{host}"));
            let listen = |address: &String| TcpListener::bind((address.as_str(), MARK));
            if let [Ok(old), Ok(new)] = addresses.each_ref().map(listen) {
                return Claim { addresses, _listeners: [old, new] };
            }
            number = (number + 1) % NETS;
        }
    }

    /// The first port from `from` on that is free on both. Below 32768, where the kernel gives
    /// none to whoever asks for any.
    fn port(&self, from: u16) -> u16 {
        let is_free = |port: &u16| {
            self.addresses
                .iter()
                .all(|address| TcpListener::bind((address.as_str(), *port)).is_ok())
        };
        (from..from + 900).find(is_free).expect("a free port")
    }
}

/// How large the old server's instance is.
#[derive(Clone, Debug)]
pub struct Options {
    pub statuses: u32,
    pub files: u32,
    /// Jobs that wait in the `pull` queue, and how long each takes.
    pub jobs: u32,
    pub job_millis: u32,
    /// How Mastodon logs in to PostgreSQL.
    pub login: Login,
    /// The locale of the old server's databases, where the new one is not to have it.
    pub locale: Option<Locale>,
    /// Where everything is kept; default: a temporary directory.
    pub dir: Option<PathBuf>,
}

/// Both ways are common: the install guide's is the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// A password over TCP.
    Password,
    /// No password: the Unix socket, and the operating system's word for who connects.
    Peer,
}

/// A locale that one PostgreSQL has, and nothing else on this machine.
#[derive(Clone, Debug)]
pub struct Locale {
    pub name: String,
    /// Where its compiled form is, as in LOCPATH.
    pub dir: PathBuf,
}

impl Options {
    /// Enough of everything for a test, up in a few seconds.
    pub fn small() -> Self {
        let login = Login::Password;
        let (locale, dir) = (None, None);
        Options { statuses: 500, files: 60, jobs: 60, job_millis: 300, login, locale, dir }
    }

    /// What `tools/try` moves.
    pub fn full() -> Self {
        Options {
            statuses: 100_000,
            files: 3_000,
            jobs: 300,
            job_millis: 2_000,
            ..Options::small()
        }
    }
}

/// The two servers, and what a client that tests them has to know.
pub struct Sandbox {
    // Before the directory: dropped first.
    pub old: Side,
    pub new: Side,
    pub certificate: Certificate,
    /// The API token of the instance's owner.
    pub token: String,
    /// The id of every job that was queued: each has to be done, or to be waiting, exactly once.
    pub jobs: Vec<String>,
    dir: PathBuf,
    _claim: Claim,
    _temporary: Option<TempDir>,
}

impl Sandbox {
    /// Starts both servers and everything on the old one.
    pub fn start(options: &Options) -> Sandbox {
        let (dir, temporary) = base_dir(options);
        let program = program::install(&dir);
        fs::write(dir.join("owner"), std::process::id().to_string()).expect("write");
        let certificate = Certificate::make(&dir, &[DOMAIN]);
        let secrets = Secrets::make();
        // The same on both sides, as on two machines; each side has an address of its own.
        let claim = Claim::take();
        let [web, streaming, https] = [3000, 4000, 8443].map(|from| claim.port(from));
        let ports = side::Ports { web, streaming, https };
        let plan = &|name, address: &String, locale| side::Plan {
            name,
            address: address.clone(),
            dir: dir.join(name),
            program: program.clone(),
            ports,
            login: options.login,
            locale,
            certificate: &certificate,
        };
        let (old, new) = std::thread::scope(|scope| {
            let locale = options.locale.as_ref();
            let [old, new] = &claim.addresses;
            let old = scope.spawn(move || Side::start(&plan("old", old, locale)));
            let new = scope.spawn(move || Side::start(&plan("new", new, None)));
            (old.join(), new.join())
        });
        let (old, new) = (old.expect("the old server"), new.expect("the new server"));
        old.write_env(&secrets);
        let jobs = seed::fill(&old, &secrets.cipher(), options);
        let token = "SELECT token FROM oauth_access_tokens WHERE resource_owner_id = 1";
        let token = old.postgres.sql(DATABASE, token).trim().to_owned();
        let (_claim, _temporary) = (claim, temporary);
        let sandbox = Sandbox { old, new, certificate, token, jobs, dir, _claim, _temporary };
        sandbox.write_config(&sandbox.config());
        sandbox.old.start_services();
        sandbox.wait_for_services(&sandbox.old);
        sandbox
    }

    /// The processes of Mastodon's services on both sides of the sandbox in `dir`.
    pub fn processes(dir: &Path) -> Vec<u32> {
        program::running(dir)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The configuration for transhume: written by [`Sandbox::write_config`].
    pub fn config_path(&self) -> PathBuf {
        self.dir.join("transhume.toml")
    }

    /// Where the configuration says that journal and reports are kept.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// What `transhume.toml` has to say for this pair. A test may change it and write it again.
    pub fn config(&self) -> toml::Table {
        let mut config = toml::Table::new();
        let mut source = self.old.config(&self.certificate);
        source.remove("ssh");
        let mut target = self.new.config(&self.certificate);
        target.extend(self.new.ssh_config());
        target.insert("env".into(), self.new.overrides().into());
        config.insert("state_dir".into(), self.state_dir().display().to_string().into());
        config.insert("source".into(), source.into());
        config.insert("target".into(), target.into());
        // The new server's media directory is the move's alone.
        let media = toml::Table::from_iter([("delete".to_owned(), true.into())]);
        config.insert("media".into(), media.into());
        config
    }

    /// Writes `transhume.toml`: 0600, because it holds the new side's passwords.
    pub fn write_config(&self, config: &toml::Table) {
        let text = toml::to_string(config).expect("a table can be written");
        fs::write(self.config_path(), text).expect("write the configuration");
        fs::set_permissions(self.config_path(), fs::Permissions::from_mode(0o600)).expect("chmod");
    }

    /// The media of both sides.
    pub fn media(&self) -> (Tree, Tree) {
        (Tree::read(&self.old.media()), Tree::read(&self.new.media()))
    }

    /// Waits until web, streaming and Sidekiq of `side` say that they are up.
    pub fn wait_for_services(&self, side: &Side) {
        let up = |what: &str, probe: &dyn Fn() -> bool| {
            assert!(wait_until(probe), "{what} is not up; {}", side.service_logs());
        };
        up("the web process", &|| side.web_is_healthy());
        up("streaming", &|| side.streaming_is_healthy());
        up("one Sidekiq of two", &|| side.redis.cli(&["SCARD", "processes"]) == "2");
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // Whoever started them: every process that runs our copy of the program.
        let _ = fs::remove_file(self.dir.join("owner"));
        for pid in program::running(&self.dir) {
            process::signal(pid, rustix::process::Signal::KILL);
        }
    }
}

fn base_dir(options: &Options) -> (PathBuf, Option<TempDir>) {
    let temporary = options
        .dir
        .is_none()
        .then(|| tempfile::Builder::new().prefix("sandbox-").tempdir().expect("a directory"));
    let dir = match (&options.dir, &temporary) {
        (Some(dir), _) => dir.clone(),
        (None, Some(temporary)) => temporary.path().to_owned(),
        (None, None) => unreachable!("made where it was not given"),
    };
    fs::create_dir_all(dir.join("state")).expect("make the directory");
    // Mastodon's user has to get through.
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("chmod");
    (dir, temporary)
}
