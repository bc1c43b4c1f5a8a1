//! A copy is the same as its source, by means that are not ours.

use super::*;

/// Everything that psql and pg_dump can tell about a database: its schema, and every row of every
/// table in order.
pub fn portrait(cluster: &Postgres, database: &str) -> String {
    let tables = cluster.sql(
        database,
        "SELECT format('%I.%I', n.nspname, c.relname)
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'm') AND c.relispopulated
           AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') ORDER BY 1",
    );
    let mut portrait = cluster.dump(database, &["--schema-only", "--no-owner", "--no-acl"]);
    // These two lines are new in every dump.
    portrait =
        portrait.lines().filter(|line| !line.contains("restrict ")).collect::<Vec<_>>().join("\n");
    for table in tables.lines() {
        let rows = format!(
            "SELECT md5(coalesce(string_agg(t::text, chr(10) ORDER BY t::text), '')), count(*) FROM {table} t"
        );
        portrait.push_str(&format!("\n{table}: {}", cluster.sql(database, &rows)));
    }
    portrait.push_str(&cluster.sql(
        database,
        "SELECT schemaname, sequencename, last_value FROM pg_sequences ORDER BY 1, 2",
    ));
    portrait.push_str(&cluster.sql(database, "SELECT loid, md5(data) FROM pg_largeobject"));
    portrait
}

#[tokio::test]
async fn a_copy_is_the_same_in_every_object_row_and_sequence() {
    let pair = Pair::start();
    let before = portrait(&pair.source, DATABASE);
    let transferred = transfer_well(&pair.source_server(), &pair.destination()).await;
    assert_eq!(portrait(&pair.target, DATABASE), before);
    assert_eq!(portrait(&pair.source, DATABASE), before);

    let comparison = transferred.comparison.unwrap();
    assert_eq!(comparison.tables, 9);
    assert_eq!(
        comparison.to_string(),
        "9 tables with 10,405 rows and their content, 6 sequences, 1 large object, 1 schema, 1 extension, 35 columns, 4 views, \
         13 indexes, 13 constraints, 1 trigger, 2 functions, 2 types, 1 statistics object, 1 comment"
    );
    assert_eq!(transferred.copied.problems, Vec::<String>::new());
    let properties =
        "SELECT pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datctype
                      FROM pg_database WHERE datname = current_database()";
    assert_eq!(pair.target.sql(DATABASE, properties), pair.source.sql(DATABASE, properties));
    let unowned =
        "SELECT count(*) FROM pg_class WHERE relowner <> 'mastodon'::regrole AND oid >= 16384
                   AND relnamespace = 'public'::regnamespace";
    assert_eq!(pair.target.sql(DATABASE, unowned), "0");
    let without_statistics = "SELECT count(*) FROM pg_stat_user_tables WHERE last_analyze IS NULL";
    assert_eq!(pair.target.sql(DATABASE, without_statistics), "0");
}
