//! Databases at the limits of what PostgreSQL takes: many tables, many columns, a huge value. In both
//! modes, and equal by means that are not ours.

use super::kinds::clusters;
use super::*;

/// What `sql` prints on both sides has to be the same, and something.
fn same(pair: &Pair, sql: &str) {
    let there = pair.source.sql(DATABASE, sql);
    assert_ne!(there, "");
    assert_eq!(pair.target.sql(DATABASE, sql), there, "{sql}");
}

async fn carry_over(pair: &Pair, sql: &str) {
    carry_over_by(pair, sql, &[in_parallel(64 << 20), Options::default()]).await;
}

async fn carry_over_by(pair: &Pair, sql: &str, ways: &[Options]) {
    let mut destination = pair.destination();
    destination.replace = Some(DATABASE.into());
    for options in ways {
        let start = std::time::Instant::now();
        transfer_well_by(&pair.source_server(), &destination, options).await;
        eprintln!("{:.1} s: {:?}", start.elapsed().as_secs_f64(), options.mode);
        same(pair, sql);
    }
}

#[tokio::test]
async fn two_thousand_small_tables_are_carried_over() {
    let pair = clusters("");
    // In several transactions: one does not get that many locks.
    pair.source.sql(
        DATABASE,
        "SET ROLE mastodon;
         DO $$ BEGIN
             FOR i IN 1..2000 LOOP
                 EXECUTE format('CREATE TABLE small_%s (id int PRIMARY KEY, x text)', i);
                 EXECUTE format('INSERT INTO small_%s SELECT n, md5((n * %1$s)::text) FROM generate_series(1, 3) n', i);
                 IF i % 100 = 0 THEN COMMIT; END IF;
             END LOOP;
         END $$",
    );
    let all = "SELECT count(*), md5(string_agg(relname || query_to_xml('SELECT * FROM public.' || relname || ' ORDER BY id',
                   true, true, '')::text, ',' ORDER BY relname)),
                   (SELECT count(*) FROM pg_constraint WHERE contype = 'p' AND conrelid >= 16384)
               FROM pg_class WHERE relkind = 'r' AND relname LIKE 'small_%'";
    // What pg_dump does with them is not ours to try out.
    carry_over_by(&pair, all, &[in_parallel(64 << 20)]).await;
    assert!(pair.target.sql(DATABASE, all).starts_with("2000|"));
}

#[tokio::test]
async fn a_table_of_1600_columns_is_carried_over() {
    let pair = clusters("");
    let types = ["int", "bigint", "text", "boolean", "timestamptz"];
    let columns: Vec<String> =
        (1..=1600).map(|i| format!("c{i} {}", types[i % types.len()])).collect();
    let columns = columns.join(", ");
    // A row has to fit into a page: most of it is NULL.
    pair.source.sql(
        DATABASE,
        &format!(
            "SET ROLE mastodon; CREATE TABLE wide ({columns});
             INSERT INTO wide (c5, c1, c2, c1597, c1599, c1600) SELECT i, i * 10000000000, 'x' || i, 'y', now(), -i
             FROM generate_series(1, 500) i;
             INSERT INTO wide SELECT; CREATE UNIQUE INDEX ON wide (c5, c1600)"
        ),
    );
    carry_over(&pair, "SELECT count(*), md5(string_agg(w::text, ',' ORDER BY c5)) FROM wide w")
        .await;
}

#[tokio::test]
async fn a_row_of_200_mb_is_carried_over() {
    let pair = clusters("");
    pair.source.sql(
        DATABASE,
        "SET ROLE mastodon; CREATE TABLE huge (id int PRIMARY KEY, b bytea, after text);
         ALTER TABLE huge ALTER b SET STORAGE EXTERNAL;
         INSERT INTO huge SELECT i, decode(repeat(md5(i::text), 12800000 * i), 'hex'), 'after' FROM generate_series(0, 1) i",
    );
    carry_over(&pair, "SELECT id, length(b), md5(b), after FROM huge ORDER BY id").await;
    assert_eq!(pair.target.sql(DATABASE, "SELECT max(length(b)) FROM huge"), "204800000");
}
