//! `transhume check`: a read-only look at both servers.

use crate::event::{Finding, Level, Monitor};
use crate::migration::facts;
use crate::render;
use crate::render::view;

use super::display::Display;
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
    let findings = facts::gather(&world).await.findings;
    if common.json {
        findings.iter().for_each(|finding| world.monitor.emit(finding.clone().into()));
    }
    display.flush();
    if !common.json {
        print!("{}", render::findings(&shown(&findings), display.look().color));
    }
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
    Ok(match worst {
        Level::Ok => Exit::Done,
        Level::Warning => Exit::Problems,
        Level::Refusal => Exit::Refused,
    })
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
