//! The command line: arguments in, a library call, an exit code out. The only code that reads
//! argv and the environment, prints, or exits. One file for each verb.

mod cache;
mod check;
mod completions;
mod db;
mod display;
mod dns;
mod files;
mod helper;
mod init;
mod interrupt;
mod man;
mod migrate;
mod outcome;
mod plan;
mod predicted;
mod question;
mod report;
mod setup;
mod status;
mod sync;
mod verify;
mod watching;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

pub use outcome::{Exit, Failure};

/// Moves a live Mastodon server to a new machine.
#[derive(Debug, Parser)]
#[command(name = "transhume", version, max_term_width = 100, after_help = EXAMPLES)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "Examples:
  transhume init root@new.example.com     write transhume.toml; read it
  transhume check                         what would go wrong, and how to fix it
  transhume sync                          copy media ahead, as often as you like
  transhume plan                          the steps, one by one
  transhume migrate                       move; interrupted, the same command goes on
  transhume status                        where it stands, and what to do
  transhume rollback                      put the old server back
  transhume report                        what happened";

/// What every verb takes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Common {
    /// The configuration [default: ./transhume.toml, then ~/.config/transhume/transhume.toml]
    #[arg(short, long, global = true, value_name = "FILE")]
    pub config: Option<std::path::PathBuf>,
    /// Print JSON on standard output: events, one a line; `plan` and `status` one object.
    #[arg(long, global = true)]
    pub json: bool,
    /// Print problems only.
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Print what is fine as well.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Use colours.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Init(init::Arguments),
    Check(check::Arguments),
    Plan(plan::Arguments),
    Sync(sync::Arguments),
    Migrate(migrate::Arguments),
    Rollback(migrate::RollbackArguments),
    Status(status::Arguments),
    Verify(verify::Arguments),
    Report(report::Arguments),
    Files(files::Arguments),
    Db(db::Arguments),
    Dns(dns::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
    #[command(hide = true)]
    Helper(helper::Arguments),
}

/// The command line without what is hidden: for shells and the manual.
fn shown() -> clap::Command {
    let whole = Arguments::command();
    let verbs = whole.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned();
    // A verb cannot be taken out of a command, so the command is made anew around the others.
    let about = whole.get_about().cloned().unwrap_or_default();
    let program = Common::augment_args(clap::Command::new("transhume"))
        .about(about)
        .version(env!("CARGO_PKG_VERSION"))
        .after_help(EXAMPLES)
        .subcommand_required(true);
    program.subcommands(verbs)
}

/// Runs the program for `arguments` (the first is its name).
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version come this way too; nothing can be done about a closed terminal.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done }.into();
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return outcome::report(&Failure::from_io("start the runtime", error)),
    };
    // On a thread of the runtime: from this one every step between two tasks would wake another.
    match runtime.block_on(runtime.spawn(dispatch(arguments))) {
        Ok(Ok(exit)) => exit.into(),
        Ok(Err(failure)) => outcome::report(&failure),
        // Nobody cancels it while the runtime is there: it panicked.
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

async fn dispatch(arguments: Arguments) -> Result<Exit, Failure> {
    let common = arguments.common;
    match arguments.verb {
        Verb::Init(arguments) => init::run(arguments, &common).await,
        Verb::Sync(arguments) => sync::run(arguments, &common).await,
        Verb::Verify(arguments) => verify::run(arguments, &common).await,
        Verb::Check(arguments) => check::run(arguments, &common).await,
        Verb::Plan(arguments) => plan::run(arguments, &common).await,
        Verb::Migrate(arguments) => migrate::run(arguments, &common).await,
        Verb::Rollback(arguments) => migrate::rollback(arguments, &common).await,
        Verb::Status(arguments) => status::run(arguments, &common).await,
        Verb::Report(arguments) => report::run(arguments, &common).await,
        Verb::Files(arguments) => files::run(arguments, &common).await,
        Verb::Db(arguments) => db::run(arguments, &common).await,
        Verb::Dns(arguments) => dns::run(arguments, &common).await,
        Verb::Completions(arguments) => completions::run(arguments),
        Verb::Man(arguments) => man::run(arguments),
        Verb::Helper(arguments) => helper::run(arguments).await,
    }
}
