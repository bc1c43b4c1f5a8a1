//! The coordinator of a pass: opens both sides, walks both scans in step, has each difference
//! carried out, and removes at the end what is too much.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::batch::Hands;
use super::board::Board;
use super::compare::Rules;
use super::deletions::Deletions;
use super::endpoint::Endpoint;
use super::error::MediaError;
use super::filter::Filter;
use super::hard_links::HardLinks;
use super::listed::Coverage;
use super::options::{Options, Outcome};
use super::pass::Pass;
use super::session::{Link, Session, Terms};
use super::trail::Trail;
use super::transfer;
use super::walks::Walks;
use crate::error::{Advice, Retry};
use crate::event::Monitor;
use crate::wire::message::Side;
use crate::wire::path::RelPath;
use crate::wire::tree::{MetaRule, OwnerRule, RunId};

/// Makes `target` hold what `source` holds, as far as `options` say. Returns when everything is
/// durable on the target. A file that could not be copied is a problem in the outcome, not an
/// error; an error says that the pass stopped, and the same call goes on where it stopped.
pub async fn sync(
    source: &Endpoint,
    target: &Endpoint,
    options: &Options,
    monitor: &dyn Monitor,
) -> Result<Outcome, MediaError> {
    let started = Instant::now();
    let filter = Filter::new(&options.exclude)?;
    let run = RunId(RandomState::new().build_hasher().finish());
    let Options { manner, gentle, .. } = *options;
    let (side, create, expectant) = (Side::Source, false, false);
    let terms = Terms { side, create, run, gentle, expectant, manner };
    let from = source.open(terms, monitor).await?;
    if !from.facts().exists {
        let host = from.link().host.clone();
        return Err(MediaError::NoSource { host, path: source.root_text() });
    }
    // Before anything is made on the target.
    refuse_overlap(source, target, &*from)?;
    // A pass that does not look at every file is one of many, and has little to do.
    let expectant = !options.dry_run && !options.hinted && options.quiet.is_none();
    let (side, create, gentle) = (Side::Target, !options.dry_run, false);
    let terms = Terms { side, create, run, gentle, expectant, manner };
    let to = target.open(terms, monitor).await?;
    let owner = target.owner_rule(&options.owner, to.facts().privileged).await?;
    let links = (from.link().clone(), to.link().clone());
    let board = Board::new(monitor, options.on_change.clone(), options.bwlimit);
    let filtered = !filter.is_empty() || options.hinted;
    let mirrored = mirror(from, to, owner, options, filtered, &board).await;
    // Also after an error nothing must go on behind the caller's back.
    tokio::join!(links.0.settle(), links.1.settle());
    if let Err(error) = mirrored {
        return Err(explain(error, &links));
    }
    board.progress(&RelPath::root(), true);
    board.count(|stats| {
        for link in [&links.0, &links.1] {
            stats.sent_bytes += link.sent_bytes.load(Ordering::Relaxed);
            stats.received_bytes += link.received_bytes.load(Ordering::Relaxed);
        }
        stats.elapsed = started.elapsed();
    });
    Ok(board.finish())
}

/// What an error of the pass means, now that both sides have told all they know.
fn explain(error: MediaError, links: &(Arc<Link>, Arc<Link>)) -> MediaError {
    match error {
        // A lost connection is often noticed before its reason is known.
        MediaError::Lost { host } => {
            let mut lost = [&links.0, &links.1].into_iter().filter(|link| link.host == host);
            lost.find_map(|link| link.take_failure()).unwrap_or(MediaError::Lost { host })
        }
        // Nothing came of the last request, but much of those before it.
        MediaError::Host { host, source } if source.retry() == Retry::Safe => {
            MediaError::BrokenOff { host, source }
        }
        other => other,
    }
}

/// The pass itself. When it returns, all channels are dropped.
async fn mirror(
    from: Box<dyn Session>,
    to: Box<dyn Session>,
    owner: OwnerRule,
    options: &Options,
    filtered: bool,
    board: &Board<'_>,
) -> Result<(), MediaError> {
    let (source, target) = (from.ability(), to.ability());
    if options.hard_links && !source.tells_links {
        return Err(MediaError::NoLinks { host: from.link().host.clone() });
    }
    let rule = MetaRule { whole_secs: source.whole_secs || target.whole_secs, owner };
    let walks = Walks::new(&*from, &*to, options, rule);
    let links = (from.link().clone(), to.link().clone());
    let pass = Pass {
        options,
        board,
        rules: Rules {
            link_times: !rule.whole_secs,
            // Between two places of one machine reading both costs more than copying one.
            delta: source.delta && target.delta && (source.remote || target.remote),
            late_dirs: target.late_dirs,
            delete: options.delete,
            in_place: options.manner.in_place,
            keeps_parts: source.parts && target.keeps_parts,
        },
        filtered,
        coverage: options.listed.clone().map(Coverage::new),
        links: links.clone(),
        protected: None,
        deletions: Deletions::default(),
        conflicts: Vec::new(),
        walks: 0,
        trail: Trail::default(),
        locked: Vec::new(),
        hard_links: HardLinks::default(),
        new_firsts: (!target.tells_links).then(HashSet::new),
        settles: target.settles,
    };
    if options.dry_run {
        return pass.tell(walks).await;
    }
    let calls = to.calls().await?;
    // One that is written in place has one writer.
    let cuts = !options.manner.in_place && transfer::cuts(&*from, &*to);
    let (sender, queue) = transfer::queue(cuts);
    let links = &links;
    let drive = async {
        // Dropped with the end of the pass, so that both sides come to theirs.
        let (sender, calls) = (sender, calls);
        pass.run(walks, Hands { board, calls: &calls, queue: &sender, links }).await
    };
    let lanes = transfer::run(&*from, &*to, rule, &queue, board);
    tokio::try_join!(drive, lanes).map(drop)
}

/// Two trees of this machine must not lie in each other: the one would grow into the other, or
/// deletions would eat the source.
fn refuse_overlap(
    source: &Endpoint,
    target: &Endpoint,
    opened: &dyn Session,
) -> Result<(), MediaError> {
    if !source.is_local() || !target.is_local() {
        return Ok(());
    }
    let Some(target_path) = target.canonical() else { return Ok(()) };
    let source_path = super::root::native(&opened.facts().path.0);
    if source_path.starts_with(&target_path) || target_path.starts_with(source_path) {
        return Err(MediaError::Overlap {
            source_path: source_path.display().to_string(),
            target_path: target_path.display().to_string(),
        });
    }
    Ok(())
}
