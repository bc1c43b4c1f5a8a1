//! Compares two databases by another path than the copy took: each value is read by its type and
//! digested where it lies, by a script, so that only digests travel; keys too large for that are
//! compared in windows. Then the target is searched for keys that the source does not have.

use ::redis::{Value, cmd, pipe};

use super::RedisError;
use super::by_type::{Entry, WINDOW_BYTES, WINDOW_ELEMENTS, entries_after, shown};
use super::copy::{batches, scan};
use super::link::Link;
use super::rules::travels;

const SCRIPT: &str = include_str!("digest.lua");
/// How far apart two expiries may be: they are read one after the other.
pub const TTL_MILLIS_APART: i64 = 5_000;
/// How many differences are told by name.
const TOLD_MAX: usize = 20;

/// What a comparison found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Keys that are the same on both sides.
    pub keys: u64,
    pub differences: u64,
    /// The first of them, each with its key.
    pub told: Vec<String>,
}

impl Verified {
    fn tell(&mut self, key: &[u8], what: &str) {
        self.differences += 1;
        if self.told.len() < TOLD_MAX {
            self.told.push(format!("{}: {what}", shown(key)));
        }
    }
}

/// Compares every key that travels. Read-only; both sides should be at rest.
pub async fn verify(
    source: &Link,
    target: &Link,
    namespace: Option<&str>,
) -> Result<Verified, RedisError> {
    let mut verified = Verified::default();
    let mut cursor = 0;
    loop {
        let (next, mut keys) = scan(source, cursor).await?;
        keys.retain(|key| travels(key, namespace));
        let (batches, large) = batches(source, keys).await?;
        for batch in batches {
            compare(source, target, batch, &mut verified).await?;
        }
        for key in large {
            match differs(source, target, &key).await? {
                Some(what) => verified.tell(&key, &what),
                None => verified.keys += 1,
            }
        }
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    search_for_more(source, target, namespace, &mut verified).await?;
    Ok(verified)
}

/// Keys of the target that the source does not have.
async fn search_for_more(
    source: &Link,
    target: &Link,
    namespace: Option<&str>,
    verified: &mut Verified,
) -> Result<(), RedisError> {
    let mut cursor = 0;
    loop {
        let (next, mut keys) = scan(target, cursor).await?;
        keys.retain(|key| travels(key, namespace));
        let mut asked = pipe();
        for key in &keys {
            asked.cmd("EXISTS").arg(key);
        }
        let there = source.ask_each::<u64>("EXISTS", &mut asked).await?;
        for (key, there) in keys.iter().zip(there) {
            // What expires soon may have done so on one side only.
            if there == 0 && !is_short_lived(target.ask(cmd("PTTL").arg(key)).await?) {
                verified.tell(key, "only on the new server");
            }
        }
        cursor = next;
        if cursor == 0 {
            return Ok(());
        }
    }
}

fn is_short_lived(ttl_millis: i64) -> bool {
    ttl_millis != -1 && ttl_millis < TTL_MILLIS_APART
}

/// Type, digest, time to live.
type Answer = (String, String, i64);

async fn compare(
    source: &Link,
    target: &Link,
    keys: Vec<Vec<u8>>,
    verified: &mut Verified,
) -> Result<(), RedisError> {
    let script = cmd("EVAL").arg(SCRIPT).arg(keys.len()).arg(&keys).clone();
    let (ours, theirs) =
        tokio::try_join!(source.ask::<Vec<Answer>>(&script), target.ask::<Vec<Answer>>(&script))?;
    if ours.len() != keys.len() || theirs.len() != keys.len() {
        return Err(target.unexpected("EVAL"));
    }
    for ((key, ours), theirs) in keys.iter().zip(ours).zip(theirs) {
        match difference(&ours, &theirs) {
            Some(what) => verified.tell(key, &what),
            None => verified.keys += 1,
        }
    }
    Ok(())
}

fn difference(source: &Answer, target: &Answer) -> Option<String> {
    if source.0 == "none" || (target.0 == "none" && is_short_lived(source.2)) {
        // It expired since the scan.
        return None;
    }
    if target.0 == "none" {
        return Some("not on the new server".to_owned());
    }
    if source.0 != target.0 {
        return Some(format!("a {} on the old server, a {} on the new one", source.0, target.0));
    }
    if source.1.is_empty() {
        return Some(format!("of the type {}, which cannot be compared", source.0));
    }
    if source.1 != target.1 {
        return Some("another value on the new server".to_owned());
    }
    ttl_difference(source.2, target.2)
}

fn ttl_difference(source: i64, target: i64) -> Option<String> {
    let same = if source < 0 || target < 0 {
        source == target
    } else {
        (source - target).abs() <= TTL_MILLIS_APART
    };
    (!same).then(|| format!("expires in {source} ms on the old server, {target} ms on the new one"))
}

/// How a large key differs, compared window by window.
async fn differs(source: &Link, target: &Link, key: &[u8]) -> Result<Option<String>, RedisError> {
    let kind: String = source.ask(cmd("TYPE").arg(key)).await?;
    let other: String = target.ask(cmd("TYPE").arg(key)).await?;
    if kind == "none" {
        return Ok(None);
    }
    if kind != other {
        return Ok(Some(format!("a {kind} on the old server, a {other} on the new one")));
    }
    let count = match kind.as_str() {
        "string" => "STRLEN",
        "list" => "LLEN",
        "set" => "SCARD",
        "hash" => "HLEN",
        "zset" => "ZCARD",
        "stream" => "XLEN",
        _ => return Ok(Some(format!("of the type {kind}, which cannot be compared"))),
    };
    let count = cmd(count).arg(key).clone();
    let (ours, theirs): (u64, u64) = (source.ask(&count).await?, target.ask(&count).await?);
    if ours != theirs {
        return Ok(Some(format!("{ours} elements on the old server, {theirs} on the new one")));
    }
    let same = match kind.as_str() {
        "set" | "hash" => is_contained(source, target, key, &kind).await?,
        "stream" => is_same_stream(source, target, key).await?,
        _ => is_same_in_windows(source, target, key, &kind, ours).await?,
    };
    if !same {
        return Ok(Some("another value on the new server".to_owned()));
    }
    let ttl = cmd("PTTL").arg(key).clone();
    Ok(ttl_difference(source.ask(&ttl).await?, target.ask(&ttl).await?))
}

async fn is_same_in_windows(
    source: &Link,
    target: &Link,
    key: &[u8],
    kind: &str,
    count: u64,
) -> Result<bool, RedisError> {
    let (read, step) = match kind {
        "string" => ("GETRANGE", WINDOW_BYTES),
        "list" => ("LRANGE", WINDOW_ELEMENTS),
        _ => ("ZRANGE", WINDOW_ELEMENTS),
    };
    for at in (0..count as i64).step_by(step as usize) {
        let mut window = cmd(read).arg(key).arg(at).arg(at + step - 1).clone();
        if kind == "zset" {
            window.arg("WITHSCORES");
        }
        let (ours, theirs) =
            tokio::try_join!(source.ask::<Value>(&window), target.ask::<Value>(&window))?;
        let same = if kind == "zset" { scores(ours) == scores(theirs) } else { ours == theirs };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Members and scores, the latter as bits: versions print them differently.
fn scores(window: Value) -> Option<Vec<(Vec<u8>, u64)>> {
    let pairs: Vec<(Vec<u8>, f64)> = ::redis::from_redis_value(window).ok()?;
    Some(pairs.into_iter().map(|(member, score)| (member, score.to_bits())).collect())
}

async fn is_same_stream(source: &Link, target: &Link, key: &[u8]) -> Result<bool, RedisError> {
    let mut last: Option<String> = None;
    loop {
        let window = entries_after(key, last.as_deref());
        let (ours, theirs) =
            tokio::try_join!(source.ask::<Vec<Entry>>(&window), target.ask::<Vec<Entry>>(&window))?;
        if ours != theirs {
            return Ok(false);
        }
        match ours.last() {
            Some((id, _)) => last = Some(id.clone()),
            None => return Ok(true),
        }
    }
}

/// Whether every element of the source's set or hash is in the target's. With equal counts that
/// makes them equal.
async fn is_contained(
    source: &Link,
    target: &Link,
    key: &[u8],
    kind: &str,
) -> Result<bool, RedisError> {
    let scan = if kind == "set" { "SSCAN" } else { "HSCAN" };
    let mut cursor = 0_u64;
    loop {
        let page = cmd(scan).arg(key).arg(cursor).arg("COUNT").arg(WINDOW_ELEMENTS).clone();
        let (next, window): (u64, Vec<Vec<u8>>) = source.ask(&page).await?;
        let mut asked = pipe();
        if kind == "set" {
            for member in &window {
                asked.cmd("SISMEMBER").arg(key).arg(member);
            }
            let there = target.ask_each::<u64>("SISMEMBER", &mut asked).await?;
            if there.contains(&0) {
                return Ok(false);
            }
        } else {
            for pair in window.chunks_exact(2) {
                asked.cmd("HGET").arg(key).arg(&pair[0]);
            }
            let values = target.ask_each::<Option<Vec<u8>>>("HGET", &mut asked).await?;
            let same =
                |(pair, value): (&[Vec<u8>], Option<Vec<u8>>)| value.as_ref() == Some(&pair[1]);
            if !window.chunks_exact(2).zip(values).all(same) {
                return Ok(false);
            }
        }
        cursor = next;
        if cursor == 0 {
            return Ok(true);
        }
    }
}
