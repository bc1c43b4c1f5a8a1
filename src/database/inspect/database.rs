//! What a database is like and what is in it.

use super::super::{DatabaseError, Session};
use super::{Collation, DatabaseFacts, Extension, Locale, Provider, Table, names, ours};

/// Facts about the database that `session` is with.
pub async fn inspect_database(session: &Session) -> Result<DatabaseFacts, DatabaseError> {
    let action = "read what the database is like";
    let sql = "SELECT datname::text, pg_get_userbyid(datdba)::text,
                   shobj_description(oid, 'pg_database'), pg_database_size(oid)
               FROM pg_database WHERE datname = current_database()";
    let row = session.row(action, sql, &[]).await?;
    let size: i64 = session.get(action, &row, 3)?;
    Ok(DatabaseFacts {
        name: session.get(action, &row, 0)?,
        owner: session.get(action, &row, 1)?,
        comment: session.get(action, &row, 2)?,
        locale: locale(session).await?,
        size_bytes: size.unsigned_abs(),
        extensions: extensions(session).await?,
        tables: tables(session).await?,
        other_objects: session.value("count the other objects", OTHER_OBJECTS, &[]).await?,
        grantees: names(session, "list the grants", GRANTEES).await?,
        invalid_indexes: names(session, "list the invalid indexes", INVALID_INDEXES).await?,
        policy_roles: names(session, "list the roles of policies", POLICY_ROLES).await?,
        collations: collations(session).await?,
        collations_changed: names(session, "list changed collations", COLLATIONS_CHANGED).await?,
        settings: names(session, "list the database settings", SETTINGS).await?,
    })
}

async fn locale(session: &Session) -> Result<Locale, DatabaseError> {
    let action = "read the locale of the database";
    let major = session.version().major();
    let provider = if major >= 15 { "datlocprovider::text" } else { "'c'" };
    let locale = match major {
        ..15 => "NULL::text",
        15 | 16 => "daticulocale::text",
        17.. => "datlocale::text",
    };
    let rules = if major >= 16 { "daticurules::text" } else { "NULL::text" };
    let versions = if major >= 15 {
        "datcollversion::text, pg_database_collation_actual_version(oid)::text"
    } else {
        "NULL::text, NULL::text"
    };
    let sql = format!(
        "SELECT pg_encoding_to_char(encoding)::text, {provider}, datcollate::text, datctype::text,
             {locale}, {rules}, {versions}
         FROM pg_database WHERE datname = current_database()"
    );
    let row = session.row(action, &sql, &[]).await?;
    let letter: String = session.get(action, &row, 1)?;
    let provider = self::provider(session, action, &letter)?;
    Ok(Locale {
        encoding: session.get(action, &row, 0)?,
        provider,
        collate: session.get(action, &row, 2)?,
        ctype: session.get(action, &row, 3)?,
        locale: session.get(action, &row, 4)?,
        rules: session.get(action, &row, 5)?,
        version: session.get(action, &row, 6)?,
        version_now: session.get(action, &row, 7)?,
    })
}

async fn collations(session: &Session) -> Result<Vec<Collation>, DatabaseError> {
    let action = "list the collations";
    let locale = match session.version().major() {
        ..15 => "c.collcollate::text",
        15 | 16 => "coalesce(c.collcollate, c.colliculocale)::text",
        17.. => "coalesce(c.collcollate, c.colllocale)::text",
    };
    let sql = format!(
        "SELECT quote_ident(c.collname), c.collprovider::text, coalesce({locale}, ''),
             n.nspname = 'pg_catalog'
         {COLLATIONS_USED} ORDER BY 1"
    );
    let rows = session.rows(action, &sql, &[]).await?;
    rows.iter()
        .map(|row| {
            let letter: String = session.get(action, row, 1)?;
            Ok(Collation {
                name: session.get(action, row, 0)?,
                provider: provider(session, action, &letter)?,
                locale: session.get(action, row, 2)?,
                is_systems: session.get(action, row, 3)?,
            })
        })
        .collect()
}

fn provider(
    session: &Session,
    action: &'static str,
    letter: &str,
) -> Result<Provider, DatabaseError> {
    match letter {
        "c" => Ok(Provider::Libc),
        "i" => Ok(Provider::Icu),
        "b" => Ok(Provider::Builtin),
        other => Err(session.nonsense(action, &format!("collation provider {other:?}"))),
    }
}

async fn extensions(session: &Session) -> Result<Vec<Extension>, DatabaseError> {
    let action = "list the extensions";
    let sql = "SELECT e.extname::text, e.extversion, n.nspname::text,
                   coalesce(cardinality(e.extconfig), 0) > 0
               FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
               WHERE e.extname <> 'plpgsql' ORDER BY 1";
    let rows = session.rows(action, sql, &[]).await?;
    rows.iter()
        .map(|row| {
            Ok(Extension {
                name: session.get(action, row, 0)?,
                version: session.get(action, row, 1)?,
                schema: session.get(action, row, 2)?,
                has_settings: session.get(action, row, 3)?,
            })
        })
        .collect()
}

async fn tables(session: &Session) -> Result<Vec<Table>, DatabaseError> {
    let action = "list the tables";
    let sql = format!(
        "SELECT n.nspname::text, c.relname::text, c.reltuples::bigint,
             coalesce(pg_table_size(c.oid), 0), coalesce(pg_indexes_size(c.oid), 0)
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'm', 'p', 'f') AND {}
         ORDER BY 4 DESC, 1, 2",
        ours("c.oid", "pg_class")
    );
    let rows = session.rows(action, &sql, &[]).await?;
    rows.iter()
        .map(|row| {
            let heap: i64 = session.get(action, row, 3)?;
            let index: i64 = session.get(action, row, 4)?;
            Ok(Table {
                schema: session.get(action, row, 0)?,
                name: session.get(action, row, 1)?,
                rows_estimate: session.get(action, row, 2)?,
                heap_bytes: heap.unsigned_abs(),
                index_bytes: index.unsigned_abs(),
            })
        })
        .collect()
}

/// Whatever beside tables somebody could miss: views, sequences, functions, types, operators,
/// schemas, large objects, event triggers, foreign servers.
const OTHER_OBJECTS: &str = "
    WITH dependent AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e'),
    user_schema AS (SELECT oid FROM pg_namespace
        WHERE nspname <> 'information_schema' AND nspname !~ '^pg_')
    SELECT (SELECT count(*) FROM pg_class WHERE relkind IN ('v', 'S')
              AND relnamespace IN (SELECT oid FROM user_schema)
              AND ('pg_class'::regclass, oid) NOT IN (SELECT * FROM dependent))
         + (SELECT count(*) FROM pg_proc WHERE pronamespace IN (SELECT oid FROM user_schema)
              AND ('pg_proc'::regclass, oid) NOT IN (SELECT * FROM dependent))
         + (SELECT count(*) FROM pg_type WHERE typnamespace IN (SELECT oid FROM user_schema)
              AND typtype IN ('e', 'd', 'r') AND ('pg_type'::regclass, oid) NOT IN (SELECT * FROM dependent))
         + (SELECT count(*) FROM pg_operator WHERE oprnamespace IN (SELECT oid FROM user_schema)
              AND ('pg_operator'::regclass, oid) NOT IN (SELECT * FROM dependent))
         + (SELECT count(*) FROM pg_namespace WHERE oid IN (SELECT oid FROM user_schema)
              AND nspname <> 'public' AND ('pg_namespace'::regclass, oid) NOT IN (SELECT * FROM dependent))
         + (SELECT count(*) FROM pg_largeobject_metadata)
         + (SELECT count(*) FROM pg_event_trigger
              WHERE ('pg_event_trigger'::regclass, oid) NOT IN (SELECT * FROM dependent))
         + (SELECT count(*) FROM pg_foreign_server)
         + (SELECT count(*) FROM pg_publication)";

const GRANTEES: &str = "
    SELECT DISTINCT pg_get_userbyid(a.grantee)::text
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
         pg_database d, aclexplode(c.relacl) a
    WHERE d.datname = current_database() AND a.grantee NOT IN (0, c.relowner, d.datdba)
      AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
    ORDER BY 1";

const INVALID_INDEXES: &str = "
    SELECT indexrelid::regclass::text FROM pg_index 
    WHERE NOT (indisvalid AND indisready AND indislive) ORDER BY 1";

const POLICY_ROLES: &str = "
    SELECT DISTINCT pg_get_userbyid(r)::text FROM pg_policy p, unnest(p.polroles) r
    WHERE r <> 0 ORDER BY 1";

/// Collations that matter beside the database's own, and those that mean the same everywhere.
const COLLATIONS_USED: &str = "
    FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
    WHERE c.collprovider <> 'd' AND c.collname NOT IN ('C', 'POSIX', 'ucs_basic')
      AND (n.nspname <> 'pg_catalog' AND c.oid >= 16384
           OR EXISTS (SELECT FROM pg_attribute a
                      WHERE a.attcollation = c.oid AND a.attrelid >= 16384)
           OR EXISTS (SELECT FROM pg_index x
                      WHERE c.oid = ANY (x.indcollation::oid[]) AND x.indrelid >= 16384))";

const COLLATIONS_CHANGED: &str = "
    SELECT quote_ident(c.collname)
    FROM pg_collation c
    WHERE c.collversion <> pg_collation_actual_version(c.oid)
    ORDER BY 1";

const SETTINGS: &str = "
    SELECT unnest(s.setconfig) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
    WHERE d.datname = current_database() ORDER BY 1";
