//! Materialized views are compared by content, although the source's may be old and a query may have
//! a will of its own.

use transhume::database::compare;

use super::content::{compared, told, twins};
use super::*;

const VIEW: &str = "\"public\".\"v\"";

/// Both sides have the table; `view` is made on each.
fn with_view(view: &str) -> Pair {
    twins(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, x text);
         INSERT INTO t SELECT i, 'x' || i % 7 FROM generate_series(1, 100) i;
         CREATE MATERIALIZED VIEW v AS {view}"
    ))
}

/// Fills the view with other values than its tables have.
fn spoil(cluster: &Postgres) {
    cluster.sql(
        DATABASE,
        &format!(
            "SET ROLE {OWNER}; BEGIN; UPDATE t SET x = 'other' WHERE id = 7; REFRESH MATERIALIZED VIEW v;
             UPDATE t SET x = 'x0' WHERE id = 7; COMMIT"
        ),
    );
}

#[tokio::test]
async fn a_view_that_holds_other_values_than_its_tables_is_named() {
    let pair = with_view("SELECT id AS number, x AS \"odd \"\"name\"\"\" FROM t");
    assert_eq!(told(&pair).await, Vec::<String>::new());
    spoil(&pair.target);
    let said = format!("materialized view {VIEW} holds other values on the target");
    assert_eq!(told(&pair).await, [said]);
    let rows = compare::Options { depth: compare::Depth::Rows, ..Default::default() };
    assert_eq!(compared(&pair, rows).await.differences, []);
    pair.target.sql(DATABASE, "TRUNCATE t; REFRESH MATERIALIZED VIEW v; INSERT INTO t SELECT i, 'x' || i % 7 FROM generate_series(1, 100) i");
    let said = format!("materialized view {VIEW} has 0 rows on the target, 100 on the source");
    assert_eq!(told(&pair).await, [said]);
}

#[tokio::test]
async fn a_view_that_is_old_on_the_source_is_no_difference() {
    let pair = with_view("SELECT x, count(*) AS n FROM t GROUP BY x");
    spoil(&pair.source);
    let found = compared(&pair, Default::default()).await;
    assert_eq!((found.differences, found.warnings), (vec![], vec![]));
}

/// What its query gives depends on the order of rows, or on nothing at all: that is told, and does
/// not stop anybody.
#[tokio::test]
async fn a_view_with_a_will_of_its_own_is_a_warning() {
    for view in
        ["SELECT id, random() AS x FROM t", "SELECT id, x, array_agg(x) OVER () AS all_x FROM t"]
    {
        let pair = with_view(view);
        spoil(&pair.target);
        let found = compared(&pair, Default::default()).await;
        assert_eq!(found.differences, [], "{view}");
        let [warning] = found.warnings.as_slice() else { panic!("{view}: {:?}", found.warnings) };
        assert_eq!(
            warning.text,
            format!(
                "materialized view {VIEW} holds other rows than its query gives now, which need not be the \
                 same every time: 100 rows on the target, 100 on the source"
            )
        );
        assert!(warning.remedy.contains("REFRESH MATERIALIZED VIEW"), "{warning:?}");
    }
}
