//! `transhume init`: a configuration for this server, commented, with what was found.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::config::Side;
use crate::host::local::Local;
use crate::instance::layout;
use crate::instance::services::{self, Systemd, Unit};

use super::outcome::say;
use super::{Common, Exit, Failure};

/// Look at this server and write a commented configuration for its move.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  transhume init root@new.example.com
  transhume init root@new.example.com --root /srv/mastodon/live --user mastodon")]
pub(super) struct Arguments {
    /// The new server: [user@]host or ssh://[user@]host[:port].
    target: String,
    /// Mastodon's directory on this server.
    #[arg(long, default_value = "/home/mastodon/live", value_name = "DIR")]
    root: String,
    /// The user that Mastodon runs as.
    #[arg(long, default_value = "mastodon", value_name = "USER")]
    user: String,
}

pub(super) async fn run(arguments: Arguments, common: &Common) -> Result<Exit, Failure> {
    let path = common.config.clone().unwrap_or_else(|| PathBuf::from("transhume.toml"));
    let target: Result<crate::host::ssh::Destination, _> = arguments.target.parse();
    if let Err(error) = target {
        return Err(Failure::message(Exit::Usage, error.to_string(), None));
    }
    let host = Local::new();
    let side =
        Side { root: arguments.root.clone(), user: arguments.user.clone(), ..Side::default() };
    let found = layout::look(&host, &side).await.map_err(|error| {
        Failure::new(Exit::Failed, error).with_hint("name what is right with --root and --user")
    })?;
    let systemd = Systemd {
        systemctl: side.systemctl.clone(),
        unit_dir: side.unit_dir.clone(),
        patterns: side.units.clone(),
    };
    // Without systemd there is nothing to list; `check` tells what that means.
    let units = services::discover(&host, &systemd).await.unwrap_or_default();
    let text = text(&arguments, &found, &units);
    write_new(&path, &text)?;
    say(&format!("Wrote {}. Read it, then run `transhume check`.\n", path.display()));
    Ok(Exit::Done)
}

fn text(arguments: &Arguments, found: &layout::Layout, units: &[Unit]) -> String {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let version = found.version.as_ref().map_or("unknown".into(), ToString::to_string);
    let commit = found.commit.as_ref().map_or("unknown", |commit| &commit.id);
    let names: Vec<&str> = units.iter().map(|unit| unit.name.as_str()).collect();
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "# The move of this server's Mastodon. docs/config.md explains every key.\n\
         # Found here: Mastodon {version}, commit {commit}\n\
         # Units: {}\n\n\
         [source]\nroot = {}\nuser = {}\n\n\
         [target]\nhost = {}\n\
         # root = {}\n# user = {}\n\
         # The addresses that DNS will name; with one, the old nginx passes requests on to it.\n\
         # public_addresses = [\"203.0.113.7\", \"2001:db8::7\"]\n\n\
         # Values of .env.production that differ on the new server.\n\
         [target.env]\n# DB_HOST = \"/var/run/postgresql\"\n# DB_PASS = \"\"\n\n\
         [media]\n\
         # What is deleted here between two passes goes there too: safe while nothing else is kept in\n\
         # the new server's media directory.\n# delete = true\n# bwlimit = 20000000\n\n\
         # Files beside Mastodon that come along.\n\
         [copy]\n# nginx = true\n# systemd = true\n# certificates = [\"/etc/letsencrypt/live/example.com\"]\n",
        if names.is_empty() { "none".to_owned() } else { names.join(" ") },
        quoted(&arguments.root),
        quoted(&arguments.user),
        quoted(&arguments.target),
        quoted(&arguments.root),
        quoted(&arguments.user),
    );
    text
}

/// Writes a file that is not there yet, 0600: it may come to hold passwords.
fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let result = file.and_then(|mut file| file.write_all(text.as_bytes()));
    result.map_err(|error| {
        Failure::message(
            Exit::Usage,
            format!("cannot write {}: {error}", path.display()),
            Some("name another file with -c; one that exists is not overwritten".into()),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn what_it_writes_is_a_configuration() {
        let arguments = Arguments {
            target: "root@new.example".into(),
            root: "/srv/\"odd\"/live".into(),
            user: "mastodon".into(),
        };
        let found = layout::Layout {
            root: arguments.root.clone(),
            version: None,
            commit: None,
            owner: "mastodon".into(),
            group: "mastodon".into(),
            mode: 0o755,
            ruby: None,
            node: None,
            error_page: layout::ErrorPage::Absent,
            web_user: None,
            closed_to_web: Vec::new(),
        };
        let text = text(&arguments, &found, &[]);
        let config = Config::parse(&text, Path::new("transhume.toml")).unwrap();
        assert_eq!(config.source.root, arguments.root);
        assert_eq!(config.target.host.as_deref(), Some("root@new.example"));
    }
}
