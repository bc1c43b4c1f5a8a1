//! `transhume report`: what happened, as a page and as text.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use zeroize::Zeroizing;

use crate::config::{Config, Side};
use crate::event::Event;
use crate::host::ssh::Destination;
use crate::instance::env_file::EnvFile;
use crate::instance::stores::domains;
use crate::render::{events, report};

use super::migrate::events_path;
use super::outcome::say;
use super::{Common, Exit, Failure, setup};

/// Show what the last run did; write the same as a page that needs no network.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  transhume report                    as text; tells where the page is
  transhume report --html move.html   write the page there")]
pub(super) struct Arguments {
    /// Write the page to this file instead of the state directory.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub(super) async fn run(arguments: Arguments, common: &Common) -> Result<Exit, Failure> {
    let config = setup::config(common.config.as_deref())?;
    let recording = read(&config)?;
    let run =
        events::newest_run(&recording.events).iter().find_map(|stamped| match &stamped.event {
            Event::RunStarted { run, .. } => Some(run.clone()),
            _ => None,
        });
    let Some(run) = run else {
        return Err(Failure::message(
            Exit::Usage,
            format!("{} tells of no run", events_path(&config.state_dir).display()),
            Some("`transhume migrate` begins one".into()),
        ));
    };
    let path = arguments.html.unwrap_or_else(|| path(&config.state_dir, &run));
    write(&config, &path)?;
    say(&report::text(&meta(&config, recording.skipped_lines), &recording.events));
    say(&format!("\nAs a page: {}\n", path.display()));
    Ok(Exit::Done)
}

/// Where the page of a run lies.
pub(super) fn path(state_dir: &Path, run: &str) -> PathBuf {
    state_dir.join(format!("report-{run}.html"))
}

/// Draws the newest run in the state directory as a page at `path`, 0600.
pub(super) fn write(config: &Config, path: &Path) -> Result<(), Failure> {
    let recording = read(config)?;
    let page = report::html(&meta(config, recording.skipped_lines), &recording.events);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let result = options.open(path).and_then(|mut file| file.write_all(page.as_bytes()));
    result.map_err(|error| Failure::from_io(&format!("write {}", path.display()), error))
}

fn read(config: &Config) -> Result<events::Recording, Failure> {
    events::read(&events_path(&config.state_dir)).map_err(|error| Failure::new(Exit::Failed, error))
}

fn meta(config: &Config, skipped_lines: usize) -> report::Meta {
    let facts = [("old directory", &config.source), ("new directory", &config.target)];
    report::Meta {
        instance: domain(&config.source),
        source: place(&config.source),
        target: place(&config.target),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        facts: facts.map(|(label, side)| (label.to_owned(), side.root.clone())).into(),
        zone: TimeZone::system(),
        skipped_lines,
    }
}

/// A server as the operator knows it.
fn place(side: &Side) -> String {
    match &side.host {
        None => "this server".to_owned(),
        Some(host) => host.parse().map_or_else(|_| host.clone(), |place: Destination| place.host),
    }
}

/// The instance's name, where its `.env.production` can be read here. The report does without.
fn domain(source: &Side) -> Option<String> {
    let bytes = source.host.is_none().then(|| std::fs::read(source.env_path()).ok())??;
    let file = EnvFile::parse(&Zeroizing::new(bytes)).ok()?;
    domains(&file).map(|domains| domains.local)
}
