//! A whole move on machines that fail: operations are refused, or the link is cut before or after
//! them. Whatever happens, the same move begun again as often as needed ends as an undisturbed one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio_util::sync::CancellationToken;

use transhume::config::{Config, Side};
use transhume::event::{Level, Silent};
use transhume::host::Host;
use transhume::host::fake::{Fault, Faulty, Schedule};
use transhume::host::local::Local;
use transhume::host::ssh::{self, NoPrompt};
use transhume::migration::run::{self, Ending, Log, Options as RunOptions, RunError};
use transhume::migration::world::{Machine, World};
use transhume::migration::{facts, recipe};

use crate::harness::sandbox::{Options, Sandbox, Snapshot};

/// How many operations are spoilt in one move.
const FAULTS: usize = 12;
/// A fault ends one run at most.
const RUNS_MAX: usize = FAULTS + 1;

/// The two machines of a sandbox, spoilt by one schedule.
struct Machines {
    source: Arc<dyn Host>,
    target: Arc<dyn Host>,
    /// The operations so far.
    count: Arc<AtomicUsize>,
}

impl Machines {
    async fn connect(config: &Config, schedule: Arc<Schedule>) -> Machines {
        let count = Arc::new(AtomicUsize::new(0));
        let faulty = |host: Arc<dyn Host>| -> Arc<dyn Host> {
            Arc::new(Faulty::by_schedule(host, schedule.clone(), count.clone()))
        };
        let destination = config.target.host.as_ref().unwrap().parse().unwrap();
        let options = ssh::Options {
            identity: config.target.identity.clone(),
            options: config.target.ssh_options.clone(),
            ..ssh::Options::default()
        };
        let target = ssh::connect(&destination, &options, Arc::new(NoPrompt)).await.unwrap();
        Machines { source: faulty(Arc::new(Local::new())), target: faulty(target), count }
    }
}

/// One run, as `transhume migrate --yes` does it. `None` where a look failed, so that nothing began.
async fn migrate(config: &Config, machines: &Machines) -> Option<Result<Ending, RunError>> {
    let machine = |host: &Arc<dyn Host>, side: &Side| {
        Machine::new(host.clone(), side.clone()).with_program(super::PROGRAM.into())
    };
    let source = machine(&machines.source, &config.source);
    let target = machine(&machines.target, &config.target);
    let world = World::new(config.clone(), source, target, Arc::new(Silent), "spoilt".into());
    let log = Arc::new(Log::open(&world.journal_path()).unwrap());
    let gathered = facts::gather(&world).await;
    let refused = gathered.findings.iter().any(|finding| finding.level == Level::Refusal);
    let found = gathered.facts.filter(|_| log.is_unfinished() || !refused)?;
    let plan = recipe::plan(&world, found, log.run(), log.clone());
    let (options, token) = (RunOptions::default(), CancellationToken::new());
    Some(run::run(&plan, &log, &options, &Silent, &token).await)
}

/// Begins the move until it is through; gives the endings on the way.
async fn insist(sandbox: &Sandbox, old: &Snapshot, schedule: Arc<Schedule>) -> Vec<String> {
    let config = Config::load(&sandbox.config_path()).unwrap();
    let machines = Machines::connect(&config, schedule).await;
    let mut endings = Vec::new();
    for _ in 0..RUNS_MAX {
        let ending = migrate(&config, &machines).await;
        let done = machines.count.load(Ordering::SeqCst);
        endings.push(format!("{done}: {ending:?}"));
        match ending {
            // What settles afterwards may be told as a problem, to be done by hand.
            Some(Ok(Ending::Finished { .. })) => return endings,
            Some(Ok(Ending::Unwound { .. })) => {
                sandbox.wait_for_services(&sandbox.old);
                assert_eq!(sandbox.source_changes(old), [""; 0], "{endings:#?}");
            }
            Some(Ok(_)) | None => {}
            Some(Err(error)) => panic!("{error}: {endings:#?}"),
        }
    }
    panic!("it never ends: {endings:#?}");
}

/// The operations that are spoilt: the `first`, then ever further apart, because a fault that comes
/// round at the same place of every run would never let one through.
fn spoilt(first: usize, mut gap: usize) -> BTreeSet<usize> {
    let mut numbers = BTreeSet::new();
    let mut number = first;
    for _ in 0..FAULTS {
        numbers.insert(number);
        number += gap;
        gap += gap / 4;
    }
    numbers
}

async fn moved_all_the_same(fault: Fault, first: usize, gap: usize) {
    let sandbox = Sandbox::start(&Options::small());
    let old = Snapshot::take(&sandbox.old);
    let numbers = spoilt(first, gap);
    let schedule = move |number: usize| numbers.contains(&number).then_some(fault);
    let endings = insist(&sandbox, &old, Arc::new(schedule)).await;
    assert_eq!(sandbox.verify_moved().problems, [""; 0], "{endings:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_that_are_refused_lose_nothing() {
    moved_all_the_same(Fault::Refused, 57, 47).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_cut_before_operations_loses_nothing() {
    moved_all_the_same(Fault::LostBefore, 43, 31).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_cut_after_operations_loses_nothing() {
    moved_all_the_same(Fault::LostAfter, 50, 29).await;
}
