//! Fills an empty Redis from another one, key by key, with expiry.
//!
//! The target's database must be empty; the first thing put there is a marker that names the run.
//! With it, and only with it, the same run may clear the database and start again, so that a copy
//! that was cut leaves nothing behind and puts no job twice. Memory: a few batches, each of at
//! most [`BATCH_BYTES_MAX`]; larger keys go by type, in windows.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use ::redis::{Value, cmd, pipe};

use super::by_type;
use super::inspect::refuses_the_dump;
use super::link::Link;
use super::rules::{processes_key, travels};
use super::{MARKER, RedisError};
use crate::event::{Event, Monitor, Progress};

/// How many keys one SCAN is asked for.
pub(super) const PAGE_KEYS: usize = 2_000;
/// How much one batch of dumps holds, as the source estimates it.
pub const BATCH_BYTES_MAX: u64 = 4 << 20;
/// Keys that the source says are larger than this are not dumped in one piece.
pub(super) const KEY_BYTES_MAX: u64 = 8 << 20;
/// Batches on their way to the target at the same time.
const FLYING_MAX: usize = 4;

/// Which copy this is.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    pub run: &'a str,
    /// Mastodon's `REDIS_NAMESPACE`.
    pub namespace: Option<&'a str>,
}

/// What a copy did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    pub keys: u64,
    pub bytes: u64,
    /// Keys that stay behind: see [`rules`](super::rules).
    pub excluded: u64,
    /// Keys whose dump the target did not take, or that are too large for one.
    pub by_type: u64,
    /// Keys that expired or were removed while they were copied.
    pub vanished: u64,
    pub problems: Vec<String>,
}

/// Copies every key that travels. The source should be at rest: what changes behind the scan is
/// not copied. Run again, it clears what it had put and starts anew.
pub async fn copy(
    source: &Link,
    target: &Link,
    options: &Options<'_>,
    monitor: &dyn Monitor,
) -> Result<Copied, RedisError> {
    claim(target, options).await?;
    let total: u64 = source.ask(&cmd("DBSIZE")).await?;
    let mut copied = Copied::default();
    let mut flying = FuturesUnordered::new();
    let mut slow: Vec<Vec<u8>> = Vec::new();
    let mut cursor = 0;
    loop {
        let (next, page) = scan(source, cursor).await?;
        let found = page.len() as u64;
        let keys: Vec<_> = page.into_iter().filter(|key| travels(key, options.namespace)).collect();
        copied.excluded += found - keys.len() as u64;
        let (batches, large) = batches(source, keys).await?;
        slow.extend(large);
        for batch in batches {
            let dumped = dump(source, batch, &mut copied).await?;
            if flying.len() == FLYING_MAX
                && let Some(landed) = flying.next().await
            {
                land(landed?, &mut copied, &mut slow);
            }
            flying.push(restore(target, dumped));
        }
        if !slow.is_empty() {
            // One at a time and with nothing else under way: a key may be told twice by SCAN, and
            // two copies of one list at the same time would double it.
            while let Some(landed) = flying.next().await {
                land(landed?, &mut copied, &mut slow);
            }
            for key in slow.drain(..) {
                copy_by_type(source, target, &key, &mut copied).await?;
            }
        }
        monitor.emit(Event::Progress(Progress {
            activity: "redis".into(),
            detail: None,
            items_done: copied.keys + copied.excluded,
            items_total: Some(total),
            bytes_done: copied.bytes,
            bytes_total: None,
        }));
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    while let Some(landed) = flying.next().await {
        land(landed?, &mut copied, &mut slow);
    }
    for key in slow.drain(..) {
        copy_by_type(source, target, &key, &mut copied).await?;
    }
    // Without what SCAN told twice, and without the marker.
    copied.keys = target.ask::<u64>(&cmd("DBSIZE")).await?.saturating_sub(1);
    Ok(copied)
}

/// Empties the target of what `run` put there: the undo. A database without a marker holds
/// nothing of ours and is left alone. May be run again.
pub async fn clear(target: &Link, options: &Options<'_>) -> Result<u64, RedisError> {
    match marker(target).await? {
        Some(found) if found == options.run => {}
        Some(run) => return Err(RedisError::OtherRun { server: target.server().into(), run }),
        None => return Ok(0),
    }
    let cleared = empty(target, options.namespace).await?;
    target.ask::<u64>(cmd("DEL").arg(MARKER)).await?;
    Ok(cleared)
}

/// Removes the marker alone: from now on the data is Mastodon's. May be run again.
pub async fn forget(target: &Link, run: &str) -> Result<(), RedisError> {
    match marker(target).await? {
        Some(found) if found == run => target.ask::<u64>(cmd("DEL").arg(MARKER)).await.map(drop),
        Some(run) => Err(RedisError::OtherRun { server: target.server().into(), run }),
        None => Ok(()),
    }
}

/// Marks an empty database as ours, or empties one that is.
async fn claim(target: &Link, options: &Options<'_>) -> Result<(), RedisError> {
    target.ask::<u64>(cmd("DEL").arg("transhume:proof")).await?;
    let keys: u64 = target.ask(&cmd("DBSIZE")).await?;
    match marker(target).await? {
        Some(found) if found == options.run => empty(target, options.namespace).await.map(drop),
        Some(run) => Err(RedisError::OtherRun { server: target.server().into(), run }),
        None if keys > 0 => Err(not_empty(target, keys)),
        None => {
            target.ask::<u64>(cmd("HSETNX").arg(MARKER).arg("run").arg(options.run)).await?;
            // Somebody may have come between the look and the mark.
            let keys: u64 = target.ask(&cmd("DBSIZE")).await?;
            if keys == 1 {
                return Ok(());
            }
            target.ask::<u64>(cmd("DEL").arg(MARKER)).await?;
            Err(not_empty(target, keys - 1))
        }
    }
}

fn not_empty(target: &Link, keys: u64) -> RedisError {
    RedisError::NotEmpty { server: target.server().into(), db: target.db, keys }
}

async fn marker(target: &Link) -> Result<Option<String>, RedisError> {
    target.ask(cmd("HGET").arg(MARKER).arg("run")).await
}

/// Deletes every key but the marker. Refused while a Sidekiq works from the database: then it is
/// no longer only what we put there.
async fn empty(target: &Link, namespace: Option<&str>) -> Result<u64, RedisError> {
    let processes: u64 = target.ask(cmd("SCARD").arg(processes_key(namespace))).await?;
    if processes > 0 {
        return Err(RedisError::InUse { server: target.server().into(), processes });
    }
    let mut cleared = 0;
    let mut cursor = 0;
    loop {
        let (next, keys) = scan(target, cursor).await?;
        let ours: Vec<_> = keys.into_iter().filter(|key| key != MARKER.as_bytes()).collect();
        if !ours.is_empty() {
            cleared += target.ask::<u64>(cmd("UNLINK").arg(ours)).await?;
        }
        cursor = next;
        if cursor == 0 {
            return Ok(cleared);
        }
    }
}

/// A page of keys and the cursor of the next one, 0 at the end.
pub(super) async fn scan(link: &Link, cursor: u64) -> Result<(u64, Vec<Vec<u8>>), RedisError> {
    link.ask(cmd("SCAN").arg(cursor).arg("COUNT").arg(PAGE_KEYS)).await
}

/// Batches of bounded size, and the keys that are too large for any.
pub(super) async fn batches(
    link: &Link,
    keys: Vec<Vec<u8>>,
) -> Result<(Vec<Vec<Vec<u8>>>, Vec<Vec<u8>>), RedisError> {
    /// For a key whose size the server does not tell.
    const SUPPOSED_BYTES: u64 = 4096;
    let mut sizes = pipe();
    for key in &keys {
        sizes.cmd("MEMORY").arg("USAGE").arg(key);
    }
    let sizes = link.ask_all("MEMORY USAGE", &mut sizes).await?;
    let (mut batches, mut large) = (vec![Vec::new()], Vec::new());
    let mut filled = 0;
    for (key, size) in keys.into_iter().zip(sizes) {
        let size = match size {
            Ok(Value::Int(size)) => size.unsigned_abs(),
            Ok(_) | Err(_) => SUPPOSED_BYTES,
        };
        if size > KEY_BYTES_MAX {
            large.push(key);
            continue;
        }
        if filled + size > BATCH_BYTES_MAX && filled > 0 {
            batches.push(Vec::new());
            filled = 0;
        }
        filled += size;
        if let Some(batch) = batches.last_mut() {
            batch.push(key);
        }
    }
    batches.retain(|batch| !batch.is_empty());
    Ok((batches, large))
}

/// A key as RESTORE takes it.
struct Dumped {
    key: Vec<u8>,
    /// 0 for no expiry.
    ttl_millis: i64,
    payload: Vec<u8>,
}

async fn dump(
    source: &Link,
    keys: Vec<Vec<u8>>,
    copied: &mut Copied,
) -> Result<Vec<Dumped>, RedisError> {
    let mut asked = pipe();
    for key in &keys {
        asked.cmd("DUMP").arg(key).cmd("PTTL").arg(key);
    }
    let mut answers = source.ask_each::<Value>("DUMP", &mut asked).await?.into_iter();
    let mut dumped = Vec::with_capacity(keys.len());
    for key in keys {
        match (answers.next(), answers.next()) {
            // An expiry of 0 would mean none to RESTORE: such a key has less than 1 ms to live.
            (Some(Value::BulkString(payload)), Some(Value::Int(ttl))) if ttl > 0 || ttl == -1 => {
                dumped.push(Dumped { key, ttl_millis: ttl.max(0), payload });
            }
            (Some(Value::Nil | Value::BulkString(_)), Some(Value::Int(_))) => copied.vanished += 1,
            _ => return Err(source.unexpected("DUMP")),
        }
    }
    Ok(dumped)
}

/// What became of a batch.
struct Landed {
    keys: u64,
    bytes: u64,
    refused: Vec<Vec<u8>>,
}

async fn restore(target: &Link, dumped: Vec<Dumped>) -> Result<Landed, RedisError> {
    let mut asked = pipe();
    for Dumped { key, ttl_millis, payload } in &dumped {
        asked.cmd("RESTORE").arg(key).arg(*ttl_millis).arg(payload.as_slice()).arg("REPLACE");
    }
    let answers = target.ask_all("RESTORE", &mut asked).await?;
    let mut landed = Landed { keys: 0, bytes: 0, refused: Vec::new() };
    for (dumped, answer) in dumped.into_iter().zip(answers) {
        match answer {
            Ok(_) => {
                landed.keys += 1;
                landed.bytes += (dumped.key.len() + dumped.payload.len()) as u64;
            }
            Err(error) if refuses_the_dump(&error.to_string()) => landed.refused.push(dumped.key),
            Err(error) => return Err(target.failure("RESTORE", &error)),
        }
    }
    Ok(landed)
}

fn land(landed: Landed, copied: &mut Copied, slow: &mut Vec<Vec<u8>>) {
    copied.keys += landed.keys;
    copied.bytes += landed.bytes;
    slow.extend(landed.refused);
}

async fn copy_by_type(
    source: &Link,
    target: &Link,
    key: &[u8],
    copied: &mut Copied,
) -> Result<(), RedisError> {
    match by_type::copy_key(source, target, key).await? {
        Some(moved) => {
            copied.keys += 1;
            copied.by_type += 1;
            copied.bytes += moved.bytes;
            copied.problems.extend(moved.problem);
        }
        None => copied.vanished += 1,
    }
    Ok(())
}
