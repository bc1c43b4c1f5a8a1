//! The comparison sees every value of every row: whatever is planted on the target is found, and
//! the rows are named by their keys.

use transhume::database::compare::{self, Comparison, Depth, Options, Way};

use super::*;

/// The same database on both sides, made by the same statements.
pub fn twins(sql: &str) -> Pair {
    let pair = Pair::with_role();
    for cluster in [&pair.source, &pair.target] {
        cluster.create_database(DATABASE, OWNER, "");
        cluster.sql(DATABASE, &format!("SET ROLE {OWNER}; {sql}"));
    }
    pair
}

pub async fn compared(pair: &Pair, options: Options) -> Comparison {
    let target = pair.destination().server;
    compare::compare(&pair.source_server(), &target, None, options, &Silent)
        .await
        .unwrap_or_else(|error| panic!("{}", transhume::error::one_line(&error)))
}

pub async fn told(pair: &Pair) -> Vec<String> {
    told_by(pair, None).await
}

pub async fn told_by(pair: &Pair, way: Option<Way>) -> Vec<String> {
    let comparison = compared(pair, Options { way, ..Options::default() }).await;
    comparison.differences.iter().map(ToString::to_string).collect()
}

const TABLES: &str = r#"
    CREATE TYPE mood AS ENUM ('glad', 'sad');
    CREATE TYPE pair AS (a int, b text);
    CREATE DOMAIN code AS char(4);
    CREATE DOMAIN counter AS bigint CHECK (value >= 0);
    CREATE EXTENSION citext;
    CREATE TABLE t (
      id bigint PRIMARY KEY, big bigint, small smallint, flag boolean, words text, name varchar(50),
      padded char(6), bytes bytea, amount numeric, ratio float8, short float4, doc jsonb, raw json,
      tags varchar[], mood mood, moods mood[], at timestamptz, since timestamp, day date, hour time,
      span interval, address inet, uid uuid, coded code, counted counter, both_ pair, price money,
      bits bit(5), loose citext, vector tsvector, reach int4range, doubled text GENERATED ALWAYS AS (words || words) STORED);
    INSERT INTO t SELECT i, i * 10000000000, i, i % 2 = 0, 'word ' || i, 'name ' || i, 'p' || i,
      decode(md5(i::text), 'hex'), i * 1.10, i / 7.0, i / 3.0, jsonb_build_object('n', i, 'z', 1.0),
      '{"a": 1, "b": 2}', ARRAY['a', NULL, 'b' || i], 'glad', '{glad,sad}', '2026-01-01Z'::timestamptz + i * interval '1 us',
      '2026-01-01'::timestamp + i * interval '1 day', '2026-01-01'::date + i, '12:00', '1 day', '10.0.0.1/24',
      md5(i::text)::uuid, 'abc', i, ROW(i, 'x')::public.pair, i::text::money, B'10101', 'Case', 'a fat cat', '[1,5)'
      FROM generate_series(1, 3000) i;
    CREATE TABLE swapped (id int PRIMARY KEY, one int, other bigint, words text);
    INSERT INTO swapped SELECT i, i, i, 'w' || i FROM generate_series(1, 100) i;
    CREATE TABLE joined (tag_id int, status_id bigint, note text, PRIMARY KEY (status_id, tag_id));
    INSERT INTO joined SELECT i % 5, i, 'n' FROM generate_series(1, 100) i;
    CREATE TABLE keyless (x text, y int);
    INSERT INTO keyless VALUES ('a', 1), ('a', 1), ('b', 2), (NULL, NULL);
    CREATE TABLE "Odd ""Names""; --" ("the ""id""" text PRIMARY KEY, "from" text);
    INSERT INTO "Odd ""Names""; --" VALUES ('it''s', 'x'), (E'two\nlines', 'y');
    CREATE TABLE parted (id int, at date, x text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
    CREATE TABLE parted_2025 PARTITION OF parted FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
    CREATE TABLE parted_rest PARTITION OF parted DEFAULT;
    INSERT INTO parted SELECT i, '2025-12-01'::date + i, 'x' FROM generate_series(1, 60) i;
    CREATE TABLE large (id int PRIMARY KEY, body text);
    INSERT INTO large SELECT i, (SELECT string_agg(md5((i * k)::text), '') FROM generate_series(1, 320000) AS k) FROM generate_series(1, 2) i;
    CREATE TABLE nothing ();
    INSERT INTO nothing DEFAULT VALUES;
    CREATE TABLE dropped (id int PRIMARY KEY, gone text, kept text);
    INSERT INTO dropped VALUES (1, 'g', 'k');
    ALTER TABLE dropped DROP COLUMN gone, ADD COLUMN late int DEFAULT 7;
"#;

/// What is done to the target, and what has to be said of it.
type Plant = (&'static str, &'static str);

const PLANTED: &[Plant] = &[
    (
        "UPDATE t SET words = 'other' WHERE id = 7",
        "t holds other values on the target: id 7 changed",
    ),
    ("UPDATE t SET big = big + 1 WHERE id = 7", "t: id 7 changed"),
    // Both halves exchanged: PostgreSQL's own hash of a 64-bit number stays the same.
    ("UPDATE t SET big = (big << 32) | (big >> 32) WHERE id = 7", "t: id 7 changed"),
    ("UPDATE t SET small = NULL WHERE id = 7", "t: id 7 changed"),
    ("UPDATE t SET flag = NOT flag WHERE id IN (7, 9)", "t: id 7, 9 changed"),
    ("UPDATE t SET name = name || ' ' WHERE id = 7", "t: id 7 changed"),
    ("UPDATE t SET padded = 'q' WHERE id = 7", "t: id 7 changed"),
    ("UPDATE t SET bytes = bytes || '\\x00' WHERE id = 7", "t: id 7 changed"),
    ("UPDATE t SET amount = 7.7 WHERE id = 7", "t: id 7 changed"),
    ("UPDATE t SET ratio = ratio + 1e-15 WHERE id = 7", "t: id 7 changed"),
    ("UPDATE t SET ratio = 0 WHERE id = 7", "t: id 7 changed"),
    ("UPDATE t SET ratio = '-0' WHERE id = 7", "t: id 7 changed"),
    ("UPDATE t SET short = 'NaN' WHERE id = 7", "t: id 7 changed"),
    ("UPDATE t SET doc = jsonb_set(doc, '{z}', '1.00') WHERE id = 7", "t: id 7 changed"),
    ("UPDATE t SET raw = '{\"b\": 2, \"a\": 1}' WHERE id = 7", "t: id 7 changed"),
    ("UPDATE t SET tags[2] = '' WHERE id = 7", "t: id 7 changed"),
    ("UPDATE t SET tags = '[0:2]={a,\"\",b7}' WHERE id = 7", "t: id 7 changed"),
    ("UPDATE t SET mood = 'sad' WHERE id = 7", "t: id 7 changed"),
    ("UPDATE t SET moods = '{sad,glad}' WHERE id = 7", "t: id 7 changed"),
    ("UPDATE t SET at = at + interval '1 us' WHERE id = 7", "t: id 7 changed"),
    ("UPDATE t SET since = 'infinity' WHERE id = 7", "t: id 7 changed"),
    ("UPDATE t SET day = day + 1, hour = '24:00' WHERE id = 7", "t: id 7 changed"),
    ("UPDATE t SET span = '24 hours' WHERE id = 7", "t: id 7 changed"),
    ("UPDATE t SET address = '10.0.0.1/25' WHERE id = 7", "t: id 7 changed"),
    ("UPDATE t SET uid = md5('x')::uuid WHERE id = 7", "t: id 7 changed"),
    ("UPDATE t SET coded = 'abcd' WHERE id = 7", "t: id 7 changed"),
    ("UPDATE t SET counted = 0 WHERE id = 7", "t: id 7 changed"),
    ("UPDATE t SET both_ = (7, NULL) WHERE id = 7", "t: id 7 changed"),
    ("UPDATE t SET price = price + '0.01'::money WHERE id = 7", "t: id 7 changed"),
    ("UPDATE t SET bits = B'00000' WHERE id = 7", "t: id 7 changed"),
    ("UPDATE t SET loose = 'CASE' WHERE id = 7", "t: id 7 changed"),
    ("UPDATE t SET vector = 'cat:2' WHERE id = 7", "t: id 7 changed"),
    ("UPDATE t SET reach = '[1,6)' WHERE id = 7", "t: id 7 changed"),
    ("UPDATE t SET id = 70000 WHERE id = 7", "t: id 7 missing; id 70000 extra"),
    (
        "DELETE FROM t WHERE id = 8",
        "t has 2999 rows on the target, 3000 on the source: id 8 missing",
    ),
    ("UPDATE t SET flag = NULL WHERE id <= 40", "t: some of many"),
    (
        "UPDATE swapped a SET one = b.one FROM swapped b WHERE (a.id, b.id) IN ((3, 4), (4, 3))",
        "swapped: id 3, 4 changed",
    ),
    ("UPDATE swapped SET one = other + 1, other = one WHERE id = 9", "swapped: id 9 changed"),
    (
        "UPDATE joined SET note = '' WHERE status_id = 12",
        "joined: (\"status_id\", \"tag_id\") (12,2) changed",
    ),
    ("UPDATE keyless SET x = '' WHERE x IS NULL", "keyless"),
    ("UPDATE keyless SET x = 'b', y = 2 WHERE ctid = '(0,1)'", "keyless"),
    (
        "UPDATE \"Odd \"\"Names\"\"; --\" SET \"from\" = NULL",
        "Odd \"\"Names\"\"; --: the \"id\" it's, two lines changed",
    ),
    (
        "UPDATE parted SET x = 'y' WHERE id IN (5, 50)",
        "parted_2025: (\"id\", \"at\") (5,2025-12-06) changed|parted_rest: (\"id\", \"at\") (50,2026-01-20) changed",
    ),
    (
        "UPDATE large SET body = overlay(body placing 'X' from 9000000) WHERE id = 2",
        "large: id 2 changed",
    ),
    ("UPDATE dropped SET late = NULL", "dropped: id 1 changed"),
];

/// The whole of what is expected: `t: keys` stands for the difference of a content.
fn whole(expected: &str) -> Vec<String> {
    let one = |text: &str| match (text.split_once(": "), text.contains(" target")) {
        (_, true) => {
            let (table, rest) = text.split_once(' ').unwrap();
            format!("table \"public\".\"{table}\" {rest}")
        }
        (Some((table, keys)), false) => {
            format!("table \"public\".\"{table}\" holds other values on the target: {keys}")
        }
        (None, false) => format!("table \"public\".\"{text}\" holds other values on the target"),
    };
    expected.split('|').map(one).collect()
}

/// Those that are planted in one table of all types, and those in tables of other shapes.
fn planted() -> (&'static [Plant], &'static [Plant]) {
    let shapes = PLANTED.iter().position(|(plant, _)| plant.contains("swapped")).unwrap();
    PLANTED.split_at(shapes)
}

#[tokio::test]
async fn another_value_of_any_type_is_found_and_its_row_is_named() {
    plant_each(planted().0).await;
}

#[tokio::test]
async fn another_row_in_a_table_of_any_shape_is_found_and_named() {
    plant_each(planted().1).await;
}

async fn plant_each(planted: &[Plant]) {
    let pair = twins(TABLES);
    assert_eq!(told(&pair).await, Vec::<String>::new());
    for (index, (plant, expected)) in planted.iter().enumerate() {
        pair.target.sql(DATABASE, plant);
        let found = told(&pair).await;
        if expected.ends_with("some of many") {
            assert_eq!(found.len(), 1, "after {plant}: {found:?}");
            assert!(found[0].ends_with("; and more"), "after {plant}: {found:?}");
        } else {
            assert_eq!(found, whole(expected), "after {plant}");
        }
        // For older servers, and for two whose hash functions differ: every third, as it takes long.
        let ways = [Some(Way::Sent), None, None, Some(Way::Digest), None, None];
        if let Some(other) = ways[index % ways.len()] {
            let otherwise = told_by(&pair, Some(other)).await;
            assert_eq!(otherwise.len(), found.len(), "{other:?} after {plant}: {otherwise:?}");
        }
        // Done to both, it is no difference.
        pair.source.sql(DATABASE, plant);
    }
    for way in [Way::Record, Way::Sent, Way::Digest] {
        assert_eq!(told_by(&pair, Some(way)).await, Vec::<String>::new(), "done to both: {way:?}");
    }
}

#[tokio::test]
async fn counting_alone_does_not_look_at_values() {
    let pair = twins("CREATE TABLE t (id int PRIMARY KEY, x text); INSERT INTO t VALUES (1, 'a')");
    pair.target.sql(DATABASE, "UPDATE t SET x = 'b'");
    let counted = Options { depth: Depth::Rows, ..Options::default() };
    let comparison = compared(&pair, counted).await;
    assert_eq!(comparison.differences, []);
    assert!(comparison.to_string().starts_with("1 table with 1 row, "), "{comparison}");
    let comparison = compared(&pair, Options::default()).await;
    assert!(comparison.to_string().starts_with("1 table with 1 row and their content, "));
    assert_eq!(comparison.differences.len(), 1);
}

/// A value that a dump carries over, but whose bits may differ: made by arithmetic, by assignment
/// to an element, by another order of inserting, or lying in another place.
#[tokio::test]
async fn what_prints_the_same_is_the_same() {
    let pair = twins(
        "CREATE TABLE t (id int PRIMARY KEY, f float8, tags text[], doc jsonb, n numeric, gone int);
         INSERT INTO t VALUES (1, 'NaN', '{a,b}', '{\"a\": 1, \"b\": 2}', 1.50)",
    );
    pair.target.sql(
        DATABASE,
        "DELETE FROM t; INSERT INTO t SELECT i FROM generate_series(2, 200) i;
         INSERT INTO t VALUES (1, 'inf'::float8 - 'inf'::float8, '{a,NULL}', '{\"b\": 2, \"a\": 1}', 1.25 + 0.25);
         UPDATE t SET tags[2] = 'b' WHERE id = 1; DELETE FROM t WHERE id > 1; VACUUM FULL t",
    );
    for way in [Way::Record, Way::Sent, Way::Digest] {
        assert_eq!(told_by(&pair, Some(way)).await, Vec::<String>::new(), "{way:?}");
    }
}

/// More than the server takes in one value: when a row is printed at once, and, in `arrays`, when
/// one column is.
const TOO_LARGE: &str = r#"
    CREATE EXTENSION citext;
    CREATE TABLE quotes (id int, loose citext);
    INSERT INTO quotes VALUES (1, 'a'), (2, repeat('"', 540000000));
    CREATE TABLE arrays (id int, words text[]);
    INSERT INTO arrays VALUES (1, '{a}'), (2, ARRAY[repeat('"', 540000000)]);
"#;

#[tokio::test]
async fn rows_too_large_for_one_value_are_hashed_by_columns_or_told() {
    let pair = twins(TOO_LARGE);
    pair.target.sql(DATABASE, "UPDATE quotes SET loose = 'A' WHERE id = 1");
    let found = told(&pair).await;
    let [arrays, quotes] = found.as_slice() else { panic!("{found:?}") };
    let unread = r#"table "public"."arrays" has rows that are too large to be hashed, so they were counted only: "#;
    assert!(arrays.starts_with(unread), "{arrays}");
    assert!(arrays.contains(" says: "), "{arrays}");
    assert_eq!(quotes, r#"table "public"."quotes" holds other values on the target"#);
}
