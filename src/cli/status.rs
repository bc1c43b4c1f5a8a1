//! `transhume status`: where the last run stands.

use jiff::Timestamp;

use crate::event;
use crate::migration::record::Record;
use crate::migration::state::{Phase, State};
use crate::render::text::escape;
use crate::render::view::span;
use crate::render::{View, events, status};
use crate::units::duration;

use super::migrate::events_path;
use super::outcome::say;
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
        say(&format!("{}\n", json(state.as_ref())));
        return Ok(Exit::Done);
    }
    let recording = events::read(&events_path(&config.state_dir))
        .map_err(|error| Failure::new(Exit::Failed, error))?;
    let view = View::of(events::newest_run(&recording.events));
    let now = event::now();
    match &state {
        Some(state) if !state.ended() && view.run.as_ref() != Some(&state.run) => {
            say(&without_events(state, now));
        }
        Some(_) | None => say(&status(&view, now)),
    }
    let at_work = state.is_some() && view.finished.is_none();
    say(&format!("Next: {}\n", next(state.as_ref(), at_work)));
    Ok(Exit::Done)
}

/// What the journal knows of a run whose events are gone.
fn without_events(state: &State, now: Timestamp) -> String {
    let ago = span(state.started, now);
    let done = state.steps.iter().filter(|step| state.is_behind(&step.step));
    let done: Vec<&str> = done.map(|step| step.step.as_str()).collect();
    let mut text = format!(
        "run {} of {}\n  started {} ago and not ended; its events are lost\n  done: {}\n",
        escape(&state.run),
        escape(&state.job),
        duration(ago),
        if done.is_empty() { "nothing".to_owned() } else { escape(&done.join(", ")).into_owned() },
    );
    if state.nobody_can_post() {
        text.push_str("  nobody can post\n");
    }
    if state.past_no_return {
        text.push_str("  the point of no return is passed\n");
    }
    text
}

/// What to do. The journal says so, which is what the next command will go by. `at_work`: a
/// process may still be working on it.
fn next(state: Option<&State>, at_work: bool) -> String {
    let Some(state) = state else { return "`transhume check`, then `transhume plan`".to_owned() };
    let advice = match state.phase {
        Phase::Running if state.past_no_return => {
            "`transhume migrate` goes on; there is no way back"
        }
        Phase::Running => {
            "`transhume migrate` goes on; `transhume rollback` puts the old server back"
        }
        Phase::Unwinding { .. } => "`transhume rollback` completes the way back",
        Phase::Unwound => "the old server serves; `transhume migrate` starts anew",
        Phase::Finished { .. } => "`transhume report` tells what is left for you to do",
    };
    let if_dead =
        if at_work && !state.ended() { "if no transhume works on it any more: " } else { "" };
    format!("{if_dead}{advice}")
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
