//! The comparison sees each kind of difference that somebody could plant, and nothing else.

use transhume::database::check;
use transhume::database::compare::{self, Comparison};

use super::*;

async fn compared(pair: &Pair) -> Comparison {
    let target = pair.destination().server;
    let options = compare::Options::default();
    compare::compare(&pair.source_server(), &target, None, options, &Silent)
        .await
        .unwrap_or_else(|error| panic!("{}", transhume::error::one_line(&error)))
}

fn told(comparison: &Comparison) -> Vec<String> {
    comparison.differences.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn each_planted_difference_is_named() {
    let pair = Pair::start();
    transfer_well(&pair.source_server(), &pair.destination()).await;

    // What is done to the target, how it is undone, and what has to be said.
    let planted = [
        (
            "DELETE FROM schema_migrations",
            "INSERT INTO schema_migrations VALUES ('20260611150940')",
            vec![
                "table \"public\".\"schema_migrations\" has 0 rows on the target, 1 on the source",
            ],
        ),
        (
            "DROP INDEX index_statuses_on_uri",
            "CREATE UNIQUE INDEX index_statuses_on_uri ON statuses (uri text_pattern_ops) WHERE uri IS NOT NULL",
            vec!["index public.index_statuses_on_uri is missing on the target"],
        ),
        (
            "SELECT setval('statuses_id_seq', 7)",
            "SELECT setval('statuses_id_seq', 7500)",
            vec![
                "sequence \"public\".\"statuses_id_seq\" is at 7 on the target, 7500 on the source",
            ],
        ),
        (
            "ALTER TABLE statuses_tags DROP CONSTRAINT statuses_tags_tag_id_fkey, ADD CONSTRAINT \
             statuses_tags_tag_id_fkey FOREIGN KEY (tag_id) REFERENCES tags (id) NOT VALID",
            "ALTER TABLE statuses_tags VALIDATE CONSTRAINT statuses_tags_tag_id_fkey",
            vec![
                "constraint public.statuses_tags statuses_tags_tag_id_fkey differs: source `FOREIGN KEY (tag_id) \
                 REFERENCES public.tags(id)`, target `FOREIGN KEY (tag_id) REFERENCES public.tags(id) NOT VALID`",
            ],
        ),
        (
            "CREATE OR REPLACE VIEW user_ips AS SELECT id AS user_id, created_at FROM accounts",
            "CREATE OR REPLACE VIEW user_ips AS SELECT id AS user_id, created_at FROM accounts WHERE domain IS NULL",
            vec![
                "view public.user_ips differs: source ` SELECT accounts.id AS user_id,\n    accounts.created_at\n   \
                 FROM public.accounts\n  WHERE (accounts.domain IS NULL);`, target ` SELECT accounts.id AS \
                 user_id,\n    accounts.created_at\n   FROM public.accounts;`",
            ],
        ),
        (
            "ALTER FUNCTION touch() STABLE",
            "ALTER FUNCTION touch() VOLATILE",
            vec![
                "function public.touch() differs: source `CREATE OR REPLACE FUNCTION public.touch()\n RETURNS \
                  trigger\n LANGUAGE plpgsql\nAS $function$ BEGIN NEW.note := COALESCE(NEW.note, ''); RETURN NEW; \
                  END $function$\n`, target `CREATE OR REPLACE FUNCTION public.touch()\n RETURNS trigger\n \
                  LANGUAGE plpgsql\n STABLE\nAS $function$ BEGIN NEW.note := COALESCE(NEW.note, ''); RETURN NEW; \
                  END $function$\n`",
            ],
        ),
        (
            "REFRESH MATERIALIZED VIEW account_summaries WITH NO DATA",
            "REFRESH MATERIALIZED VIEW account_summaries",
            vec![
                "view public.account_summaries differs: source ` SELECT a.id AS account_id,\n    count(s.id) AS \
                  posts\n   FROM (public.accounts a\n     LEFT JOIN public.statuses s ON ((s.account_id = \
                  a.id)))\n  GROUP BY a.id;`, target ` SELECT a.id AS account_id,\n    count(s.id) AS posts\n   \
                  FROM (public.accounts a\n     LEFT JOIN public.statuses s ON ((s.account_id = a.id)))\n  GROUP \
                  BY a.id; (not populated)`",
            ],
        ),
        (
            "ALTER TABLE accounts ALTER COLUMN note DROP DEFAULT",
            "ALTER TABLE accounts ALTER COLUMN note SET DEFAULT ''",
            vec![
                "column public.accounts.note differs: source `5 text NOT NULL DEFAULT ''::text`, target `5 text NOT NULL`",
            ],
        ),
        (
            "ALTER TABLE accounts DISABLE TRIGGER touch_account",
            "ALTER TABLE accounts ENABLE TRIGGER touch_account",
            vec![
                "trigger public.accounts touch_account differs: source `CREATE TRIGGER touch_account BEFORE UPDATE \
                  ON public.accounts FOR EACH ROW EXECUTE FUNCTION public.touch() O`, target `CREATE TRIGGER \
                  touch_account BEFORE UPDATE ON public.accounts FOR EACH ROW EXECUTE FUNCTION public.touch() D`",
            ],
        ),
        (
            "COMMENT ON TABLE statuses IS NULL; CREATE TYPE more AS ENUM ('a')",
            "COMMENT ON TABLE statuses IS 'posts; it''s what people write'; DROP TYPE more",
            vec![
                "type public.more is on the target only",
                "comment table public.statuses is missing on the target",
            ],
        ),
    ];
    for (plant, undo, expected) in planted {
        pair.target.sql(DATABASE, plant);
        assert_eq!(told(&compared(&pair).await), expected, "after {plant}");
        pair.target.sql(DATABASE, undo);
    }
    assert_eq!(told(&compared(&pair).await), Vec::<String>::new(), "all undone");
}

#[tokio::test]
async fn an_index_that_is_not_valid_is_named_on_the_target_and_not_missed_from_the_source() {
    let pair = Pair::start();
    let failed = "CREATE UNIQUE INDEX CONCURRENTLY broken ON accounts (note COLLATE \"C\", (1))";
    pair.source.sql(
        DATABASE,
        "INSERT INTO accounts (username, note) VALUES ('twin_a', 'same'), ('twin_b', 'same')",
    );
    assert!(pair.source.try_sql(DATABASE, failed).is_err());
    let found = check(&pair.source_server(), &pair.destination(), u64::MAX).await.unwrap();
    assert_eq!(found[0].text, "of no use on the source, and not copied: public.broken");
    transfer_well(&pair.source_server(), &pair.destination()).await;
    assert!(pair.target.try_sql(DATABASE, failed).is_err());
    let said = told(&compared(&pair).await);
    assert_eq!(said, ["index public.broken is on the target only"]);
}

#[tokio::test]
async fn a_live_source_may_move_on_but_the_copy_is_what_the_snapshot_saw() {
    use transhume::database::stream::{self, Snapshot};
    use transhume::database::{Access, inspect, session, target};

    let pair = Pair::start();
    let (source, destination) = (pair.source_server(), pair.destination());
    let facts = inspect::inspect_database(&session::connect(&source, Access::Read).await.unwrap())
        .await
        .unwrap();
    let prepared = target::prepare(&destination, &facts, "run-1").await.unwrap();
    let snapshot = Snapshot::take(&source).await.unwrap();
    pair.source.sql(DATABASE, "INSERT INTO accounts (username) VALUES ('late')");
    let options = stream::Options::default();
    stream::copy(&source, &destination, &snapshot, &prepared, &options, &Silent).await.unwrap();
    pair.source.sql(DATABASE, "INSERT INTO accounts (username) VALUES ('later')");

    let options = compare::Options::default();
    let target = &destination.server;
    let as_seen =
        compare::compare(&source, target, Some(&snapshot), options, &Silent).await.unwrap();
    assert_eq!(told(&as_seen), Vec::<String>::new());
    let now = told(&compared(&pair).await);
    assert!(
        now.iter().any(|line| line.contains("\"accounts\" has 500 rows on the target, 502")),
        "{now:?}"
    );
    assert!(now.iter().any(|line| line.contains("accounts_id_seq")), "{now:?}");
}
