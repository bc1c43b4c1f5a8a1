//! Sidekiq: takes jobs from its queues, registers itself with a heartbeat, goes quiet on TSTP,
//! finishes or gives back its jobs on TERM. `-c N` workers, `-q QUEUE` in order of preference.
//! The heartbeat comes every second (the real one: ten), so that whoever waits for it need not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use super::application::{Application, Problem};
use super::jobs::{self, now_secs};
use crate::harness::random;

const BEAT: Duration = Duration::from_secs(1);
/// How long running jobs may take after TERM, as Sidekiq's `-t`.
const SHUTDOWN_SECS_MAX: u64 = 25;

/// Moves the jobs that are due from a sorted set to their queues, each exactly once.
const ENQUEUE_DUE: &str = r#"
local due = redis.call("ZRANGE", KEYS[1], "-inf", ARGV[1], "BYSCORE", "LIMIT", 0, 100)
for _, job in ipairs(due) do
  redis.call("ZREM", KEYS[1], job)
  redis.call("LPUSH", "queue:" .. cjson.decode(job)["queue"], job)
end
return #due"#;

/// What the tasks of one process share.
struct Process {
    application: Arc<Application>,
    identity: String,
    queues: Vec<String>,
    concurrency: usize,
    quiet: AtomicBool,
    /// The jobs in hand, by worker.
    busy: Mutex<BTreeMap<usize, Value>>,
    /// One at a time tells Redis what is in hand, so that the last word is the newest.
    recording: tokio::sync::Mutex<()>,
}

pub async fn work(args: &[String]) -> Result<(), Problem> {
    let process = Arc::new(register(args).await?);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut quiet = signal(SignalKind::from_raw(20))?;
    let mut workers = JoinSet::new();
    for number in 0..process.concurrency {
        workers.spawn(take_jobs(process.clone(), number));
    }
    let poller = tokio::spawn(poll_schedule(process.clone()));
    let mut redis = process.application.redis().await?;
    eprintln!("Booted Sidekiq stand-in {}", process.identity);
    loop {
        beat(&process, &mut redis).await?;
        tokio::select! {
            _ = terminate.recv() => break,
            _ = quiet.recv() => process.quiet.store(true, Ordering::SeqCst),
            () = tokio::time::sleep(BEAT) => {}
            Some(ended) = workers.join_next() => {
                ended.map_err(|error| error.to_string())??;
            }
        }
    }
    poller.abort();
    shut_down(&process, &mut redis, workers).await
}

async fn register(args: &[String]) -> Result<Process, Problem> {
    let (mut queues, mut concurrency) = (Vec::new(), 5);
    for pair in args.chunks(2) {
        match pair {
            [flag, value] if flag == "-q" => {
                // A weight may follow the name.
                queues.push(value.split(',').next().unwrap_or_default().to_owned());
            }
            [flag, value] if flag == "-c" => {
                concurrency = value.parse().map_err(|_| "sidekiq: -c takes a number")?;
            }
            _ => return Err(format!("sidekiq: what is {pair:?}?").into()),
        }
    }
    let application = Application::boot().await?;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let identity = format!("{}:{}:{}", host.trim(), std::process::id(), random::hex(6));
    let quiet = AtomicBool::new(false);
    let (busy, recording) = Default::default();
    Ok(Process { application, identity, queues, concurrency, quiet, busy, recording })
}

/// One worker: takes a job, does it, takes the next, until told to be quiet.
async fn take_jobs(process: Arc<Process>, number: usize) -> Result<(), Problem> {
    let mut redis = process.application.redis().await?;
    while !process.quiet.load(Ordering::SeqCst) {
        let mut command = redis::cmd("BRPOP");
        for queue in &process.queues {
            command.arg(format!("queue:{queue}"));
        }
        let popped: Option<(String, String)> = command.arg(1).query_async(&mut redis).await?;
        let Some((_, text)) = popped else { continue };
        let job: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        hold(&process, number, Some(&job));
        record_work(&process, &mut redis).await?;
        let done = jobs::perform(&process.application, &mut redis, &process.identity, &job).await;
        if let Err(problem) = &done {
            retry_later(&mut redis, job, problem).await?;
        }
        hold(&process, number, None);
        record_work(&process, &mut redis).await?;
        let counter = if done.is_ok() { "stat:processed" } else { "stat:failed" };
        redis::cmd("INCR").arg(counter).query_async::<()>(&mut redis).await?;
    }
    // A quiet worker stays until TERM.
    std::future::pending().await
}

fn hold(process: &Process, number: usize, job: Option<&Value>) {
    let mut busy = process.busy.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    match job {
        Some(job) => busy.insert(number, job.clone()),
        None => busy.remove(&number),
    };
}

fn in_hand(process: &Process) -> BTreeMap<usize, Value> {
    process.busy.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
}

/// The jobs in hand as Sidekiq's web interface lists them.
async fn record_work(process: &Process, redis: &mut MultiplexedConnection) -> Result<(), Problem> {
    let _turn = process.recording.lock().await;
    let key = format!("{}:work", process.identity);
    let mut pipe = redis::pipe();
    pipe.atomic().cmd("UNLINK").arg(&key).ignore();
    for (number, job) in in_hand(process) {
        let work =
            json!({"queue": job["queue"], "payload": job.to_string(), "run_at": now_secs() as u64});
        pipe.cmd("HSET").arg(&key).arg(format!("w{number}")).arg(work.to_string()).ignore();
    }
    pipe.cmd("EXPIRE").arg(&key).arg(60).ignore();
    Ok(pipe.query_async::<()>(redis).await?)
}

async fn retry_later(
    redis: &mut MultiplexedConnection,
    mut job: Value,
    problem: &Problem,
) -> Result<(), Problem> {
    job["error_message"] = problem.to_string().into();
    job["retry_count"] = json!(job["retry_count"].as_u64().map_or(0, |count| count + 1));
    let mut command = redis::cmd("ZADD");
    command.arg("retry").arg(now_secs() + 15.0).arg(job.to_string());
    Ok(command.query_async::<()>(redis).await?)
}

async fn beat(process: &Process, redis: &mut MultiplexedConnection) -> Result<(), Problem> {
    let info = json!({
        "hostname": process.identity.split(':').next(), "pid": std::process::id(), "tag": "live",
        "concurrency": process.concurrency, "queues": process.queues, "identity": process.identity,
    });
    let (identity, quiet) = (&process.identity, process.quiet.load(Ordering::SeqCst));
    let mut pipe = redis::pipe();
    pipe.atomic().cmd("SADD").arg("processes").arg(identity).ignore();
    pipe.cmd("HSET").arg(identity).arg("info").arg(info.to_string());
    pipe.arg("busy").arg(in_hand(process).len()).arg("beat").arg(now_secs());
    pipe.arg("rtt_us").arg(100).arg("quiet").arg(quiet.to_string()).arg("rss").arg(0).ignore();
    pipe.cmd("EXPIRE").arg(identity).arg(60).ignore();
    Ok(pipe.query_async::<()>(redis).await?)
}

async fn poll_schedule(process: Arc<Process>) -> Result<(), Problem> {
    let mut redis = process.application.redis().await?;
    while !process.quiet.load(Ordering::SeqCst) {
        for set in ["retry", "schedule"] {
            let mut command = redis::cmd("EVAL");
            command.arg(ENQUEUE_DUE).arg(1).arg(set).arg(now_secs());
            command.query_async::<i64>(&mut redis).await?;
        }
        tokio::time::sleep(BEAT).await;
    }
    Ok(())
}

/// Takes no more, waits for the jobs in hand, gives back the rest, and signs off.
async fn shut_down(
    process: &Process,
    redis: &mut MultiplexedConnection,
    mut workers: JoinSet<Result<(), Problem>>,
) -> Result<(), Problem> {
    process.quiet.store(true, Ordering::SeqCst);
    // A BRPOP under way may still bring one job to each worker.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(SHUTDOWN_SECS_MAX);
    while !in_hand(process).is_empty() && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    workers.shutdown().await;
    let mut pipe = redis::pipe();
    for job in in_hand(process).values() {
        let queue = job["queue"].as_str().unwrap_or("default");
        pipe.cmd("RPUSH").arg(format!("queue:{queue}")).arg(job.to_string()).ignore();
    }
    pipe.cmd("SREM").arg("processes").arg(&process.identity).ignore();
    pipe.cmd("UNLINK").arg(&process.identity).arg(format!("{}:work", process.identity)).ignore();
    Ok(pipe.query_async::<()>(redis).await?)
}
