//! The laws of a run, on a toy world: kill it, fail it, cut it anywhere, and the end is the same.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::event::Silent;
use crate::migration::record::Record;

/// A world of named switches.
type World = Arc<Mutex<Toy>>;

#[derive(Default)]
struct Toy {
    switches: BTreeMap<&'static str, String>,
    /// Which call to spoil, and how.
    fault: Option<(usize, Fault)>,
    calls: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Fail,
    LostBefore,
    LostAfter,
    /// The process dies: nothing more happens in this life.
    Kill,
}

#[derive(Debug, thiserror::Error)]
#[error("injected")]
struct Injected(Retry);

impl Advice for Injected {
    fn retry(&self) -> Retry {
        self.0
    }
}

/// Turns its switch from `before` to `after`.
struct Switch {
    id: &'static str,
    world: World,
}

impl Switch {
    async fn touch(&self, value: Option<String>) -> Result<String, StepError> {
        let fault = {
            let mut toy = self.world.lock().unwrap();
            toy.calls += 1;
            toy.fault.filter(|(call, _)| *call == toy.calls - 1).map(|(_, fault)| fault)
        };
        let set = || {
            let mut toy = self.world.lock().unwrap();
            if let Some(value) = value {
                toy.switches.insert(self.id, value);
            }
            toy.switches.get(self.id).cloned().unwrap_or_default()
        };
        match fault {
            None => Ok(set()),
            Some(Fault::Fail) => Err(Injected(Retry::Never).into()),
            Some(Fault::LostBefore) => Err(Injected(Retry::Unknown).into()),
            Some(Fault::LostAfter) => {
                set();
                Err(Injected(Retry::Unknown).into())
            }
            Some(Fault::Kill) => std::future::pending().await,
        }
    }
}

#[async_trait]
impl Step for Switch {
    fn id(&self) -> &'static str {
        self.id
    }

    fn title(&self) -> String {
        format!("Turn {}", self.id)
    }

    async fn check(&self) -> Result<Check, StepError> {
        let value = self.touch(None).await?;
        Ok(if value == "after" { Check::AlreadyTrue(value) } else { Check::Needed })
    }

    async fn remember(&self) -> Result<Value, StepError> {
        Ok(json!(self.touch(None).await?))
    }

    async fn run(&self, _: &Value) -> Result<(), StepError> {
        self.touch(Some("after".into())).await.map(drop)
    }

    async fn verify(&self) -> Result<String, StepError> {
        self.touch(None).await
    }

    async fn undo(&self, memory: &Value) -> Result<(), StepError> {
        let before = memory.as_str().unwrap_or("no memory").to_owned();
        self.touch(Some(before)).await.map(drop)
    }
}

const STEPS: [&str; 7] = ["lock", "page", "media", "database", "start", "proxy", "feeds"];

struct Bench {
    world: World,
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let world = World::default();
        for step in STEPS {
            world.lock().unwrap().switches.insert(step, format!("before {step}"));
        }
        Bench { world, dir: tempfile::tempdir().unwrap() }
    }

    fn plan(&self) -> Plan {
        let steps = |ids: &[&'static str]| -> Vec<Box<dyn Step>> {
            let one = |id: &&'static str| {
                Box::new(Switch { id, world: self.world.clone() }) as Box<dyn Step>
            };
            ids.iter().map(one).collect()
        };
        Plan {
            job: "old → new".into(),
            stages: vec![
                Stage::new(Segment::Prepare, steps(&["lock"])),
                Stage::new(Segment::Cutover, steps(&["page"])).marked(Mark::DowntimeStarts),
                Stage::new(Segment::Cutover, steps(&["media", "database"])),
                Stage::new(Segment::Cutover, steps(&["start"])).marked(Mark::NoReturn),
                Stage::new(Segment::Cutover, steps(&["proxy"])).marked(Mark::DowntimeEnds),
                Stage::new(Segment::Settle, steps(&["feeds"])),
            ],
        }
    }

    fn journal(&self) -> PathBuf {
        self.dir.path().join("journal.jsonl")
    }

    fn records(&self) -> Vec<Record> {
        crate::journal::read(&self.journal()).unwrap()
    }

    fn spoil(&self, fault: Option<(usize, Fault)>) {
        let mut toy = self.world.lock().unwrap();
        toy.calls = 0;
        toy.fault = fault;
    }

    /// One life of the process. `None` when it was killed.
    async fn live(&self) -> Option<Ending> {
        let plan = self.plan();
        let log = Log::open(&self.journal()).unwrap();
        let (options, token) = (Options::default(), CancellationToken::new());
        let life = run(&plan, &log, &options, &Silent, &token);
        tokio::time::timeout(Duration::from_secs(3600), life).await.ok().map(Result::unwrap)
    }

    fn switches(&self, wanted: &str) -> bool {
        let toy = self.world.lock().unwrap();
        STEPS.iter().all(|step| match wanted {
            "after" => toy.switches[step] == "after",
            _ => toy.switches[step] == format!("before {step}"),
        })
    }
}

#[tokio::test(start_paused = true)]
async fn an_undisturbed_run_does_every_step_and_counts_the_downtime() {
    let bench = Bench::new();
    assert!(matches!(bench.live().await, Some(Ending::Finished { problems: 0 })));
    assert!(bench.switches("after"));
    let state = State::fold(&bench.records()).unwrap();
    assert!(state.ended() && state.past_no_return);
    assert!(state.downtime.unwrap().to.is_some());
}

/// For N = 0, 1, 2, … until a run finishes unharmed: the Nth call fails for good. Before the
/// point of no return the world is as it was; after it, the next run completes the move.
#[tokio::test(start_paused = true)]
async fn a_failure_unwinds_before_the_point_of_no_return_and_resumes_after_it() {
    let mut harmed = 0;
    for call in 0.. {
        let bench = Bench::new();
        bench.spoil(Some((call, Fault::Fail)));
        match bench.live().await.unwrap() {
            Ending::Finished { problems: 0 } => break,
            // What settles is told, and does not stop the rest.
            Ending::Finished { .. } => {
                harmed += 1;
                continue;
            }
            Ending::Unwound { cause } => {
                assert!(cause.is_some());
                assert!(bench.switches("before"), "call {call}");
                assert!(
                    State::fold(&bench.records()).unwrap().downtime.is_none_or(|d| d.to.is_some())
                );
            }
            Ending::Unfinished { .. } => {
                assert!(State::fold(&bench.records()).unwrap().past_no_return)
            }
            other => panic!("call {call}: {other:?}"),
        }
        harmed += 1;
        bench.spoil(None);
        assert!(
            matches!(bench.live().await, Some(Ending::Finished { problems: 0 })),
            "call {call}"
        );
        assert!(bench.switches("after"), "call {call}");
    }
    assert!(harmed > 4 * STEPS.len() - 4, "only {harmed} calls were tried");
}

/// The link is cut once, at the Nth call, before or after the deed: it is observed, and the very
/// run ends as an undisturbed one.
#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_observed() {
    for fault in [Fault::LostBefore, Fault::LostAfter] {
        for call in 0.. {
            let bench = Bench::new();
            bench.spoil(Some((call, fault)));
            let ending = bench.live().await.unwrap();
            let reached = bench.world.lock().unwrap().calls > call;
            let through = matches!(ending, Ending::Finished { problems: 0 });
            assert!(through, "{fault:?} at call {call}: {ending:?}");
            assert!(bench.switches("after"), "{fault:?} at call {call}");
            if !reached {
                break;
            }
        }
    }
}

/// Killed at the Nth call, in the middle of a step or of an undo: the next life ends the move or
/// the unwind, with the memory of the first.
#[tokio::test(start_paused = true)]
async fn killed_anywhere_the_next_run_completes() {
    for call in 0.. {
        let bench = Bench::new();
        bench.spoil(Some((call, Fault::Kill)));
        if bench.live().await.is_some() {
            break;
        }
        bench.spoil(None);
        assert!(
            matches!(bench.live().await, Some(Ending::Finished { problems: 0 })),
            "call {call}"
        );
        assert!(bench.switches("after"), "call {call}");
    }
}

/// The process dies between any two records: resume from every prefix of the journal, each with
/// the world as it was when that prefix was written, or with one more deed done.
#[tokio::test(start_paused = true)]
async fn every_prefix_of_the_journal_resumes_to_the_same_end() {
    let whole = Bench::new();
    whole.live().await;
    let lines = std::fs::read_to_string(whole.journal()).unwrap();
    let lines: Vec<&str> = lines.split_inclusive('\n').collect();
    for kept in 0..lines.len() {
        for deed_done in [false, true] {
            let bench = Bench::new();
            std::fs::write(bench.journal(), lines[..kept].concat()).unwrap();
            for state in State::fold(&bench.records()).into_iter().flat_map(|state| state.steps) {
                if deed_done || matches!(state.progress, StepProgress::Done { .. }) {
                    let id = STEPS.iter().find(|id| **id == state.step).unwrap();
                    bench.world.lock().unwrap().switches.insert(id, "after".into());
                }
            }
            assert!(
                matches!(bench.live().await, Some(Ending::Finished { problems: 0 })),
                "prefix of {kept}"
            );
            assert!(bench.switches("after"), "prefix of {kept}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_undo_that_fails_is_told_and_the_others_still_happen() {
    let bench = Bench::new();
    // The page's verify fails; the first undo after it is the page's.
    bench.spoil(Some((7, Fault::Fail)));
    let plan = bench.plan();
    let log = Log::open(&bench.journal()).unwrap();
    let token = CancellationToken::new();
    let ending = run(&plan, &log, &Options::default(), &Silent, &token).await.unwrap();
    assert!(matches!(ending, Ending::Unwound { .. }));
    drop(log);

    let bench = Bench::new();
    let options = Options { until: Some("page".into()) };
    let log = Log::open(&bench.journal()).unwrap();
    let ending = run(&bench.plan(), &log, &options, &Silent, &token).await.unwrap();
    assert!(matches!(ending, Ending::Stopped { .. }));
    bench.spoil(Some((0, Fault::Fail)));
    let ending = rollback(&bench.plan(), &log, &Silent, &token).await.unwrap();
    let Ending::UndoFailed { failed, .. } = ending else { panic!("{ending:?}") };
    assert_eq!(failed, ["page"]);
    assert_eq!(bench.world.lock().unwrap().switches["lock"], "before lock");
    let ending = rollback(&bench.plan(), &log, &Silent, &token).await.unwrap();
    assert!(matches!(ending, Ending::Unwound { .. }));
    assert!(bench.switches("before"));
}

#[tokio::test(start_paused = true)]
async fn until_stops_early_and_the_same_command_goes_on() {
    let bench = Bench::new();
    let token = CancellationToken::new();
    {
        let log = Log::open(&bench.journal()).unwrap();
        let options = Options { until: Some("media".into()) };
        let ending = run(&bench.plan(), &log, &options, &Silent, &token).await.unwrap();
        assert!(matches!(ending, Ending::Stopped { after } if after == "media"));
    }
    assert!(matches!(bench.live().await, Some(Ending::Finished { problems: 0 })));
}

#[tokio::test(start_paused = true)]
async fn an_interrupt_in_the_cutover_puts_the_old_server_back() {
    let bench = Bench::new();
    let token = CancellationToken::new();
    let log = Log::open(&bench.journal()).unwrap();
    // The media step hangs; the operator presses Ctrl-C.
    bench.spoil(Some((8, Fault::Kill)));
    let plan = bench.plan();
    let options = Options::default();
    let pressed = async {
        while bench.world.lock().unwrap().calls < 9 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        token.cancel();
    };
    let (ending, ()) = tokio::join!(run(&plan, &log, &options, &Silent, &token), pressed);
    assert!(matches!(ending.unwrap(), Ending::Unwound { cause: None }));
    assert!(bench.switches("before"));
}

#[tokio::test(start_paused = true)]
async fn another_jobs_journal_is_refused_and_so_is_another_plan() {
    let bench = Bench::new();
    let token = CancellationToken::new();
    let log = Log::open(&bench.journal()).unwrap();
    let options = Options { until: Some("lock".into()) };
    run(&bench.plan(), &log, &options, &Silent, &token).await.unwrap();
    let other = Plan { job: "old → elsewhere".into(), ..bench.plan() };
    let error = run(&other, &log, &options, &Silent, &token).await.unwrap_err();
    assert!(matches!(error, RunError::OtherJob { .. }), "{error}");
    let mut shorter = bench.plan();
    shorter.stages.pop();
    let error = run(&shorter, &log, &options, &Silent, &token).await.unwrap_err();
    assert!(matches!(error, RunError::PlanChanged { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn past_the_point_of_no_return_there_is_no_rollback() {
    let bench = Bench::new();
    let token = CancellationToken::new();
    let log = Log::open(&bench.journal()).unwrap();
    let options = Options { until: Some("start".into()) };
    run(&bench.plan(), &log, &options, &Silent, &token).await.unwrap();
    let error = rollback(&bench.plan(), &log, &Silent, &token).await.unwrap_err();
    assert!(matches!(error, RunError::PastNoReturn { .. }), "{error}");
    assert_eq!(bench.world.lock().unwrap().switches["start"], "after");
}
