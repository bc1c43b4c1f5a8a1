//! `transhume migrate` and `transhume rollback`: the move, and the way back.

use std::path::Path;
use std::sync::Arc;

use crate::event::{Event, Finding, Level};
use crate::migration::plan::Plan;
use crate::migration::run::{self, Cause, Ending, Log, Options, RunError};
use crate::migration::state::{Phase, State};
use crate::migration::world::{World, journal_path};
use crate::migration::{facts, recipe};

use super::display::Display;
use super::predicted::Predicted;
use super::{Common, Exit, Failure, interrupt, plan, question, report, setup};

/// Move the instance: show the plan, ask once, run it.
///
/// Interrupted in whatever way, the same command goes on. What fails before the point of no return
/// is undone.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  transhume migrate                   show the plan, ask, run it
  transhume migrate --yes             do not ask (you have read `transhume plan`)
  transhume migrate --until fence     stop when the stage of that step is complete")]
pub(super) struct Arguments {
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    /// Stop when the stage of this step is complete; the same command goes on.
    #[arg(long, value_name = "STEP")]
    until: Option<String>,
}

/// Undo an unfinished move: put the old server back as it was.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  transhume rollback            ask, then undo what was done, the last step first
  transhume rollback --yes      do not ask")]
pub(super) struct RollbackArguments {
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

#[derive(Clone, Copy)]
enum Verb {
    Migrate,
    Rollback,
}

/// What both verbs work with.
struct Setting {
    world: World,
    log: Arc<Log>,
    display: Display,
}

impl Setting {
    async fn open(common: &Common, verb: Verb) -> Result<Setting, Failure> {
        let config = setup::config(common.config.as_deref())?;
        setup::state_dir(&config)?;
        let events = config.state_dir.join("events.jsonl");
        let display = Display::new(common, Some(&events))?;
        let log = Log::open(&journal_path(&config.state_dir))
            .map_err(|error| Failure::new(Exit::Failed, error))?;
        let world = match verb {
            Verb::Migrate => setup::world(config, display.monitor())
                .await
                .map_err(|failure| stranded(log.current().as_ref(), failure))?,
            Verb::Rollback => setup::world_to_undo(config, display.monitor())
                .await
                .map_err(|failure| not_undone(log.current().as_ref(), failure))?,
        };
        Ok(Setting { world, log: Arc::new(log), display })
    }

    fn begin(&self, verb: &str) {
        let event = Event::RunStarted { run: self.log.run().to_owned(), verb: verb.to_owned() };
        self.display.monitor().emit(event);
    }

    /// Ends the run: the last words, the report, the exit code.
    fn end(&self, exit: Exit, result: Result<(), Failure>) -> Result<Exit, Failure> {
        let path = report::path(&self.world.config.state_dir, self.log.run());
        self.display.say_here(format!("The report: {}", path.display()));
        self.display.close(self.log.run(), exit);
        report::write(&self.world.config, &path)?;
        result.map(|()| exit)
    }
}

pub(super) async fn run(arguments: Arguments, common: &Common) -> Result<Exit, Failure> {
    let setting = Setting::open(common, Verb::Migrate).await?;
    let Setting { world, log, display } = &setting;
    if is_done(log.current().as_ref(), &world.job()) {
        return already_done(&setting);
    }
    let resuming = log.is_unfinished();
    let asks = !resuming && !arguments.yes;
    if asks {
        question::possible()?;
    }
    setting.begin("migrate");
    let gathered = facts::gather(world).await;
    tell_findings(display, &gathered.findings, resuming && gathered.facts.is_some());
    let refused = gathered.findings.iter().any(|finding| finding.level == Level::Refusal);
    let Some(facts) = gathered.facts.filter(|_| resuming || !refused) else {
        let failure = stranded(log.current().as_ref(), refusal(&gathered.findings));
        return setting.end(failure.exit(), Err(failure));
    };
    let predicted = match resuming {
        // Nobody is to wait for a guess while nobody can post.
        true => Predicted::default(),
        false => Predicted::of(world, &facts).await,
    };
    let plan = recipe::plan(world, facts, log.run(), log.clone());
    predicted.tell(&*world.monitor);
    if asks && !agreed(display, &plan, &predicted)? {
        return setting.end(Exit::Refused, Err(disagreed()));
    }
    if let Some(state) = log.current().filter(|_| resuming) {
        let behind = plan.steps().filter(|step| state.is_behind(step.id())).count();
        let steps = plan.steps().count();
        note(
            &setting,
            format!("Going on where it stopped: {behind} of {steps} steps are behind it."),
        );
    }
    let options = Options { until: arguments.until };
    let token = interrupt::token()?;
    let ending = run::run(&plan, log, &options, &*world.monitor, &token).await;
    conclude(&setting, ending, Exit::Interrupted)
}

pub(super) async fn rollback(
    arguments: RollbackArguments,
    common: &Common,
) -> Result<Exit, Failure> {
    let setting = Setting::open(common, Verb::Rollback).await?;
    let Setting { world, log, display } = &setting;
    if !log.is_unfinished() {
        return Err(Failure::new(Exit::Usage, RunError::NothingToUndo));
    }
    let question = format!("This undoes {} and puts the old server back as it was.", world.job());
    if !arguments.yes && !display.paused(|| question::confirm(&question, "rollback"))? {
        return Err(disagreed());
    }
    setting.begin("rollback");
    let gathered = facts::gather_to_undo(world).await;
    let Some(facts) = gathered.facts else {
        tell_findings(display, &gathered.findings, false);
        let failure = not_undone(log.current().as_ref(), refusal(&gathered.findings));
        return setting.end(failure.exit(), Err(failure));
    };
    let plan = recipe::plan(world, facts, log.run(), log.clone());
    let token = interrupt::token()?;
    let ending = run::rollback(&plan, log, &*world.monitor, &token).await;
    conclude(&setting, ending, Exit::Done)
}

/// What there is to say when the move is begun again after its end.
pub(super) const DONE: &str = "This move is done; `transhume report` tells what happened.";

/// Whether the last run completed this very move. It is not begun again: the old server is fenced.
pub(super) fn is_done(state: Option<&State>, job: &str) -> bool {
    state.is_some_and(|state| state.job == job && matches!(state.phase, Phase::Finished { .. }))
}

fn already_done(setting: &Setting) -> Result<Exit, Failure> {
    note(setting, DONE.into());
    setting.display.flush();
    Ok(Exit::Done)
}

/// Tells what was found. A run that goes on finds its own work, and the old server stopped: that
/// is no news.
fn tell_findings(display: &Display, findings: &[Finding], resuming: bool) {
    let monitor = display.monitor();
    if !resuming {
        findings.iter().for_each(|finding| monitor.emit(finding.clone().into()));
    }
}

fn disagreed() -> Failure {
    Failure::message(Exit::Refused, "you did not agree; nothing was touched", None)
}

fn refusal(findings: &[Finding]) -> Failure {
    let count = findings.iter().filter(|finding| finding.level == Level::Refusal).count();
    let noun = crate::units::counted(count as u64, "refusal");
    Failure::message(
        Exit::Refused,
        format!("check found {noun}; nothing was changed"),
        Some("follow the remedies above; `transhume check` looks again".into()),
    )
}

/// What it means that a run on its way could not go on: the servers are as it left them.
fn stranded(state: Option<&State>, failure: Failure) -> Failure {
    let Some(state) = state.filter(|state| !state.ended()) else { return failure };
    if state.past_no_return {
        let hint = "then run `transhume migrate` again: there is no way back";
        return failure.with_exit(Exit::Unfinished).with_hint(hint);
    }
    let undo = "undo the unfinished move with `transhume rollback`";
    match state.nobody_can_post() {
        true => failure
            .with_exit(Exit::Interrupted)
            .with_hint(&format!("nobody can post until this goes on, or you {undo}")),
        false => failure.with_exit(Exit::Failed).with_hint(&format!("or {undo}")),
    }
}

/// What it means that a way back could not begin.
fn not_undone(state: Option<&State>, failure: Failure) -> Failure {
    match state.is_some_and(|state| !state.ended()) {
        true => failure
            .with_exit(Exit::UndoFailed)
            .with_hint("then run `transhume rollback` again: nothing is put back yet"),
        false => failure,
    }
}

fn agreed(display: &Display, plan: &Plan, predicted: &Predicted) -> Result<bool, Failure> {
    display.paused(|| {
        eprint!("{}", plan::text(plan, None, predicted, display.look().color));
        question::confirm("This moves the instance.", "migrate")
    })
}

/// The exit code and the message of an ending. `on_request` is the code of an unwind that was
/// asked for.
fn conclude(
    setting: &Setting,
    ending: Result<Ending, RunError>,
    on_request: Exit,
) -> Result<Exit, Failure> {
    let (exit, result) = match ending {
        Ok(Ending::Finished { problems: 0 }) => {
            tell_next(setting);
            (Exit::Done, Ok(()))
        }
        Ok(Ending::Finished { .. }) => {
            tell_next(setting);
            (Exit::Problems, Ok(()))
        }
        Ok(Ending::Stopped { after }) => {
            note(setting, stopped(setting.log.current().as_ref(), &after));
            (Exit::Done, Ok(()))
        }
        Ok(Ending::Interrupted) => (Exit::Interrupted, Ok(())),
        Ok(Ending::Unwound { cause: None }) => (on_request, Ok(())),
        Ok(Ending::Unwound { cause: Some(cause) }) => {
            (Exit::Failed, Err(failed(Exit::Failed, cause, "the old server serves as before")))
        }
        Ok(Ending::UndoFailed { cause, failed: steps }) => {
            (Exit::UndoFailed, Err(undo_failed(cause, &steps)))
        }
        Ok(Ending::Unfinished { cause: Some(cause) }) => {
            let told =
                "the new server has taken over; run `transhume migrate` again to complete it";
            (Exit::Unfinished, Err(failed(Exit::Unfinished, cause, told)))
        }
        Ok(Ending::Unfinished { cause: None }) => {
            note(
                setting,
                "Stopped past the point of no return; run `transhume migrate` again.".into(),
            );
            (Exit::Unfinished, Ok(()))
        }
        Err(error) => {
            let exit = match error {
                RunError::Journal(_) if is_past_return(&setting.log) => Exit::Unfinished,
                RunError::Journal(_) => Exit::Failed,
                RunError::OtherJob { .. }
                | RunError::PlanChanged { .. }
                | RunError::UnknownStep { .. }
                | RunError::PastNoReturn { .. }
                | RunError::NothingToUndo => Exit::Usage,
            };
            (exit, Err(Failure::new(exit, error)))
        }
    };
    setting.end(exit, result)
}

fn is_past_return(log: &Log) -> bool {
    log.current().is_some_and(|state| !state.ended() && state.past_no_return)
}

/// In which state `--until` leaves the servers, and how to go on.
fn stopped(state: Option<&State>, after: &str) -> String {
    let is_down = state.is_some_and(State::nobody_can_post);
    let back = match state {
        Some(state) if state.past_no_return => "there is no way back",
        Some(_) | None => "`transhume rollback` puts the old server back",
    };
    let can_post = if is_down { "nobody can post" } else { "people can post" };
    format!("Stopped after `{after}`: {can_post}. `transhume migrate` goes on; {back}.")
}

fn failed(exit: Exit, cause: Cause, state: &str) -> Failure {
    Failure::of_step(exit, format!("step `{}` failed; {state}", cause.step), cause.error)
}

fn undo_failed(cause: Option<Cause>, steps: &[String]) -> Failure {
    let text = format!("undoing failed for: {}", steps.join(", "));
    match cause {
        Some(cause) => Failure::of_step(Exit::UndoFailed, text, cause.error),
        None => Failure::message(Exit::UndoFailed, text, None),
    }
    .with_hint("read the report, mend what it names, then run `transhume rollback` again")
}

fn note(setting: &Setting, text: String) {
    setting.display.monitor().emit(Event::Note { text });
}

/// What is left for the operator after a move.
fn tell_next(setting: &Setting) {
    let config = setting.world.config.clone();
    for text in recipe::next_steps(&config) {
        note(setting, text);
    }
}

/// Where a state directory keeps the events that reports are drawn from.
pub(super) fn events_path(state_dir: &Path) -> std::path::PathBuf {
    state_dir.join("events.jsonl")
}
