//! One of the two servers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::super::nginx::{Certificate, Nginx};
use super::super::postgres::{self, Postgres};
use super::super::redis::Redis;
use super::super::sshd::Sshd;
use super::super::{media_tree, random};
use super::settings::{Secrets, env_file};
use super::{Locale, Login, files, web};

pub const DOMAIN: &str = "sandbox.example";
pub const DATABASE: &str = "mastodon_production";
pub const ROLE: &str = "mastodon";

/// What is enabled and running on a working server, in the order of their start.
const SERVICES: [&str; 5] = [
    "mastodon-web.service",
    "mastodon-sidekiq.service",
    "mastodon-sidekiq-pull.service",
    "mastodon-streaming.service",
    "mastodon-media-remove.timer",
];

/// Where the web process, streaming and nginx listen.
#[derive(Clone, Copy)]
pub struct Ports {
    pub web: u16,
    pub streaming: u16,
    pub https: u16,
}

/// Where a server is to be, and what the two have in common.
pub struct Plan<'a> {
    pub name: &'static str,
    pub address: String,
    pub dir: PathBuf,
    pub program: PathBuf,
    pub ports: Ports,
    pub login: Login,
    pub locale: Option<&'a Locale>,
    pub certificate: &'a Certificate,
}

/// A server: everything below `dir` is its file system, as far as Mastodon is concerned.
pub struct Side {
    pub name: &'static str,
    pub dir: PathBuf,
    /// The loopback address that its web, streaming and nginx listen on.
    pub address: String,
    pub web_port: u16,
    pub streaming_port: u16,
    pub https_port: u16,
    /// The operating system user that Mastodon runs as, and its numbers where we may change to it.
    pub user: String,
    pub owner: Option<(u32, u32)>,
    pub login: Login,
    pub database_password: String,
    pub ssh: Sshd,
    pub postgres: Postgres,
    pub redis: Redis,
    pub nginx: Nginx,
}

impl Side {
    /// Starts its servers and writes its files; Mastodon's services stay down.
    pub fn start(plan: &Plan<'_>) -> Side {
        let (user, owner) = mastodon_user();
        let live = plan.dir.join("home/mastodon/live");
        files::write_live(&live, &plan.program);
        files::write_units(plan, &live, owner.map(|_| user.as_str()));
        let words = [
            ("systemctl", format!("systemctl --root={}", plan.dir.display())),
            ("crontab", format!("crontab --spool={}", plan.dir.join("var/spool/cron").display())),
        ];
        for (name, words) in words {
            let text =
                format!("#!/bin/sh\nexec {} stand-in {words} \"$@\"\n", plan.program.display());
            files::script(&plan.dir.join("usr/bin").join(name), &text);
        }
        for dir in ["var/spool/cron", "var/lib", "run/systemd/system", "etc"] {
            fs::create_dir_all(plan.dir.join(dir)).expect("make a directory");
        }
        if let Some((uid, gid)) = owner {
            media_tree::give(&plan.dir.join("home"), uid, gid);
            media_tree::give(&plan.dir.join("var/spool/cron"), uid, gid);
        }
        let database_password = random::secret();
        let side = Side {
            name: plan.name,
            dir: plan.dir.clone(),
            address: plan.address.clone(),
            web_port: plan.ports.web,
            streaming_port: plan.ports.streaming,
            https_port: plan.ports.https,
            login: plan.login,
            ssh: Sshd::start(),
            postgres: cluster(&user, plan.locale),
            redis: Redis::with_password(&random::secret()),
            nginx: Nginx::start(|_| files::nginx_site(plan, &live)),
            user,
            owner,
            database_password,
        };
        // As the install guide does: `CREATE USER mastodon CREATEDB`.
        side.postgres.create_role(ROLE, &side.database_password, "CREATEDB");
        side
    }

    /// Mastodon's directory.
    pub fn live(&self) -> PathBuf {
        self.dir.join("home/mastodon/live")
    }

    pub fn media(&self) -> PathBuf {
        self.live().join("public/system")
    }

    pub fn env_path(&self) -> PathBuf {
        self.live().join(".env.production")
    }

    pub fn unit_dir(&self) -> PathBuf {
        self.dir.join("etc/systemd/system")
    }

    /// Runs its systemctl.
    pub fn systemctl(&self, words: &[&str]) -> Output {
        Command::new(self.program("systemctl")).args(words).output().expect("run systemctl")
    }

    /// `active`, `inactive`, … and `enabled`, `masked`, …
    pub fn unit_state(&self, unit: &str) -> (String, String) {
        let ask = |verb| {
            let output = self.systemctl(&[verb, unit]);
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        };
        (ask("is-active"), ask("is-enabled"))
    }

    /// Every unit that runs on a working server.
    pub fn unit_names(&self) -> Vec<String> {
        let instance = format!("mastodon-streaming@{}.service", self.streaming_port);
        SERVICES.iter().map(|name| (*name).to_owned()).chain([instance]).collect()
    }

    /// The crontab of Mastodon's user; empty where there is none.
    pub fn crontab(&self) -> String {
        fs::read_to_string(self.dir.join("var/spool/cron").join(&self.user)).unwrap_or_default()
    }

    /// Enables and starts what runs on a working server.
    pub fn start_services(&self) {
        let words: Vec<&str> = ["enable", "--now"].into_iter().chain(SERVICES).collect();
        let output = self.systemctl(&words);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Moves the unit files out of the way, so that their names can be masked.
    pub fn shelve_units(&self) {
        let shelf = self.dir.join("usr/lib/systemd");
        fs::create_dir_all(&shelf).expect("make a directory");
        fs::rename(self.unit_dir(), shelf.join("system")).expect("move the units");
        fs::create_dir_all(self.unit_dir()).expect("make a directory");
    }

    /// What its services have printed.
    pub fn service_logs(&self) -> String {
        let told = |path: PathBuf| {
            let text = fs::read_to_string(&path).unwrap_or_default();
            format!("{}:\n{text}\n", path.display())
        };
        let entries = fs::read_dir(self.dir.join("run/systemctl")).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        paths.filter(|path| path.extension().is_some_and(|end| end == "log")).map(told).collect()
    }

    pub fn web_is_healthy(&self) -> bool {
        web::get_plain(&self.address, self.web_port, "/health")
            .is_ok_and(|found| found.body == b"OK")
    }

    pub fn streaming_is_healthy(&self) -> bool {
        let path = "/api/v1/streaming/health";
        web::get_plain(&self.address, self.streaming_port, path)
            .is_ok_and(|found| found.body == b"OK")
    }

    /// Writes `.env.production`, 0600 and Mastodon's own.
    pub fn write_env(&self, secrets: &Secrets) {
        fs::write(self.env_path(), env_file(self, secrets)).expect("write");
        fs::set_permissions(self.env_path(), fs::Permissions::from_mode(0o600)).expect("chmod");
        if let Some((uid, gid)) = self.owner {
            media_tree::give(&self.env_path(), uid, gid);
        }
    }

    /// The variables of `.env.production` that are this machine's own.
    pub fn overrides(&self) -> toml::Table {
        let mut table = toml::Table::new();
        let mut set = |name: &str, value: String| table.insert(name.into(), value.into());
        set("DB_PORT", self.postgres.port().to_string());
        match self.login {
            Login::Password => set("DB_PASS", self.database_password.clone()),
            Login::Peer => set("DB_HOST", self.postgres.socket_dir().display().to_string()),
        };
        set("REDIS_PORT", self.redis.port().to_string());
        set("REDIS_PASSWORD", self.redis.password().unwrap_or_default().to_owned());
        table
    }

    /// This side in `transhume.toml`, apart from how to reach it.
    pub fn config(&self, certificate: &Certificate) -> toml::Table {
        let text = |path: &Path| toml::Value::from(path.display().to_string());
        let words = |words: Vec<String>| toml::Value::from(words);
        let mut nginx = toml::Table::new();
        nginx.insert("site".into(), text(&self.nginx.site_path()));
        nginx.insert("test".into(), words(self.nginx.test_words()));
        nginx.insert("reload".into(), words(self.nginx.reload_words()));
        nginx.insert("address".into(), format!("{}:{}", self.address, self.https_port).into());
        nginx.insert("tls".into(), true.into());
        nginx.insert("ca_file".into(), text(&certificate.authority));
        let mut database = toml::Table::new();
        database.insert("bin_dir".into(), text(self.postgres.bin_dir()));
        database.insert("admin_user".into(), admin_user(&self.user).into());
        let mut table = toml::Table::new();
        table.insert("root".into(), text(&self.live()));
        table.insert("user".into(), self.user.clone().into());
        table.insert("unit_dir".into(), text(&self.unit_dir()));
        table.insert("cron_dir".into(), text(&self.dir.join("etc")));
        table.insert("work_dir".into(), text(&self.dir.join("var/lib/transhume")));
        let program = |name| words(vec![self.program(name).display().to_string()]);
        table.insert("systemctl".into(), program("systemctl"));
        table.insert("crontab".into(), program("crontab"));
        table.insert("web".into(), format!("{}:{}", self.address, self.web_port).into());
        let streaming = format!("{}:{}", self.address, self.streaming_port);
        table.insert("streaming".into(), streaming.into());
        table.insert("public_addresses".into(), vec![self.address.clone()].into());
        table.insert("nginx".into(), nginx.into());
        table.insert("database".into(), database.into());
        table
    }

    /// How `transhume.toml` says to reach it.
    pub fn ssh_config(&self) -> toml::Table {
        let mut options = toml::Table::new();
        let known_hosts = self.ssh.known_hosts().display().to_string();
        options.insert("UserKnownHostsFile".into(), known_hosts.into());
        let mut table = toml::Table::new();
        let host = format!("ssh://{}@127.0.0.1:{}", self.ssh.user(), self.ssh.port());
        table.insert("host".into(), host.into());
        table.insert("identity".into(), self.ssh.client_key().display().to_string().into());
        table.insert("ssh_options".into(), options.into());
        table
    }

    fn program(&self, name: &str) -> PathBuf {
        self.dir.join("usr/bin").join(name)
    }
}

/// A cluster with the rules of Debian's pg_hba.conf; Mastodon's user counts as its role.
fn cluster(user: &str, locale: Option<&Locale>) -> Postgres {
    let admin = admin_user(user);
    let own = locale.map(|locale| postgres::Options {
        locale: locale.name.clone(),
        env: vec![("LOCPATH".into(), locale.dir.display().to_string())],
        ..postgres::Options::default()
    });
    Postgres::start_with(&postgres::Options {
        hba: [
            "local all postgres peer map=admin",
            "local all all peer map=mastodon",
            "host all all 127.0.0.1/32 scram-sha-256",
        ]
        .map(str::to_owned)
        .to_vec(),
        ident: vec![format!("admin {admin} postgres"), format!("mastodon {user} {ROLE}")],
        ..own.unwrap_or_default()
    })
}

/// Where we are root, PostgreSQL runs as its own user; else everything runs as us.
fn admin_user(user: &str) -> &str {
    if rustix::process::geteuid().is_root() { "postgres" } else { user }
}

/// Root lets Mastodon run as a user without rights that every system has; anyone else, as oneself.
fn mastodon_user() -> (String, Option<(u32, u32)>) {
    let passwd = fs::read_to_string("/etc/passwd").expect("/etc/passwd can be read");
    let own = rustix::process::geteuid().as_raw().to_string();
    let line = |wanted: &dyn Fn(&[&str]) -> bool| {
        let mut lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
        lines.find(|fields| fields.len() > 3 && wanted(fields))
    };
    if own != "0" {
        let fields = line(&|fields| fields[2] == own).expect("we are in /etc/passwd");
        return (fields[0].to_owned(), None);
    }
    let fields = line(&|fields| fields[0] == "nobody").expect("every system has nobody");
    let number = |text: &str| text.parse().expect("a number");
    ("nobody".into(), Some((number(fields[2]), number(fields[3]))))
}
