//! Each trouble that a copy would run into is found beforehand: it is planted on the source, and
//! the finding says what it is and how to see it.

use transhume::database::check;
use transhume::event::{Finding, Level};

use super::*;

/// What is not well about a copy.
async fn troubles(pair: &Pair) -> Vec<Finding> {
    let found = check(&pair.source_server(), &pair.destination(), u64::MAX).await.unwrap();
    found.into_iter().filter(|finding| finding.level != Level::Ok).collect()
}

/// Runs `sql` on the source while `index` does not hear of it: as if it were corrupt.
fn behind(pair: &Pair, index: &str, sql: &str) {
    let ready = |is_ready| {
        let sql = format!(
            "UPDATE pg_index SET indisready = {is_ready} WHERE indexrelid = '{index}'::regclass"
        );
        pair.source.sql(DATABASE, &sql);
    };
    ready(false);
    pair.source.sql(DATABASE, sql);
    ready(true);
}

#[tokio::test]
async fn each_planted_trouble_is_found_and_its_query_shows_it() {
    let pair = Pair::start();
    // It cannot be read, so it cannot be searched.
    pair.source.sql(
        DATABASE,
        "CREATE MATERIALIZED VIEW not_yet AS SELECT 1 AS x WITH NO DATA;
         CREATE UNIQUE INDEX ON not_yet (x)",
    );
    assert_eq!(troubles(&pair).await, []);
    behind(&pair, "tags_pkey", "INSERT INTO tags (id, name) SELECT min(id), 'twin' FROM tags");
    behind(
        &pair,
        "index_statuses_on_uri",
        "UPDATE statuses SET uri = (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 100) i)
         WHERE id = (SELECT min(id) FROM statuses)",
    );
    pair.source.sql(
        DATABASE,
        "ALTER TABLE statuses_tags DISABLE TRIGGER ALL;
         INSERT INTO statuses_tags (status_id, tag_id)
             SELECT status_id, -x FROM (SELECT min(status_id) AS status_id FROM statuses_tags) s,
                 generate_series(1, 2) x;
         ALTER TABLE statuses_tags ENABLE TRIGGER ALL;
         CREATE ROLE auditor; CREATE POLICY seen ON tags TO auditor USING (true);
         ALTER ROLE mastodon CONNECTION LIMIT 4",
    );
    let found = troubles(&pair).await;
    let told: Vec<String> = found
        .iter()
        .map(|finding| format!("{:?} {}: {}", finding.level, finding.subject, finding.text))
        .collect();
    assert_eq!(
        told,
        [
            "Refusal roles: row security policies are for auditor: the target lacks them",
            "Refusal index index_statuses_on_uri: 1 row of \"public\".\"statuses\" too long for it: the \
             index would not build",
            "Refusal \"public\".\"tags_pkey\": 1 value in \"public\".\"tags\" more than once: the index is \
             corrupt and would not build on the target",
            "Refusal foreign key statuses_tags_tag_id_fkey: 2 rows of \"public\".\"statuses_tags\" point to \
             nothing in \"public\".\"tags\": it could not be made on the target",
            "Warning connections: the source has 3 free, the copy takes up to 6",
        ]
    );
    // The query that comes with each is one that the operator can run, and shows the rows.
    let query = |finding: &Finding, from: &str| {
        let remedy = finding.remedy.clone().unwrap();
        let start = remedy.find(from).unwrap();
        let end = remedy[start..].rfind("; ").unwrap_or(remedy.len() - start);
        let query = remedy[start..start + end].split("; delete").next().unwrap().to_owned();
        query.split("; remove").next().unwrap().to_owned()
    };
    for (finding, rows) in [(&found[1], 1), (&found[2], 1), (&found[3], 2)] {
        let sql = query(finding, "SELECT ");
        let heap = "SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off;";
        let counted = format!("{heap} SELECT count(*) FROM ({sql}) AS q");
        assert_eq!(pair.source.sql(DATABASE, &counted), rows.to_string(), "{sql}");
    }
}

#[tokio::test]
async fn what_is_too_large_to_be_looked_at_is_named() {
    let pair = Pair::start();
    let found = check(&pair.source_server(), &pair.destination(), 100_000).await.unwrap();
    let told: Vec<&str> = found
        .iter()
        .filter(|finding| finding.level == Level::Warning)
        .map(|finding| finding.text.as_str())
        .collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].contains("over-long ones") && told[0].contains("\"statuses\""), "{told:?}");
    assert!(told[1].contains("duplicates") && told[1].contains("\"statuses_pkey\""), "{told:?}");
    assert!(told[2].contains("statuses_tags_status_id_fkey"), "{told:?}");
}

mod amcheck {
    use super::super::content::twins;
    use super::*;
    use transhume::database::compare::{Checked, amcheck};

    fn superuser(pair: &Pair) -> Server {
        Server {
            address: Address::Unix { path: text(&pair.target.socket()) },
            user: "postgres".into(),
            password: None,
            ..pair.destination().server
        }
    }

    async fn checked(login: &Server) -> Result<Checked, DatabaseError> {
        amcheck(login, &Silent).await
    }

    #[tokio::test]
    async fn a_row_that_an_index_lacks_is_found_and_no_extension_is_left_behind() {
        let pair = twins(
            "CREATE TABLE t (id int PRIMARY KEY, x text);
             INSERT INTO t SELECT i, 'x' || i FROM generate_series(1, 1000) i;
             CREATE INDEX by_x ON t (x);
             CREATE INDEX by_hash ON t USING hash (x)",
        );
        let login = superuser(&pair);
        let none = Checked { indexes: 2, problems: Vec::new() };
        assert_eq!(checked(&login).await.unwrap(), none);
        pair.target.sql(
            DATABASE,
            "UPDATE pg_index SET indisready = false WHERE indexrelid = 'by_x'::regclass",
        );
        pair.target.sql(DATABASE, "INSERT INTO t VALUES (1001, 'unseen')");
        pair.target.sql(
            DATABASE,
            "UPDATE pg_index SET indisready = true WHERE indexrelid = 'by_x'::regclass",
        );
        let found = checked(&login).await.unwrap();
        assert_eq!(found.indexes, 2);
        assert_eq!(found.problems.len(), 1, "{found:?}");
        assert!(found.problems[0].starts_with("index public.by_x: heap tuple"), "{found:?}");

        // Who may not make it is told so, and nothing is left behind either.
        let error = checked(&pair.destination().server).await.unwrap_err();
        let said = transhume::error::one_line(&error);
        assert!(said.contains("make the extension amcheck for the time of the check"), "{said}");
        let left = "SELECT (SELECT count(*) FROM pg_extension WHERE extname = 'amcheck')
                        + (SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'transhume%')";
        assert_eq!(pair.target.sql(DATABASE, left), "0");

        // One that is there is used, and stays.
        pair.target.sql(DATABASE, "CREATE EXTENSION amcheck");
        assert_eq!(checked(&login).await.unwrap().problems.len(), 1);
        assert_eq!(pair.target.sql(DATABASE, left), "1");
    }
}
