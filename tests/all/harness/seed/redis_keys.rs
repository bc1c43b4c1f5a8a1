//! Redis as a working instance has it: queues and sets of Sidekiq, feeds, counters, caches.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::super::random;
use super::super::sandbox::{DATABASE, Options, Side};

/// Jobs that run at once when the server starts; these prove that its Sidekiq works.
const QUICK_JOBS: u32 = 20;
/// Jobs for later, in each of the sorted sets.
const LATER_JOBS: u32 = 10;

/// The feeds that are filled: those of every second local account.
const FEEDS: &str = "
    SELECT u.account_id, s.id FROM users u CROSS JOIN LATERAL (
      SELECT id FROM statuses WHERE deleted_at IS NULL AND visibility < 2
        AND (account_id = u.account_id OR account_id IN (
          SELECT target_account_id FROM follows WHERE account_id = u.account_id))
      ORDER BY id DESC LIMIT 400
    ) s WHERE u.id % 2 = 0";

/// Writes the keys, and gives the ids of all jobs.
pub fn fill(side: &Side, options: &Options) -> Vec<String> {
    let mut script = Script::default();
    script.queues(options);
    script.feeds(side);
    script.counters();
    let said = side.redis.cli_with_input(&["--pipe"], &script.bytes);
    assert!(said.contains("errors: 0"), "{said}");
    script.jobs
}

/// Commands in Redis's own protocol, for `redis-cli --pipe`.
#[derive(Default)]
struct Script {
    bytes: Vec<u8>,
    jobs: Vec<String>,
}

impl Script {
    fn add(&mut self, words: &[&str]) {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        self.add_bytes(&words);
    }

    fn add_bytes(&mut self, words: &[&[u8]]) {
        self.bytes.extend(format!("*{}\r\n", words.len()).bytes());
        for word in words {
            self.bytes.extend(format!("${}\r\n", word.len()).bytes());
            self.bytes.extend(*word);
            self.bytes.extend(b"\r\n");
        }
    }

    /// A job as Sidekiq writes it; its first argument is how long it takes.
    fn job(&mut self, worker: &str, queue: &str, millis: u32) -> String {
        let jid = random::hex(12);
        self.jobs.push(jid.clone());
        json!({
            "retry": 16, "queue": queue, "class": worker, "jid": jid,
            "args": [millis, format!("https://host.example/inbox {}", random::secret())],
            "created_at": now(), "enqueued_at": now(),
        })
        .to_string()
    }

    fn queues(&mut self, options: &Options) {
        for queue in ["default", "push", "ingress", "mailers", "pull", "scheduler"] {
            self.add(&["SADD", "queues", queue]);
        }
        for _ in 0..options.jobs {
            let job = self.job("ThreadResolveWorker", "pull", options.job_millis);
            self.add(&["LPUSH", "queue:pull", &job]);
        }
        for _ in 0..QUICK_JOBS {
            let job = self.job("ActivityPub::DeliveryWorker", "push", 5);
            self.add(&["LPUSH", "queue:push", &job]);
        }
        for (set, hours) in [("schedule", 1), ("retry", 2), ("dead", 1000)] {
            for number in 0..LATER_JOBS {
                let job = self.job("ActivityPub::DeliveryWorker", "push", 5);
                let due = now() + f64::from(hours * 3600 + number);
                self.add(&["ZADD", set, &format!("{due:.6}"), &job]);
            }
        }
        self.add(&["SET", "stat:processed", "4242"]);
        self.add(&["SET", "stat:failed", "7"]);
        self.add(&["SET", "stat:processed:2026-01-01", "99"]);
        self.add(&["HSET", "sidekiq-scheduler:states", "vacuum_scheduler", "{\"enabled\":true}"]);
        self.add(&["HSET", "uniquejobs:1234:LOCKED", &random::hex(12), &now().to_string()]);
        self.add(&["EXPIRE", "uniquejobs:1234:LOCKED", "4320000"]);
    }

    fn feeds(&mut self, side: &Side) {
        for line in side.postgres.sql(DATABASE, FEEDS).lines() {
            let (account, status) = line.split_once('|').expect("two columns");
            self.add(&["ZADD", &format!("feed:home:{account}"), status, status]);
        }
        self.add(&["ZADD", "feed:home:1:reblogs", "115602345678901234", "115602345678901233"]);
        self.add(&["SADD", "feed:home:1:reblogs:115602345678901233", "115602345678901234"]);
    }

    fn counters(&mut self) {
        for account in 1..200 {
            self.add(&["PFADD", "activity:logins:1767225600", &account.to_string()]);
            self.add(&["SADD", "exhausted_deliveries:host7.example", &format!("2026{account:04}")]);
        }
        self.add(&["SET", "activity:statuses:local:1767225600", "512", "EX", "15552000"]);
        self.add(&["HSET", "trending_tags:used:20260101", "größe", "3", "ネコ", "5"]);
        self.add(&["SET", "subscribed:timeline:1", "1", "EX", "5400"]);
        self.add_bytes(&[
            b"SET",
            b"odd:bin\x00\xff",
            b"\x04\x08o:\x00\r\n$5\r\n\xfe",
            b"EX",
            b"7200",
        ]);
        self.add(&["SET", "odd:empty", "", "PX", "7200123"]);
        let long = "x".repeat(300_000);
        self.add(&["SET", "odd:large", &long, "EX", "7200"]);
        self.add(&["XADD", "odd:stream", "1-1", "field", "value"]);
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64()
}
