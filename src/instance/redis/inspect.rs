//! What a Redis is and holds, and whether another one can take it over.

use std::collections::BTreeMap;
use std::fmt;

use ::redis::{Value, cmd};

use super::rules::processes_key;
use super::{Link, MARKER, RedisError};

/// Which of the kindred servers it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flavour {
    Redis,
    Valkey,
    KeyDb,
    Dragonfly,
}

impl fmt::Display for Flavour {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Flavour::Redis => "Redis",
            Flavour::Valkey => "Valkey",
            Flavour::KeyDb => "KeyDB",
            Flavour::Dragonfly => "Dragonfly",
        })
    }
}

/// What a server says about itself, and what our database of it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    pub flavour: Flavour,
    pub version: String,
    /// The format of what it dumps; read from a dump where there is a key, else from the version.
    pub rdb_version: Option<u16>,
    pub used_memory_bytes: u64,
    /// Keys of each database that has any.
    pub databases: BTreeMap<u32, u64>,
    /// Keys of the database of the link.
    pub keys: u64,
    /// `master` or `slave`.
    pub role: String,
    pub appends_only: bool,
    /// Seconds since 1970 of the last save that worked.
    pub saved_at_secs: u64,
    /// Members of Sidekiq's `processes`, dead ones included.
    pub sidekiq_processes: u64,
    /// The run that filled the database, if that was us.
    pub filled_by: Option<String>,
}

/// Whether a dump was taken by the other server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A key went over and came out the same.
    Accepted,
    /// The copy has to go type by type; why.
    Refused(String),
    /// There is no key to try with.
    NothingToTry,
}

/// Looks at the server. Read-only. `namespace` is Mastodon's `REDIS_NAMESPACE`.
pub async fn inspect(link: &Link, namespace: Option<&str>) -> Result<Inventory, RedisError> {
    let text: String = link.ask(&cmd("INFO")).await?;
    let info = fields(&text);
    let get = |name: &str| info.get(name).copied().unwrap_or_default();
    let number = |name: &str| get(name).parse::<u64>().unwrap_or_default();
    let flavour = flavour(&info);
    let version = match flavour {
        Flavour::Valkey if !get("valkey_version").is_empty() => get("valkey_version"),
        Flavour::Dragonfly => get("dragonfly_version"),
        Flavour::Redis | Flavour::Valkey | Flavour::KeyDb => get("redis_version"),
    };
    let databases = databases(&info);
    Ok(Inventory {
        flavour,
        version: version.to_owned(),
        rdb_version: rdb_version(link, flavour, version).await?,
        used_memory_bytes: number("used_memory"),
        keys: link.ask(&cmd("DBSIZE")).await?,
        databases,
        role: get("role").to_owned(),
        appends_only: get("aof_enabled") == "1",
        saved_at_secs: number("rdb_last_save_time"),
        sidekiq_processes: link.ask(cmd("SCARD").arg(processes_key(namespace))).await?,
        filled_by: link.ask(cmd("HGET").arg(MARKER).arg("run")).await?,
    })
}

fn name(side: &Inventory) -> String {
    format!("{} {}", side.flavour, side.version)
}

/// Whether `target` takes what `source` dumps; one line of evidence, or why not.
pub fn compatible(source: &Inventory, target: &Inventory) -> Result<String, RedisError> {
    let told = |side: &Inventory| format!("{} ({})", side.version, side.flavour);
    let refuse = |reason: String| {
        Err(RedisError::Incompatible { source_version: told(source), target: told(target), reason })
    };
    if target.role == "slave" {
        return refuse("it is a replica, which takes no writes".to_owned());
    }
    match (source.rdb_version, target.rdb_version) {
        (Some(wrote), Some(reads)) if wrote > reads => {
            refuse(format!("dump format {wrote} is newer than {reads}"))
        }
        // Valkey went its own way from format 80 on, and does not take Redis's 12 to 79.
        (Some(wrote), Some(reads)) if reads >= 80 && (12..80).contains(&wrote) => {
            refuse(format!("dump format {wrote} is Redis's own"))
        }
        (Some(wrote), Some(reads)) => {
            if source.flavour == target.flavour && source.version == target.version {
                return Ok(format!("{} on both sides", name(source)));
            }
            Ok(format!("{} → {}, dump format {wrote} → {reads}", name(source), name(target)))
        }
        (None, _) | (_, None) => Ok(format!(
            "{} → {}, dump format not known: keys that are refused are copied by type",
            name(source),
            name(target)
        )),
    }
}

/// Sends one key of the source into the target and takes it out again. It writes: only for the
/// copying phase.
pub async fn prove(source: &Link, target: &Link) -> Result<Proof, RedisError> {
    let Some(dump) = any_dump(source).await? else { return Ok(Proof::NothingToTry) };
    let place = "transhume:proof";
    let restore = cmd("RESTORE").arg(place).arg(60_000).arg(dump).arg("REPLACE").clone();
    let tried = target.ask::<Value>(&restore).await;
    match tried {
        Ok(_) => {
            target.ask::<u64>(cmd("DEL").arg(place)).await?;
            Ok(Proof::Accepted)
        }
        Err(RedisError::Refused { problem, .. }) if refuses_the_dump(&problem) => {
            Ok(Proof::Refused(problem))
        }
        Err(other) => Err(other),
    }
}

/// Whether this is RESTORE not reading the dump, rather than not being allowed to.
pub(super) fn refuses_the_dump(problem: &str) -> bool {
    let problem = problem.to_lowercase();
    problem.contains("payload version or checksum") || problem.contains("bad data format")
}

async fn any_dump(link: &Link) -> Result<Option<Vec<u8>>, RedisError> {
    let Some(key) = link.ask::<Option<Vec<u8>>>(&cmd("RANDOMKEY")).await? else { return Ok(None) };
    // A dump of a huge key is not worth its bytes.
    const TRIED_BYTES_MAX: u64 = 1 << 20;
    let size = link.ask::<Option<u64>>(cmd("MEMORY").arg("USAGE").arg(&key)).await;
    if !size.is_ok_and(|size| size.is_some_and(|size| size <= TRIED_BYTES_MAX)) {
        return Ok(None);
    }
    link.ask(cmd("DUMP").arg(key)).await
}

/// A dump ends with two bytes of format and eight of checksum.
async fn rdb_version(
    link: &Link,
    flavour: Flavour,
    version: &str,
) -> Result<Option<u16>, RedisError> {
    let dump = any_dump(link).await?;
    let read = dump.as_ref().and_then(|dump| {
        let tail = dump.len().checked_sub(10)?;
        Some(u16::from_le_bytes([dump[tail], dump[tail + 1]]))
    });
    Ok(read.or_else(|| by_version(flavour, version)))
}

fn by_version(flavour: Flavour, version: &str) -> Option<u16> {
    let mut parts = version.split('.').map(|part| part.parse::<u16>().unwrap_or_default());
    let version = (parts.next()?, parts.next()?);
    match flavour {
        Flavour::Redis => Some(match version {
            (0..=3, _) => return None,
            (4, _) => 8,
            (5 | 6, _) => 9,
            (7, 0 | 1) => 10,
            (7, 2 | 3) => 11,
            (7, _) | (8, 0 | 1) => 12,
            (8, _) => 13,
            (9.., _) => return None,
        }),
        Flavour::Valkey => match version {
            (7 | 8, _) => Some(11),
            (9, _) => Some(80),
            _ => None,
        },
        Flavour::KeyDb | Flavour::Dragonfly => None,
    }
}

fn flavour(info: &BTreeMap<&str, &str>) -> Flavour {
    let get = |name: &str| info.get(name).copied().unwrap_or_default();
    if get("server_name") == "valkey" || info.contains_key("valkey_version") {
        Flavour::Valkey
    } else if info.contains_key("dragonfly_version") {
        Flavour::Dragonfly
    } else if get("executable").contains("keydb") || info.contains_key("mvcc_depth") {
        Flavour::KeyDb
    } else {
        Flavour::Redis
    }
}

fn fields(info: &str) -> BTreeMap<&str, &str> {
    info.lines().filter_map(|line| line.trim_end().split_once(':')).collect()
}

fn databases(info: &BTreeMap<&str, &str>) -> BTreeMap<u32, u64> {
    info.iter()
        .filter_map(|(name, value)| {
            let number = name.strip_prefix("db")?.parse().ok()?;
            let keys = value.split(',').find_map(|part| part.strip_prefix("keys="))?;
            Some((number, keys.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(flavour: Flavour, version: &str) -> Inventory {
        Inventory {
            flavour,
            version: version.into(),
            rdb_version: by_version(flavour, version),
            used_memory_bytes: 0,
            databases: BTreeMap::new(),
            keys: 0,
            role: "master".into(),
            appends_only: false,
            saved_at_secs: 0,
            sidekiq_processes: 0,
            filled_by: None,
        }
    }

    #[test]
    fn a_newer_dump_is_refused_beforehand() {
        use Flavour::{KeyDb, Redis, Valkey};
        for (source, target, fits) in [
            ((Redis, "7.0.15"), (Redis, "7.0.15"), true),
            ((Redis, "6.2.14"), (Redis, "7.2.4"), true),
            ((Redis, "7.4.1"), (Redis, "7.2.4"), false),
            ((Redis, "7.4.1"), (Valkey, "7.2.8"), false),
            ((Redis, "7.2.4"), (Valkey, "8.0.1"), true),
            ((Valkey, "8.0.1"), (Redis, "7.4.0"), true),
            ((Valkey, "9.0.0"), (Redis, "8.2.0"), false),
            ((Redis, "8.2.0"), (Valkey, "9.0.0"), false),
            ((KeyDb, "6.3.4"), (Redis, "7.0.0"), true),
        ] {
            let result = compatible(&side(source.0, source.1), &side(target.0, target.1));
            assert_eq!(result.is_ok(), fits, "{source:?} {target:?}: {result:?}");
        }
        let error = compatible(&side(Redis, "8.2.0"), &side(Redis, "7.0.15")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Redis 7.0.15 (Redis) on the new server cannot read what Redis 8.2.0 (Redis) writes: \
             dump format 13 is newer than 10"
        );
    }

    #[test]
    fn a_replica_takes_nothing() {
        let replica = Inventory { role: "slave".into(), ..side(Flavour::Redis, "7.0.15") };
        assert!(compatible(&side(Flavour::Redis, "7.0.15"), &replica).is_err());
    }

    #[test]
    fn servers_are_told_apart() {
        let flavour_of = |text| flavour(&fields(text));
        assert_eq!(flavour_of("redis_version:7.2.4\r\nserver_name:valkey\r\n"), Flavour::Valkey);
        assert_eq!(flavour_of("executable:/usr/bin/keydb-server\r\n"), Flavour::KeyDb);
        assert_eq!(
            flavour_of("redis_version:7.4.0\r\ndragonfly_version:df-v1.2\r\n"),
            Flavour::Dragonfly
        );
        assert_eq!(
            databases(&fields("db0:keys=12,expires=1\r\ndb3:keys=4,expires=0")),
            BTreeMap::from([(0, 12), (3, 4)])
        );
    }
}
