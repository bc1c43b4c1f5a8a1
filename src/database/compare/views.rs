//! Materialized views whose rows are not those of the source's. The restore made them anew, and those
//! of the source may be older than the rows they were made from. So the target's is right if it is
//! what its query makes of the target's tables, which are compared by themselves, or of the source's.
//!
//! A query need not give the same twice: what depends on the time, on chance or on the order of rows
//! is no proof of anything, and is told as such.

use crate::units::counted;

use super::super::quote::ident;
use super::super::{DatabaseError, Session};
use super::rows::difference;
use super::scan::{Tally, query, tally};
use super::tables::Relation;
use super::{Difference, Keys, REFRESH_REMEDY, Warning};

/// A view that is to be judged.
pub(super) struct View<'a> {
    pub relation: &'a Relation,
    /// What it is made by.
    pub query: &'a str,
    /// The hash of its rows, where it is wanted.
    pub hash: Option<&'a str>,
}

pub(super) enum Verdict {
    Equal,
    /// Whether it is equal cannot be told.
    Unsteady(Warning),
    Different(Difference),
}

impl View<'_> {
    /// Judges a view that holds `source` there and `target` here.
    pub async fn judge(
        &self,
        on_source: &Session,
        on_target: &Session,
        source: Tally,
        target: Tally,
    ) -> Result<Verdict, DatabaseError> {
        if source == target {
            return Ok(Verdict::Equal);
        }
        let anew = self.anew(on_target).await?;
        if anew == target {
            return Ok(Verdict::Equal);
        }
        let there = self.anew(on_source).await?;
        if there == target {
            return Ok(Verdict::Equal);
        }
        if self.is_steady() && self.anew(on_target).await? == anew {
            let of = self.relation.holder();
            return Ok(Verdict::Different(difference(of, there, target, Keys::default())));
        }
        Ok(Verdict::Unsteady(self.warning(there, target)))
    }

    /// What the query makes of the tables as they are.
    async fn anew(&self, session: &Session) -> Result<Tally, DatabaseError> {
        let columns: Vec<String> =
            self.relation.columns.iter().map(|column| ident(&column.name)).collect();
        let columns = match columns.len() {
            0 => String::new(),
            _ => format!("({})", columns.join(", ")),
        };
        let made_by = self.query.trim_end().trim_end_matches(';');
        tally(session, &query(self.hash, &format!("({made_by}) AS v{columns}"))).await
    }

    /// Whether the same rows are made of the same tables, as far as the query shows. Sums of floats
    /// depend on their order.
    fn is_steady(&self) -> bool {
        let is_float = |base: &str| matches!(base, "float4" | "float8");
        let floats = self.relation.columns.iter().filter_map(|column| column.base.as_deref());
        !floats.into_iter().any(is_float) && !has_a_will(self.query)
    }

    fn warning(&self, source: Tally, target: Tally) -> Warning {
        let text = format!(
            "{} holds other rows than its query gives now, which need not be the same every time: \
             {} on the target, {} on the source",
            self.relation.holder(),
            counted(target.rows.unsigned_abs(), "row"),
            source.rows
        );
        Warning { text, remedy: REFRESH_REMEDY }
    }
}

/// What depends on the time, on chance, or on the order in which rows come.
const WILFUL: [&str; 27] = [
    "now(",
    "current_date",
    "current_time",
    "localtime",
    "clock_timestamp(",
    "statement_timestamp(",
    "transaction_timestamp(",
    "timeofday(",
    "age(",
    "random",
    "uuid_generate",
    "nextval(",
    "tablesample",
    "limit",
    "offset",
    "fetch first",
    "distinct on",
    "array_agg(",
    "string_agg(",
    "json_agg(",
    "jsonb_agg(",
    "object_agg(",
    "xmlagg(",
    "row_number(",
    "_value(",
    "lag(",
    "lead(",
];

/// Whether a query, as the server prints it, names something of the kind.
fn has_a_will(query: &str) -> bool {
    let query = query.to_ascii_lowercase();
    WILFUL.iter().any(|word| query.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_that_may_give_something_else_is_known_by_its_words() {
        for query in [
            "SELECT id FROM users WHERE seen >= (now() - '30 days'::interval)",
            "SELECT id FROM users WHERE seen > CURRENT_TIMESTAMP",
            "SELECT id, array_agg(reason) AS reason FROM t GROUP BY id",
            "SELECT DISTINCT ON (a) a, b FROM t",
            "SELECT x FROM t ORDER BY y\n LIMIT 20",
        ] {
            assert!(has_a_will(query), "{query}");
        }
        assert!(!has_a_will("SELECT domain, count(*) AS n FROM accounts GROUP BY domain"));
    }
}
