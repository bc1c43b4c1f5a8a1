//! A real nginx with a prefix, configuration, pid file and logs of its own.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::process::wait_until;

/// A running `nginx`, stopped when dropped.
pub struct Nginx {
    dir: TempDir,
    child: Child,
}

impl Nginx {
    /// Starts nginx with the site file that `site` gives for the prefix directory. The site file
    /// is included in the `http` block.
    pub fn start(site: impl FnOnce(&Path) -> String) -> Self {
        let dir = tempfile::Builder::new().prefix("nginx-").tempdir().expect("a directory");
        let prefix = dir.path();
        for name in ["conf", "logs", "tmp"] {
            std::fs::create_dir(prefix.join(name)).expect("make a directory");
        }
        std::fs::write(prefix.join("conf/nginx.conf"), main_conf(prefix)).expect("write");
        std::fs::write(prefix.join("conf/site.conf"), site(prefix)).expect("write");
        let checked = Command::new("nginx").args(words(prefix, &["-t", "-q"])).output();
        let checked = checked.expect("run nginx -t");
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
        let child = Command::new("nginx")
            .args(words(prefix, &[]))
            // A Ctrl-C on the terminal is for whoever stops it.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start nginx");
        let mut nginx = Nginx { dir, child };
        // The pid file appears once the sockets are bound.
        let pid = nginx.path("logs/nginx.pid");
        let is_up = wait_until(|| {
            std::fs::read_to_string(&pid).is_ok_and(|text| !text.is_empty())
                || !matches!(nginx.child.try_wait(), Ok(None))
        });
        let runs = matches!(nginx.child.try_wait(), Ok(None));
        assert!(is_up && runs, "nginx does not start: {}", nginx.error_log());
        nginx
    }

    pub fn prefix(&self) -> &Path {
        self.dir.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn site_path(&self) -> PathBuf {
        self.path("conf/site.conf")
    }

    pub fn site(&self) -> Vec<u8> {
        std::fs::read(self.site_path()).expect("read the site file")
    }

    pub fn error_log(&self) -> String {
        std::fs::read_to_string(self.path("logs/error.log")).unwrap_or_default()
    }

    /// The words that test the configuration.
    pub fn test_words(&self) -> Vec<String> {
        self.words(&["-t", "-q"])
    }

    /// The words that make the running nginx read its configuration again.
    pub fn reload_words(&self) -> Vec<String> {
        self.words(&["-s", "reload"])
    }

    fn words(&self, more: &[&str]) -> Vec<String> {
        let mut all = vec!["nginx".to_owned()];
        all.extend(words(self.prefix(), more));
        all
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // TERM, not KILL: the master has to stop its workers.
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id() as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

fn words(prefix: &Path, more: &[&str]) -> Vec<String> {
    let prefix = prefix.display();
    let fixed = ["-p".into(), format!("{prefix}/"), "-c".into(), "conf/nginx.conf".into()];
    let log = ["-e".into(), format!("{prefix}/logs/error.log")];
    fixed.into_iter().chain(log).chain(more.iter().map(|word| (*word).to_owned())).collect()
}

fn main_conf(prefix: &Path) -> String {
    // Workers as nobody could not enter the 0700 directory.
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let prefix = prefix.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("    {name}_temp_path {prefix}/tmp/{name};\n"))
        .concat();
    format!(
        "{user}\ndaemon off;\nworker_processes 1;\npid {prefix}/logs/nginx.pid;\n\
         error_log {prefix}/logs/error.log notice;\nevents {{ worker_connections 256; }}\n\
         http {{\n{temporary}    access_log {prefix}/logs/access.log;\n    \
         types {{ text/html html; image/png png; }}\n    default_type application/octet-stream;\n    \
         include {prefix}/conf/site.conf;\n}}\n"
    )
}

/// A certificate for some names, signed by an authority made for it.
pub struct Certificate {
    pub authority: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Certificate {
    /// Makes both in `dir`.
    pub fn make(dir: &Path, names: &[&str]) -> Self {
        let path = |name: &str| dir.join(name).to_string_lossy().into_owned();
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let (ca, ca_key, crt, key) =
            (path("ca.pem"), path("ca.key"), path("site.pem"), path("site.key"));
        let mut words = vec!["req", "-x509", "-days", "30", "-subj", "/CN=Test authority"];
        words.extend(["-keyout", &ca_key, "-out", &ca].iter().chain(&curve));
        openssl(&words);
        let alternative = names.iter().map(|name| format!("DNS:{name}")).collect::<Vec<_>>();
        let alternative = format!("subjectAltName={}", alternative.join(","));
        let subject = format!("/CN={}", names[0]);
        let mut words = vec!["req", "-x509", "-days", "30", "-subj", &subject];
        words.extend(["-addext", &alternative, "-addext", "basicConstraints=critical,CA:FALSE"]);
        words.extend(["-CA", &ca, "-CAkey", &ca_key, "-keyout", &key, "-out", &crt]);
        words.extend(&curve);
        openssl(&words);
        Certificate { authority: ca.into(), certificate: crt.into(), key: key.into() }
    }
}

fn openssl(words: &[&str]) {
    let output = Command::new("openssl").args(words).output().expect("run openssl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
