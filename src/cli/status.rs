//! `transhume status`: where the last run stands.

use crate::event;
use crate::migration::record::Record;
use crate::migration::state::{Phase, State};
use crate::render::{View, events, status};

use super::migrate::events_path;
use super::{Common, Exit, Failure, setup};

/// Show where the last run stands and what to do.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  transhume status
  transhume --json status | jq -r .phase")]
pub(super) struct Arguments {}

pub(super) async fn run(_: Arguments, common: &Common) -> Result<Exit, Failure> {
    let config = setup::config(common.config.as_deref())?;
    let fail = |error| Failure::new(Exit::Failed, error);
    let records: Vec<Record> =
        crate::journal::read(&config.state_dir.join("journal.jsonl")).map_err(fail)?;
    let state = State::fold(&records);
    if common.json {
        println!("{}", json(state.as_ref()));
        return Ok(Exit::Done);
    }
    let recording = events::read(&events_path(&config.state_dir))
        .map_err(|error| Failure::new(Exit::Failed, error))?;
    let view = View::of(events::newest_run(&recording.events));
    print!("{}", status(&view, event::now()));
    Ok(Exit::Done)
}

/// The fold of the journal, for programs. Documented in docs/events.md.
fn json(state: Option<&State>) -> serde_json::Value {
    let Some(state) = state else { return serde_json::json!({ "phase": "none" }) };
    let phase = match &state.phase {
        Phase::Running if state.past_no_return => "past_no_return",
        Phase::Running => "running",
        Phase::Unwinding { .. } => "unwinding",
        Phase::Unwound => "unwound",
        Phase::Finished { .. } => "finished",
    };
    let downtime_millis = state.downtime.map(|downtime| {
        let to = downtime.to.unwrap_or_else(jiff::Timestamp::now);
        to.duration_since(downtime.from).as_millis() as u64
    });
    let done: Vec<&str> = state
        .steps
        .iter()
        .filter(|step| state.is_behind(&step.step))
        .map(|step| step.step.as_str())
        .collect();
    serde_json::json!({
        "run": state.run,
        "job": state.job,
        "phase": phase,
        "started": state.started,
        "steps_done": done,
        "downtime_millis": downtime_millis,
    })
}
