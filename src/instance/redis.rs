//! Redis: what it holds, and moving it key by key into an empty one.
//!
//! In flow two connections (a [`Link`] each, through [`Host::connect`](crate::host::Host::connect), so the server need not be
//! reachable from here); out flow an [`Inventory`], the figures of a [`copy`](copy::copy) and of
//! its [`verify`](verify::verify). Keys and values are bytes. Values never appear in a message:
//! jobs hold addresses and tokens.
//!
//! What goes wrong without it: without the queues, deliveries under way are lost; an older Redis
//! cannot read what a newer one dumps; and a second load of the same jobs runs them twice.

pub mod by_type;
pub mod copy;
pub mod inspect;
pub mod link;
pub mod rules;
pub mod verify;

use crate::error::{Advice, Retry};
use crate::host::HostError;
use crate::instance::probe::TlsError;
pub use copy::{Copied, clear, copy, forget};
pub use inspect::{Flavour, Inventory, Proof, compatible, inspect, prove};
pub use link::Link;
pub use verify::{Verified, verify};

/// The key that says which run filled a database.
pub const MARKER: &str = "transhume:run";

/// Why Redis could not be read or filled.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    #[error(transparent)]
    Host(HostError),
    #[error("no TLS with Redis at {server}")]
    TlsHandshake { server: String, source: std::io::Error },
    #[error("cannot use TLS")]
    Tls(#[from] TlsError),
    #[error("Redis at {server} did not accept the login: {problem}")]
    Login { server: String, problem: String },
    #[error("Redis at {server} answered {command} with an error: {problem}")]
    Refused { server: String, command: String, problem: String },
    #[error("the connection to Redis at {server} was lost during {command}: {problem}")]
    Lost { server: String, command: String, problem: String },
    #[error("Redis at {server} answered {command} with something else than expected")]
    Answer { server: String, command: String },
    #[error("Redis at {server} is not empty: database {db} holds {keys} keys that are not ours")]
    NotEmpty { server: String, db: u32, keys: u64 },
    #[error("Redis at {server} was filled by another run, {run}")]
    OtherRun { server: String, run: String },
    #[error("Redis at {server} is in use: {processes} Sidekiq processes work from it")]
    InUse { server: String, processes: u64 },
    #[error(
        "Redis {target} on the new server cannot read what Redis {source_version} writes: {reason}"
    )]
    Incompatible { source_version: String, target: String, reason: String },
    #[error("key {key:?} has the type {kind}, which transhume cannot copy")]
    UnknownType { key: String, kind: String },
    #[error(
        "key {key:?} has {source_elements} elements on the old server and {target_elements} on the new one"
    )]
    Incomplete { key: String, source_elements: u64, target_elements: u64 },
}

impl Advice for RedisError {
    fn hint(&self) -> Option<String> {
        match self {
            RedisError::Host(source @ HostError::Connect { .. }) => source.hint().or_else(|| {
                let text = "check that it runs (`systemctl status redis-server`) and listens \
                            there, or correct REDIS_HOST and REDIS_PORT of that side";
                Some(text.into())
            }),
            RedisError::Host(source) => source.hint(),
            RedisError::Tls(source) => source.hint(),
            RedisError::Login { .. } => Some(
                "check REDIS_PASSWORD in .env.production, or set `redis_url` of that side".into(),
            ),
            RedisError::NotEmpty { .. } => Some(
                "look at it with `redis-cli --scan`; if nothing in it is needed, empty it with \
                 `redis-cli FLUSHDB` on the new server, or name another database"
                    .into(),
            ),
            RedisError::OtherRun { run, .. } => Some(format!(
                "finish or roll back run {run}, or empty it with `redis-cli FLUSHDB` on the new server"
            )),
            RedisError::InUse { .. } => {
                Some("stop Sidekiq on the new server: `systemctl stop 'mastodon-sidekiq*'`".into())
            }
            RedisError::Incompatible { .. } => Some(
                "install the same or a newer Redis on the new server, or leave Redis behind with \
                 `redis.mode = \"skip\"` (queued jobs are lost then)"
                    .into(),
            ),
            RedisError::UnknownType { key, .. } => Some(format!(
                "Mastodon uses no such type; if it is not needed, delete {key:?} on the old server"
            )),
            RedisError::Lost { .. } | RedisError::Incomplete { .. } => {
                Some("run the same command again: the copy starts anew from an empty state".into())
            }
            RedisError::TlsHandshake { .. }
            | RedisError::Refused { .. }
            | RedisError::Answer { .. } => None,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            RedisError::Host(source) => source.retry(),
            RedisError::Lost { .. } => Retry::Unknown,
            RedisError::TlsHandshake { .. } | RedisError::Incomplete { .. } => Retry::Safe,
            RedisError::Tls(_)
            | RedisError::Login { .. }
            | RedisError::Refused { .. }
            | RedisError::Answer { .. }
            | RedisError::NotEmpty { .. }
            | RedisError::OtherRun { .. }
            | RedisError::InUse { .. }
            | RedisError::Incompatible { .. }
            | RedisError::UnknownType { .. } => Retry::Never,
        }
    }
}
