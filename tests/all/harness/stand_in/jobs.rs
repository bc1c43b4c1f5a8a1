//! Sidekiq's jobs as they lie in Redis, and what the ones of the sandbox do.

use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};

use super::application::{Application, Problem};
use crate::harness::random;

/// Feeds keep this many statuses.
pub const FEED_STATUSES_MAX: i64 = 800;

/// Puts a job on its queue, as Sidekiq's client does, and gives its id.
pub async fn push(
    redis: &mut MultiplexedConnection,
    queue: &str,
    worker: &str,
    arguments: Value,
) -> Result<String, Problem> {
    let jid = random::hex(12);
    let job = json!({
        "class": worker, "args": arguments, "queue": queue, "jid": jid, "retry": true,
        "created_at": now_secs(), "enqueued_at": now_secs(),
    });
    let mut pipe = redis::pipe();
    pipe.atomic().cmd("SADD").arg("queues").arg(queue).ignore();
    pipe.cmd("LPUSH").arg(format!("queue:{queue}")).arg(job.to_string()).ignore();
    pipe.query_async::<()>(redis).await?;
    Ok(jid)
}

/// Carries out `job`: takes the time it says, does its effect, and writes it into the ledger.
pub async fn perform(
    application: &Application,
    redis: &mut MultiplexedConnection,
    process: &str,
    job: &Value,
) -> Result<(), Problem> {
    let worker = job["class"].as_str().unwrap_or_default();
    let first = &job["args"][0];
    match worker {
        "DistributionWorker" => {
            distribute(application, redis, first.as_i64().unwrap_or_default()).await?
        }
        // Everything else talks to another server, which takes a while.
        _ => {
            let millis = first.as_u64().unwrap_or_default();
            tokio::time::sleep(std::time::Duration::from_millis(millis)).await;
        }
    }
    let jid = job["jid"].as_str().unwrap_or_default();
    let insert = "INSERT INTO job_ledger (jid, worker, process, done_at) \
                  VALUES ($1, $2, $3, now() AT TIME ZONE 'UTC')";
    application.database().await?.execute(insert, &[&jid, &worker, &process]).await?;
    Ok(())
}

/// Adds a new status to the home feeds of its author's followers and its author.
async fn distribute(
    application: &Application,
    redis: &mut MultiplexedConnection,
    status: i64,
) -> Result<(), Problem> {
    let readers = "SELECT s.account_id FROM statuses s WHERE s.id = $1 UNION \
                   SELECT f.account_id FROM statuses s JOIN follows f ON f.target_account_id = s.account_id \
                   JOIN users u ON u.account_id = f.account_id WHERE s.id = $1";
    for row in application.database().await?.query(readers, &[&status]).await? {
        let key = format!("feed:home:{}", row.get::<_, i64>(0));
        let mut pipe = redis::pipe();
        pipe.cmd("ZADD").arg(&key).arg(status).arg(status).ignore();
        pipe.cmd("ZREMRANGEBYRANK").arg(&key).arg(0).arg(-FEED_STATUSES_MAX - 1).ignore();
        pipe.query_async::<()>(redis).await?;
    }
    Ok(())
}

pub fn now_secs() -> f64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap_or_default().as_secs_f64()
}
