//! Executes a plan: every transition is durable before the deed that follows it, a failure before
//! the point of no return unwinds, and a run that was killed is taken up where it stood.

mod log;
mod unwind;

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

pub use log::Log;

use super::plan::{Mark, Plan, Stage};
use super::record::Fact;
use super::state::{Phase, State, StepProgress};
use super::step::{Check, Segment, Step, StepError};
use crate::error::{Advice, Retry};
use crate::event::{Event, Monitor, StepOutcome};
use crate::journal::JournalError;

/// How often a step is tried when the failure says that another try may work.
const TRIES: u32 = 3;

/// How far to go.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Stop when the stage of this step is complete.
    pub until: Option<String>,
}

/// How an execution ended.
#[derive(Debug)]
pub enum Ending {
    /// All steps are done, apart from `problems` of the settle segment that were told.
    Finished { problems: u64 },
    /// `--until` was reached; the same command goes on.
    Stopped { after: String },
    /// Stopped on request with nothing to put back at once; the same command goes on.
    Interrupted,
    /// The source is as it was. `cause` is `None` for an unwind on request.
    Unwound { cause: Option<Cause> },
    /// Some undo failed: these steps left something.
    UndoFailed { cause: Option<Cause>, failed: Vec<String> },
    /// Stopped past the point of no return; the same command goes on.
    Unfinished { cause: Option<Cause> },
}

/// The step that failed, and why.
#[derive(Debug)]
pub struct Cause {
    pub step: String,
    pub error: StepError,
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("the move cannot be recorded")]
    Journal(#[from] JournalError),
    #[error("{journal} belongs to another move: {theirs}, not {ours}")]
    OtherJob { journal: String, ours: String, theirs: String },
    #[error("the plan is no longer the one that run {run} began with")]
    PlanChanged { run: String },
    #[error("there is no step called {step}")]
    UnknownStep { step: String, steps: Vec<String> },
    #[error("run {run} is past the point of no return: the new server has taken over")]
    PastNoReturn { run: String },
    #[error("there is no unfinished move to roll back")]
    NothingToUndo,
}

impl Advice for RunError {
    fn hint(&self) -> Option<String> {
        match self {
            RunError::Journal(error) => error.hint(),
            RunError::OtherJob { .. } => {
                Some("use another `state_dir` for another move, or finish that one first".into())
            }
            RunError::PlanChanged { .. } => Some(
                "put the configuration (or the version of transhume) back to what it was, or run \
                 `transhume rollback` and start anew"
                    .into(),
            ),
            RunError::UnknownStep { steps, .. } => Some(format!("the steps are: {}", steps.join(", "))),
            RunError::PastNoReturn { .. } => Some(
                "run `transhume migrate` to complete it; posts made on the new server would be lost \
                 by going back"
                    .into(),
            ),
            RunError::NothingToUndo => Some("`transhume status` shows what was done".into()),
        }
    }
}

/// Runs `plan` to its end, or takes up the unfinished run that `log` holds.
pub async fn run(
    plan: &Plan,
    log: &Log,
    options: &Options,
    monitor: &dyn Monitor,
    interrupt: &CancellationToken,
) -> Result<Ending, RunError> {
    if let Some(step) = &options.until
        && plan.step(step).is_none()
    {
        let steps = plan.steps().map(|step| step.id().to_owned()).collect();
        return Err(RunError::UnknownStep { step: step.clone(), steps });
    }
    log.enter(plan)?;
    let runner = Runner { plan, log, monitor, interrupt };
    if let Phase::Unwinding { .. } = log.state().phase {
        return Ok(runner.unwind(None).await);
    }
    match runner.forward(options).await? {
        Forward::End(ending) => Ok(ending),
        Forward::GoBack(cause) => Ok(runner.unwind(cause).await),
    }
}

/// Undoes the unfinished run that `log` holds.
pub async fn rollback(
    plan: &Plan,
    log: &Log,
    monitor: &dyn Monitor,
    interrupt: &CancellationToken,
) -> Result<Ending, RunError> {
    let state = log.current().filter(|state| !state.ended()).ok_or(RunError::NothingToUndo)?;
    if state.past_no_return {
        return Err(RunError::PastNoReturn { run: state.run });
    }
    log.enter(plan)?;
    Ok(Runner { plan, log, monitor, interrupt }.unwind(None).await)
}

struct Runner<'a> {
    plan: &'a Plan,
    log: &'a Log,
    monitor: &'a dyn Monitor,
    interrupt: &'a CancellationToken,
}

/// Where going forward led.
enum Forward {
    End(Ending),
    GoBack(Option<Cause>),
}

/// Why a stage did not complete.
enum Halt {
    Failed(Cause),
    Interrupted,
    Journal(JournalError),
}

impl Runner<'_> {
    async fn forward(&self, options: &Options) -> Result<Forward, RunError> {
        let mut problems = 0;
        for stage in &self.plan.stages {
            match self.stage(stage).await {
                Ok(()) => {}
                // The new server is live: what is left can be done by hand, and the rest goes on.
                Err(Halt::Failed(cause)) if stage.segment == Segment::Settle => {
                    problems += 1;
                    let text = cause.error.one_line();
                    let remedy = cause.error.hint().map(str::to_owned);
                    self.monitor.emit(Event::Problem { subject: cause.step, text, remedy });
                }
                Err(Halt::Journal(error)) if self.log.state().past_no_return => {
                    return Err(error.into());
                }
                Err(Halt::Journal(error)) => {
                    let step = "journal".to_owned();
                    return Ok(Forward::GoBack(Some(Cause { step, error: error.into() })));
                }
                Err(Halt::Failed(cause)) if self.log.state().past_no_return => {
                    return Ok(Forward::End(Ending::Unfinished { cause: Some(cause) }));
                }
                Err(Halt::Failed(cause)) => return Ok(Forward::GoBack(Some(cause))),
                Err(Halt::Interrupted) => return Ok(self.interrupted(stage.segment)),
            }
            let reached = |id: &String| stage.steps.iter().any(|step| step.id() == *id);
            if let Some(after) = options.until.as_ref().filter(|id| reached(id)) {
                return Ok(Forward::End(Ending::Stopped { after: after.clone() }));
            }
        }
        self.log.append(Fact::Finished { problems })?;
        Ok(Forward::End(Ending::Finished { problems }))
    }

    /// On request: while the old server is live there is nothing to put back at once; in the
    /// cutover people are locked out, so it is put back.
    fn interrupted(&self, segment: Segment) -> Forward {
        match segment {
            _ if self.log.state().past_no_return => {
                Forward::End(Ending::Unfinished { cause: None })
            }
            Segment::Prepare | Segment::Settle => Forward::End(Ending::Interrupted),
            Segment::Cutover => Forward::GoBack(None),
        }
    }

    async fn stage(&self, stage: &Stage) -> Result<(), Halt> {
        let state = self.log.state();
        let pending: Vec<&dyn Step> = stage
            .steps
            .iter()
            .map(AsRef::as_ref)
            .filter(|step| !state.is_behind(step.id()))
            .collect();
        if self.interrupt.is_cancelled() {
            return Err(Halt::Interrupted);
        }
        self.begin_mark(stage.mark, &state)?;
        let steps = try_join_all(pending.into_iter().map(|step| self.step(step)));
        tokio::select! {
            biased;
            result = steps => result.map(drop)?,
            () = self.interrupt.cancelled() => return Err(Halt::Interrupted),
        }
        self.end_mark(stage.mark)
    }

    fn begin_mark(&self, mark: Option<Mark>, state: &State) -> Result<(), Halt> {
        match mark {
            Some(Mark::DowntimeStarts) if state.downtime.is_none() => {
                self.append(Fact::DowntimeStarted)?;
                self.monitor.emit(Event::DowntimeStarted);
            }
            Some(Mark::NoReturn) if !state.past_no_return => {
                self.append(Fact::NoReturn)?;
                self.monitor.emit(Event::PointOfNoReturn);
            }
            Some(Mark::DowntimeStarts | Mark::NoReturn | Mark::DowntimeEnds) | None => {}
        }
        Ok(())
    }

    fn end_mark(&self, mark: Option<Mark>) -> Result<(), Halt> {
        match mark {
            Some(Mark::DowntimeEnds) => self.end_downtime().map_err(Halt::Journal),
            Some(Mark::DowntimeStarts | Mark::NoReturn) | None => Ok(()),
        }
    }

    /// Records, once, that somebody takes writes again.
    fn end_downtime(&self) -> Result<(), JournalError> {
        let open = |state: State| state.downtime.filter(|downtime| downtime.to.is_none());
        let Some(downtime) = open(self.log.state()) else { return Ok(()) };
        self.log.append(Fact::DowntimeEnded)?;
        let span = jiff::Timestamp::now().duration_since(downtime.from);
        let millis = u64::try_from(span.as_millis()).unwrap_or(0);
        self.monitor.emit(Event::DowntimeEnded { millis });
        Ok(())
    }

    fn append(&self, fact: Fact) -> Result<(), Halt> {
        self.log.append(fact).map_err(Halt::Journal)
    }

    async fn step(&self, step: &dyn Step) -> Result<(), Halt> {
        let started = Instant::now();
        let number = self.plan.steps().position(|other| other.id() == step.id()).unwrap_or(0) + 1;
        self.monitor.emit(Event::StepStarted {
            step: step.id().to_owned(),
            title: step.title(),
            number,
            steps: self.plan.steps().count(),
        });
        let result = self.attempt(step).await;
        let outcome = match &result {
            Ok(outcome) => outcome.clone(),
            Err(Halt::Failed(cause)) => StepOutcome::Failed { error: cause.error.one_line() },
            Err(Halt::Journal(error)) => StepOutcome::Failed { error: error.to_string() },
            Err(Halt::Interrupted) => StepOutcome::Failed { error: "interrupted".into() },
        };
        self.monitor.emit(Event::StepFinished {
            step: step.id().to_owned(),
            outcome,
            millis: started.elapsed().as_millis() as u64,
        });
        result.map(drop)
    }

    async fn attempt(&self, step: &dyn Step) -> Result<StepOutcome, Halt> {
        let id = step.id().to_owned();
        match self.try_step(step).await {
            Ok(Tried::Done { evidence, ours: true }) => {
                self.append(Fact::StepDone { step: id, evidence: evidence.clone() })?;
                Ok(StepOutcome::Done { evidence })
            }
            // It was so before we came: not ours, and so not ours to undo.
            Ok(Tried::Done { evidence, ours: false }) => {
                self.append(Fact::StepSkipped { step: id, reason: evidence.clone() })?;
                Ok(StepOutcome::AlreadyTrue { evidence })
            }
            Ok(Tried::Skipped { reason }) => {
                self.append(Fact::StepSkipped { step: id, reason: reason.clone() })?;
                Ok(StepOutcome::Skipped { reason })
            }
            Err(TryError::Step(error)) => {
                self.append(Fact::StepFailed { step: id.clone(), error: error.one_line() })?;
                Err(Halt::Failed(Cause { step: id, error }))
            }
            Err(TryError::Journal(error)) => Err(Halt::Journal(error)),
        }
    }

    async fn try_step(&self, step: &dyn Step) -> Result<Tried, TryError> {
        let state = self.log.state();
        let earlier = state.find(step.id()).filter(|state| state.progress == StepProgress::Started);
        match repeat(|| step.check()).await? {
            Check::NotApplicable(reason) => return Ok(Tried::Skipped { reason }),
            Check::AlreadyTrue(evidence) => {
                return Ok(Tried::Done { evidence, ours: earlier.is_some() });
            }
            Check::Needed => {}
        }
        let memory = match earlier {
            Some(state) => state.memory.clone(),
            None => {
                let memory = repeat(|| step.remember()).await?;
                let fact = Fact::StepStarted { step: step.id().to_owned(), memory: memory.clone() };
                self.log.append(fact)?;
                memory
            }
        };
        perform(step, &memory).await?;
        let evidence = repeat(|| step.verify()).await?;
        Ok(Tried::Done { evidence, ours: true })
    }
}

/// What trying a step came to.
enum Tried {
    Done { evidence: String, ours: bool },
    Skipped { reason: String },
}

enum TryError {
    Step(StepError),
    Journal(JournalError),
}

impl From<StepError> for TryError {
    fn from(error: StepError) -> Self {
        TryError::Step(error)
    }
}

impl From<JournalError> for TryError {
    fn from(error: JournalError) -> Self {
        TryError::Journal(error)
    }
}

/// For looks, which change nothing, and undos, which are idempotent: what was lost with the link
/// is simply done again.
async fn repeat<T, F>(deed: impl Fn() -> F) -> Result<T, StepError>
where
    F: Future<Output = Result<T, StepError>>,
{
    let mut tries = 1;
    loop {
        match deed().await {
            Err(error) if error.retry() != Retry::Never && tries < TRIES => pause(tries).await,
            result => return result,
        }
        tries += 1;
    }
}

/// Runs the step; when what happened is not known, looks before it tries again.
async fn perform(step: &dyn Step, memory: &Value) -> Result<(), StepError> {
    let mut tries = 1;
    loop {
        let Err(error) = step.run(memory).await else { return Ok(()) };
        if tries == TRIES {
            return Err(error);
        }
        match error.retry() {
            Retry::Never => return Err(error),
            Retry::Safe => pause(tries).await,
            Retry::Unknown => {
                pause(tries).await;
                if let Check::AlreadyTrue(_) = repeat(|| step.check()).await? {
                    return Ok(());
                }
            }
        }
        tries += 1;
    }
}

async fn pause(tries: u32) {
    tokio::time::sleep(Duration::from_millis(250) * 2u32.pow(tries)).await;
}

#[cfg(test)]
mod tests;
