//! What is on a server and in a database, as facts: the ground for [`super::preflight`] and
//! [`super::target`]. Only reads, and only catalogs: cheap on a live server.

use crate::host::{Command, run};

use super::session::is_on_host;
use super::{DatabaseError, Server, Session, Version};

/// Facts about a server, seen from any of its databases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    /// The server as messages name it.
    pub label: String,
    pub version: Version,
    /// What our login may do.
    pub login: Login,
    pub wal_level: String,
    /// Connections that are still free for ordinary roles.
    pub free_connections: i64,
    /// Transactions older than a minute, oldest first: `mastodon, 312 s, idle in transaction`.
    pub long_transactions: Vec<String>,
    /// Roles that may log in.
    pub roles: Vec<String>,
    pub databases: Vec<String>,
    /// Extensions that could be created here.
    pub available_extensions: Vec<AvailableExtension>,
    /// Locales of the system that databases and collations here use or `locale -a` lists.
    pub locales: Vec<String>,
    pub has_icu: bool,
    /// Free bytes where the data directory is, if we could find out.
    pub disk_free_bytes: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    pub name: String,
    pub is_superuser: bool,
    pub can_create_databases: bool,
    pub can_create_roles: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvailableExtension {
    pub name: String,
    /// Whether a role with CREATE on the database may create it without being superuser.
    pub trusted: bool,
}

/// Facts about one database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseFacts {
    pub name: String,
    pub owner: String,
    pub comment: Option<String>,
    pub locale: Locale,
    pub size_bytes: u64,
    pub extensions: Vec<Extension>,
    /// Tables and materialized views, largest first.
    pub tables: Vec<Table>,
    /// Other things that make it not empty: functions, types, large objects, schemas.
    pub other_objects: i64,
    /// Roles, beside the owner, that were granted something: grants are not copied.
    pub grantees: Vec<String>,
    /// `ALTER DATABASE … SET`: not part of a dump.
    pub settings: Vec<String>,
}

impl DatabaseFacts {
    /// Whether there is nothing in it that anybody could miss.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.other_objects == 0
    }

    /// The bytes of all tables without their indexes.
    pub fn heap_bytes(&self) -> u64 {
        self.tables.iter().map(|table| table.heap_bytes).sum()
    }
}

/// How a database encodes, compares and classifies text. Two databases with equal ones agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locale {
    pub encoding: String,
    pub provider: Provider,
    pub collate: String,
    pub ctype: String,
    /// The locale of ICU or of the built-in provider.
    pub locale: Option<String>,
    /// Tailoring rules of ICU.
    pub rules: Option<String>,
    /// The collation version that the database was created with.
    pub version: Option<String>,
    /// The one that the operating system provides now.
    pub version_now: Option<String>,
}

impl Locale {
    /// Whether both order and fold text in the same way. Versions may differ: indexes are rebuilt.
    pub fn agrees_with(&self, other: &Locale) -> bool {
        let key = |locale: &Locale| {
            (
                locale.encoding.clone(),
                locale.provider,
                canonical_locale(&locale.collate),
                canonical_locale(&locale.ctype),
                locale.locale.clone(),
                locale.rules.clone(),
            )
        };
        key(self) == key(other)
    }
}

impl std::fmt::Display for Locale {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}, collate {}, ctype {}", self.encoding, self.collate, self.ctype)?;
        match (self.provider, &self.locale) {
            (Provider::Libc, _) | (_, None) => Ok(()),
            (Provider::Icu, Some(locale)) => write!(out, ", ICU {locale}"),
            (Provider::Builtin, Some(locale)) => write!(out, ", built-in {locale}"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    Libc,
    Icu,
    Builtin,
}

/// `en_US.utf8` and `en_US.UTF-8` are one locale.
pub fn canonical_locale(name: &str) -> String {
    match name.split_once('.') {
        Some((language, encoding)) => {
            let (encoding, modifier) = encoding.split_once('@').unwrap_or((encoding, ""));
            let encoding: String =
                encoding.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
            format!("{language}.{}@{modifier}", encoding.to_ascii_lowercase())
        }
        None => name.to_owned(),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    pub name: String,
    pub version: String,
    pub schema: String,
    /// Whether it keeps rows of the operator's in tables of its own.
    pub has_settings: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub schema: String,
    pub name: String,
    /// The planner's estimate; negative where it never looked.
    pub rows_estimate: i64,
    /// With TOAST, without indexes.
    pub heap_bytes: u64,
    pub index_bytes: u64,
}

/// Facts about the server that `session` is with. `server` tells where its disk is.
pub async fn inspect_server(
    server: &Server,
    session: &Session,
) -> Result<ServerFacts, DatabaseError> {
    let login = login(session).await?;
    let slots = "SELECT current_setting('max_connections')::bigint
            - current_setting('superuser_reserved_connections')::bigint
            - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')";
    Ok(ServerFacts {
        label: session.server().to_owned(),
        version: session.version(),
        wal_level: session
            .value("read wal_level", "SELECT current_setting('wal_level')", &[])
            .await?,
        free_connections: session.value("count the connections", slots, &[]).await?,
        long_transactions: long_transactions(session).await?,
        roles: names(
            session,
            "list the roles",
            "SELECT rolname::text FROM pg_roles WHERE rolcanlogin ORDER BY 1",
        )
        .await?,
        databases: names(
            session,
            "list the databases",
            "SELECT datname::text FROM pg_database WHERE NOT datistemplate ORDER BY 1",
        )
        .await?,
        available_extensions: available_extensions(session).await?,
        locales: locales(server, session).await?,
        has_icu: session
            .value(
                "look for ICU",
                "SELECT EXISTS (SELECT FROM pg_collation WHERE collprovider = 'i')",
                &[],
            )
            .await?,
        disk_free_bytes: disk_free(server, session, &login).await?,
        login,
    })
}

async fn login(session: &Session) -> Result<Login, DatabaseError> {
    let action = "read the rights of the login";
    let sql = "SELECT rolname::text, rolsuper, rolcreatedb OR rolsuper, rolcreaterole OR rolsuper
               FROM pg_roles WHERE rolname = current_user";
    let row = session.row(action, sql, &[]).await?;
    Ok(Login {
        name: session.get(action, &row, 0)?,
        is_superuser: session.get(action, &row, 1)?,
        can_create_databases: session.get(action, &row, 2)?,
        can_create_roles: session.get(action, &row, 3)?,
    })
}

async fn long_transactions(session: &Session) -> Result<Vec<String>, DatabaseError> {
    let sql = "SELECT format('%s, %s s, %s', usename,
                   extract(epoch FROM now() - xact_start)::bigint, coalesce(state, '?'))
               FROM pg_stat_activity
               WHERE xact_start < now() - interval '1 minute' AND pid <> pg_backend_pid()
                 AND backend_type = 'client backend'
               ORDER BY xact_start LIMIT 10";
    names(session, "look for long transactions", sql).await
}

async fn available_extensions(session: &Session) -> Result<Vec<AvailableExtension>, DatabaseError> {
    let action = "list the available extensions";
    // Trusted extensions came with PostgreSQL 13.
    let trusted = if session.version().major() >= 13 { "bool_or(trusted)" } else { "false" };
    let sql = format!(
        "SELECT name::text, {trusted} FROM pg_available_extension_versions GROUP BY 1 ORDER BY 1"
    );
    let rows = session.rows(action, &sql, &[]).await?;
    rows.iter()
        .map(|row| {
            Ok(AvailableExtension {
                name: session.get(action, row, 0)?,
                trusted: session.get(action, row, 1)?,
            })
        })
        .collect()
}

/// What `CREATE DATABASE` would accept. The catalogs know what was there at initdb, `locale -a`
/// what is there now, where the server is on the machine that we are on.
async fn locales(server: &Server, session: &Session) -> Result<Vec<String>, DatabaseError> {
    let sql = "SELECT collcollate::text FROM pg_collation
                   WHERE collprovider = 'c' AND collcollate <> ''
               UNION SELECT datcollate::text FROM pg_database
               UNION SELECT datctype::text FROM pg_database";
    let mut found = names(session, "list the locales", sql).await?;
    found.extend(["C".to_owned(), "POSIX".to_owned()]);
    if is_on_host(&server.address) {
        let output =
            run(&*server.host, &Command::script("locale -a 2>/dev/null || true", &[])).await?;
        found.extend(output.text().lines().map(str::to_owned));
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// Free bytes of the file system that holds the data directory; `None` where we may not know.
async fn disk_free(
    server: &Server,
    session: &Session,
    login: &Login,
) -> Result<Option<u64>, DatabaseError> {
    if !login.is_superuser || !is_on_host(&server.address) {
        return Ok(None);
    }
    let dir: String = session
        .value("find the data directory", "SELECT current_setting('data_directory')", &[])
        .await?;
    // A file system can be asked about a directory above, which we can reach.
    let script = r#"d="$1"; while ! df -B1 --output=avail -- "$d" 2>/dev/null; do
        [ "$d" = / ] && exit 1; d=$(dirname -- "$d"); done"#;
    let output = run(&*server.host, &Command::script(script, &[&dir])).await?;
    Ok(output.text().lines().last().and_then(|line| line.trim().parse().ok()))
}

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
    let provider = match letter.as_str() {
        "c" => Provider::Libc,
        "i" => Provider::Icu,
        "b" => Provider::Builtin,
        other => return Err(session.nonsense(action, &format!("collation provider {other:?}"))),
    };
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

/// The condition that an object, in schema `n`, is of the operator's making: in none of the
/// system's schemas, and no part of an extension.
pub(super) fn ours(oid: &str, catalog: &str) -> String {
    format!(
        "n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
         AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = '{catalog}'::regclass
                         AND x.objid = {oid} AND x.deptype = 'e')"
    )
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

const SETTINGS: &str = "
    SELECT unnest(s.setconfig) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
    WHERE d.datname = current_database() ORDER BY 1";

/// The first column of every row, as text.
async fn names(
    session: &Session,
    action: &'static str,
    sql: &str,
) -> Result<Vec<String>, DatabaseError> {
    let rows = session.rows(action, sql, &[]).await?;
    rows.iter().map(|row| session.get(action, row, 0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_spellings_of_a_locale_are_one() {
        assert_eq!(canonical_locale("en_US.UTF-8"), canonical_locale("en_US.utf8"));
        assert_eq!(
            canonical_locale("de_DE.ISO8859-1@euro"),
            canonical_locale("de_DE.iso88591@euro")
        );
        assert_ne!(canonical_locale("C"), canonical_locale("C.UTF-8"));
        assert_ne!(canonical_locale("en_US.UTF-8"), canonical_locale("de_DE.UTF-8"));
    }
}
