//! Reading every row of one side: in parts, by several sessions, the largest table first. Out
//! comes a [`Tally`] for each table, which does not depend on the order of rows or parts.

use std::collections::VecDeque;
use std::ops::AddAssign;
use std::sync::{Mutex, PoisonError};

use futures_util::future::try_join_all;

use crate::host::{Command, RunAs, run};

use super::super::session::{self, Access, is_on_host};
use super::super::stream::Snapshot;
use super::super::{DatabaseError, Server, Session};
use super::tables::{Relation, Sort};
use super::{JOBS_MAX, Options};

/// One of the two servers, with the moment at which it is read.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    pub server: &'a Server,
    pub snapshot: Option<&'a Snapshot>,
}

/// How many rows there are, and the sum of their hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub rows: i64,
    pub hash: i128,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.rows += other.rows;
        self.hash = self.hash.wrapping_add(other.hash);
    }
}

/// What is asked about a relation of one side.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    pub relation: &'a Relation,
    /// Its rows' hash, where it is wanted.
    pub hash: Option<&'a str>,
}

/// The query for the tally of rows: those after FROM.
pub(super) fn query(hash: Option<&str>, from: &str) -> String {
    let hash = hash.unwrap_or("0::bigint");
    format!("SELECT count(*), coalesce(sum({hash}), 0)::text FROM {from}")
}

/// A tally, or why there is none: what the server said of a row that it cannot hash.
pub(super) type Answer = Result<Tally, String>;

/// A part of a table.
struct Part {
    /// The position of its question.
    question: usize,
    condition: String,
}

/// Parts of a table take about this much of it: many enough that the last ones of all tables end
/// together, and few enough that asking costs nothing.
const PART_BYTES: u64 = 128 << 20;
/// The first version that reads a range of places without reading what is before it.
const MAJOR_BY_PLACE: u32 = 14;

/// The answers to all questions on one side, in their order. `done` is told of each that there is.
pub(super) async fn tallies(
    side: Side<'_>,
    questions: &[Question<'_>],
    options: Options,
    done: &(dyn Fn(usize) + Sync),
) -> Result<Vec<Answer>, DatabaseError> {
    let first = side.session().await?;
    let by_place = first.version().major() >= MAJOR_BY_PLACE;
    let (queue, found) = parts(questions, by_place);
    let jobs = jobs(side.server, options).await?.min(queue.len());
    let queue = Mutex::new(queue);
    let found = Mutex::new(found);
    let work = async |mut session: Session| -> Result<(), DatabaseError> {
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        while let Some(part) = next() {
            let Question { relation, hash } = questions[part.question];
            let from = relation.source() + &part.condition;
            let answer = match tally(&session, &query(hash, &from)).await {
                Ok(tally) => Ok(tally),
                Err(error) => {
                    let cause = too_large(error)?;
                    // The failure has ended the transaction of this one.
                    session = side.session().await?;
                    Err(cause)
                }
            };
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            if found[part.question].add(answer) {
                done(part.question);
            }
        }
        Ok(())
    };
    let more = (1..jobs).map(async |_| work(side.session().await?).await);
    tokio::try_join!(work(first), try_join_all(more))?;
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(found.into_iter().map(|found| found.answer).collect())
}

/// The answer so far, and how many parts it lacks.
struct Found {
    answer: Answer,
    parts_left: usize,
}

impl Found {
    /// Adds the answer of a part; whether it was the last.
    fn add(&mut self, part: Answer) -> bool {
        match (&mut self.answer, part) {
            (Ok(sum), Ok(tally)) => *sum += tally,
            (Ok(_), Err(cause)) => self.answer = Err(cause),
            (Err(_), Ok(_) | Err(_)) => {}
        }
        self.parts_left -= 1;
        self.parts_left == 0
    }
}

/// The parts of all relations, those of the largest first; and the answers, empty.
fn parts(questions: &[Question<'_>], by_place: bool) -> (VecDeque<Part>, Vec<Found>) {
    let mut order: Vec<usize> = (0..questions.len()).collect();
    order.sort_by_key(|&question| std::cmp::Reverse(questions[question].relation.bytes));
    let empty = |_: &Question<'_>| Found { answer: Ok(Tally::default()), parts_left: 0 };
    let mut found: Vec<Found> = questions.iter().map(empty).collect();
    let mut queue = VecDeque::new();
    for question in order {
        let conditions = conditions(questions[question].relation, by_place);
        found[question].parts_left = conditions.len();
        queue.extend(conditions.into_iter().map(|condition| Part { question, condition }));
    }
    (queue, found)
}

/// What the server said, if it was that a value takes more memory at once than it has for one.
pub(super) fn too_large(error: DatabaseError) -> Result<String, DatabaseError> {
    /// program_limit_exceeded, out_of_memory
    const LIMITS: [&str; 2] = ["54000", "53200"];
    match error {
        DatabaseError::Sql { server, source, .. }
            if LIMITS.contains(&source.code.as_str())
                || source.message.contains("invalid memory alloc request size") =>
        {
            Ok(format!("{server} says: {source}"))
        }
        error => Err(error),
    }
}

/// One tally.
pub(super) async fn tally(session: &Session, sql: &str) -> Result<Tally, DatabaseError> {
    let action = "count and hash the rows";
    match session.slow_rows(action, sql).await?.as_slice() {
        [row] => Ok(Tally {
            rows: session.get(action, row, 0)?,
            hash: sum(session, action, &session.get::<String>(action, row, 1)?)?,
        }),
        _ => Err(session.nonsense(action, "not one row")),
    }
}

/// A sum of hashes, which is a `numeric`.
pub(super) fn sum(
    session: &Session,
    action: &'static str,
    text: &str,
) -> Result<i128, DatabaseError> {
    text.parse().map_err(|_| session.nonsense(action, "a sum that is no integer"))
}

/// The conditions that part a table into ranges of places. The last has no end: a table may have
/// grown since.
fn conditions(relation: &Relation, by_place: bool) -> Vec<String> {
    let parts = i64::try_from(relation.bytes.div_ceil(PART_BYTES)).unwrap_or(i64::MAX);
    if !by_place || matches!(relation.sort, Sort::View(_)) || parts < 2 {
        return vec![String::new()];
    }
    let step = relation.blocks / parts + 1;
    (0..)
        .map(|part| part * step)
        .take_while(|start| *start < relation.blocks.max(1))
        .map(|start| {
            let end = start + step;
            if end < relation.blocks {
                format!(" WHERE ctid >= '({start},0)' AND ctid < '({end},0)'")
            } else {
                format!(" WHERE ctid >= '({start},0)'")
            }
        })
        .collect()
}

async fn jobs(server: &Server, options: Options) -> Result<usize, DatabaseError> {
    const JOBS_DEFAULT: usize = 2;
    if options.jobs > 0 {
        return Ok(options.jobs);
    }
    if !is_on_host(&server.address) {
        return Ok(JOBS_DEFAULT);
    }
    let command = Command::new(["getconf", "_NPROCESSORS_ONLN"]).run_as(RunAs::Login);
    let output = run(&*server.host, &command).await?;
    let cores = output.text().trim().parse().unwrap_or(JOBS_DEFAULT);
    Ok(cores.clamp(1, JOBS_MAX))
}

impl Side<'_> {
    /// A session that reads what is in the heap, whatever an index says, and all of it; and that
    /// prints alike on any server.
    pub(super) async fn session(&self) -> Result<Session, DatabaseError> {
        let session = match self.snapshot {
            Some(snapshot) => snapshot.join(self.server).await?,
            None => session::connect(self.server, Access::Read).await?,
        };
        let mut sql = "SET enable_indexscan = off; SET enable_indexonlyscan = off;
            SET enable_bitmapscan = off; SET row_security = off; SET jit = off;
            SET bytea_output = 'hex'; SET IntervalStyle = 'postgres'; SET lc_monetary = 'C';
            SET quote_all_identifiers = off; SET xmloption = 'content'"
            .to_owned();
        if session.version().major() >= MAJOR_BY_PLACE {
            // We part the tables ourselves.
            sql += "; SET max_parallel_workers_per_gather = 0";
        }
        session.execute("prepare to count", &sql).await?;
        Ok(session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(blocks: i64, bytes: u64) -> Relation {
        let (columns, key) = (Vec::new(), Vec::new());
        Relation { name: "t".into(), sort: Sort::Table, columns, key, blocks, bytes }
    }

    #[test]
    fn parts_of_a_table_leave_nothing_out_and_overlap_nowhere() {
        assert_eq!(conditions(&table(10, 80 << 10), true), [""]);
        assert_eq!(conditions(&table(40_000, 320 << 20), false), [""]);
        assert_eq!(
            conditions(&table(40_000, 320 << 20), true),
            [
                " WHERE ctid >= '(0,0)' AND ctid < '(13334,0)'",
                " WHERE ctid >= '(13334,0)' AND ctid < '(26668,0)'",
                " WHERE ctid >= '(26668,0)'",
            ]
        );
        // All of it is TOAST.
        assert_eq!(conditions(&table(1, 1 << 30), true), [" WHERE ctid >= '(0,0)'"]);
    }
}
