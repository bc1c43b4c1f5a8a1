//! What else Mastodon keeps its data in, from its variables: Redis, object storage,
//! Elasticsearch; the domains it answers to; the secrets it cannot do without. Pure.

mod redis;

use crate::secret::Secret;

use super::layout::Version;
use super::variables::{Variables, filled, filled_secret, is_true, text};
pub use redis::{RedisAddress, RedisAddressError, RedisStores, redis_stores};

/// Tables that every Mastodon has, whatever its version: by them its database is known.
pub const TABLES: [&str; 4] = ["accounts", "schema_migrations", "statuses", "users"];

/// Where uploads are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaStore {
    /// Below [`media_path`](super::layout::media_path).
    Local,
    /// Elsewhere already: they stay where they are.
    Remote { kind: RemoteKind, bucket: Option<String> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteKind {
    S3,
    Swift,
    Azure,
}

/// Where uploads are kept, asked in Mastodon's order.
pub fn media_store(variables: &dyn Variables) -> MediaStore {
    let kinds = [
        ("S3_ENABLED", RemoteKind::S3, "S3_BUCKET"),
        ("SWIFT_ENABLED", RemoteKind::Swift, "SWIFT_CONTAINER"),
        ("AZURE_ENABLED", RemoteKind::Azure, "AZURE_CONTAINER_NAME"),
    ];
    kinds.into_iter().find(|(enabled, _, _)| is_true(variables, enabled)).map_or(
        MediaStore::Local,
        |(_, kind, bucket)| MediaStore::Remote { kind, bucket: filled(variables, bucket) },
    )
}

/// A search index: derived data, built anew with `tootctl search deploy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elasticsearch {
    /// May begin with `https://`.
    pub host: String,
    pub port: String,
    pub prefix: Option<String>,
    pub user: Option<String>,
    pub password: Option<Secret>,
}

/// The search index, if Mastodon uses one.
pub fn elasticsearch(variables: &dyn Variables) -> Option<Elasticsearch> {
    is_true(variables, "ES_ENABLED").then(|| Elasticsearch {
        host: text(variables, "ES_HOST").unwrap_or_else(|| "localhost".into()),
        port: text(variables, "ES_PORT").unwrap_or_else(|| "9200".into()),
        prefix: filled(variables, "ES_PREFIX").or_else(|| filled(variables, "REDIS_NAMESPACE")),
        user: filled(variables, "ES_USER"),
        password: filled_secret(variables, "ES_PASS"),
    })
}

/// The names Mastodon answers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domains {
    /// In the accounts' names.
    pub local: String,
    /// In the URLs; often the same.
    pub web: String,
    pub alternates: Vec<String>,
}

impl Domains {
    /// Every name once, the one that serves first.
    pub fn all(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for name in [&self.web, &self.local].into_iter().chain(&self.alternates) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }
}

/// The names Mastodon answers to; `None` without `LOCAL_DOMAIN`, where nothing federates.
pub fn domains(variables: &dyn Variables) -> Option<Domains> {
    let name = |key| filled(variables, key).map(|name| name.trim().to_ascii_lowercase());
    let local = name("LOCAL_DOMAIN")?;
    let alternates = name("ALTERNATE_DOMAINS").unwrap_or_default();
    let alternates = alternates.split(',').map(|name| name.trim().to_owned());
    Some(Domains {
        web: name("WEB_DOMAIN").unwrap_or_else(|| local.clone()),
        local,
        alternates: alternates.filter(|name| !name.is_empty()).collect(),
    })
}

/// The secrets without which this version does not start, or what is stored cannot be read. An
/// unknown version is taken for a new one.
pub fn missing_secrets(variables: &dyn Variables, version: Option<&Version>) -> Vec<&'static str> {
    let mut keys = vec!["SECRET_KEY_BASE", "VAPID_PRIVATE_KEY", "VAPID_PUBLIC_KEY"];
    if version.is_none_or(|version| version.at_least(4, 3)) {
        keys.extend([
            "ACTIVE_RECORD_ENCRYPTION_PRIMARY_KEY",
            "ACTIVE_RECORD_ENCRYPTION_DETERMINISTIC_KEY",
            "ACTIVE_RECORD_ENCRYPTION_KEY_DERIVATION_SALT",
        ]);
    } else {
        keys.push("OTP_SECRET");
    }
    keys.retain(|key| filled_secret(variables, key).is_none());
    keys
}

#[cfg(test)]
mod tests;
