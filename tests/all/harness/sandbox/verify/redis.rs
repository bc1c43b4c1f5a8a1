//! Redis: every key that does not change by itself, and each job exactly once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::super::{DATABASE, Sandbox, Side};
use super::Verdict;

const SETTLE_SECS_MAX: u64 = 10;

/// One line for each key: name in hexadecimal, type, digest of its content in a canonical order,
/// and whether it expires.
const DIGESTS: &str = r#"
local out = {}
local function hex(text) return (text:gsub(".", function(c) return string.format("%02x", c:byte()) end)) end
for _, key in ipairs(redis.call("KEYS", "*")) do
  local kind = redis.call("TYPE", key)["ok"]
  local items
  if kind == "string" then items = {redis.call("GET", key)}
  elseif kind == "list" then items = redis.call("LRANGE", key, 0, -1)
  elseif kind == "set" then items = redis.call("SMEMBERS", key); table.sort(items)
  elseif kind == "zset" then items = redis.call("ZRANGE", key, 0, -1, "WITHSCORES")
  elseif kind == "hash" then
    items = {}
    local flat = redis.call("HGETALL", key)
    for i = 1, #flat, 2 do items[#items + 1] = hex(flat[i]) .. "=" .. hex(flat[i + 1]) end
    table.sort(items)
  elseif kind == "stream" then
    items = {}
    for _, entry in ipairs(redis.call("XRANGE", key, "-", "+")) do
      items[#items + 1] = entry[1] .. table.concat(entry[2], " ")
    end
  end
  for i, item in ipairs(items) do items[i] = hex(item) end
  local expires = redis.call("PTTL", key) >= 0 and "expires" or "stays"
  out[#out + 1] = hex(key) .. " " .. kind .. " " .. redis.sha1hex(table.concat(items, ",")) .. " " .. expires
end
return out"#;

/// All jobs that wait or are in hand, each with its place: queues, sorted sets, lists of work.
const JOBS: &str = r#"
local out = {}
local function add(key, items)
  for _, item in ipairs(items) do out[#out + 1] = cjson.decode(item)["jid"] .. " " .. key end
end
for _, key in ipairs(redis.call("KEYS", "queue:*")) do add(key, redis.call("LRANGE", key, 0, -1)) end
for _, key in ipairs({"schedule", "retry", "dead"}) do add(key, redis.call("ZRANGE", key, 0, -1)) end
for _, key in ipairs(redis.call("KEYS", "*:work")) do
  for _, work in ipairs(redis.call("HVALS", key)) do add(key, {cjson.decode(work)["payload"]}) end
end
return out"#;

/// Whether a key changes while Sidekiq works: queues, counters, and what its processes say of
/// themselves.
pub fn is_volatile(key: &str) -> bool {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let kinds = ["queue:", "stat:", "retry", "processes"];
    kinds.iter().any(|kind| key.starts_with(kind)) || key.starts_with(&format!("{}:", host.trim()))
}

pub fn compare(sandbox: &Sandbox, verdict: &mut Verdict) {
    let (was, is) = (digests(&sandbox.old), digests(&sandbox.new));
    let mut problems = Vec::new();
    let mut equal = 0;
    for (key, old) in &was {
        match is.get(key) {
            Some(new) if new == old => equal += 1,
            // The job that distributes a post may have added to it.
            Some(_) if key.starts_with("feed:home:") && feed_is_kept(sandbox, key) => equal += 1,
            Some(new) => problems.push(format!("Redis key {key}: {old} became {new}")),
            None => problems.push(format!("Redis key {key} is missing")),
        }
    }
    verdict.judge(format!("redis: {equal} keys equal, with their expiry"), problems);
}

fn digests(side: &Side) -> BTreeMap<String, String> {
    let text = side.redis.cli(&["EVAL", DIGESTS, "0"]);
    let pair = |line: &str| {
        let (key, rest) = line.split_once(' ')?;
        let bytes = key.as_bytes().chunks(2).map(|pair| {
            u8::from_str_radix(std::str::from_utf8(pair).unwrap_or_default(), 16)
                .unwrap_or_default()
        });
        let key = String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned();
        Some((key, rest.to_owned()))
    };
    text.lines().filter_map(pair).filter(|(key, _)| !is_volatile(key)).collect()
}

fn feed_is_kept(sandbox: &Sandbox, key: &str) -> bool {
    let members = |side: &Side| side.redis.cli(&["ZRANGE", key, "0", "-1"]);
    let (was, is) = (members(&sandbox.old), members(&sandbox.new));
    let is: std::collections::HashSet<&str> = is.lines().collect();
    was.lines().all(|member| is.contains(member))
}

/// Every job that was ever queued is done once or waits once. A job between two places is neither
/// for a moment, so this looks again until it is true.
pub fn jobs_ran_once(sandbox: &Sandbox, verdict: &mut Verdict) {
    let deadline = Instant::now() + Duration::from_secs(SETTLE_SECS_MAX);
    loop {
        let (done, waiting, problems) = count_jobs(sandbox);
        if problems.is_empty() || Instant::now() > deadline {
            let all = sandbox.jobs.len();
            let seen =
                format!("jobs: of {all} queued, {done} done and {waiting} waiting, each once");
            return verdict.judge(seen, problems);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn count_jobs(sandbox: &Sandbox) -> (usize, usize, Vec<String>) {
    // The ledger first: a job that is done meanwhile is then seen in hand, not lost.
    let ledger = sandbox.new.postgres.sql(DATABASE, "SELECT jid FROM job_ledger");
    let waiting = sandbox.new.redis.cli(&["EVAL", JOBS, "0"]);
    let mut places: BTreeMap<&str, (usize, Vec<&str>)> = BTreeMap::new();
    for jid in ledger.lines() {
        places.entry(jid).or_default().0 += 1;
    }
    for (jid, place) in waiting.lines().filter_map(|line| line.split_once(' ')) {
        places.entry(jid).or_default().1.push(place);
    }
    let mut problems = Vec::new();
    let (mut all_done, mut all_waiting) = (0, 0);
    for jid in &sandbox.jobs {
        let (done, waiting) = places.get(jid.as_str()).cloned().unwrap_or_default();
        all_done += done;
        all_waiting += waiting.len();
        if done + waiting.len() != 1 {
            let (times, places) = (waiting.len(), waiting.join(", "));
            problems.push(format!("job {jid}: {done} times done, {times} times waiting {places}"));
        }
    }
    problems.truncate(20);
    (all_done, all_waiting, problems)
}
