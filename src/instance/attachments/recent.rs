//! What of an answer is new: rows that changed lately are told again and again. Pure; as large as one
//! answer.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::{ATTACHMENTS, Answer};
use crate::wire::path::RelPath;

/// After so long a place is looked at once more: for a file that came after its row in spite of all, or
/// that was being written to when it was looked at.
const AGAIN: Duration = Duration::from_secs(15);

/// What one question has told so far.
#[derive(Debug, Default)]
pub struct Recent {
    /// The rows of the last answer: kind and id, and what is other after a change.
    rows: Option<HashMap<(usize, u64), String>>,
    again: VecDeque<(Instant, RelPath)>,
}

impl Recent {
    /// Takes an answer; gives where to look for what it tells for the first time, and where it is time
    /// to look once more. What the first answer tells was there before.
    pub fn news(&mut self, answers: Vec<Answer>, now: Instant) -> Vec<RelPath> {
        let mut places = self.due(now);
        let mut rows = HashMap::with_capacity(answers.len());
        for row in answers.into_iter().filter_map(Row::of) {
            let key = (row.kind, row.id);
            let known = self.rows.as_ref().map(|rows| rows.get(&key) == Some(&row.version));
            let place = ATTACHMENTS.get(row.kind).and_then(|it| it.place(row.id, row.cached));
            if let (Some(false), Some(place)) = (known, place) {
                self.again.push_back((now + AGAIN, place.clone()));
                places.push(place);
            }
            rows.insert(key, row.version);
        }
        self.rows = Some(rows);
        places
    }

    fn due(&mut self, now: Instant) -> Vec<RelPath> {
        let due = self.again.partition_point(|(at, _)| *at <= now);
        self.again.drain(..due).map(|(_, place)| place).collect()
    }
}

struct Row {
    kind: usize,
    id: u64,
    cached: bool,
    version: String,
}

impl Row {
    /// `None` for what is no answer to our question, and for ids below 0: Mastodon's own actor.
    fn of(answer: Answer) -> Option<Row> {
        let columns = <[Option<String>; 4]>::try_from(answer).ok()?;
        let [Some(kind), Some(id), Some(cached), Some(version)] = columns else { return None };
        Some(Row { kind: kind.parse().ok()?, id: id.parse().ok()?, cached: cached == "t", version })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEC: Duration = Duration::from_secs(1);

    fn rows(rows: &[(&str, &str, &str, &str)]) -> Vec<Answer> {
        let text = |text: &str| Some(text.to_owned());
        let row = |(kind, id, cached, version): &(&str, &str, &str, &str)| {
            vec![text(kind), text(id), text(cached), text(version)]
        };
        rows.iter().map(row).collect()
    }

    fn texts(places: Vec<RelPath>) -> Vec<String> {
        places.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_row_is_looked_up_when_it_comes_when_it_changes_and_once_more() {
        let (mut recent, start) = (Recent::default(), Instant::now());
        let old = ("7", "1", "f", "before");
        assert_eq!(texts(recent.news(rows(&[old]), start)), [""; 0]);
        let (upload, fetched) = (("0", "5", "f", "1 a.mp4"), ("2", "6", "t", "1 b.png"));
        let of_upload = "media_attachments/files/000/000/005";
        let of_fetched = "cache/accounts/avatars/000/000/006";
        let told = texts(recent.news(rows(&[old, upload, fetched]), start + SEC));
        assert_eq!(told, [of_upload, of_fetched]);
        let processed = ("0", "5", "f", "2 a.mp4");
        let told = texts(recent.news(rows(&[processed, fetched]), start + 3 * SEC));
        assert_eq!(told, [of_upload]);
        let told = texts(recent.news(rows(&[processed]), start + 16 * SEC));
        assert_eq!(told, [of_upload, of_fetched]);
        assert_eq!(texts(recent.news(Vec::new(), start + 18 * SEC)), [of_upload]);
        // Nothing is left of it.
        assert_eq!(texts(recent.news(Vec::new(), start + 60 * SEC)), [""; 0]);
        assert!(recent.again.is_empty() && recent.rows.is_some_and(|rows| rows.is_empty()));
    }

    #[test]
    fn what_is_no_answer_is_passed_over() {
        let (mut recent, now) = (Recent::default(), Instant::now());
        recent.news(Vec::new(), now);
        let odd = [("2", "-99", "f", "x"), ("99", "1", "f", "x"), ("kind", "1", "f", "x")];
        assert_eq!(texts(recent.news(rows(&odd), now)), [""; 0]);
        assert_eq!(texts(recent.news(vec![vec![None], Vec::new()], now)), [""; 0]);
    }
}
