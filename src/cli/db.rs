//! `transhume db`: the database engine by itself.

mod ends;

use std::path::PathBuf;
use std::sync::OnceLock;

use crate::config::DatabaseMode;
use crate::database::cluster;
use crate::database::compare::{self, Depth};
use crate::database::predict::{Packing, Wanted};
use crate::database::preflight::TARGET;
use crate::database::stream::{self, Compression, Level};
use crate::database::target::{self, Destination};
use crate::database::{self, DatabaseError, Looking, Mode, Server, Transferred, parallel};
use crate::event::{self, Event, Finding, Monitor};
use crate::units::{Bytes, duration};

use super::display::Display;
use super::{Common, Exit, Failure, interrupt};
use ends::Ends;

/// Copy one PostgreSQL database to another server, and compare the two.
///
/// The source is only read. The target database is created like the source's; one that is there
/// and not empty is refused. Nothing is spooled on a disk. Stop what writes to the source first:
/// the copy is what one moment of the source was.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
SOURCE and TARGET are connection strings or URIs as libpq takes them. With `ssh://[user@]host[:port]/`
in front, the server is reached from that machine, and its programs run there. Without a password, a
login through the socket runs as the operating system's user of that name (peer login). Passwords
belong into ~/.pgpass (or the file that PGPASSFILE names), mode 0600: on the command line everybody
on this machine could read them, so they are refused there.

Examples:
  transhume db 'dbname=mastodon_production user=mastodon' \\
      'ssh://root@new.example/dbname=mastodon_production user=mastodon'
  transhume db postgresql://mastodon@127.0.0.1/mastodon_production \\
      ssh://root@new.example:2222/postgresql://mastodon@127.0.0.1:5433/mastodon_production
  transhume db --dry-run 'dbname=a user=m' 'ssh://new.example/dbname=a user=m'
                                        only tell what would stop or trouble the copy; searches the
                                        rows too, for duplicates, over-long values and orphans
  transhume db --mode parallel --jobs 4 'dbname=a user=m' 'ssh://new.example/dbname=a user=m'
                                        four tables and four indexes at a time
  transhume db --replace scratch 'dbname=a user=m' 'ssh://new.example/dbname=scratch user=m'")]
pub(super) struct Arguments {
    /// The database to copy
    source: String,
    /// The database to make
    target: String,
    /// How to copy
    #[arg(long, value_enum, default_value_t = DatabaseMode::Stream)]
    mode: DatabaseMode,
    /// Indexes built, in mode parallel tables copied, and connections that compare at the same time
    /// [default: one for each core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    jobs: usize,
    /// How hard to compress what goes through SSH, 0 for not at all. With the helper a level of zstd
    /// [default: 3 on a slow link, 1 or 0 on a fast one, which is measured], without it one of gzip
    /// (1 to 9) [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..=19))]
    level: Option<i32>,
    /// Put nothing on the other machine: pg_dump compresses by itself, which takes longer; in mode
    /// parallel rows cross as they are
    #[arg(long)]
    no_helper: bool,
    /// What to compare afterwards: every value, only how many rows there are, or nothing
    #[arg(long, value_enum, default_value_t = Verify::Content)]
    verify: Verify,
    /// Check every btree index of the copy against its table, with PostgreSQL's amcheck; needs a
    /// superuser on the target and leaves nothing behind
    #[arg(long)]
    amcheck: bool,
    /// Raise max_wal_size and checkpoint_timeout of the target's whole cluster for the time of the
    /// copy, and put them back however it ends; needs a superuser there
    #[arg(long)]
    tune_cluster: bool,
    /// Look at both sides and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Drop the target database NAME although it is not empty; it must be the target's name
    #[arg(long, value_name = "NAME")]
    replace: Option<String>,
    /// The role that owns the copy [default: the target's user]
    #[arg(long, value_name = "ROLE")]
    owner: Option<String>,
    /// Create that role, with the target's password, if it is missing
    #[arg(long)]
    create_role: bool,
    /// The operating system's user who may create databases, if the target's role may not
    #[arg(long, value_name = "USER", default_value = "postgres")]
    admin_user: String,
    /// Where the source's pg_dump is, if not on the PATH
    #[arg(long, value_name = "DIR")]
    source_bin_dir: Option<String>,
    /// Where the target's pg_restore is, if not on the PATH
    #[arg(long, value_name = "DIR")]
    target_bin_dir: Option<String>,
    /// A private key to try first
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// An option as in ssh_config(5): `-e ProxyJump=gate.example`
    #[arg(short = 'e', long, value_name = "KEY=VALUE")]
    ssh_option: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Verify {
    Content,
    Rows,
    None,
}

/// Tables above this size are not searched, in a dry run, for rows that would stop the copy.
const LOOKED_AT_BYTES_MAX: u64 = 1 << 30;

pub(super) async fn run(arguments: Arguments, common: &Common) -> Result<Exit, Failure> {
    let display = Display::new(common, None)?;
    let run = run_name();
    let verb = "db".to_owned();
    display.monitor().emit(Event::RunStarted { run: run.clone(), verb });
    let interrupted = interrupt::token()?;
    let ends = OnceLock::new();
    let result = tokio::select! {
        result = copy(&arguments, &run, common, &display, &ends) => result,
        () = interrupted.cancelled() => Err(Failure::message(
            Exit::Interrupted,
            "interrupted; the target is marked as half-done",
            Some("the same command starts again and replaces it".into()),
        )),
    };
    if let (true, Some(ends)) = (interrupted.is_cancelled() && arguments.tune_cluster, ends.get()) {
        let monitor = display.monitor();
        let problems = cluster::restore(&ends.destination, Some(&run), &*monitor).await;
        cluster::tell(problems, &*monitor);
    }
    let exit = result.as_ref().map_or_else(Failure::exit, |exit| *exit);
    display.close(&run, exit);
    result
}

/// One word that tells this run from others.
fn run_name() -> String {
    let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    format!("db-{now}-{}", std::process::id())
}

async fn copy(
    arguments: &Arguments,
    run: &str,
    common: &Common,
    display: &Display,
    ends: &OnceLock<Ends>,
) -> Result<Exit, Failure> {
    let connected = ends::connect(arguments, &*display.monitor()).await?;
    let ends = ends.get_or_init(|| connected);
    let Ends { source, destination, .. } = ends;
    let warned = look(source, destination, arguments, common, display).await?;
    if arguments.dry_run {
        let predicted = database::predict(source, destination, wanted(arguments, ends));
        let text = format!("the copy would take {}", predicted.await.map_err(failure)?);
        display.monitor().emit(Event::Note { text });
        return Ok(if warned { Exit::Problems } else { Exit::Done });
    }
    let monitor = display.monitor();
    let options = options(arguments, ends);
    let transferred =
        database::transfer(source, destination, run, &options, &*monitor).await.map_err(failure)?;
    let mut problems = tell(&transferred, &*monitor);
    let is_equal = transferred.comparison.as_ref().is_none_or(|comparison| comparison.is_equal());
    if !is_equal {
        return Err(Failure::message(
            Exit::Failed,
            "the copy differs from the source",
            Some("did anything write to the source meanwhile? stop it and run this again".into()),
        ));
    }
    if arguments.amcheck {
        problems |= super::verify::amcheck(destination, &*monitor).await? > 0;
    }
    adopt(source, destination).await.map_err(failure)?;
    Ok(if warned || problems { Exit::Problems } else { Exit::Done })
}

/// Tells what could go wrong; whether there was something to warn about. A refusal ends it.
async fn look(
    source: &Server,
    destination: &Destination,
    arguments: &Arguments,
    common: &Common,
    display: &Display,
) -> Result<bool, Failure> {
    // To search all rows takes a good part of what it takes to copy them, which finds the same.
    let table_bytes_max = arguments.dry_run.then_some(LOOKED_AT_BYTES_MAX);
    let tune_cluster = arguments.tune_cluster;
    let looking = Looking { table_bytes_max, jobs: arguments.jobs, tune_cluster };
    let findings = database::check_for(source, destination, looking).await.map_err(failure)?;
    let worth_telling =
        |finding: &&Finding| finding.level > event::Level::Ok || common.verbose > 0 || common.json;
    for finding in findings.iter().filter(worth_telling) {
        display.monitor().emit(finding.clone().into());
    }
    if arguments.dry_run {
        rehearse(&findings, &*display.monitor());
    }
    // That a database is dropped is what `--replace` asked for.
    let is_asked = |finding: &&Finding| {
        finding.level == event::Level::Warning
            && finding.subject == TARGET
            && destination.may_replace()
    };
    match findings.iter().filter(|finding| !is_asked(finding)).map(|finding| finding.level).max() {
        Some(event::Level::Refusal) => Err(failure(DatabaseError::Refused { findings })),
        Some(event::Level::Warning) => Ok(true),
        Some(event::Level::Ok) | None => Ok(false),
    }
}

/// What would be done to the settings of the cluster is told also where all is well.
fn rehearse(findings: &[Finding], monitor: &dyn Monitor) {
    let is_one = |finding: &&Finding| {
        finding.level == event::Level::Ok && finding.subject == cluster::SUBJECT
    };
    for finding in findings.iter().filter(is_one) {
        let text = format!("{}: {}", finding.subject, finding.text);
        monitor.emit(Event::Note { text });
    }
}

fn wanted(arguments: &Arguments, ends: &Ends) -> Wanted {
    Wanted {
        is_parallel: arguments.mode == DatabaseMode::Parallel,
        jobs: arguments.jobs,
        packing: match arguments.level {
            _ if !ends.through_ssh => Packing::Local,
            Some(0) => Packing::None,
            Some(level) => Packing::Level(level),
            None if ends.unpacker.is_some() => Packing::Fitting,
            None => Packing::Level(1),
        },
        compares_content: arguments.verify == Verify::Content,
    }
}

fn options(arguments: &Arguments, ends: &Ends) -> database::Options {
    let compression = match (arguments.level, &ends.unpacker) {
        (Some(0), _) => Compression::None,
        (None, _) if !ends.through_ssh => Compression::None,
        (level, Some(helper)) => {
            let level = level.map_or(Level::Fitting, Level::Fixed);
            Compression::Helper { helper: helper.clone(), level }
        }
        (level, None) => {
            Compression::Archive { level: level.unwrap_or(1).clamp(1, 9).unsigned_abs() }
        }
    };
    let mut compare = compare::Options { jobs: arguments.jobs, ..Default::default() };
    match arguments.verify {
        Verify::Content => compare.depth = Depth::Content,
        Verify::Rows | Verify::None => compare.depth = Depth::Rows,
    }
    database::Options {
        mode: mode(arguments.mode, compression, arguments.jobs),
        compare,
        skip_compare: arguments.verify == Verify::None,
        tune_cluster: arguments.tune_cluster,
    }
}

fn mode(mode: DatabaseMode, compression: Compression, jobs: usize) -> Mode {
    match mode {
        DatabaseMode::Stream => {
            Mode::Stream(stream::Options { compression, jobs, ..Default::default() })
        }
        DatabaseMode::Parallel => {
            Mode::Parallel(parallel::Options { compression, jobs, ..Default::default() })
        }
    }
}

/// Says what was done, and lists what is not right; whether there was anything.
fn tell(transferred: &Transferred, monitor: &dyn Monitor) -> bool {
    let copied = &transferred.copied;
    let millis = copied.data_millis + copied.post_data_millis + copied.analyze_millis;
    let took = duration(std::time::Duration::from_millis(millis));
    let link = copied.link.map_or_else(String::new, |link| format!("; {link}"));
    monitor.emit(Event::Note { text: format!("copied {} in {took}{link}", Bytes(copied.bytes)) });
    let differences = match &transferred.comparison {
        Some(comparison) => {
            let text = match comparison.is_equal() {
                true => format!("compared and found equal: {comparison}"),
                false => format!("compared: {comparison}"),
            };
            monitor.emit(Event::Note { text });
            comparison.differences.iter().map(ToString::to_string).collect()
        }
        None => {
            monitor.emit(Event::Note { text: "not compared, as asked".into() });
            Vec::new()
        }
    };
    let mut any = false;
    let warnings = transferred.comparison.iter().flat_map(|comparison| &comparison.warnings);
    for warning in warnings {
        any = true;
        let (text, remedy) = (warning.text.clone(), Some(warning.remedy.into()));
        monitor.emit(Event::Problem { subject: "database".into(), text, remedy });
    }
    for text in copied.problems.iter().cloned().chain(differences) {
        any = true;
        monitor.emit(Event::Problem { subject: "database".into(), text, remedy: None });
    }
    any
}

/// The copy is whole and nobody's but the operator's: our mark goes.
async fn adopt(source: &Server, destination: &Destination) -> Result<(), DatabaseError> {
    let session = database::session::connect(source, database::Access::Read).await?;
    let facts = database::inspect::inspect_database(&session).await?;
    target::remove_mark(destination, &facts).await
}

fn failure(error: DatabaseError) -> Failure {
    let exit = match &error {
        DatabaseError::Conninfo { .. } => Exit::Usage,
        DatabaseError::Refused { .. }
        | DatabaseError::NotEmpty { .. }
        | DatabaseError::Unfit { .. }
        | DatabaseError::NoTuneRight { .. }
        | DatabaseError::Pooler { .. } => Exit::Refused,
        DatabaseError::Unreachable { .. }
        | DatabaseError::NoAnswer { .. }
        | DatabaseError::Protocol { .. }
        | DatabaseError::Login { .. }
        | DatabaseError::NoDatabase { .. }
        | DatabaseError::Busy { .. }
        | DatabaseError::Sql { .. }
        | DatabaseError::Lost { .. }
        | DatabaseError::SnapshotLost { .. }
        | DatabaseError::Answer { .. }
        | DatabaseError::TimedOut { .. }
        | DatabaseError::Host(_)
        | DatabaseError::Tool { .. }
        | DatabaseError::DiskFull { .. }
        | DatabaseError::Duplicate { .. }
        | DatabaseError::Orphans { .. }
        | DatabaseError::SchemaTooLarge { .. }
        | DatabaseError::InUse { .. }
        | DatabaseError::NoCreateRight { .. }
        | DatabaseError::LocaleMissing { .. } => Exit::Failed,
    };
    Failure::new(exit, error)
}
