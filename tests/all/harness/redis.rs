//! A real Redis with a directory, port and socket of its own.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::{free_port, wait_for};

/// A running `redis-server` that saves nothing, stopped when dropped.
pub struct Redis {
    dir: TempDir,
    child: Child,
    port: u16,
    password: Option<String>,
}

impl Redis {
    pub fn start() -> Self {
        Redis::start_with(None, "")
    }

    pub fn with_password(password: &str) -> Self {
        Redis::start_with(Some(password), "")
    }

    /// Starts one with more lines of redis.conf.
    pub fn start_with(password: Option<&str>, conf: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("redis-").tempdir().expect("a directory");
        let port = free_port();
        let auth = password.map(|text| format!("requirepass \"{text}\"\n")).unwrap_or_default();
        let path = dir.path().display();
        let text = format!(
            "bind 127.0.0.1\nport {port}\nunixsocket {path}/redis.sock\nunixsocketperm 700\n\
             dir {path}\nlogfile {path}/redis.log\nsave \"\"\nappendonly no\ndaemonize no\n{auth}{conf}\n"
        );
        let conf = dir.path().join("redis.conf");
        std::fs::write(&conf, text).expect("write redis.conf");
        let child = Command::new("redis-server")
            .arg(&conf)
            // A Ctrl-C on the terminal is for whoever stops it.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start redis-server");
        let redis = Redis { dir, child, port, password: password.map(str::to_owned) };
        wait_for("redis answering", Duration::from_secs(20), || redis.answers());
        redis
    }

    /// Any reply to PING will do: `-NOAUTH` is one too.
    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
        let mut reply = [0; 5];
        stream.write_all(b"PING\r\n").is_ok()
            && stream.read_exact(&mut reply).is_ok()
            && (&reply == b"+PONG" || &reply == b"-NOAU")
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("redis.sock")
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// As Mastodon's `REDIS_URL` says it.
    pub fn url(&self) -> String {
        match &self.password {
            Some(password) => format!("redis://:{password}@127.0.0.1:{}/0", self.port),
            None => format!("redis://127.0.0.1:{}/0", self.port),
        }
    }

    /// What `redis-cli` prints for a command in database 0, without the newline at its end.
    pub fn cli(&self, words: &[&str]) -> String {
        self.cli_with_input(words, b"")
    }

    /// The same, reading its commands (or with `-x` the last word) from `input`.
    pub fn cli_with_input(&self, words: &[&str], input: &[u8]) -> String {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &self.port.to_string(), "--no-auth-warning"]).args(words);
        if let Some(password) = &self.password {
            command.env("REDISCLI_AUTH", password);
        }
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start redis-cli");
        let mut stdin = child.stdin.take().expect("its input");
        let input = input.to_vec();
        let feed = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().expect("redis-cli's output");
        // redis-cli may stop reading early; what it printed is asserted by the test.
        let _ = feed.join();
        String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
