//! A PgBouncer in front of a cluster, in a directory and on a port of its own.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::postgres::{Postgres, postgres_user};
use super::process::{free_port, wait_until};

/// A running PgBouncer that lets everybody in.
pub struct PgBouncer {
    child: Child,
    port: u16,
    dir: TempDir,
}

impl PgBouncer {
    /// Starts one in front of `cluster`, with `settings` added to its `[pgbouncer]` section.
    pub fn start(cluster: &Postgres, settings: &[&str]) -> PgBouncer {
        let (host, port) = (cluster.socket_dir().display(), cluster.port());
        PgBouncer::start_with(&format!("* = host={host} user=postgres port={port}"), settings)
    }

    /// Starts one with these lines in its `[databases]` section, each with a user.
    pub fn start_with(databases: &str, settings: &[&str]) -> PgBouncer {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let config = format!(
            "[databases]\n{databases}\n\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n{}\n",
            settings.join("\n"),
        );
        fs::write(dir.path().join("pgbouncer.ini"), config).unwrap();
        let mut command = Command::new("/usr/sbin/pgbouncer");
        if let Some((uid, gid)) = postgres_user() {
            std::os::unix::fs::chown(dir.path(), Some(uid), Some(gid)).unwrap();
            command.uid(uid).gid(gid);
        }
        let child = command
            .arg(dir.path().join("pgbouncer.ini"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.path().join("log")).unwrap())
            .spawn()
            .expect("pgbouncer is installed");
        let bouncer = PgBouncer { child, port, dir };
        let up = wait_until(|| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        assert!(up, "pgbouncer does not start: {}", bouncer.log());
        bouncer
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its configuration.
    pub fn ini(&self) -> PathBuf {
        self.dir.path().join("pgbouncer.ini")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
