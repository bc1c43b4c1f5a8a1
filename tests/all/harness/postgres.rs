//! A PostgreSQL cluster of its own: in a temporary directory, on a free port of 127.0.0.1 and on a
//! Unix socket. PostgreSQL refuses to run as root, so it runs as the `postgres` user where we are.

#[path = "postgres/template.rs"]
mod template;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use super::process::{free_port, signal};

const START_WAIT_MAX: Duration = Duration::from_secs(60);
const START_TRIES: usize = 3;

/// How a cluster is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it lives instead of a temporary directory. A cluster that is there already is started
    /// again; the directory is kept.
    pub dir: Option<PathBuf>,
    /// The locale of the cluster's template databases.
    pub locale: String,
    pub encoding: String,
    /// Lines for postgresql.conf, which win over ours.
    pub conf: Vec<String>,
    /// The whole of pg_hba.conf; empty for "trust on the socket, password over TCP".
    pub hba: Vec<String>,
    /// The whole of pg_ident.conf.
    pub ident: Vec<String>,
    /// A major version that must be installed; default: the newest.
    pub major: Option<u32>,
    /// Environment variables of the server and of its programs.
    pub env: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            dir: None,
            locale: "C.UTF-8".into(),
            encoding: "UTF8".into(),
            conf: Vec::new(),
            hba: Vec::new(),
            ident: Vec::new(),
            major: None,
            env: Vec::new(),
        }
    }
}

/// A running cluster. Its superuser is `postgres`, without a password.
#[derive(Debug)]
pub struct Postgres {
    child: Option<Child>,
    port: u16,
    bin_dir: PathBuf,
    dir: PathBuf,
    runs_as: Option<(u32, u32)>,
    env: Vec<(String, String)>,
    _temporary: Option<TempDir>,
}

impl Postgres {
    pub fn start() -> Self {
        Postgres::start_with(&Options::default())
    }

    /// Two clusters, started at the same time.
    pub fn start_two() -> (Self, Self) {
        std::thread::scope(|scope| {
            let one = scope.spawn(Postgres::start);
            (Postgres::start(), one.join().unwrap())
        })
    }

    pub fn start_with(options: &Options) -> Self {
        let bin_dir = bin_dir(options.major);
        let runs_as = postgres_user();
        let temporary = options.dir.is_none().then(|| tempfile::tempdir().unwrap());
        let dir = match (&temporary, &options.dir) {
            (Some(temporary), _) => temporary.path().to_owned(),
            (None, Some(dir)) => dir.clone(),
            (None, None) => unreachable!("one of the two was made"),
        };
        let env = options.env.clone();
        let mut cluster =
            Postgres { child: None, port: 0, bin_dir, dir, runs_as, env, _temporary: temporary };
        cluster.prepare(options);
        cluster.run();
        cluster
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory of the Unix socket, as `host=` of a connection string.
    pub fn socket_dir(&self) -> &Path {
        &self.dir
    }

    /// The Unix socket itself.
    pub fn socket(&self) -> PathBuf {
        self.dir.join(format!(".s.PGSQL.{}", self.port))
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Where `pg_dump` and its like are.
    pub fn bin_dir(&self) -> &Path {
        &self.bin_dir
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.join("log")).unwrap_or_default()).into_owned()
    }

    /// The process id of the postmaster.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the cluster runs").id()
    }

    /// A connection URI over TCP.
    pub fn url(&self, user: &str, password: &str, database: &str) -> String {
        format!("postgresql://{user}:{password}@127.0.0.1:{}/{database}", self.port)
    }

    /// A connection string over the Unix socket.
    pub fn socket_conninfo(&self, user: &str, database: &str) -> String {
        format!("host={} port={} user={user} dbname={database}", self.dir.display(), self.port)
    }

    /// Runs SQL as the superuser and gives what it prints, unaligned, without headers.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        self.try_sql(database, sql).unwrap_or_else(|error| panic!("{error}\nin: {sql}"))
    }

    /// As [`Postgres::sql`], with psql's complaint where it fails.
    pub fn try_sql(&self, database: &str, sql: &str) -> Result<String, String> {
        let mut psql = self.tool("psql");
        psql.arg("-h").arg(&self.dir).args(["-U", "postgres", "-d", database]);
        feed(psql, sql)
    }

    /// Runs SQL as `role`, logged in over TCP with its password.
    pub fn sql_as(
        &self,
        role: &str,
        password: &str,
        database: &str,
        sql: &str,
    ) -> Result<String, String> {
        let mut psql = self.tool("psql");
        psql.args(["-h", "127.0.0.1", "-U", role, "-d", database]).env("PGPASSWORD", password);
        feed(psql, sql)
    }

    /// A role that may log in with `password`; `options` such as `CREATEDB`.
    pub fn create_role(&self, role: &str, password: &str, options: &str) {
        self.sql(
            "postgres",
            &format!("CREATE ROLE \"{role}\" LOGIN PASSWORD '{password}' {options}"),
        );
    }

    /// A database of `owner`; `options` such as `TEMPLATE template0 LC_COLLATE 'C'`.
    pub fn create_database(&self, database: &str, owner: &str, options: &str) {
        self.sql(
            "postgres",
            &format!("CREATE DATABASE \"{database}\" OWNER \"{owner}\" {options}"),
        );
    }

    /// `pg_dump` as the superuser with `arguments`; its output.
    pub fn dump(&self, database: &str, arguments: &[&str]) -> String {
        let mut dump = self.tool("pg_dump");
        dump.arg("-h").arg(&self.dir).args(["-U", "postgres", "-d", database]).args(arguments);
        text(dump.output().unwrap()).unwrap()
    }

    /// One of PostgreSQL's programs, as the user that the cluster runs as, for this port.
    pub fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin_dir.join(name));
        self.step_down(&mut command);
        command
            .current_dir(&self.dir)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .env("PGPORT", self.port.to_string())
            .env("PGCONNECT_TIMEOUT", "30");
        command
    }

    /// Stops it at once, without a checkpoint; clients are cut off.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal(child.id(), Signal::QUIT);
            let _ = child.wait();
        }
    }

    /// Kills the postmaster as the kernel would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops it and starts it again on the same port, with `conf` added to its configuration.
    pub fn restart(&mut self, conf: &[&str]) {
        self.stop();
        self.append_conf(conf.iter().copied());
        let _ = fs::remove_file(self.data_dir().join("postmaster.pid"));
        self.launch().unwrap_or_else(|log| panic!("PostgreSQL did not start again:\n{log}"));
    }

    fn prepare(&self, options: &Options) {
        fs::create_dir_all(&self.dir).unwrap();
        // Others must get through to the socket; the data directory keeps its own mode.
        fs::set_permissions(&self.dir, fs::Permissions::from_mode(0o755)).unwrap();
        self.give(&self.dir);
        if !self.data_dir().join("PG_VERSION").exists() {
            self.make(options);
        }
        let ours = [
            "listen_addresses = '127.0.0.1'".to_owned(),
            format!("unix_socket_directories = '{}'", self.dir.display()),
            "shared_buffers = 32MB".into(),
            "fsync = off".into(),
            "full_page_writes = off".into(),
            "synchronous_commit = off".into(),
        ];
        let lines = ours.iter().chain(&options.conf).map(String::as_str);
        self.append_conf(lines);
        let hba = if options.hba.is_empty() {
            vec!["local all all trust".into(), "host all all 127.0.0.1/32 scram-sha-256".into()]
        } else {
            options.hba.clone()
        };
        fs::write(self.data_dir().join("pg_hba.conf"), lines_of(&hba)).unwrap();
        fs::write(self.data_dir().join("pg_ident.conf"), lines_of(&options.ident)).unwrap();
    }

    /// Makes the data directory, or copies one that was made before.
    fn make(&self, options: &Options) {
        let place = template::place(options);
        if let Some(place) = place.as_deref().filter(|place| place.exists()) {
            return template::copy_tree(place, &self.data_dir(), self.runs_as).unwrap();
        }
        let mut initdb = self.tool("initdb");
        initdb
            .env_remove("PGPORT")
            .arg("-D")
            .arg(self.data_dir())
            .args(["-U", "postgres", "--no-sync", "--auth=trust"])
            .arg(format!("--locale={}", options.locale))
            .arg(format!("--encoding={}", options.encoding));
        text(initdb.output().unwrap()).unwrap();
        if let Some(place) = place {
            template::keep(&self.data_dir(), &place);
        }
    }

    fn append_conf<'a>(&self, lines: impl Iterator<Item = &'a str>) {
        let path = self.data_dir().join("postgresql.conf");
        let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
        for line in lines {
            writeln!(file, "{line}").unwrap();
        }
    }

    /// Starts on a free port; another program may take it in between, so more than once.
    fn run(&mut self) {
        for attempt in 1..=START_TRIES {
            self.port = free_port();
            match self.launch() {
                Ok(()) => return,
                Err(log) if attempt == START_TRIES => panic!("PostgreSQL did not start:\n{log}"),
                Err(_) => {}
            }
        }
    }

    fn launch(&mut self) -> Result<(), String> {
        let log = fs::File::create(self.dir.join("log")).unwrap();
        let mut postgres = self.tool("postgres");
        postgres
            .arg("-D")
            .arg(self.data_dir())
            .args(["-p", &self.port.to_string()])
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.child = Some(postgres.spawn().unwrap());
        let deadline = Instant::now() + START_WAIT_MAX;
        while !self.is_ready() {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap()).is_some();
            if ended || Instant::now() > deadline {
                self.kill();
                return Err(self.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The eighth line of postmaster.pid tells.
    fn is_ready(&self) -> bool {
        let pid = fs::read_to_string(self.data_dir().join("postmaster.pid")).unwrap_or_default();
        pid.lines().nth(7).is_some_and(|state| state.trim() == "ready")
    }

    fn step_down(&self, command: &mut Command) {
        if let Some((uid, gid)) = self.runs_as {
            command.uid(uid).gid(gid);
        }
    }

    fn give(&self, path: &Path) {
        if let Some((uid, gid)) = self.runs_as {
            std::os::unix::fs::chown(path, Some(uid), Some(gid)).unwrap();
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Where PostgreSQL's programs are: Debian keeps one directory for each major version.
pub fn bin_dir(major: Option<u32>) -> PathBuf {
    let majors = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = majors
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|found| major.is_none_or(|wanted| wanted == *found))
        .max()
        .expect("PostgreSQL is installed (apt-get install postgresql)");
    PathBuf::from(format!("/usr/lib/postgresql/{newest}/bin"))
}

/// The `postgres` user of this machine where we are root, else none: we run it ourselves.
pub fn postgres_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let fields: Vec<&str> =
        passwd.lines().find(|line| line.starts_with("postgres:"))?.split(':').collect();
    Some((fields[2].parse().unwrap(), fields[3].parse().unwrap()))
}

fn lines_of(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

fn feed(mut psql: Command, sql: &str) -> Result<String, String> {
    psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = psql.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let sql = sql.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(sql.as_bytes()));
    let output = child.wait_with_output().unwrap();
    // psql stops reading at the first error; that is told by its exit.
    let _ = writer.join().unwrap();
    text(output)
}

fn text(output: Output) -> Result<String, String> {
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap().trim_end_matches('\n').to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
