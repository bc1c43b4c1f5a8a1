//! `transhume sync`: a media pass while the old server is live.

mod after_move;
mod rows;
mod verifying;
mod watch;

use crate::event::{Event, Level};
use crate::media::Options;
use crate::migration::facts;
use crate::migration::steps::media::{Class, Pass, pass_with, summary};

use super::display::Display;
use super::files::quantity;
use super::outcome::say;
use super::{Common, Exit, Failure, check, setup};
use verifying::Verify;

/// Copy what is new in the media while the old server is live.
///
/// Repeat it as often as you like: each pass only moves what is new. It needs no database; --watch
/// asks the old server's, where it can.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  transhume sync              copy what is new or changed
  transhume sync --dry-run    only count it
  transhume sync --watch      keep the copy close until the move
  transhume sync --class local    only what was uploaded here, not cache/
  transhume sync --verify=repair --verify-rate 20M    read everything once, gently")]
pub(super) struct Arguments {
    /// Change nothing; tell how much there is to copy.
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Go on: bring over what changes until Ctrl-C, seconds after it happened
    ///
    /// As root on the old server the kernel tells what changes; else its database tells of new files,
    /// and the media are looked at again and again. A connection that is lost is opened again.
    #[arg(long, conflicts_with_all = ["dry_run", "verify"])]
    watch: bool,
    /// Which media: what was uploaded here, copies of what lies on other servers, or both
    ///
    /// What the others are is neither copied nor deleted. Of both, the local ones come first, and
    /// of each the latest.
    #[arg(long, value_name = "CLASS", default_value = "all")]
    class: Class,
    /// Read all contents on both sides and compare them; report what differs, or copy it again
    ///
    /// Sizes and times say whether a file changed, not whether a disk kept it.
    #[arg(long, value_name = "WHAT", num_args = 0..=1, require_equals = true,
        default_missing_value = "report")]
    verify: Option<Verify>,
    /// Leave the old server to those who use it: slow down while it is busy (media.gentle)
    #[arg(long)]
    gentle: bool,
    /// What each side reads a second for --verify, at most: 500K, 20M (default: media.verify_rate)
    #[arg(long, value_name = "RATE", requires = "verify", value_parser = quantity::rate)]
    verify_rate: Option<quantity::Rate>,
}

pub(super) async fn run(arguments: Arguments, common: &Common) -> Result<Exit, Failure> {
    let config = setup::config(common.config.as_deref())?;
    let display = Display::new(common, None)?;
    let world = setup::world_to_look(config, display.monitor()).await?;
    world.monitor.emit(Event::RunStarted { run: "sync".into(), verb: "sync".into() });
    let gathered = facts::gather_media(&world).await;
    let refused = gathered.findings.iter().any(|finding| finding.level == Level::Refusal);
    let Some(media) = gathered.facts.filter(|_| !refused) else {
        check::tell_refusals(&*world.monitor, gathered.findings);
        display.close("sync", Exit::Refused);
        return Ok(Exit::Refused);
    };
    let looks = arguments.dry_run || arguments.verify == Some(Verify::Report);
    if !looks && let Err(refused) = after_move::refuse(&world) {
        display.close("sync", Exit::Refused);
        return Err(refused);
    }
    let kind = if looks { Pass::Check } else { Pass::Base };
    let set_rate = arguments.verify_rate.map(|rate| rate.0);
    let configured = world.config.media.verify_rate;
    let options = |options: Options| Options {
        walks: arguments.class.walks(options.hard_links),
        checksum: arguments.verify.is_some(),
        gentle: arguments.gentle || world.config.media.gentle,
        checksum_rate: set_rate.unwrap_or(configured),
        on_change: arguments.verify.map(|verify| verifying::sink(verify, world.monitor.clone())),
        ..options
    };
    if let Some(paths) = media.as_ref().filter(|_| arguments.watch) {
        return watch::run(&world, paths, options, &display).await;
    }
    let passed = pass_with(&world, media.as_ref(), kind, &*world.monitor, options).await;
    let outcome = match passed {
        Ok(outcome) => outcome,
        Err(error) => {
            display.close("sync", Exit::Failed);
            return Err(Failure::of_step(Exit::Failed, "the pass stopped".into(), error));
        }
    };
    let exit = match &outcome {
        Some(outcome) if outcome.problems_total > 0 => Exit::Problems,
        Some(outcome)
            if arguments.verify == Some(Verify::Report) && outcome.stats.differing() > 0 =>
        {
            Exit::Problems
        }
        Some(_) | None => Exit::Done,
    };
    let text = match &outcome {
        Some(outcome) => format!("Media: {}", summary(kind, &outcome.stats)),
        None => "The media are in object storage and stay there.".to_owned(),
    };
    world.monitor.emit(Event::Note { text });
    display.close("sync", exit);
    // The figures are of what was done; a dry run does nothing.
    let shows = kind == Pass::Base && !common.json && !common.quiet;
    if let Some(outcome) = outcome.filter(|_| shows) {
        say(&outcome.stats.to_string());
    }
    Ok(exit)
}
