//! The rows of every table and materialized view, and the large objects: how many there are, and a
//! sum of their hashes, from one reading of each heap, both sides at the same time.
//!
//! Both servers compute the same expression, made from the source's catalog. A sum does not depend
//! on where a row lies or in which order rows come, and counts rows that are there twice.

use std::sync::{Mutex, PoisonError};

use crate::event::{Event, Monitor, Progress};

use super::super::{DatabaseError, Server, Session};
use super::difference::Holder;
use super::expression::{Way, object_hash, row_hash, row_hash_apart, text_hash};
use super::narrow;
use super::scan::{Question, Side, Tally, tallies};
use super::tables::{Relation, Sort, relations};
use super::views::{Verdict, View};
use super::{Comparison, Depth, Difference, Keys, Options};
use crate::database::stream::Snapshot;

/// Tables in which the differing rows are looked for, each at the price of reading it twice more.
const NARROWED_MAX: usize = 10;

/// A relation that both sides have, and what was found in it.
struct Pair {
    there: Relation,
    here: Relation,
    /// Its rows' hash, where it is wanted.
    hash: Option<String>,
    source: Tally,
    target: Tally,
    /// Why its rows were not hashed, though they should have been.
    unread: Option<String>,
}

/// Counts and hashes the rows of all relations that both sides have.
pub(super) async fn compare(
    source: &Server,
    target: &Server,
    snapshot: Option<&Snapshot>,
    options: Options,
    monitor: &dyn Monitor,
    comparison: &mut Comparison,
) -> Result<(), DatabaseError> {
    let source = Side { server: source, snapshot };
    let target = Side { server: target, snapshot: None };
    let sessions = tokio::try_join!(source.session(), target.session())?;
    let (there, here) = (relations(&sessions.0).await?, relations(&sessions.1).await?);
    let way = match options.way {
        Some(way) => way,
        None => way(&sessions.0, &sessions.1).await?,
    };
    let mut pairs = pairs(there, here, (options.depth == Depth::Content).then_some(way));
    let mut asked: Vec<&mut Pair> = pairs.iter_mut().collect();
    // A row may be too large for one value of the server: then each column by itself, and where
    // even that is too large, the rows are counted.
    for closer in [Closer::AtOnce, Closer::Apart, Closer::Counted] {
        asked.iter_mut().for_each(|pair| closer.prepare(pair, way));
        asked = ask(source, target, asked, options, monitor).await?;
    }
    if let Some(pair) = asked.first() {
        let cause = pair.unread.clone().unwrap_or_default();
        return Err(sessions.0.nonsense("count the rows", &cause));
    }
    let mut narrowed = 0;
    for pair in pairs {
        add(&pair, comparison);
        if let Some(cause) = pair.unread.filter(|_| pair.source.rows == pair.target.rows) {
            let of = pair.there.holder();
            comparison.differences.push(Difference::Unread { of, cause });
            continue;
        }
        if pair.source == pair.target {
            continue;
        }
        if let Sort::View(query) = &pair.there.sort {
            let view = View { relation: &pair.there, query, hash: pair.hash.as_deref() };
            match view.judge(&sessions.0, &sessions.1, pair.source, pair.target).await? {
                Verdict::Equal => {}
                Verdict::Unsteady(warning) => comparison.warnings.push(warning),
                Verdict::Different(difference) => comparison.differences.push(difference),
            }
            continue;
        }
        let mut keys = Keys::default();
        if let Some(hash) = pair.hash.as_deref().filter(|_| narrowed < NARROWED_MAX) {
            narrowed += 1;
            keys = narrow::keys(&sessions.0, &sessions.1, &pair.there, hash, way).await?;
        }
        let found = difference(pair.there.holder(), pair.source, pair.target, keys);
        comparison.differences.push(found);
    }
    Ok(())
}

impl Pair {
    /// What is asked about it on either side.
    fn questions(&self) -> (Question<'_>, Question<'_>) {
        let hash = self.hash.as_deref();
        (Question { relation: &self.there, hash }, Question { relation: &self.here, hash })
    }
}

/// Adds what the source has to the numbers.
fn add(pair: &Pair, comparison: &mut Comparison) {
    let rows = pair.source.rows.unsigned_abs();
    match pair.there.sort {
        Sort::Table => {
            comparison.tables += 1;
            comparison.tables_hashed += u64::from(pair.hash.is_some());
            comparison.rows += rows;
        }
        Sort::View(_) => {}
        Sort::LargeObjects => comparison.large_objects += rows,
    }
}

/// How rows are asked about.
#[derive(Clone, Copy)]
enum Closer {
    AtOnce,
    Apart,
    Counted,
}

impl Closer {
    /// What is asked about those that could not be answered before.
    fn prepare(self, pair: &mut Pair, way: Way) {
        match (self, &pair.there.sort) {
            (Closer::AtOnce, _) | (Closer::Apart, Sort::LargeObjects) => {}
            (Closer::Apart, Sort::Table | Sort::View(_)) => {
                pair.hash = Some(row_hash_apart(&pair.there.columns, way));
            }
            (Closer::Counted, _) => pair.hash = None,
        }
    }
}

/// Asks both sides at the same time; gives those back that one of them could not answer.
async fn ask<'a>(
    source: Side<'_>,
    target: Side<'_>,
    pairs: Vec<&'a mut Pair>,
    options: Options,
    monitor: &dyn Monitor,
) -> Result<Vec<&'a mut Pair>, DatabaseError> {
    if pairs.is_empty() {
        return Ok(pairs);
    }
    let (there, here) = {
        let questions = pairs.iter().map(|pair| pair.questions());
        let (there, here): (Vec<Question<'_>>, Vec<Question<'_>>) = questions.unzip();
        let done = Done::new(&there, monitor);
        let done = |question: usize| done.side(question);
        tokio::try_join!(
            tallies(source, &there, options, &done),
            tallies(target, &here, options, &done)
        )?
    };
    let mut unanswered = Vec::new();
    for (pair, answers) in pairs.into_iter().zip(there.into_iter().zip(here)) {
        match answers {
            (Ok(source), Ok(target)) => {
                (pair.source, pair.target) = (source, target);
                if pair.hash.is_some() {
                    pair.unread = None;
                }
            }
            (Err(cause), _) | (_, Err(cause)) => {
                pair.unread = Some(cause);
                unanswered.push(pair);
            }
        }
    }
    Ok(unanswered)
}

pub(super) fn difference(of: Holder, source: Tally, target: Tally, keys: Keys) -> Difference {
    if source.rows == target.rows {
        Difference::Content { of, keys }
    } else {
        Difference::Rows { of, source: source.rows, target: target.rows, keys }
    }
}

/// The relations that both sides have, by name, to be hashed by `way` where there is one.
fn pairs(source: Vec<Relation>, target: Vec<Relation>, way: Option<Way>) -> Vec<Pair> {
    let mut here: std::collections::BTreeMap<String, Relation> =
        target.into_iter().map(|relation| (relation.name.clone(), relation)).collect();
    let there = source.into_iter();
    let mut pairs: Vec<Pair> = there
        .filter_map(|there| {
            let here = here.remove(&there.name)?;
            // A table with other columns is told of by the catalogs; its rows are counted.
            let way = way.filter(|_| there.columns == here.columns);
            let hash = way.map(|way| match there.sort {
                Sort::Table | Sort::View(_) => row_hash(&there.columns, way),
                Sort::LargeObjects => object_hash(way),
            });
            let (source, target) = (Tally::default(), Tally::default());
            Some(Pair { there, here, hash, source, target, unread: None })
        })
        .collect();
    pairs.sort_by(|one, other| one.there.name.cmp(&other.there.name));
    pairs
}

/// The cheapest way in which both servers make the same of the same bytes. They are asked: it
/// depends on their versions and on the processors that they run on.
async fn way(source: &Session, target: &Session) -> Result<Way, DatabaseError> {
    let major = source.version().major().min(target.version().major());
    if major < 11 {
        return Ok(Way::Digest);
    }
    let action = "try the hash functions";
    let sql = format!(
        "SELECT string_agg(concat_ws(' ', {}, hashint4extended(x, 0), hashoidextended(x::oid, 0)), ',')
         FROM generate_series(0, 40) x",
        text_hash("repeat(chr(x + 40), x)", Way::Sent)
    );
    let (there, here) = tokio::try_join!(
        source.value::<String>(action, &sql, &[]),
        target.value::<String>(action, &sql, &[])
    )?;
    Ok(match there == here {
        false => Way::Digest,
        true if major < 14 => Way::Sent,
        true => Way::Record,
    })
}

/// Tells of each relation once both sides have read it.
struct Done<'a> {
    /// How many sides have read each relation, and how many were read by both.
    state: Mutex<(Vec<u8>, u64)>,
    questions: &'a [Question<'a>],
    monitor: &'a dyn Monitor,
}

impl<'a> Done<'a> {
    fn new(questions: &'a [Question<'a>], monitor: &'a dyn Monitor) -> Self {
        Done { state: Mutex::new((vec![0; questions.len()], 0)), questions, monitor }
    }

    fn side(&self, question: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0[question] += 1;
        if state.0[question] < 2 {
            return;
        }
        state.1 += 1;
        self.monitor.emit(Event::Progress(Progress {
            activity: "compare".into(),
            items_done: state.1,
            detail: Some(self.questions[question].relation.name.clone()),
            items_total: Some(self.questions.len() as u64),
            ..Progress::default()
        }));
    }
}
