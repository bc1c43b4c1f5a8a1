//! The plan of a move. Its shape is always the same; a step that does not apply says so when its
//! turn comes, so that a run that was cut finds its own plan again.

use std::sync::Arc;

use super::facts::Facts;
use super::plan::{Mark, Plan, Stage};
use super::state::Memories;
use super::step::{Segment, Step};
use super::steps::Scene;
use super::steps::config_files::ConfigFiles;
use super::steps::database::{Adopt, Database};
use super::steps::env_file::EnvFile;
use super::steps::fence::{Fence, Quiet};
use super::steps::lock::{Lock, Unlock};
use super::steps::maintenance::Maintenance;
use super::steps::media::{Media, Pass};
use super::steps::proxy::Proxy;
use super::steps::redis::Redis;
use super::steps::services::{DarkProbe, Prove, Start};
use super::steps::settle::{Settle, Task};
use super::world::World;
use crate::config::Config;

/// The plan for moving what `facts` tell of, in the run called `run`, whose steps have noted down
/// `memories` so far.
pub fn plan(world: &World, facts: Arc<Facts>, run: &str, memories: Arc<dyn Memories>) -> Plan {
    let scene = || Scene {
        world: world.clone(),
        facts: facts.clone(),
        run: run.to_owned(),
        memories: memories.clone(),
    };
    let one = |segment, step: Box<dyn Step>| Stage::new(segment, vec![step]);
    use Segment::{Cutover, Prepare, Settle as Settling};
    let stages = vec![
        one(Prepare, Box::new(Lock(world.clone()))),
        one(Prepare, Box::new(ConfigFiles(scene()))),
        one(Prepare, Box::new(Media::new(scene(), Pass::Base))),
        one(Cutover, Box::new(Maintenance(scene()))).marked(Mark::DowntimeStarts),
        one(Cutover, Box::new(Quiet(scene()))),
        one(Cutover, Box::new(Fence(scene()))),
        // Independent of each other: at the same time.
        Stage::new(
            Cutover,
            vec![
                Box::new(Media::new(scene(), Pass::Final)),
                Box::new(Database::new(scene())),
                Box::new(Redis(scene())),
                Box::new(EnvFile(scene())),
            ],
        ),
        one(Cutover, Box::new(DarkProbe(scene()))),
        one(Cutover, Box::new(Adopt(scene()))).marked(Mark::NoReturn),
        one(Cutover, Box::new(Start(scene()))),
        one(Cutover, Box::new(Prove(scene()))),
        one(Cutover, Box::new(Proxy(scene()))).marked(Mark::DowntimeEnds),
        one(Settling, Box::new(Settle::new(scene(), Task::Feeds))),
        one(Settling, Box::new(Settle::new(scene(), Task::Search))),
        one(Settling, Box::new(Media::new(scene(), Pass::Check))),
        one(Settling, Box::new(Unlock(world.clone()))),
    ];
    Plan { stages, job: world.job() }
}

/// What is left for the operator when the move is done, a line each.
pub fn next_steps(config: &Config) -> Vec<String> {
    let addresses: Vec<String> =
        config.target.public_addresses.iter().map(ToString::to_string).collect();
    let addresses = match addresses.is_empty() {
        true => "the new server".to_owned(),
        false => addresses.join(" and "),
    };
    let mut steps = vec![format!(
        "Point A and AAAA of the instance's names at {addresses}; `transhume dns` tells what the \
         world sees."
    )];
    if config.cutover.proxy {
        steps.push(
            "Keep the old server running as a proxy until `transhume dns` says that its addresses \
             are forgotten."
                .into(),
        );
    }
    steps.push("Renew certificates on the new server once DNS points there (certbot).".into());
    steps.push("The old Mastodon stays fenced; keep its data until you trust the new one.".into());
    steps
}
