//! `transhume plan`: what `migrate` would do. Changes nothing.

use crate::migration::plan::{Mark, Plan};
use crate::migration::run::Log;
use crate::migration::step::Segment;
use crate::migration::{facts, recipe};
use crate::render::{self, PlanLine};

use super::display::Display;
use super::{Common, Exit, Failure, setup};

/// Print the steps of the move and change nothing.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {}

pub(super) async fn run(_: Arguments, common: &Common) -> Result<Exit, Failure> {
    let config = setup::config(common.config.as_deref())?;
    let display = Display::new(common, None)?;
    let world = setup::world(config, display.monitor()).await?;
    let gathered = facts::gather(&world).await;
    display.flush();
    let Some(facts) = gathered.facts else {
        print!(
            "{}",
            render::findings(&super::check::shown(&gathered.findings), display.look().color)
        );
        return Ok(Exit::Refused);
    };
    let log =
        Log::open(&world.journal_path()).map_err(|error| Failure::new(Exit::Failed, error))?;
    let log = std::sync::Arc::new(log);
    print!("{}", text(&recipe::plan(&world, facts, &log), display.look().color));
    Ok(Exit::Done)
}

/// The plan as it is printed.
pub(super) fn text(plan: &Plan, color: bool) -> String {
    let mut past_return = false;
    let mut lines = Vec::new();
    for stage in &plan.stages {
        past_return |= stage.mark == Some(Mark::NoReturn);
        let segment = match stage.segment {
            Segment::Prepare => render::Segment::Prepare,
            Segment::Cutover => render::Segment::Cutover,
            Segment::Settle => render::Segment::Settle,
        };
        lines.extend(stage.steps.iter().map(|step| PlanLine {
            id: step.id().to_owned(),
            title: step.title(),
            segment,
            predicted: None,
            past_return,
        }));
    }
    render::plan(&lines, color)
}
