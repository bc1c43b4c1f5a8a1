//! How long a copy will take is told beforehand, from short samples.

use transhume::database::predict::{Packing, Wanted};
use transhume::database::{Prediction, predict};

use super::*;

const WANTED: Wanted =
    Wanted { is_parallel: false, jobs: 2, packing: Packing::Local, compares_content: true };

async fn predicted(pair: &Pair, wanted: Wanted) -> Prediction {
    predict(&pair.source_server(), &pair.destination(), wanted).await.unwrap()
}

#[tokio::test]
async fn more_rows_indexes_and_keys_are_expected_to_take_longer() {
    let pair = Pair::start();
    let before = predicted(&pair, WANTED).await;
    pair.source.sql(
        DATABASE,
        "SET ROLE mastodon;
         CREATE TABLE much (id int PRIMARY KEY, x text, parent int REFERENCES much);
         INSERT INTO much SELECT i, repeat(md5(i::text), 4), 1 FROM generate_series(1, 300000) i;
         CREATE INDEX ON much (x); ANALYZE much",
    );
    for packing in [Packing::Local, Packing::None, Packing::Level(1), Packing::Fitting] {
        for is_parallel in [false, true] {
            let after = predicted(&pair, Wanted { is_parallel, packing, ..WANTED }).await;
            assert!(after.rows > before.rows, "{after} against {before}");
            assert!(after.indexes > before.indexes, "{after} against {before}");
            assert!(after.constraints > before.constraints, "{after} against {before}");
            assert!(after.comparison > before.comparison, "{after} against {before}");
        }
    }
    let databases = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database";
    assert_eq!(pair.target.sql("postgres", databases), "postgres template0 template1");
}

#[tokio::test]
async fn a_table_that_may_not_be_read_and_an_empty_database_are_no_obstacle() {
    let pair = Pair::with_role();
    pair.source.create_database(DATABASE, OWNER, "");
    let nothing = predicted(&pair, WANTED).await;
    pair.source.sql(
        DATABASE,
        "CREATE TABLE secret AS SELECT repeat(md5(i::text), 9) AS x FROM generate_series(1, 20000) i",
    );
    assert!(predicted(&pair, WANTED).await.comparison > nothing.comparison);
}
