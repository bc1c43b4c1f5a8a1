//! PgBouncer's configuration, understood as PgBouncer itself understands it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use transhume::host::local::Local;
use transhume::instance::database_address::resolve;
use transhume::instance::pgbouncer::{PgBouncerError, load};
use transhume::secret::Secret;

use crate::harness::process::{PATIENCE, free_port, wait_until};

use super::{me, set_mode};

/// A PgBouncer with a directory of its own; no server need be behind it.
struct Bouncer {
    dir: tempfile::TempDir,
    port: u16,
    child: Child,
}

const DATABASES: &str = "\
; a comment
[databases]
plain = host=10.0.0.7 port=5433 dbname=masto user=owner password='it''s; #1'
 spaced   =   host = db.internal   port = 5444
by_path-1.x = host=/run/pg pool_size=3 connect_query='SELECT ''a=b'''
socket =
* = host=fallback.internal port=5555
";

impl Bouncer {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        set_mode(dir.path(), 0o777);
        let (path, port) = (dir.path().display(), free_port());
        fs::write(dir.path().join("databases.ini"), DATABASES).unwrap();
        let ini = format!(
            "%include {path}/databases.ini\n[pgbouncer]\nlisten_addr = *\nlisten_port = {port}\n\
             unix_socket_dir = {path}\nauth_type = any\nlogfile = {path}/log\n"
        );
        fs::write(dir.path().join("pgbouncer.ini"), ini).unwrap();
        let child = as_server_user(Path::new("/usr/sbin/pgbouncer"))
            .arg(dir.path().join("pgbouncer.ini"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.path().join("stderr")).unwrap())
            .spawn()
            .unwrap();
        let bouncer = Bouncer { dir, port, child };
        let is_up = wait_until(|| bouncer.ask("SHOW VERSION").is_some());
        let said = fs::read_to_string(bouncer.dir.path().join("stderr")).unwrap();
        assert!(is_up, "PgBouncer is not up after {PATIENCE:?}: {said}");
        bouncer
    }

    fn ini(&self) -> String {
        self.dir.path().join("pgbouncer.ini").to_str().unwrap().into()
    }

    /// The rows that its console answers, fields separated by `|`.
    fn ask(&self, question: &str) -> Option<String> {
        let output = Command::new(psql())
            .args(["-XAtw", "-U", "pgbouncer", "-p", &self.port.to_string(), "-h"])
            .arg(self.dir.path())
            .args(["-d", "pgbouncer", "-c", question])
            .output()
            .ok()?;
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// PgBouncer refuses to be root.
fn as_server_user(program: &Path) -> Command {
    let mut command = Command::new(program);
    if me() == "root" {
        command.args(["-u", "postgres"]);
    }
    command
}

fn psql() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin/psql")).find(|path| path.exists());
    found.unwrap_or_else(|| "psql".into())
}

#[tokio::test]
async fn the_configuration_means_to_us_what_it_means_to_pgbouncer() {
    let bouncer = Bouncer::start();
    // name|host|port|database|force_user|…
    let rows = bouncer.ask("SHOW DATABASES").unwrap();
    let config = load(&Local::new(), &bouncer.ini()).await.unwrap().unwrap();
    let mut compared = 0;
    for row in rows.lines().filter(|row| !row.starts_with("pgbouncer|")) {
        let fields: Vec<&str> = row.split('|').collect();
        let entry = config.entry(fields[0]).unwrap_or_else(|| panic!("no entry for {row}"));
        assert_eq!(entry.host.as_deref().unwrap_or_default(), fields[1], "{row}");
        assert_eq!(entry.port.unwrap_or(5432).to_string(), fields[2], "{row}");
        assert_eq!(entry.dbname.as_deref().unwrap_or(fields[0]), fields[3], "{row}");
        assert_eq!(entry.user.as_deref().unwrap_or_default(), fields[4], "{row}");
        compared += 1;
    }
    // The fallback is no database until somebody asks for one.
    assert_eq!(compared, 4, "{rows}");
    assert_eq!(config.entry("plain").unwrap().password, Some(Secret::new("it's; #1")));
}

#[tokio::test]
async fn a_running_pgbouncer_is_followed_by_port_and_by_socket() {
    let bouncer = Bouncer::start();
    let dir = bouncer.dir.path().to_str().unwrap();
    for host in ["127.0.0.1", "localhost", dir] {
        let pairs =
            [("DB_HOST", host), ("DB_PORT", &bouncer.port.to_string()), ("DB_NAME", "plain")];
        let variables: BTreeMap<String, Secret> =
            pairs.iter().map(|(key, value)| ((*key).to_owned(), Secret::new(*value))).collect();
        let found = resolve(&Local::new(), &variables, "mastodon", &bouncer.ini()).await.unwrap();
        assert_eq!(found.to_string(), "masto at 10.0.0.7:5433");
        assert_eq!(found.through.unwrap().database, "plain");
    }
}

#[tokio::test]
async fn includes_that_lead_nowhere_or_in_a_circle_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let ini = dir.path().join("pgbouncer.ini");
    let path = ini.to_str().unwrap();
    let host = Local::new();
    assert!(load(&host, path).await.unwrap().is_none());
    assert!(load(&host, "/no/such/dir/pgbouncer.ini").await.unwrap().is_none());
    fs::write(&ini, format!("%include {path}\n")).unwrap();
    assert!(matches!(load(&host, path).await, Err(PgBouncerError::IncludeLoop)));
    fs::write(&ini, "%include /no/such/file\n").unwrap();
    let error = load(&host, path).await.unwrap_err();
    assert!(error.to_string().contains("/no/such/file"), "{error}");
}
