//! Rows, sequences and the whole schema, by psql and pg_dump.

use super::super::{DATABASE, ROLE, Sandbox, Side};
use super::Verdict;

/// The one table that the new server's Sidekiq goes on writing.
const LEDGER: &str = "job_ledger";

/// Every table's row count and digest, in one query made by a query.
const DIGESTS: &str = r#"
SELECT format('SELECT %L, count(*), md5(COALESCE(string_agg(md5(t::text), '''' ORDER BY t::text COLLATE "C"), '''')) FROM %I t',
  relname, relname)
FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'm') ORDER BY relname
\gexec
"#;

const SEQUENCES: &str = "SELECT sequencename, start_value, increment_by, last_value FROM pg_sequences \
     WHERE schemaname = 'public' AND sequencename <> 'job_ledger_id_seq' ORDER BY 1";

const LOCALE: &str = "SELECT pg_encoding_to_char(encoding), datlocprovider, datcollate, datctype \
     FROM pg_database WHERE datname = current_database()";

const NOT_RIGHT: &str = "SELECT 'invalid index ' || indexrelid::regclass FROM pg_index WHERE NOT indisvalid \
     UNION ALL SELECT 'constraint not valid: ' || conname FROM pg_constraint WHERE NOT convalidated \
     UNION ALL SELECT relname || ' belongs to ' || relowner::regrole FROM pg_class \
       WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'm', 'v', 'S') \
       AND relowner <> 'mastodon'::regrole \
     UNION ALL SELECT 'never analysed: ' || relname FROM pg_class WHERE relnamespace = 'public'::regnamespace \
       AND relkind = 'r' AND reltuples < 0";

pub fn compare(sandbox: &Sandbox, verdict: &mut Verdict) {
    let (old, new) = (&sandbox.old, &sandbox.new);
    let (was, is) = (digests(old), digests(new));
    let rows: u64 = was.iter().filter_map(|line| line.split('|').nth(1)?.parse::<u64>().ok()).sum();
    let seen = format!("database: {} tables, {rows} rows, every row equal", was.len());
    verdict.judge(seen, differing("rows", &was, &is));
    let ask = |side: &Side, sql| lines(&side.postgres.sql(DATABASE, sql));
    let (was, is) = (ask(old, SEQUENCES), ask(new, SEQUENCES));
    verdict.judge(
        format!("database: {} sequences equal", was.len()),
        differing("sequence", &was, &is),
    );
    let (was, is) = (schema(old), schema(new));
    verdict.judge(
        "database: schema equal (tables, defaults, functions, indexes, keys, views)",
        differing("schema", &was, &is),
    );
    let (was, is) = (ask(old, LOCALE), ask(new, LOCALE));
    verdict.judge(format!("database: locale {}", was.join(" ")), differing("locale", &was, &is));
    verdict.judge(
        format!("database: owned by {ROLE}, indexes and constraints valid, analysed"),
        ask(new, NOT_RIGHT),
    );
    ledger_is_kept(sandbox, verdict);
}

/// What the old Sidekiq had done is known on the new server.
fn ledger_is_kept(sandbox: &Sandbox, verdict: &mut Verdict) {
    let sql = "SELECT md5(string_agg(t::text, ',' ORDER BY id)), count(*), COALESCE(max(id), 0) FROM job_ledger t";
    let was = sandbox.old.postgres.sql(DATABASE, sql);
    let last = was.trim().rsplit('|').next().unwrap_or_default();
    let is = sandbox.new.postgres.sql(DATABASE, &format!("{sql} WHERE id <= {last}"));
    if was == is {
        verdict.saw("database: the job ledger of the old server is on the new one");
    } else {
        verdict.wrong(format!("the job ledger was {was} and is {is}"));
    }
}

fn digests(side: &Side) -> Vec<String> {
    let lines = lines(&side.postgres.sql(DATABASE, DIGESTS));
    lines.into_iter().filter(|line| !line.starts_with(LEDGER)).collect()
}

/// The schema as pg_dump writes it, without the lines that are random.
fn schema(side: &Side) -> Vec<String> {
    let text = side.postgres.dump(DATABASE, &["--schema-only"]);
    let random = |line: &&str| line.starts_with("\\restrict") || line.starts_with("\\unrestrict");
    text.lines().filter(|line| !random(line)).map(str::to_owned).collect()
}

fn lines(text: &str) -> Vec<String> {
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn differing(what: &str, was: &[String], is: &[String]) -> Vec<String> {
    let missing =
        was.iter().filter(|line| !is.contains(line)).map(|line| format!("{what} missing: {line}"));
    let added =
        is.iter().filter(|line| !was.contains(line)).map(|line| format!("{what} added: {line}"));
    missing.chain(added).take(20).collect()
}
