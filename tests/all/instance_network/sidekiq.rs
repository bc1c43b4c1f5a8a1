//! Sidekiq as its Redis tells it, on a real one.

use std::time::{Duration, SystemTime};

use redis::{Commands, Connection};
use transhume::host::local::Local;
use transhume::instance::redis::Link;
use transhume::instance::sidekiq::{Drained, look, wait_idle};
use transhume::instance::stores::RedisAddress;
use transhume::secret::Secret;

use crate::harness::redis::Redis;

const ALIVE: &str = "web-1:11:0123456789ab";
const DEAD: &str = "web-1:12:0123456789ac";
const LONG: Duration = Duration::from_secs(20);

fn client(redis: &Redis) -> Connection {
    redis::Client::open(redis.url()).unwrap().get_connection().unwrap()
}

async fn link(redis: &Redis) -> Link {
    let address = RedisAddress::from_url(&Secret::new(redis.url())).unwrap();
    Link::connect(&Local::new(), &address, None).await.unwrap()
}

/// What a process writes at each beat.
fn beat(redis: &mut Connection, space: &str, id: &str, busy: u32, quiet: bool, secs_ago: f64) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    let _: () = redis.sadd(format!("{space}processes"), id).unwrap();
    let fields = [
        ("busy", busy.to_string()),
        ("beat", (now - secs_ago).to_string()),
        ("quiet", quiet.to_string()),
    ];
    let _: () = redis.hset_multiple(format!("{space}{id}"), &fields).unwrap();
}

#[tokio::test]
async fn a_picture_of_queues_and_processes() {
    let redis = Redis::start();
    let mut mine = client(&redis);
    let _: () = mine.sadd("queues", &["default", "push"]).unwrap();
    let _: () = mine.rpush("queue:default", &["a", "b", "c"]).unwrap();
    let _: () = mine.zadd("retry", "x", 1).unwrap();
    let _: () = mine.zadd_multiple("dead", &[(1, "y"), (2, "z")]).unwrap();
    beat(&mut mine, "", ALIVE, 3, false, 2.0);
    beat(&mut mine, "", DEAD, 1, false, 300.0);
    let picture = look(&link(&redis).await, None).await.unwrap();
    assert_eq!(picture.queues, [("default".to_owned(), 3), ("push".to_owned(), 0)]);
    assert_eq!((picture.enqueued(), picture.retry, picture.schedule, picture.dead), (3, 1, 0, 2));
    let alive: Vec<(&str, u64, bool)> =
        picture.processes.iter().map(|p| (p.id.as_str(), p.busy, p.is_alive())).collect();
    assert_eq!(alive, [(ALIVE, 3, true), (DEAD, 1, false)]);
}

#[tokio::test]
async fn waiting_ends_when_the_last_job_does_and_the_dead_are_ignored() {
    let redis = Redis::start();
    let mut mine = client(&redis);
    beat(&mut mine, "ns:", ALIVE, 2, true, 0.0);
    beat(&mut mine, "ns:", DEAD, 1, false, 300.0);
    let _: () = mine.sadd("ns:processes", "web-1:13:0123456789ad").unwrap();
    let (link, patient) = (link(&redis).await, async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        beat(&mut mine, "ns:", ALIVE, 1, true, 0.0);
        tokio::time::sleep(Duration::from_millis(50)).await;
        beat(&mut mine, "ns:", ALIVE, 0, true, 0.0);
    });
    let (drained, ()) = tokio::join!(wait_idle(&link, Some("ns"), LONG), patient);
    match drained.unwrap() {
        Drained::Idle { waited, ignored } => {
            assert!(waited >= Duration::from_millis(100));
            assert_eq!(ignored, [DEAD, "web-1:13:0123456789ad"]);
        }
        busy @ Drained::Busy { .. } => panic!("{busy:?}"),
    }
}

#[tokio::test]
async fn at_the_deadline_the_jobs_that_would_be_lost_are_named() {
    let redis = Redis::start();
    let mut mine = client(&redis);
    beat(&mut mine, "", ALIVE, 1, true, 0.0);
    let work = r#"{"queue":"push","payload":"{\"class\":\"ActivityPub::DeliveryWorker\",\"jid\":\"abc\",\"args\":[\"secret\"]}","run_at":1}"#;
    let _: () = mine.hset(format!("{ALIVE}:work"), "tid", work).unwrap();
    let drained = wait_idle(&link(&redis).await, None, Duration::from_millis(150)).await.unwrap();
    let Drained::Busy { processes, jobs } = drained else { panic!("{drained:?}") };
    assert_eq!((processes.len(), processes[0].busy), (1, 1));
    let [job] = jobs.as_slice() else { panic!("{jobs:?}") };
    let told = (job.process.as_str(), job.queue.as_str(), job.class.as_str(), job.id.as_str());
    assert_eq!(told, (ALIVE, "push", "ActivityPub::DeliveryWorker", "abc"));
}

#[tokio::test]
async fn an_idle_process_that_was_not_quieted_yet_is_waited_for() {
    let redis = Redis::start();
    let mut mine = client(&redis);
    beat(&mut mine, "", ALIVE, 0, false, 0.0);
    let link = link(&redis).await;
    let short = Duration::from_millis(150);
    assert!(matches!(wait_idle(&link, None, short).await.unwrap(), Drained::Busy { .. }));
    beat(&mut mine, "", ALIVE, 0, true, 0.0);
    assert!(matches!(wait_idle(&link, None, LONG).await.unwrap(), Drained::Idle { .. }));
    let _: () = mine.del("processes").unwrap();
    assert!(matches!(wait_idle(&link, None, LONG).await.unwrap(), Drained::Idle { .. }));
}
