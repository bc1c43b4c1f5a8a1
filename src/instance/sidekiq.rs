//! Sidekiq, as its Redis tells it: who works, on what, and how much waits.
//!
//! In flow a [`Link`] to Sidekiq's database, out flow a [`Picture`] and the answer to "is it
//! idle?". A process writes its state every ten seconds (its beat), so what is read is up to that
//! old: after it was told to take no more work (TSTP), only a beat that says `quiet`, or one that
//! came after we began to wait, proves that it is idle. Jobs are named by class and id; their
//! arguments are other people's data and stay where they are.

use std::collections::HashMap;
use std::time::Duration;

use ::redis::{cmd, pipe};
use serde_json::Value;
use tokio::time::Instant;

use super::redis::rules::{processes_key, sidekiq_key};
use super::redis::{Link, RedisError};

/// A process whose last beat is older is dead: it beats every ten seconds, and its entry would
/// expire after sixty.
pub const BEAT_SECS_MAX: f64 = 60.0;
/// How many jobs in flight are told by name.
const TOLD_JOBS_MAX: usize = 200;

/// A Sidekiq process.
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    /// `host:pid:nonce`.
    pub id: String,
    pub busy: u64,
    /// Whether it takes no more work; `None` where it does not say.
    pub quiet: Option<bool>,
    /// Seconds since its last beat, by the clock of Redis's machine.
    pub beat_secs_ago: f64,
    /// Its last beat, in seconds since 1970.
    beat_secs: f64,
}

impl Process {
    pub fn is_alive(&self) -> bool {
        self.beat_secs_ago <= BEAT_SECS_MAX
    }
}

/// What Redis tells of Sidekiq at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Picture {
    pub processes: Vec<Process>,
    /// Queues by name, with the number of jobs that wait.
    pub queues: Vec<(String, u64)>,
    pub retry: u64,
    pub schedule: u64,
    pub dead: u64,
}

impl Picture {
    /// Jobs that wait in all queues.
    pub fn enqueued(&self) -> u64 {
        self.queues.iter().map(|(_, length)| length).sum()
    }
}

/// A job that a process holds: lost if the process is killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub process: String,
    pub queue: String,
    pub class: String,
    pub id: String,
}

/// How the wait for idleness ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Drained {
    /// No live process works. `ignored` are those that are dead and only listed.
    Idle { waited: Duration, ignored: Vec<String> },
    /// The deadline passed; these jobs would be lost if the processes were killed now.
    Busy { processes: Vec<Process>, jobs: Vec<Job> },
}

/// Looks at everything once.
pub async fn look(link: &Link, namespace: Option<&str>) -> Result<Picture, RedisError> {
    let key = |name: &str| sidekiq_key(namespace, name);
    let processes = processes(link, namespace).await?;
    let mut names: Vec<String> = link.ask(cmd("SMEMBERS").arg(key("queues"))).await?;
    names.sort();
    let mut asked = pipe();
    for name in &names {
        asked.cmd("LLEN").arg(key(&format!("queue:{name}")));
    }
    for name in ["retry", "schedule", "dead"] {
        asked.cmd("ZCARD").arg(key(name));
    }
    let mut lengths = link.ask_each::<u64>("LLEN", &mut asked).await?.into_iter();
    let queues = names.into_iter().zip(lengths.by_ref()).collect();
    let mut next = || lengths.next().unwrap_or_default();
    Ok(Picture { processes, queues, retry: next(), schedule: next(), dead: next() })
}

/// Waits until no live process works, at most until `limit`. To be called after the processes
/// were told to take no more work.
pub async fn wait_idle(
    link: &Link,
    namespace: Option<&str>,
    limit: Duration,
) -> Result<Drained, RedisError> {
    let (began, began_secs) = (Instant::now(), now_secs(link).await?);
    loop {
        let all = processes(link, namespace).await?;
        let (alive, dead): (Vec<_>, Vec<_>) = all.into_iter().partition(Process::is_alive);
        let working: Vec<Process> =
            alive.into_iter().filter(|process| !is_idle(process, began_secs)).collect();
        if working.is_empty() {
            let ignored = dead.into_iter().map(|process| process.id).collect();
            return Ok(Drained::Idle { waited: began.elapsed(), ignored });
        }
        if began.elapsed() >= limit {
            let jobs = in_flight(link, namespace, &working).await?;
            return Ok(Drained::Busy { processes: working, jobs });
        }
        tokio::time::sleep(Duration::from_millis(100).min(limit)).await;
    }
}

/// Whether the last beat proves that the process works on nothing and will begin nothing.
fn is_idle(process: &Process, began_secs: f64) -> bool {
    let proved = process.quiet.unwrap_or(process.beat_secs > began_secs);
    proved && process.busy == 0
}

async fn now_secs(link: &Link) -> Result<f64, RedisError> {
    let (secs, micros): (u64, u64) = link.ask(&cmd("TIME")).await?;
    Ok(secs as f64 + micros as f64 / 1e6)
}

async fn processes(link: &Link, namespace: Option<&str>) -> Result<Vec<Process>, RedisError> {
    let mut ids: Vec<String> = link.ask(cmd("SMEMBERS").arg(processes_key(namespace))).await?;
    ids.sort();
    let mut asked = pipe();
    for id in &ids {
        asked.cmd("HGETALL").arg(sidekiq_key(namespace, id));
    }
    let entries = link.ask_each::<HashMap<String, String>>("HGETALL", &mut asked).await?;
    let now = now_secs(link).await?;
    Ok(ids.into_iter().zip(entries).map(|(id, entry)| process(id, &entry, now)).collect())
}

/// A process whose entry expired has no beat at all: it is dead.
fn process(id: String, entry: &HashMap<String, String>, now_secs: f64) -> Process {
    let number = |name: &str| entry.get(name).and_then(|text| text.parse::<f64>().ok());
    let beat_secs = number("beat").unwrap_or_default();
    Process {
        id,
        busy: number("busy").unwrap_or_default() as u64,
        quiet: entry.get("quiet").map(|text| text == "true"),
        beat_secs_ago: (now_secs - beat_secs).max(0.0),
        beat_secs,
    }
}

async fn in_flight(
    link: &Link,
    namespace: Option<&str>,
    processes: &[Process],
) -> Result<Vec<Job>, RedisError> {
    let mut jobs = Vec::new();
    for process in processes {
        let key = sidekiq_key(namespace, &format!("{}:work", process.id));
        let work: Vec<String> = link.ask(cmd("HVALS").arg(key)).await?;
        let room = TOLD_JOBS_MAX - jobs.len();
        jobs.extend(work.iter().take(room).map(|text| job(&process.id, text)));
    }
    Ok(jobs)
}

/// An entry of `…:work`: JSON with the queue and the payload, which is JSON in a string (an
/// object in older versions).
fn job(process: &str, text: &str) -> Job {
    let work: Value = serde_json::from_str(text).unwrap_or_default();
    let payload = match &work["payload"] {
        Value::String(text) => serde_json::from_str(text).unwrap_or_default(),
        other => other.clone(),
    };
    let word = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let class = payload.get("wrapped").unwrap_or(&payload["class"]);
    Job {
        process: process.to_owned(),
        queue: word(&work["queue"]),
        class: word(class),
        id: word(&payload["jid"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_named_without_its_arguments() {
        let text = r#"{"queue":"mailers","payload":"{\"class\":\"ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper\",\"wrapped\":\"ActionMailer::MailDeliveryJob\",\"jid\":\"b4a577edbccf1d805744efa9\",\"args\":[\"hunter2\"]}","run_at":1}"#;
        let job = job("web:1:0123456789ab", text);
        assert_eq!(
            (job.queue.as_str(), job.class.as_str()),
            ("mailers", "ActionMailer::MailDeliveryJob")
        );
        assert_eq!(job.id, "b4a577edbccf1d805744efa9");
        assert!(!format!("{job:?}").contains("hunter2"));
        assert_eq!(super::job("p", "not JSON").class, "?");
    }

    #[test]
    fn only_a_beat_after_the_order_proves_that_a_process_is_idle() {
        let process = |quiet, busy, beat_secs| Process {
            id: "p".into(),
            busy,
            quiet,
            beat_secs_ago: 0.0,
            beat_secs,
        };
        assert!(is_idle(&process(Some(true), 0, 5.0), 10.0));
        assert!(!is_idle(&process(Some(false), 0, 15.0), 10.0));
        assert!(!is_idle(&process(Some(true), 1, 15.0), 10.0));
        assert!(!is_idle(&process(None, 0, 5.0), 10.0));
        assert!(is_idle(&process(None, 0, 15.0), 10.0));
    }
}
