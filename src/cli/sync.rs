//! `transhume sync`: a media pass while the old server is live.

use crate::event::{Event, Level};
use crate::migration::facts;
use crate::migration::steps::media::{Class, Pass, pass, summary};

use super::display::Display;
use super::outcome::say;
use super::{Common, Exit, Failure, check, setup};

/// Copy what is new in the media while the old server is live.
///
/// Repeat it as often as you like: each pass only moves what is new. It needs no database.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  transhume sync              copy what is new or changed
  transhume sync --dry-run    only count it
  transhume sync --class local    only what was uploaded here, not cache/")]
pub(super) struct Arguments {
    /// Change nothing; tell how much there is to copy.
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Which media: what was uploaded here, copies of what lies on other servers, or both
    ///
    /// What the others are is neither copied nor deleted. Of both, the local ones come first, and
    /// of each the latest.
    #[arg(long, value_name = "CLASS", default_value = "all")]
    class: Class,
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
    let kind = if arguments.dry_run { Pass::Check } else { Pass::Base };
    let passed = pass(&world, media.as_ref(), kind, arguments.class, &*world.monitor).await;
    let outcome = match passed {
        Ok(outcome) => outcome,
        Err(error) => {
            display.close("sync", Exit::Failed);
            return Err(Failure::of_step(Exit::Failed, "the pass stopped".into(), error));
        }
    };
    let exit = match &outcome {
        Some(outcome) if outcome.problems_total > 0 => Exit::Problems,
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
