//! What is copied and built when. Pure: no I/O, no clock.
//!
//! In flow the sizes of tables and their indexes; out flow [`Part`]s to copy, largest first, and
//! [`Task`]s for the target as soon as all parts of a table are in. A table that would keep one
//! worker busy when all others have nothing left is cut by ranges of pages.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// With `n` workers no part is larger than this share of what a worker copies: at the end none of
/// them works alone for longer than an eighth of the time.
const PARTS_FOR_EACH_WORKER: u64 = 8;

/// A table as the schedule sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// With TOAST, without indexes.
    pub bytes: u64,
    /// Of the table itself.
    pub pages: u32,
    /// Whether it can be read by ranges of pages.
    pub is_divisible: bool,
    /// The bytes of each index that is ours to build.
    pub indexes: Vec<u64>,
}

/// Pages `start..end` of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pages {
    pub start: u32,
    /// `None`: to its end, wherever that is.
    pub end: Option<u32>,
}

/// What one worker copies at one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The table's place in the list.
    pub table: usize,
    /// `None`: all of it.
    pub pages: Option<Pages>,
    pub bytes: u64,
}

/// What is to be done on the target with a table that is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Task {
    /// It came in parts, so its rows are not marked as old and seen by all yet: index builds and
    /// foreign keys are faster when that is done once, before them.
    Vacuum { table: usize },
    /// Build an index: its place in the table's list.
    Index { table: usize, index: usize },
    /// All its indexes are built: constraints and statistics.
    Finish { table: usize },
}

/// What a worker is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Do(Task),
    /// Nothing at the moment: ask again when something was done.
    Wait,
    /// Nothing any more.
    Done,
}

/// The state of the copy.
#[derive(Debug)]
pub struct Schedule {
    /// Smallest first: taken from the end.
    parts: Vec<Part>,
    tables: Vec<Table>,
    tasks: BinaryHeap<Ranked>,
    unfinished: usize,
}

#[derive(Debug)]
struct Table {
    bytes: u64,
    indexes: Vec<u64>,
    is_cut: bool,
    parts_left: usize,
    indexes_left: usize,
}

/// A task that waits: the largest goes first, among equals in the order of the list.
#[derive(Debug, PartialEq, Eq)]
struct Ranked {
    bytes: u64,
    task: Task,
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bytes.cmp(&other.bytes).then_with(|| other.task.cmp(&self.task))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Schedule {
    /// The schedule for `tables` and `workers`. Tables up to `part_bytes_min` are never cut.
    pub fn new(tables: &[Size], workers: usize, part_bytes_min: u64) -> Schedule {
        let total: u64 = tables.iter().map(|table| table.bytes).sum();
        let workers = workers.max(1) as u64;
        let part_bytes_max = (total / (workers * PARTS_FOR_EACH_WORKER)).max(part_bytes_min).max(1);
        // One worker is never alone.
        let cuts = workers > 1;
        let mut parts = Vec::new();
        let tables: Vec<Table> = tables
            .iter()
            .enumerate()
            .map(|(table, size)| {
                let before = parts.len();
                if cuts && size.is_divisible {
                    parts.extend(cut(table, size, part_bytes_max));
                } else {
                    parts.push(Part { table, pages: None, bytes: size.bytes });
                }
                let parts_left = parts.len() - before;
                Table {
                    bytes: size.bytes,
                    indexes: size.indexes.clone(),
                    is_cut: parts_left > 1,
                    parts_left,
                    indexes_left: size.indexes.len(),
                }
            })
            .collect();
        // The largest table first, because its indexes have to wait for all of it; of one table,
        // its pages in order.
        parts.sort_by_key(|part| {
            let start = part.pages.map_or(0, |pages| pages.start);
            (tables[part.table].bytes, std::cmp::Reverse((part.table, start)))
        });
        let unfinished = tables.len();
        Schedule { parts, tables, tasks: BinaryHeap::new(), unfinished }
    }

    /// Takes the next part to copy.
    pub fn next_part(&mut self) -> Option<Part> {
        self.parts.pop()
    }

    /// All of a part is in.
    pub fn part_done(&mut self, part: Part) {
        let table = &mut self.tables[part.table];
        table.parts_left -= 1;
        if table.parts_left > 0 {
            return;
        }
        if table.is_cut {
            let (bytes, task) = (table.bytes, Task::Vacuum { table: part.table });
            self.tasks.push(Ranked { bytes, task });
        } else {
            self.push_indexes(part.table);
        }
    }

    /// Takes the next task for the target.
    pub fn next_task(&mut self) -> Next {
        match self.tasks.pop() {
            Some(Ranked { task, .. }) => Next::Do(task),
            None if self.unfinished == 0 => Next::Done,
            None => Next::Wait,
        }
    }

    /// A task is done.
    pub fn task_done(&mut self, task: Task) {
        match task {
            Task::Vacuum { table } => self.push_indexes(table),
            Task::Index { table, .. } => {
                self.tables[table].indexes_left -= 1;
                if self.tables[table].indexes_left == 0 {
                    self.push_finish(table);
                }
            }
            Task::Finish { .. } => self.unfinished -= 1,
        }
    }

    fn push_indexes(&mut self, table: usize) {
        let indexes = &self.tables[table].indexes;
        let ranked = |(index, bytes): (usize, &u64)| Ranked {
            bytes: *bytes,
            task: Task::Index { table, index },
        };
        self.tasks.extend(indexes.iter().enumerate().map(ranked));
        if indexes.is_empty() {
            self.push_finish(table);
        }
    }

    /// A sample of a table is quickly taken: after the indexes that wait.
    fn push_finish(&mut self, table: usize) {
        self.tasks.push(Ranked { bytes: 0, task: Task::Finish { table } });
    }
}

/// Cuts a table into parts of about equal size, none larger than `bytes_max` as far as pages tell.
fn cut(table: usize, size: &Size, bytes_max: u64) -> Vec<Part> {
    let count = size.bytes.div_ceil(bytes_max).min(u64::from(size.pages));
    if count <= 1 {
        return vec![Part { table, pages: None, bytes: size.bytes }];
    }
    // No more than there are pages, so it fits.
    let at = |number: u64| (u64::from(size.pages) * number / count) as u32;
    (0..count)
        .map(|number| {
            let end = (number + 1 < count).then(|| at(number + 1));
            let pages = Some(Pages { start: at(number), end });
            Part { table, pages, bytes: size.bytes / count }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(bytes: u64, pages: u32, indexes: &[u64]) -> Size {
        Size { bytes, pages, is_divisible: true, indexes: indexes.to_vec() }
    }

    #[test]
    fn a_big_table_is_cut_and_its_last_part_is_open() {
        let mut schedule = Schedule::new(&[table(1000, 10, &[]), table(10, 1, &[])], 2, 300);
        let ranges: Vec<_> = std::iter::from_fn(|| schedule.next_part())
            .map(|part| (part.table, part.pages.map(|pages| (pages.start, pages.end))))
            .collect();
        assert_eq!(
            ranges,
            [
                (0, Some((0, Some(2)))),
                (0, Some((2, Some(5)))),
                (0, Some((5, Some(7)))),
                (0, Some((7, None))),
                (1, None)
            ]
        );
    }

    #[test]
    fn one_worker_cuts_nothing_and_neither_does_an_old_server() {
        let mut alone = Schedule::new(&[table(1000, 10, &[])], 1, 1);
        assert_eq!(alone.next_part().unwrap().pages, None);
        let whole = Size { is_divisible: false, ..table(1000, 10, &[]) };
        assert_eq!(Schedule::new(&[whole], 2, 1).next_part().unwrap().pages, None);
    }

    #[test]
    fn indexes_start_when_their_table_is_in_and_the_largest_goes_first() {
        let tables = [table(100, 4, &[5, 50]), table(10, 1, &[20])];
        let mut schedule = Schedule::new(&tables, 2, 50);
        let (first, second) = (schedule.next_part().unwrap(), schedule.next_part().unwrap());
        let small = schedule.next_part().unwrap();
        schedule.part_done(first);
        assert_eq!(schedule.next_task(), Next::Wait);
        schedule.part_done(small);
        schedule.part_done(second);
        let vacuum = Task::Vacuum { table: 0 };
        assert_eq!(schedule.next_task(), Next::Do(vacuum), "it came in two parts");
        schedule.task_done(vacuum);
        let big = Task::Index { table: 0, index: 1 };
        assert_eq!(schedule.next_task(), Next::Do(big));
        assert_eq!(schedule.next_task(), Next::Do(Task::Index { table: 1, index: 0 }));
        let little = Task::Index { table: 0, index: 0 };
        assert_eq!(schedule.next_task(), Next::Do(little));
        assert_eq!(schedule.next_task(), Next::Wait);
        schedule.task_done(big);
        assert_eq!(schedule.next_task(), Next::Wait);
        schedule.task_done(little);
        let finish = Task::Finish { table: 0 };
        assert_eq!(schedule.next_task(), Next::Do(finish));
        schedule.task_done(finish);
        assert_eq!(schedule.next_task(), Next::Wait, "the index of the other one is being built");
    }

    fn sizes() -> impl Strategy<Value = Vec<Size>> {
        let size = (0..5000_u64, 0..60_u32, any::<bool>(), prop::collection::vec(0..900_u64, 0..4));
        let size = size.prop_map(|(bytes, pages, is_divisible, indexes)| Size {
            bytes,
            pages,
            is_divisible,
            indexes,
        });
        prop::collection::vec(size, 0..20)
    }

    proptest! {
        /// The law: every page of every table is in exactly one part, also pages that the table
        /// has got since it was measured.
        #[test]
        fn parts_cover_each_table_once(sizes in sizes(), workers in 1..5_usize, least in 1..800_u64) {
            let mut schedule = Schedule::new(&sizes, workers, least);
            let parts: Vec<Part> = std::iter::from_fn(|| schedule.next_part()).collect();
            for (table, size) in sizes.iter().enumerate() {
                let of: Vec<Part> = parts.iter().copied().filter(|part| part.table == table).collect();
                if let [Part { pages: None, .. }] = of[..] {
                    continue;
                }
                let mut next = Some(0);
                for pages in of.iter().map(|part| part.pages.unwrap()) {
                    prop_assert_eq!(Some(pages.start), next);
                    prop_assert!(pages.end.is_none_or(|end| end > pages.start));
                    next = pages.end;
                }
                prop_assert_eq!(next, None);
                prop_assert!(of.len() <= size.pages as usize);
            }
        }

        /// The law: workers that always take the next part, each as fast as the others, leave the
        /// last one alone for at most 15 % of the time, where tables can be cut at will.
        #[test]
        fn no_worker_is_alone_for_long(
            sizes in prop::collection::vec(1..1_000_000_u64, 1..30), workers in 2..6_usize,
        ) {
            let tables: Vec<Size> =
                sizes.iter().map(|bytes| table(*bytes, 1_000_000, &[])).collect();
            let mut schedule = Schedule::new(&tables, workers, 1);
            let mut busy = vec![0_u64; workers];
            while let Some(part) = schedule.next_part() {
                let first = (0..workers).min_by_key(|worker| busy[*worker]).unwrap();
                busy[first] += part.bytes;
            }
            busy.sort_unstable();
            let (end, before) = (busy[workers - 1], busy[workers - 2]);
            // A byte or two is lost in rounding.
            prop_assert!((end - before) * 100 <= end * 15 + 400, "{busy:?}");
        }

        /// The law: whatever the order of answers, each index is built once, after its table is in
        /// and before the table is finished; and it ends.
        #[test]
        fn each_task_comes_once_and_in_order(
            sizes in sizes(), workers in 1..4_usize, choices in prop::collection::vec(any::<bool>(), 0..400),
        ) {
            let mut schedule = Schedule::new(&sizes, workers, 100);
            let mut choices = choices.into_iter();
            let mut left: Vec<usize> = vec![0; sizes.len()];
            let mut parts: Vec<Part> = std::iter::from_fn(|| schedule.next_part()).collect();
            for part in &parts {
                left[part.table] += 1;
            }
            let cut: Vec<bool> = left.iter().map(|parts| *parts > 1).collect();
            let mut vacuumed = vec![false; sizes.len()];
            let mut built: Vec<Vec<usize>> = vec![Vec::new(); sizes.len()];
            let mut finished = vec![false; sizes.len()];
            loop {
                if choices.next().unwrap_or(true) && let Some(part) = parts.pop() {
                    left[part.table] -= 1;
                    schedule.part_done(part);
                }
                match schedule.next_task() {
                    Next::Done => break,
                    Next::Wait => {}
                    Next::Do(task) => {
                        match task {
                            Task::Vacuum { table } => {
                                prop_assert_eq!(left[table], 0);
                                prop_assert!(built[table].is_empty() && !vacuumed[table]);
                                vacuumed[table] = true;
                            }
                            Task::Index { table, index } => {
                                prop_assert_eq!(left[table], 0);
                                prop_assert_eq!(vacuumed[table], cut[table]);
                                prop_assert!(!built[table].contains(&index));
                                built[table].push(index);
                            }
                            Task::Finish { table } => {
                                prop_assert_eq!(left[table], 0);
                                prop_assert_eq!(built[table].len(), sizes[table].indexes.len());
                                prop_assert!(!finished[table]);
                                finished[table] = true;
                            }
                        }
                        schedule.task_done(task);
                    }
                }
            }
            prop_assert!(finished.iter().all(|finished| *finished));
            prop_assert!(parts.is_empty());
        }
    }
}
