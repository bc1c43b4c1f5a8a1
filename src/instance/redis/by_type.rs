//! Copies one key by reading and writing its elements: for dumps that the target does not take,
//! and for keys that are too large for one. In windows, so that memory stays bounded; into a key
//! that is deleted first, so that nothing is there twice.

use ::redis::{Cmd, Value, cmd};

use super::RedisError;
use super::link::Link;

/// Elements in one window.
pub(super) const WINDOW_ELEMENTS: i64 = 500;
/// Bytes of a string in one window.
pub(super) const WINDOW_BYTES: i64 = 1 << 20;

/// What was copied of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    pub elements: u64,
    pub bytes: u64,
    /// What could not come along.
    pub problem: Option<String>,
}

/// Copies `key` with its expiry; `None` if it is not there.
pub async fn copy_key(
    source: &Link,
    target: &Link,
    key: &[u8],
) -> Result<Option<Moved>, RedisError> {
    let kind: String = source.ask(cmd("TYPE").arg(key)).await?;
    target.ask::<u64>(cmd("DEL").arg(key)).await?;
    let mut moved = Moved::default();
    let count = match kind.as_str() {
        "none" => return Ok(None),
        "string" => {
            string(source, target, key, &mut moved).await?;
            "STRLEN"
        }
        "list" => {
            list(source, target, key, &mut moved).await?;
            "LLEN"
        }
        "set" => {
            scanned(source, target, key, "SSCAN", "SADD", &mut moved).await?;
            "SCARD"
        }
        "hash" => {
            scanned(source, target, key, "HSCAN", "HSET", &mut moved).await?;
            "HLEN"
        }
        "zset" => {
            scanned(source, target, key, "ZSCAN", "ZADD", &mut moved).await?;
            "ZCARD"
        }
        "stream" => {
            stream(source, target, key, &mut moved).await?;
            "XLEN"
        }
        _ => return Err(RedisError::UnknownType { key: shown(key), kind }),
    };
    let ttl: i64 = source.ask(cmd("PTTL").arg(key)).await?;
    if ttl >= 0 {
        target.ask::<u64>(cmd("PEXPIRE").arg(key).arg(ttl.max(1))).await?;
    }
    if ttl == -2 {
        return Ok(None);
    }
    let source_elements: u64 = source.ask(cmd(count).arg(key)).await?;
    let target_elements: u64 = target.ask(cmd(count).arg(key)).await?;
    if source_elements != target_elements && ttl == -1 {
        let key = shown(key);
        return Err(RedisError::Incomplete { key, source_elements, target_elements });
    }
    moved.elements = source_elements;
    Ok(Some(moved))
}

/// A key for a message: text, not too long.
pub(super) fn shown(key: &[u8]) -> String {
    const SHOWN_CHARS_MAX: usize = 80;
    String::from_utf8_lossy(key).chars().take(SHOWN_CHARS_MAX).collect()
}

async fn string(s: &Link, t: &Link, key: &[u8], moved: &mut Moved) -> Result<(), RedisError> {
    let mut at = 0;
    loop {
        let range = cmd("GETRANGE").arg(key).arg(at).arg(at + WINDOW_BYTES - 1).clone();
        let part: Vec<u8> = s.ask(&range).await?;
        // An empty string is a value too: APPEND makes the key.
        if part.is_empty() && at > 0 {
            return Ok(());
        }
        moved.bytes += part.len() as u64;
        let whole = (part.len() as i64) < WINDOW_BYTES;
        t.ask::<u64>(cmd("APPEND").arg(key).arg(part)).await?;
        if whole {
            return Ok(());
        }
        at += WINDOW_BYTES;
    }
}

async fn list(s: &Link, t: &Link, key: &[u8], moved: &mut Moved) -> Result<(), RedisError> {
    let mut at = 0;
    loop {
        let range = cmd("LRANGE").arg(key).arg(at).arg(at + WINDOW_ELEMENTS - 1).clone();
        let window: Vec<Vec<u8>> = s.ask(&range).await?;
        if window.is_empty() {
            return Ok(());
        }
        at += window.len() as i64;
        moved.bytes += size_of_all(&window);
        t.ask::<u64>(cmd("RPUSH").arg(key).arg(window)).await?;
    }
}

/// Sets, hashes and sorted sets: a scan may tell an element twice, and adding it twice is
/// adding it once.
async fn scanned(
    s: &Link,
    t: &Link,
    key: &[u8],
    scan: &str,
    add: &str,
    moved: &mut Moved,
) -> Result<(), RedisError> {
    let mut cursor = 0_u64;
    loop {
        let page = cmd(scan).arg(key).arg(cursor).arg("COUNT").arg(WINDOW_ELEMENTS).clone();
        let (next, mut window): (u64, Vec<Vec<u8>>) = s.ask(&page).await?;
        if scan == "ZSCAN" {
            // It tells member and score, ZADD wants score and member.
            window.chunks_exact_mut(2).for_each(|pair| pair.swap(0, 1));
        }
        moved.bytes += size_of_all(&window);
        // A small set is told as a whole, whatever was asked for.
        for part in window.chunks(2 * WINDOW_ELEMENTS as usize) {
            t.ask::<Value>(cmd(add).arg(key).arg(part)).await?;
        }
        cursor = next;
        if cursor == 0 {
            return Ok(());
        }
    }
}

/// An entry of a stream: its id and its fields and values in turn.
pub(super) type Entry = (String, Vec<Vec<u8>>);

/// The window of entries after `after`.
pub(super) fn entries_after(key: &[u8], after: Option<&str>) -> Cmd {
    let start = after.map_or_else(|| "-".to_owned(), |id| format!("({id}"));
    cmd("XRANGE").arg(key).arg(start).arg("+").arg("COUNT").arg(WINDOW_ELEMENTS).clone()
}

async fn stream(s: &Link, t: &Link, key: &[u8], moved: &mut Moved) -> Result<(), RedisError> {
    let mut last: Option<String> = None;
    loop {
        let window: Vec<Entry> = s.ask(&entries_after(key, last.as_deref())).await?;
        let Some((id, _)) = window.last() else { break };
        last = Some(id.clone());
        for (id, fields) in &window {
            moved.bytes += size_of_all(fields);
            t.ask::<String>(cmd("XADD").arg(key).arg(id).arg(fields)).await?;
        }
    }
    let groups: Vec<std::collections::HashMap<String, Value>> =
        s.ask(cmd("XINFO").arg("GROUPS").arg(key)).await?;
    for group in groups {
        let text = |name: &str| match group.get(name) {
            Some(Value::BulkString(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
            Some(_) | None => String::new(),
        };
        let create = cmd("XGROUP")
            .arg("CREATE")
            .arg(key)
            .arg(text("name"))
            .arg(text("last-delivered-id"))
            .arg("MKSTREAM")
            .clone();
        t.ask::<Value>(&create).await?;
        if group.get("pending") != Some(&Value::Int(0)) {
            moved.problem = Some(format!(
                "entries of the stream {:?} that were delivered and not acknowledged are no longer pending",
                shown(key)
            ));
        }
    }
    let info: std::collections::HashMap<String, Value> =
        s.ask(cmd("XINFO").arg("STREAM").arg(key)).await?;
    if let Some(Value::BulkString(id)) = info.get("last-generated-id") {
        // A stream whose last entries were deleted must not use their ids again. An empty one
        // without a group does not exist on the target.
        let exists: u64 = t.ask(cmd("EXISTS").arg(key)).await?;
        if exists == 1 {
            t.ask::<Value>(cmd("XSETID").arg(key).arg(id.as_slice())).await?;
        }
    }
    Ok(())
}

fn size_of_all(parts: &[Vec<u8>]) -> u64 {
    parts.iter().map(|part| part.len() as u64).sum()
}
