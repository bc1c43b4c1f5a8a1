//! The rows of every table and materialized view: how many there are, and a sum of their hashes,
//! from one reading of each heap, both sides at the same time.
//!
//! Both servers compute the same expression, made from the source's catalog. A sum does not depend
//! on where a row lies or in which order rows come, and counts rows that are there twice.

use std::sync::{Mutex, PoisonError};

use crate::event::{Event, Monitor, Progress};

use super::super::{DatabaseError, Server, Session};
use super::expression::{Way, row_hash, text_hash};
use super::narrow;
use super::scan::{self, Question, Side, Tally, tallies};
use super::tables::{Relation, relations};
use super::{Comparison, Depth, Difference, Keys, Options};
use crate::database::stream::Snapshot;

/// Tables in which the differing rows are looked for, each at the price of reading it twice more.
const NARROWED_MAX: usize = 10;

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
    let pairs = pairs(relations(&sessions.0).await?, relations(&sessions.1).await?);
    let way = match options.way {
        Some(way) => way,
        None => way(&sessions.0, &sessions.1).await?,
    };
    let (there, here): (Vec<Relation>, Vec<Relation>) = pairs.into_iter().unzip();
    let questions: Vec<Question> = there
        .iter()
        .zip(&here)
        .map(|(there, here)| {
            // A table with other columns is told of by the catalogs; its rows are counted.
            let is_hashed = options.depth == Depth::Content
                && there.view.is_none()
                && there.columns == here.columns;
            Question {
                name: there.name.clone(),
                hash: is_hashed.then(|| row_hash(&there.columns, way)),
                is_view: there.view.is_some(),
            }
        })
        .collect();
    let state = Mutex::new((vec![0; questions.len()], 0));
    let done = Done { state, questions: &questions, monitor };
    let done = |question: usize| done.side(question);
    let (mut counted, found) = tokio::try_join!(
        tallies(source, &questions, &there, options, &done),
        tallies(target, &questions, &here, options, &done),
    )?;
    count_views_anew(&sessions.0, &there, &mut counted, &found).await?;
    let mut narrowed = 0;
    for (index, question) in questions.iter().enumerate() {
        let (source, target) = (counted[index], found[index]);
        if !question.is_view {
            comparison.tables += 1;
            comparison.tables_hashed += u64::from(question.hash.is_some());
            comparison.rows += source.rows.unsigned_abs();
        }
        if source == target {
            continue;
        }
        let mut keys = Keys::default();
        if let Some(hash) = question.hash.as_deref().filter(|_| narrowed < NARROWED_MAX) {
            narrowed += 1;
            keys = narrow::keys(&sessions.0, &sessions.1, &there[index], hash, way).await?;
        }
        comparison.differences.push(difference(question.name.clone(), source, target, keys));
    }
    Ok(())
}

fn difference(table: String, source: Tally, target: Tally, keys: Keys) -> Difference {
    if source.rows == target.rows {
        Difference::Content { table, keys }
    } else {
        Difference::Rows { table, source: source.rows, target: target.rows, keys }
    }
}

/// The relations that both sides have, by name.
fn pairs(source: Vec<Relation>, target: Vec<Relation>) -> Vec<(Relation, Relation)> {
    let mut here: std::collections::BTreeMap<String, Relation> =
        target.into_iter().map(|relation| (relation.name.clone(), relation)).collect();
    let there = source.into_iter();
    let mut pairs: Vec<_> =
        there.filter_map(|there| Some((here.remove(&there.name)?, there))).collect();
    pairs.sort_by(|one, other| one.0.name.cmp(&other.0.name));
    pairs.into_iter().map(|(here, there)| (there, here)).collect()
}

/// The restore refreshed the materialized views; those of the source may be older than the rows
/// that they are made from.
async fn count_views_anew(
    source: &Session,
    relations: &[Relation],
    counted: &mut [Tally],
    found: &[Tally],
) -> Result<(), DatabaseError> {
    for (index, relation) in relations.iter().enumerate() {
        if let Some(query) = relation.view.as_deref().filter(|_| counted[index] != found[index]) {
            let query = query.trim_end().trim_end_matches(';');
            let sql = format!("SELECT count(*), '0' FROM ({query}) AS v");
            counted[index] = scan::tally(source, &sql).await?;
        }
    }
    Ok(())
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
    questions: &'a [Question],
    monitor: &'a dyn Monitor,
}

impl Done<'_> {
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
            detail: Some(self.questions[question].name.clone()),
            items_total: Some(self.questions.len() as u64),
            ..Progress::default()
        }));
    }
}
