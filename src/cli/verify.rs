//! `transhume verify`: compare both servers, change nothing.

use crate::config::DatabaseVerify;
use crate::database::compare::{self, compare};
use crate::database::target::Destination;
use crate::event::{Event, Monitor};
use crate::instance::redis::{self, Link};
use crate::migration::facts::{self, Facts};
use crate::migration::steps::database::comparing;
use crate::migration::steps::media::{Class, Pass, pass};
use crate::migration::world::World;
use crate::units::{count, counted};

use super::display::Display;
use super::{Common, Exit, Failure, check, setup};

/// Compare database, Redis and media of both servers, and change nothing.
///
/// Both must be at rest: what is written meanwhile is told as a difference. Rows that differ are
/// named by their primary keys; what is in them is told to nobody.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  transhume verify              after a move, before anybody posts on the new server
  transhume -q verify           tell differences only
  transhume verify --amcheck    check the indexes of the new server's database too")]
pub(super) struct Arguments {
    /// What to compare of the database's rows [default: `database.verify` of the configuration]
    #[arg(long, value_enum)]
    depth: Option<DatabaseVerify>,
    /// Check every btree index of the new server's database against its table, with PostgreSQL's
    /// amcheck; needs a superuser there and leaves nothing behind
    #[arg(long)]
    amcheck: bool,
}

pub(super) async fn run(arguments: Arguments, common: &Common) -> Result<Exit, Failure> {
    let config = setup::config(common.config.as_deref())?;
    let display = Display::new(common, None)?;
    let world = setup::world_to_look(config, display.monitor()).await?;
    let gathered = facts::gather(&world).await;
    let Some(facts) = gathered.facts else {
        check::tell_refusals(&*world.monitor, gathered.findings);
        display.flush();
        return Ok(Exit::Refused);
    };
    let mut told = Vec::new();
    let mut differences = database(&world, &facts, &arguments, &mut told).await?;
    differences += redis(&world, &facts, &mut told).await?;
    differences += media(&world, &facts, &mut told).await?;
    told.push(match differences {
        0 => "No difference: both servers hold the same.".to_owned(),
        _ => format!("{}; the problems above name them.", counted(differences, "difference")),
    });
    for text in told {
        world.monitor.emit(Event::Note { text });
    }
    display.flush();
    Ok(if differences == 0 { Exit::Done } else { Exit::Problems })
}

async fn database(
    world: &World,
    facts: &Facts,
    arguments: &Arguments,
    told: &mut Vec<String>,
) -> Result<u64, Failure> {
    let target = &facts.destination.server;
    let mut config = world.config.database.clone();
    config.verify = arguments.depth.unwrap_or(config.verify);
    let options = comparing(&config);
    let compared = compare(&facts.database, target, None, options, &*world.monitor).await;
    let compared = compared.map_err(|error| Failure::new(Exit::Failed, error))?;
    for difference in &compared.differences {
        problem(world, "database", difference.to_string());
    }
    for warning in &compared.warnings {
        let (text, remedy) = (warning.text.clone(), Some(warning.remedy.into()));
        world.monitor.emit(Event::Problem { subject: "database".into(), text, remedy });
    }
    told.push(format!("Database: compared {compared}"));
    let mut differences = compared.differences.len() as u64;
    if arguments.amcheck {
        differences += amcheck(&facts.destination, &*world.monitor).await?;
    }
    Ok(differences)
}

/// Checks the indexes of the target; how many are not right.
pub(super) async fn amcheck(
    destination: &Destination,
    monitor: &dyn Monitor,
) -> Result<u64, Failure> {
    let login = destination.admin.as_ref().unwrap_or(&destination.server);
    let login = login.with_database(&destination.server.database);
    let checked = compare::amcheck(&login, monitor).await;
    let checked = checked.map_err(|error| Failure::new(Exit::Failed, error))?;
    for text in &checked.problems {
        let remedy = Some("REINDEX it there".into());
        let (subject, text) = ("database".into(), text.clone());
        monitor.emit(Event::Problem { subject, text, remedy });
    }
    let (indexes, wrong) = (count(checked.indexes), checked.problems.len());
    let text = format!("amcheck: {indexes} btree indexes looked at, {wrong} wrong");
    monitor.emit(Event::Note { text });
    Ok(checked.problems.len() as u64)
}

async fn redis(world: &World, facts: &Facts, told: &mut Vec<String>) -> Result<u64, Failure> {
    let fail = |error| Failure::new(Exit::Failed, error);
    let mut differences = 0;
    for pair in &facts.redis {
        let source = Link::connect(world.source.host(), &pair.source, None).await.map_err(fail)?;
        let target = Link::connect(world.target.host(), &pair.target, None).await.map_err(fail)?;
        let namespace = pair.source.namespace.as_deref();
        let found = redis::verify(&source, &target, namespace).await.map_err(fail)?;
        found.told.into_iter().for_each(|text| problem(world, "redis", text));
        told.push(format!("Redis: {} the same", counted(found.keys, "key")));
        differences += found.differences;
    }
    Ok(differences)
}

async fn media(world: &World, facts: &Facts, told: &mut Vec<String>) -> Result<u64, Failure> {
    let passed = pass(world, facts.media.as_ref(), Pass::Check, Class::All, &*world.monitor).await;
    let outcome = passed.map_err(|error| {
        Failure::of_step(Exit::Failed, "the media cannot be compared".into(), error)
    })?;
    let Some(outcome) = outcome else { return Ok(0) };
    let missing = outcome.stats.differing();
    if missing > 0 {
        problem(world, "media", format!("{} missing or different", counted(missing, "file")));
    }
    told.push(format!("Media: {} looked at", counted(outcome.stats.source_files, "file")));
    Ok(missing + outcome.problems_total)
}

fn problem(world: &World, subject: &str, text: String) {
    world.monitor.emit(Event::Problem { subject: subject.into(), text, remedy: None });
}
