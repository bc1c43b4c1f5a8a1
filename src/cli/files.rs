//! `transhume files`: the file engine alone, as one would use rsync.

mod list;
mod place;
pub(super) mod quantity;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{IsTerminal, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use tokio::signal::unix::{SignalKind, signal};

use super::{Color, Common, Exit, Failure, cache, watching};
use crate::config::Transport;
use crate::error::{Advice, one_line};
use crate::event::{Event, Monitor};
use crate::host::helper::{self, Reach};
use crate::host::ssh::{self, NoPrompt, Prompt, Ssh, TerminalPrompt};
use crate::host::{Command, Host, RunAs};
use crate::media::{
    self, Change, DeleteLimit, Endpoint, Manner, MediaError, Options, Outcome, Owner,
};
use crate::render::{self, Kind, Look, Outlet};
use place::Place;

/// Make DEST hold what SRC holds: like `rsync -a SRC/ DEST/`
///
/// SRC and DEST are directories: `[user@]host:/path`, `ssh://[user@]host[:port]/path` or a path on
/// this machine (a path with a `/` before its first `:` is one). One of them may be remote.
/// Copied are contents, modes, times, symlinks as they are and, as root, owners by number. Nothing
/// is deleted unless you say so. Interrupted, the same command goes on where it stopped.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  transhume files public/system new.example.com:/home/mastodon/live/public/system
  transhume files -n -i --delete public/system new:/srv/system    what would change?
  transhume files --delete --max-delete 5% public/system new:/srv/system
  transhume files old.example.com:/srv/system /srv/system         from another machine
  transhume files --watch --delete public/system new:/srv/system   keep it so
  transhume files --exclude /cache --bwlimit 20M public/system ssh://root@new:2222/srv/system")]
pub(super) struct Arguments {
    /// The directory whose content is copied
    #[arg(value_name = "SRC")]
    source: OsString,
    /// The directory that it is copied into; it is made if only it is missing
    #[arg(value_name = "DEST")]
    target: OsString,
    /// Print what would be done, and do nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Print each change, in rsync's form
    #[arg(short = 'i', long)]
    itemize_changes: bool,
    /// Remove from DEST what SRC does not have; last, and never if SRC is empty
    #[arg(long)]
    delete: bool,
    /// Stop before the first deletion if there would be more: a number, or a share of DEST
    #[arg(long, value_name = "N|N%", requires = "delete", value_parser = quantity::delete_limit)]
    max_delete: Option<DeleteLimit>,
    /// Leave matching names alone on both sides (patterns as in rsync)
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<OsString>,
    /// The same for each line of FILE (`-`: standard input), after those given here
    ///
    /// Empty lines and those that begin with `#` or `;` are passed over. The first pattern that
    /// matches a name decides; `+ PATTERN` keeps what it matches.
    #[arg(long, value_name = "FILE")]
    exclude_from: Vec<PathBuf>,
    /// Copy only what FILE names (`-`: standard input), one path in SRC a line
    ///
    /// What leads to a path is made too. A directory comes without its content, with a `/` at its
    /// end with what is directly in it, with --recursive with everything. Empty lines and those
    /// that begin with `#` or `;` are passed over; `..` does not lead out of SRC. --exclude
    /// applies to what is named and not to what leads to it. --delete removes only what is in directories that come
    /// with their content. What is not there is a problem (exit code 3).
    #[arg(long, value_name = "FILE", conflicts_with = "watch")]
    files_from: Option<PathBuf>,
    /// Names in --files-from end with NUL, not with lines
    #[arg(short = '0', long, requires = "files_from")]
    from0: bool,
    /// All that is in the directories of --files-from; without it, all of SRC is copied anyway
    #[arg(short, long)]
    recursive: bool,
    /// Accepted: symlinks, modes, times and, as root, owners are always kept
    #[arg(short, long)]
    archive: bool,
    /// Keep hard links: what is one file under several names in SRC is one in DEST
    ///
    /// Every directory is then listed in every pass. Not out of SRC over SFTP, which does not tell
    /// them.
    #[arg(short = 'H', long)]
    hard_links: bool,
    /// Let runs of zeros in what is written take no room (over SFTP: of 64 KiB and more)
    #[arg(short = 'S', long)]
    sparse: bool,
    /// Write into the old files instead of beside them
    ///
    /// Takes no room for a second copy, keeps other names of a file, and leaves what is the same
    /// unwritten. But who reads a file meanwhile gets neither the old nor the new one, and one that
    /// broke off stays so until the next pass. Without it a file is whole or not there at all.
    #[arg(long)]
    inplace: bool,
    /// Accepted: long files that broke off are always kept for the next pass
    #[arg(long)]
    partial: bool,
    /// Accepted: owners always go by number, unless --chown names one
    #[arg(long)]
    numeric_ids: bool,
    /// Compare contents by hash, not by size and time
    #[arg(long)]
    checksum: bool,
    /// What each side reads a second for --checksum, at most: 500K, 20M (without a letter: KiB)
    #[arg(long, value_name = "RATE", requires = "checksum", value_parser = quantity::rate)]
    checksum_rate: Option<quantity::Rate>,
    /// Believe what the last pass found of files that had not changed for so long even then
    ///
    /// A change of such a file's content or mode in its place is not seen. New, renamed and
    /// deleted files are.
    #[arg(long, value_name = "HOURS", num_args = 0..=1, require_equals = true,
        default_missing_value = "48", conflicts_with = "checksum")]
    quick: Option<u16>,
    /// Go on: bring over what changes in SRC until Ctrl-C, seconds after it happened
    ///
    /// As root, on a SRC of this machine, the kernel tells what changes; else SRC is looked at
    /// again and again. A connection that is lost is opened again.
    #[arg(long, conflicts_with_all = ["dry_run", "checksum"])]
    watch: bool,
    /// Content a second over all connections: 500K, 20M (without a letter: KiB)
    #[arg(long, value_name = "RATE", value_parser = quantity::rate)]
    bwlimit: Option<quantity::Rate>,
    /// Leave the machine of SRC to others: slow down while its disks or processors are busy
    #[arg(long)]
    gentle: bool,
    /// Who owns what is written, by name or number on DEST (default: as on SRC, if root writes)
    #[arg(long, value_name = "USER[:GROUP]", value_parser = quantity::owner)]
    chown: Option<Owner>,
    /// Print figures at the end
    #[arg(long)]
    stats: bool,
    /// How files travel: the helper is this program, copied to the other side
    #[arg(long, value_name = "WAY", default_value = "auto")]
    transport: Transport,
    /// SSH connections at most
    #[arg(long, value_name = "N", default_value_t = 4,
        value_parser = clap::value_parser!(u8).range(1..=media::CONNECTIONS_MAX as i64))]
    connections: u8,
    /// An option of ssh_config(5)
    #[arg(short = 'e', long, value_name = "KEY=VALUE", value_parser = quantity::key_value)]
    ssh_option: Vec<(String, String)>,
    /// The SSH port
    #[arg(short, long)]
    port: Option<u16>,
    /// A private key to log in with
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
}

pub(super) async fn run(arguments: Arguments, common: &Common) -> Result<Exit, Failure> {
    let usage = |error| Failure::message(Exit::Usage, error, None);
    let source = Place::parse(&arguments.source).map_err(usage)?;
    let target = Place::parse(&arguments.target).map_err(usage)?;
    if source.is_remote() && target.is_remote() {
        return Err(Failure::message(
            Exit::Usage,
            "SRC and DEST are both on other machines",
            Some("log in to one of them and run transhume there".into()),
        ));
    }
    let display = Display::start(common)?;
    let started = Instant::now();
    display.emit(Event::RunStarted { run: "files".into(), verb: "files".into() });
    let result = tokio::select! {
        result = mirror(arguments, &source, &target, &display) => result.map(|outcome| {
            if outcome.problems_total > 0 { Exit::Problems } else { Exit::Done }
        }),
        // What was under way leaves temporary files at most; the next pass sweeps them.
        interrupted = interrupt() => interrupted.map(|()| Exit::Interrupted),
    };
    let exit = match &result {
        Ok(exit) => *exit,
        Err(failure) => failure.exit(),
    };
    let millis = started.elapsed().as_millis() as u64;
    display.emit(Event::RunFinished { run: "files".into(), exit: exit as u8, millis });
    display.close().await;
    result
}

/// Returns at Ctrl-C or SIGTERM.
pub(super) async fn interrupt() -> Result<(), Failure> {
    let listen = |kind| signal(kind).map_err(|error| Failure::from_io("listen for signals", error));
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

async fn mirror(
    arguments: Arguments,
    source: &Place,
    target: &Place,
    display: &Display,
) -> Result<Outcome, Failure> {
    let mut exclude: Vec<_> = arguments.exclude.iter().cloned().map(OsString::into_vec).collect();
    exclude.append(&mut patterns_of(&arguments.exclude_from)?);
    let listed = list::read(&arguments, &exclude)?;
    let copies = !arguments.dry_run && arguments.quick.is_none();
    let (source, from) = endpoint(&arguments, source, false, display).await?;
    let (target, to) = endpoint(&arguments, target, copies, display).await?;
    let told = arguments.itemize_changes || arguments.dry_run;
    let options = Options {
        dry_run: arguments.dry_run,
        delete: arguments.delete,
        max_delete: arguments.max_delete,
        exclude,
        hard_links: arguments.hard_links,
        listed,
        checksum: arguments.checksum,
        checksum_rate: arguments.checksum_rate.and_then(|rate| rate.0),
        quiet: arguments.quick.map(|hours| Duration::from_secs(u64::from(hours) * 3600)),
        bwlimit: arguments.bwlimit.and_then(|rate| rate.0),
        gentle: arguments.gentle,
        owner: arguments.chown.unwrap_or_default(),
        manner: Manner { sparse: arguments.sparse, in_place: arguments.inplace },
        on_change: told.then(|| display.changes()),
        ..Options::default()
    };
    let result = if arguments.watch {
        let (monitor, live) = (&*display.outlet, display.live);
        let way = watching::Way::of(&source, &options);
        let watched = watching::watch(&source, &target, &options, way, monitor, live).await;
        watched.map(|never| match never {})
    } else {
        media::sync(&source, &target, &options, &*display.outlet).await
    };
    for host in [from, to].into_iter().flatten() {
        host.disconnect().await;
    }
    let outcome = result.map_err(|error| Failure::new(exit_for(&error), error))?;
    if arguments.stats {
        display.lines(&outcome.stats.to_string());
    }
    Ok(outcome)
}

/// The patterns in `files`, one a line.
fn patterns_of(files: &[PathBuf]) -> Result<Vec<Vec<u8>>, Failure> {
    let mut patterns = Vec::new();
    for file in files {
        let mut text = Vec::new();
        let read = match file.as_os_str() == "-" {
            true => std::io::stdin().read_to_end(&mut text).map(drop),
            false => std::fs::read(file).map(|bytes| text = bytes),
        };
        let what = || format!("cannot read the patterns in {}", file.display());
        read.map_err(|error| Failure::message(Exit::Usage, format!("{}: {error}", what()), None))?;
        let lines = text.split(|byte| *byte == b'\n');
        let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let lines = lines.filter(|line| !matches!(line.first(), None | Some(b'#' | b';')));
        patterns.extend(lines.map(<[u8]>::to_vec));
    }
    Ok(patterns)
}

fn exit_for(error: &MediaError) -> Exit {
    match error {
        MediaError::Pattern(_)
        | MediaError::Overlap { .. }
        | MediaError::NoHelper { .. }
        | MediaError::SftpUser { .. }
        | MediaError::NoLinks { .. }
        | MediaError::UnknownOwner { .. } => Exit::Usage,
        MediaError::SourceEmpty
        | MediaError::Root { .. }
        | MediaError::NoSource { .. }
        | MediaError::TooManyDeletions { .. }
        | MediaError::TargetFull { .. }
        | MediaError::Host { .. }
        | MediaError::BrokenOff { .. }
        | MediaError::Wire { .. }
        | MediaError::HelperEnded { .. }
        | MediaError::Disorder { .. }
        | MediaError::Lost { .. }
        | MediaError::Silent { .. }
        | MediaError::Lacking { .. }
        | MediaError::Thread(_) => Exit::Failed,
    }
}

/// Connects if need be. The host is kept, to be disconnected in the end. With `expectant` much will
/// probably be sent there: over a long way further connections are begun at once.
async fn endpoint(
    arguments: &Arguments,
    place: &Place,
    expectant: bool,
    display: &Display,
) -> Result<(Endpoint, Option<Arc<Ssh>>), Failure> {
    let (mut destination, path) = match place {
        Place::Local(path) => return Ok((Endpoint::remembered(path, cache::manifests()), None)),
        Place::Remote { destination, path } => (destination.clone(), path.clone()),
    };
    destination.port = destination.port.or(arguments.port);
    let options = ssh::Options {
        identity: arguments.identity.clone(),
        options: BTreeMap::from_iter(arguments.ssh_option.iter().cloned()),
        ..ssh::Options::default()
    };
    let host = ssh::connect(&destination, &options, prompt())
        .await
        .map_err(|error| Failure::new(Exit::Failed, error))?;
    for note in host.notes() {
        display.emit(Event::Note { text: note });
    }
    let connections = usize::from(arguments.connections);
    if expectant {
        // The first one is there.
        host.expect(connections.saturating_sub(1));
    }
    let helper = helper_command(arguments.transport, &*host, display).await?;
    let end = Endpoint::remote(
        host.clone(),
        path,
        arguments.transport,
        helper,
        RunAs::Login,
        connections,
    );
    let end = end.map_err(|error| Failure::new(exit_for(&error), error))?;
    Ok((end.remembering(cache::manifests()), Some(host)))
}

/// The command that starts a helper on `host`, installed if it is wanted and possible.
async fn helper_command(
    transport: Transport,
    host: &dyn Host,
    display: &Display,
) -> Result<Option<Command>, Failure> {
    if transport == Transport::Sftp {
        return Ok(None);
    }
    match helper::install(host, Reach::Login).await {
        Ok(helper) => Ok(Some(helper.command(["files"]))),
        Err(error) if transport == Transport::Helper => Err(Failure::new(Exit::Failed, error)),
        Err(error) => {
            let hint = error.hint().map_or_else(String::new, |hint| format!(" ({hint})"));
            display.emit(Event::Note { text: format!("{}{hint}", one_line(&error)) });
            Ok(None)
        }
    }
}

fn prompt() -> Arc<dyn Prompt> {
    if std::io::stdin().is_terminal() { Arc::new(TerminalPrompt) } else { Arc::new(NoPrompt) }
}

/// Where events, changes and figures go.
struct Display {
    outlet: Arc<Outlet>,
    /// Standard output for lines, unless they are told as notes.
    stdout: Option<Arc<Mutex<std::io::Stdout>>>,
    /// Something is drawn on a terminal.
    live: bool,
}

impl Display {
    fn start(common: &Common) -> Result<Self, Failure> {
        let term = std::env::var("TERM").ok();
        let terminal = std::io::stderr().is_terminal();
        let kind = Kind::choose(common.json, common.quiet, terminal, term.as_deref());
        let chosen = match common.color {
            Color::Auto => None,
            Color::Always => Some(true),
            Color::Never => Some(false),
        };
        let no_color = std::env::var("NO_COLOR").ok();
        let color = render::wants_color(chosen, no_color.as_deref(), terminal);
        let look = Look { color, zone: TimeZone::system() };
        let outlet = render::monitor(kind, &look)
            .map_err(|error| Failure::from_io("start the display", error))?;
        // Lines between live bars must come from whoever draws the bars, and JSON is all or
        // nothing.
        let as_notes = match kind {
            Kind::Json => true,
            Kind::Tty => std::io::stdout().is_terminal(),
            Kind::Plain | Kind::Quiet => false,
        };
        let stdout = (!as_notes).then(|| Arc::new(Mutex::new(std::io::stdout())));
        Ok(Display { outlet: Arc::new(outlet), stdout, live: matches!(kind, Kind::Tty) })
    }

    fn emit(&self, event: Event) {
        self.outlet.emit(event);
    }

    fn changes(&self) -> media::ChangeSink {
        let (outlet, stdout) = (self.outlet.clone(), self.stdout.clone());
        Arc::new(move |change: &Change| line(&outlet, stdout.as_deref(), &change.to_string()))
    }

    fn lines(&self, text: &str) {
        for text in text.lines() {
            line(&self.outlet, self.stdout.as_deref(), text);
        }
    }

    async fn close(&self) {
        let outlet = self.outlet.clone();
        // It waits for a slow terminal; if that fails, there is nobody left to tell.
        let _ = tokio::task::spawn_blocking(move || outlet.finish()).await;
    }
}

fn line(outlet: &Outlet, stdout: Option<&Mutex<std::io::Stdout>>, text: &str) {
    match stdout {
        Some(stdout) => {
            let mut stdout = stdout.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            // Nothing can be done about a closed pipe; the pass goes on.
            let _ = writeln!(stdout, "{text}");
        }
        None => outlet.emit(Event::Note { text: text.to_owned() }),
    }
}
