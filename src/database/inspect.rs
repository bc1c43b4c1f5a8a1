//! What is on a server and in a database, as facts: the ground for [`super::preflight`] and
//! [`super::target`]. Only reads, and only catalogs: cheap on a live server.

mod database;
mod server;

use super::{DatabaseError, Session, Version};

pub use database::inspect_database;
pub use server::inspect_server;

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
    /// Transactions older than a minute, oldest first: `mastodon, 312 s, idle in transaction,
    /// process 4711`.
    pub long_transactions: Vec<String>,
    /// Roles that may log in.
    pub roles: Vec<String>,
    /// All roles, also those that may not.
    pub roles_all: Vec<String>,
    pub databases: Vec<String>,
    /// Extensions that could be created here.
    pub available_extensions: Vec<AvailableExtension>,
    /// Locales of the system that databases and collations here use or `locale -a` lists.
    pub locales: Vec<String>,
    pub has_icu: bool,
    /// The collations in `pg_catalog`.
    pub collations: Vec<String>,
    /// `max_wal_size`: what a load may take on top of what it leaves.
    pub wal_bytes_max: u64,
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
    /// Indexes that never became valid: left out by pg_dump.
    pub invalid_indexes: Vec<String>,
    /// Roles that row security policies name.
    pub policy_roles: Vec<String>,
    /// Collations that columns or indexes use, and the operator's own.
    pub collations: Vec<Collation>,
    /// Those of them whose version is not the system's any more.
    pub collations_changed: Vec<String>,
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

/// A collation beside the database's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collation {
    pub name: String,
    pub provider: Provider,
    /// The locale behind it; empty where the version does not tell.
    pub locale: String,
    /// It came with the system, and is not made by a dump.
    pub is_systems: bool,
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

/// The condition that an object, in schema `n`, is of the operator's making: in none of the
/// system's schemas, and no part of an extension.
pub(super) fn ours(oid: &str, catalog: &str) -> String {
    format!(
        "n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
         AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = '{catalog}'::regclass
                         AND x.objid = {oid} AND x.deptype = 'e')"
    )
}

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
