//! The database engine on real clusters.

use crate::harness::postgres::Postgres;

#[test]
fn the_harness_starts_and_stops_a_cluster() {
    let mut cluster = Postgres::start();
    cluster.create_role("mastodon", "pw", "CREATEDB");
    cluster.create_database("mastodon", "mastodon", "");
    assert_eq!(
        cluster.sql_as("mastodon", "pw", "mastodon", "SELECT current_user").unwrap(),
        "mastodon"
    );
    assert!(cluster.sql_as("mastodon", "wrong", "mastodon", "SELECT 1").is_err());
    cluster.restart(&["wal_level = logical"]);
    assert_eq!(cluster.sql("postgres", "SHOW wal_level"), "logical");
}
