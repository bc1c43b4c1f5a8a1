//! `transhume plan`: what `migrate` would do. Changes nothing, and may be asked while it runs.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::event::{Event, Finding, Level};
use crate::migration::plan::{Mark, Plan, Stage};
use crate::migration::record::Record;
use crate::migration::state::{Phase, State};
use crate::migration::step::{Segment, Step};
use crate::migration::{facts, recipe};
use crate::render::{self, PlanLine};
use crate::units::counted;

use super::display::Display;
use super::outcome::say;
use super::predicted::{Predicted, millis};
use super::{Common, Exit, Failure, check, migrate, setup};

/// Print the steps of the move and change nothing.
///
/// While a move is under way, or was stopped on its way, the steps that are behind it are marked.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  transhume plan                the steps, with the names that `migrate --until` takes
  transhume --json plan | jq -r '.steps[].step'")]
pub(super) struct Arguments {}

pub(super) async fn run(_: Arguments, common: &Common) -> Result<Exit, Failure> {
    let config = setup::config(common.config.as_deref())?;
    let display = Display::new(common, None)?;
    let world = setup::world_to_look(config, display.monitor()).await?;
    // Another process may be writing to it: it is read as it stands.
    let records: Vec<Record> = crate::journal::read(&world.journal_path())
        .map_err(|error| Failure::new(Exit::Failed, error))?;
    let state = State::fold(&records);
    if migrate::is_done(state.as_ref(), &world.job()) {
        display.monitor().emit(Event::Note { text: migrate::DONE.into() });
        display.flush();
        return Ok(Exit::Done);
    }
    let state = state.filter(|state| !state.ended());
    let gathered = facts::gather(&world).await;
    let Some(facts) = gathered.facts else {
        return Ok(refused(&display, common, gathered.findings));
    };
    let run = state.as_ref().map_or("new", |state| &state.run);
    // What is under way is not measured: it would get in its own way.
    let predicted = match &state {
        None => Predicted::of(&world, &facts).await,
        Some(_) => Predicted::default(),
    };
    let plan = recipe::plan(&world, facts, run, Arc::new(state.clone()));
    if common.json {
        say(&format!("{}\n", json(&plan, state.as_ref(), &predicted)));
    } else {
        say(&text(&plan, state.as_ref(), &predicted, display.look().color));
    }
    if let Some(State { phase: Phase::Unwinding { .. }, .. }) = &state {
        let text = "This move is being undone: `transhume rollback` completes that.".into();
        display.monitor().emit(Event::Note { text });
    }
    // What a run on its way has done would be refused to a new one.
    let findings = if state.is_some() { Vec::new() } else { gathered.findings };
    Ok(refused(&display, common, findings))
}

/// Tells why `migrate` would not start, if so.
fn refused(display: &Display, common: &Common, findings: Vec<Finding>) -> Exit {
    let count = findings.iter().filter(|finding| finding.level == Level::Refusal).count() as u64;
    check::tell_refusals(&*display.monitor(), findings);
    if count > 0 && !common.json {
        let text = format!("{}: migrate will not start", counted(count, "refusal"));
        display.monitor().emit(Event::Note { text });
    }
    display.flush();
    if count > 0 { Exit::Refused } else { Exit::Done }
}

/// The plan as it is printed.
pub(super) fn text(
    plan: &Plan,
    state: Option<&State>,
    predicted: &Predicted,
    color: bool,
) -> String {
    let line = |(stage, past_return, step): (&Stage, bool, &dyn Step)| PlanLine {
        id: step.id().to_owned(),
        title: step.title(),
        segment: match stage.segment {
            Segment::Prepare => render::Segment::Prepare,
            Segment::Cutover => render::Segment::Cutover,
            Segment::Settle => render::Segment::Settle,
        },
        predicted: predicted.time(step.id()),
        past_return,
        done: state.is_some_and(|state| state.is_behind(step.id())),
    };
    let lines: Vec<PlanLine> = ordered(plan).into_iter().map(line).collect();
    render::plan(&lines, color)
}

/// The plan for programs. Documented in docs/events.md.
fn json(plan: &Plan, state: Option<&State>, predicted: &Predicted) -> Value {
    let steps = ordered(plan).into_iter().enumerate().map(|(index, (stage, past_return, step))| {
        json!({
            "number": index + 1,
            "step": step.id(),
            "title": step.title(),
            "segment": stage.segment.to_string(),
            "past_no_return": past_return,
            "predicted_millis": predicted.time(step.id()).map(millis),
            "done": state.is_some_and(|state| state.is_behind(step.id())),
        })
    });
    json!({
        "job": plan.job,
        "digest": plan.digest(),
        "run": state.map(|state| &state.run),
        "steps": steps.collect::<Vec<Value>>(),
    })
}

/// Every step with its stage, and whether it lies past the point of no return.
fn ordered(plan: &Plan) -> Vec<(&Stage, bool, &dyn Step)> {
    let mut past_return = false;
    let mut steps = Vec::new();
    for stage in &plan.stages {
        past_return |= stage.mark == Some(Mark::NoReturn);
        steps.extend(stage.steps.iter().map(|step| (stage, past_return, step.as_ref())));
    }
    steps
}
