//! `transhume check`: a read-only look at both servers.

use crate::event::{Finding, Level, Monitor};
use crate::migration::facts;
use crate::render;
use crate::render::view;

use super::display::Display;
use super::outcome::say;
use super::predicted::Predicted;
use super::{Common, Exit, Failure, setup};

/// Look at both servers, change nothing, and tell what would stop or trouble a move.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  transhume check               what is in order, warnings, refusals; each with its remedy
  transhume -q check            warnings and refusals only
  transhume --json check | jq -r 'select(.level == \"refusal\") | .text'")]
pub(super) struct Arguments {}

pub(super) async fn run(_: Arguments, common: &Common) -> Result<Exit, Failure> {
    let config = setup::config(common.config.as_deref())?;
    let display = Display::new(common, None)?;
    let world = setup::world_to_look(config, display.monitor()).await?;
    let gathered = facts::gather(&world).await;
    let mut findings = gathered.findings;
    if let Some(facts) = gathered.facts {
        findings.extend(Predicted::of(&world, &facts).await.findings());
    }
    if common.json {
        findings.iter().for_each(|finding| world.monitor.emit(finding.clone().into()));
    }
    display.flush();
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
    if !common.json {
        let told = findings.into_iter().filter(|found| !common.quiet || found.level > Level::Ok);
        let told: Vec<Finding> = told.collect();
        say(&render::findings(&shown(&told), display.look().color));
    }
    if !common.json && !common.quiet {
        say(next(worst));
    }
    Ok(match worst {
        Level::Ok => Exit::Done,
        Level::Warning => Exit::Problems,
        Level::Refusal => Exit::Refused,
    })
}

/// What to do, given the worst that was found.
fn next(worst: Level) -> &'static str {
    match worst {
        Level::Ok => "Nothing stands in the way of a move: `transhume plan` shows its steps.\n",
        Level::Warning => "A move can start; weigh the warnings first.\n",
        Level::Refusal => "Follow the remedies, then run `transhume check` again.\n",
    }
}

/// Tells why a verb cannot begin.
pub(super) fn tell_refusals(monitor: &dyn Monitor, findings: Vec<Finding>) {
    let refusals = findings.into_iter().filter(|finding| finding.level == Level::Refusal);
    refusals.for_each(|finding| monitor.emit(finding.into()));
}

/// Findings as the renderer takes them.
pub(super) fn shown(findings: &[Finding]) -> Vec<view::Finding> {
    let show = |finding: &Finding| view::Finding {
        level: finding.level,
        subject: finding.subject.clone(),
        text: finding.text.clone(),
        remedy: finding.remedy.clone(),
    };
    findings.iter().map(show).collect()
}
