//! Which keys travel. Pure.
//!
//! Left behind:
//! - `processes`, and of each Sidekiq process `<host>:<pid>:<nonce>`, `…:work` and `…-signals`:
//!   they tell of processes of the old server, and would let the new one's web interface (and
//!   our own check for a running Sidekiq) believe that they work here. A job in `…:work` is one
//!   that a process holds; `sidekiq` reports it when the process has to be killed.
//! - `cache:*`: expires within minutes and is computed anew.
//! - `transhume:*`: ours.
//!
//! Everything else travels: queues, retries, the schedule, dead jobs, locks of unique jobs,
//! schedules that were run already, feeds, counters, trends. With a namespace the rules hold for
//! what follows it.

/// Whether `key` is copied.
pub fn travels(key: &[u8], namespace: Option<&str>) -> bool {
    let key = namespace
        .and_then(|space| key.strip_prefix(space.as_bytes())?.strip_prefix(b":"))
        .unwrap_or(key);
    key != b"processes"
        && !key.starts_with(b"cache:")
        && !key.starts_with(b"transhume:")
        && !is_of_a_process(key)
}

/// Sidekiq's key `name`, which stands behind Mastodon's `REDIS_NAMESPACE` if there is one.
pub fn sidekiq_key(namespace: Option<&str>, name: &str) -> String {
    namespace.map_or_else(|| name.to_owned(), |space| format!("{space}:{name}"))
}

/// The set of Sidekiq's processes.
pub fn processes_key(namespace: Option<&str>) -> String {
    sidekiq_key(namespace, "processes")
}

/// `host:pid:nonce`, as `Sidekiq::Component#identity` makes it, and the keys derived from it.
fn is_of_a_process(key: &[u8]) -> bool {
    let Ok(key) = std::str::from_utf8(key) else { return false };
    let key = key.strip_suffix(":work").or_else(|| key.strip_suffix("-signals")).unwrap_or(key);
    let mut parts = key.rsplitn(3, ':');
    let (Some(nonce), Some(pid), Some(host)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    !host.is_empty()
        && !pid.is_empty()
        && pid.bytes().all(|byte| byte.is_ascii_digit())
        && nonce.len() == 12
        && nonce.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_and_caches_stay_behind() {
        for key in [
            "processes",
            "cache:views/1",
            "transhume:run",
            "web-1:4711:0123456789ab",
            "web-1:4711:0123456789ab:work",
            "web-1:4711:0123456789ab-signals",
        ] {
            assert!(!travels(key.as_bytes(), None), "{key}");
            assert!(!travels(format!("ns:{key}").as_bytes(), Some("ns")), "{key}");
        }
    }

    #[test]
    fn jobs_feeds_and_counters_travel() {
        for key in [
            "queue:default",
            "queues",
            "retry",
            "schedule",
            "dead",
            "stat:processed",
            "feed:home:109",
            "feed:home:109:reblogs:110",
            "uniquejobs:0123456789ab",
            "activity:statuses:local:42",
            "sidekiq-scheduler:pushed:vacuum_scheduler",
            "ns:processes",
        ] {
            assert!(travels(key.as_bytes(), None), "{key}");
        }
        assert!(travels(b"\xff\xfe", Some("ns")));
    }
}
