//! The laws of the comparison, on generated tables and rows: two databases made by the same
//! statements are equal, in whatever order their rows were written; and whichever value of
//! whichever row is another one, it is found, and that row is named.

use transhume::database::compare::{self, Options};

use super::content::twins;
use super::*;
use crate::harness::random::fill;

/// A type, and an expression that gives one of many values for the integer `n`.
const TYPES: &[(&str, &str)] = &[
    ("bigint", "n * 4294967297"),
    ("int", "n"),
    ("smallint", "(n % 30000)::smallint"),
    ("boolean", "n % 2 = 0"),
    ("text", "repeat(md5(n::text), (n % 200)::int)"),
    ("varchar(40)", "'v' || n"),
    ("char(12)", "'c' || n"),
    ("bytea", "decode(md5(n::text), 'hex')"),
    ("numeric", "n * 1.010"),
    ("numeric(20, 4)", "n / 3.0"),
    ("float8", "n / 3.0"),
    ("real", "n / 7.0"),
    ("timestamp", "'2026-01-01'::timestamp + n * interval '1 us'"),
    ("timestamptz(3)", "'2026-01-01Z'::timestamptz + n * interval '1 s'"),
    ("date", "'2026-01-01'::date + (n % 100000)::int"),
    ("interval", "n * interval '1 s'"),
    ("jsonb", "jsonb_build_object('n', n, 'list', jsonb_build_array(n, NULL))"),
    ("json", "json_build_object('n', n)"),
    ("text[]", "ARRAY['a', NULL, n::text]"),
    ("bigint[]", "ARRAY[n, n + 1]"),
    ("uuid", "md5(n::text)::uuid"),
    ("inet", "'10.0.0.0'::inet + n"),
    ("int4range", "int4range(n::int, n::int + 5)"),
    ("point", "point(n, 1)"),
    ("money", "n::text::money"),
    ("varbit", "n::bit(40)::varbit"),
    ("bit(40)", "n::bit(40)"),
    ("cidr", "('10.' || n % 250 || '.0.0/16')::cidr"),
    ("oid", "n::oid"),
    ("name", "('n' || n)::name"),
    ("\"char\"", "chr((65 + n % 26)::int)::\"char\""),
    ("macaddr", "lpad(to_hex(n), 12, '0')::macaddr"),
    ("macaddr8", "lpad(to_hex(n), 16, '0')::macaddr8"),
    ("time", "'12:00'::time + n * interval '1 us'"),
    ("timetz", "'12:00+01'::timetz + n * interval '1 us'"),
    ("tsvector", "to_tsvector('simple', n::text)"),
    ("date[]", "ARRAY['2026-01-01'::date + n::int]"),
];

/// Numbers that follow from a seed.
struct Dice(Vec<u8>, usize);

impl Dice {
    fn new(seed: &str) -> Dice {
        let mut bytes = vec![0; 4096];
        fill(seed, &mut bytes);
        Dice(bytes, 0)
    }

    fn below(&mut self, limit: usize) -> usize {
        let at = self.1;
        self.1 += 2;
        usize::from(u16::from_le_bytes([self.0[at], self.0[at + 1]])) % limit
    }
}

/// A table of random columns, its rows written in the order `order`.
fn table(name: &str, columns: &[usize], composite: bool, rows: usize, order: &str) -> String {
    let definitions: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(index, kind)| format!(", c{index} {}", TYPES[*kind].0))
        .collect();
    let values: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(index, kind)| {
            let value = TYPES[*kind].1;
            format!(", CASE WHEN (n + {index}) % 9 > 0 THEN {value} END")
        })
        .collect();
    let key = if composite { "(id, part)" } else { "(id)" };
    format!(
        "CREATE TABLE {name} (id bigint, part text{}, PRIMARY KEY {key});
         INSERT INTO {name} SELECT n, 'p' || n % 3{} FROM generate_series(1::bigint, {rows}) n ORDER BY {order};",
        definitions.concat(),
        values.concat()
    )
}

async fn differences(pair: &Pair) -> Vec<String> {
    let target = pair.destination().server;
    let comparison =
        compare::compare(&pair.source_server(), &target, None, Options::default(), &Silent)
            .await
            .unwrap_or_else(|error| panic!("{}", transhume::error::one_line(&error)));
    comparison.differences.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn whatever_is_equal_is_found_equal_and_whatever_is_not_is_named() {
    const TABLES_NUMBER: usize = 16;
    let seed = std::env::var("GENERATED_SEED").unwrap_or_else(|_| "1".into());
    let mut dice = Dice::new(&seed);
    let pair = twins("");
    let mut tables = Vec::new();
    for number in 0..TABLES_NUMBER {
        let name = format!("g{number}");
        // Every type comes up in the first tables.
        let columns: Vec<usize> = (0..4 + dice.below(5))
            .map(|index| match number * 4 + index {
                kind if index < 4 && kind < TYPES.len() => kind,
                _ => dice.below(TYPES.len()),
            })
            .collect();
        let (composite, rows) = (dice.below(3) == 0, 1 + dice.below(400));
        pair.source.sql(
            DATABASE,
            &format!("SET ROLE {OWNER}; {}", table(&name, &columns, composite, rows, "n")),
        );
        pair.target.sql(
            DATABASE,
            &format!(
                "SET ROLE {OWNER}; {}",
                table(&name, &columns, composite, rows, "md5(n::text)")
            ),
        );
        tables.push((name, columns, composite, rows));
    }
    assert_eq!(differences(&pair).await, Vec::<String>::new(), "seed {seed}");

    // One value of one row of each table is made another one; all are found at once.
    let mut expected = Vec::new();
    for (name, columns, composite, rows) in &tables {
        let (column, row) = (dice.below(columns.len()), 1 + dice.below(*rows));
        let value = TYPES[columns[column]].1;
        let sql = format!(
            "UPDATE {name} SET c{column} = CASE WHEN c{column} IS NULL
                 THEN (SELECT {value} FROM (SELECT 77::bigint) AS v(n)) END WHERE id = {row}"
        );
        pair.target.sql(DATABASE, &sql);
        expected.push(match composite {
            true => format!("\"{name}\" holds other values on the target: (\"id\", \"part\") ({row},p{}) changed", row % 3),
            false => format!("\"{name}\" holds other values on the target: id {row} changed"),
        });
    }
    // No more than ten tables are looked at so closely.
    let found = differences(&pair).await;
    assert_eq!(found.len(), TABLES_NUMBER, "seed {seed}: {found:#?}");
    let named =
        expected.iter().filter(|text| found.iter().any(|line| line.ends_with(*text))).count();
    assert_eq!(named, 10, "seed {seed}: {found:#?}\n{expected:#?}");
    for (name, ..) in &tables {
        assert!(found.iter().any(|line| line.contains(&format!("\"{name}\" holds"))), "{name}");
    }
}
