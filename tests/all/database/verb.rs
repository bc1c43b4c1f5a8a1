//! `transhume db` as an operator runs it.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use super::copy::portrait;
use super::*;

/// Two clusters, an sshd, and a home directory with a password file.
struct Setting {
    pair: Pair,
    sshd: Sshd,
    cache: TempDir,
}

impl Setting {
    fn start() -> Setting {
        let Machine { sshd, cache } = Machine::start();
        let setting = Setting { pair: Pair::start(), sshd, cache };
        setting.passwords(&PASSWORD.replace('\\', "\\\\").replace(':', "\\:"));
        setting
    }

    fn passwords(&self, password: &str) {
        let path = self.sshd.dir().join(".pgpass");
        std::fs::write(&path, format!("127.0.0.1:*:*:mastodon:{password}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn source(&self) -> String {
        format!("postgresql://mastodon@127.0.0.1:{}/mastodon_production", self.pair.source.port())
    }

    fn target(&self) -> String {
        let (ssh, port) = (self.sshd.port(), self.pair.target.port());
        format!(
            "ssh://127.0.0.1:{ssh}/host=127.0.0.1 port={port} user=mastodon dbname=mastodon_production"
        )
    }

    fn db(&self, words: &[&str], source: &str, target: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_transhume"))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.sshd.dir())
            .arg("db")
            .args(words)
            .arg("--identity")
            .arg(self.sshd.client_key())
            .args(["-e", &format!("UserKnownHostsFile={}", self.sshd.known_hosts().display())])
            .args(["-e", "GlobalKnownHostsFile=none"])
            .args([source, target])
            .output()
            .unwrap()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn copies_through_ssh_and_says_what_it_compared() {
    let setting = Setting::start();
    let output = setting.db(&[], &setting.source(), &setting.target());
    let text = said(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(
        text.contains(
            "compared and found equal: 9 tables with 10,405 rows and their content, 6 sequences"
        ),
        "{text}"
    );
    assert_eq!(portrait(&setting.pair.target, DATABASE), portrait(&setting.pair.source, DATABASE));
    let comment = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'mastodon_production'";
    assert_eq!(setting.pair.target.sql("postgres", comment), "", "no mark is left");
    assert!(setting.cache.path().join("transhume").exists(), "the helper was used");

    // Once more: it is not empty now.
    let output = setting.db(&[], &setting.source(), &setting.target());
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert!(said(&output).contains("--replace mastodon_production"), "{}", said(&output));
    let output = setting.db(
        &["--replace", DATABASE, "--verify=none", "--no-helper"],
        &setting.source(),
        &setting.target(),
    );
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("mastodon_production will be dropped"), "{}", said(&output));
    assert!(said(&output).contains("not compared, as asked"), "{}", said(&output));
}

#[test]
fn several_workers_copy_through_ssh() {
    let setting = Setting::start();
    let words = ["--mode", "parallel", "--jobs", "2"];
    let output = setting.db(&words, &setting.source(), &setting.target());
    let text = said(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("compared and found equal: 9 tables with 10,405 rows"), "{text}");
    assert_eq!(portrait(&setting.pair.target, DATABASE), portrait(&setting.pair.source, DATABASE));
    let without_helper = ["--mode", "parallel", "--no-helper", "--replace", DATABASE];
    let output = setting.db(&without_helper, &setting.source(), &setting.target());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(portrait(&setting.pair.target, DATABASE), portrait(&setting.pair.source, DATABASE));
}

#[test]
fn a_dry_run_changes_nothing() {
    let setting = Setting::start();
    let output = setting.db(&["-n"], &setting.source(), &setting.target());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("the copy would take about "), "{}", said(&output));
    let databases = "SELECT count(*) FROM pg_database WHERE datname = 'mastodon_production'";
    assert_eq!(setting.pair.target.sql("postgres", databases), "0");
}

#[test]
fn bad_input_is_told_with_an_exit_code_and_without_the_password() {
    let setting = Setting::start();
    let (source, target) = (setting.source(), setting.target());
    let cases: [(&str, &str, i32, &str); 5] = [
        ("nonsense", &target, 2, "does not say where a database is"),
        ("postgresql://m:hunter2@a,b/c", &target, 2, "name the primary"),
        ("host=127.0.0.1 dbname=x", &target, 2, "does not say which role"),
        (&source, "ssh://", 2, "comes a connection string"),
        (
            &source.replace("mastodon_production", "nowhere"),
            &target,
            1,
            "there is no database nowhere",
        ),
    ];
    for (source, target, exit, expected) in cases {
        let output = setting.db(&[], source, target);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(exit), "{source} {target}: {text}");
        assert!(text.contains(expected), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    setting.passwords("hunter2");
    let output = setting.db(&[], &source, &target);
    assert_eq!(output.status.code(), Some(1));

    assert!(said(&output).contains("hint: check the password of mastodon"), "{}", said(&output));
    assert!(!said(&output).contains("hunter2"));
}

#[test]
fn a_password_where_others_can_read_it_is_refused() {
    let setting = Setting::start();
    let (source, target) = (setting.source(), setting.target());
    let remedy = "~/.pgpass (or the file that PGPASSFILE names), mode 0600";
    for (source, target) in [
        (source.replace("mastodon@", "mastodon:hunter2@"), target.clone()),
        (source.clone(), target.clone() + " password=hunter2"),
    ] {
        let text = refused(&setting, &source, &target);
        assert!(text.contains("which everybody on this machine could read"), "{text}");
        assert!(text.contains(remedy), "{text}");
    }
    let text = refused(&setting, &source, &target.replace("ssh://", "ssh://root:hunter2@"));
    assert!(text.contains("a password has no place here"), "{text}");

    let path = setting.sshd.dir().join(".pgpass");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let text = refused(&setting, &source, &target);
    assert!(text.contains("can be read by others (mode 640)"), "{text}");
    assert!(text.contains(&format!("hint: chmod 600 {}", path.display())), "{text}");
}

/// Exit code 2, before anything is there on the target.
fn refused(setting: &Setting, source: &str, target: &str) -> String {
    let output = setting.db(&[], source, target);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(2), "{source} {target}: {text}");
    assert!(!text.contains("hunter2"), "{text}");
    let databases = "SELECT count(*) FROM pg_database WHERE datname = 'mastodon_production'";
    assert_eq!(setting.pair.target.sql("postgres", databases), "0");
    text
}
