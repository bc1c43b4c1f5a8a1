//! Settings of the sessions that build indexes and check constraints: what the target has to give,
//! shared among those that work at the same time. They end with the sessions.

use crate::host::{Command, Host, RunAs, run};

use super::Version;

const MIB: u64 = 1 << 20;
/// What one session may take where the machine does not tell what it has.
const MEMORY_DEFAULT: u64 = 256 * MIB;
const MEMORY_MIN: u64 = 64 * MIB;
/// More does not make it faster.
const MEMORY_MAX: u64 = 1024 * MIB;
const HELPERS_MAX: usize = 4;
/// The first major version that builds an index with several processes.
const HELPS: u32 = 11;

/// The share of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tuning {
    /// For sorting, and for joins that check foreign keys.
    memory_bytes: u64,
    /// Processes beside the session's own.
    helpers: Option<usize>,
}

impl Tuning {
    /// The shares of `jobs` sessions on `host`, which has `cores`.
    pub async fn measure(host: &dyn Host, version: Version, cores: usize, jobs: usize) -> Tuning {
        let command = Command::new(["cat", "/proc/meminfo"]).run_as(RunAs::Login);
        let told = run(host, &command).await;
        let available = told.ok().and_then(|output| available_bytes(&output.text()));
        // A quarter of what is free: the cache of the system is needed as well.
        let memory = available.map_or(MEMORY_DEFAULT, |bytes| bytes / 4 / jobs.max(1) as u64);
        let helpers = (cores / jobs.max(1)).saturating_sub(1).min(HELPERS_MAX);
        Tuning {
            memory_bytes: memory.clamp(MEMORY_MIN, MEMORY_MAX),
            helpers: (version.major() >= HELPS).then_some(helpers),
        }
    }

    /// Names and values.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let memory = ("maintenance_work_mem", format!("{}kB", self.memory_bytes / 1024));
        let helpers = self.helpers.map(|count| count.to_string());
        [memory]
            .into_iter()
            .chain(helpers.map(|count| ("max_parallel_maintenance_workers", count)))
            .collect()
    }

    /// The same as SQL.
    pub fn sql(&self) -> String {
        let set = |(name, value): (&str, String)| format!("SET {name} = '{value}'");
        self.settings().into_iter().map(set).collect::<Vec<_>>().join("; ")
    }
}

/// `MemAvailable` of /proc/meminfo.
fn available_bytes(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::{Reply, Scripted};

    async fn on(meminfo: Reply, version: u32, cores: usize, jobs: usize) -> String {
        let host = Scripted::new("new.example").on("meminfo", [meminfo]);
        Tuning::measure(&host, Version(version), cores, jobs).await.sql()
    }

    #[tokio::test]
    async fn sessions_get_a_share_of_what_the_machine_has() {
        let gib = |number: u64| {
            Reply::ok(format!("MemTotal: 1 kB\nMemAvailable:   {} kB\n", number << 20))
        };
        let none =
            "SET maintenance_work_mem = '524288kB'; SET max_parallel_maintenance_workers = '0'";
        assert_eq!(on(gib(4), 150_003, 2, 2).await, none);
        assert!(on(gib(400), 150_003, 2, 2).await.contains("'1048576kB'"));
        assert!(on(Reply::fail(1, "no"), 150_003, 2, 2).await.contains("'262144kB'"));
        assert!(on(gib(4), 150_003, 8, 2).await.contains("workers = '3'"));
        assert!(on(gib(4), 150_003, 2, 4).await.contains("workers = '0'"));
        assert!(!on(gib(4), 100_023, 2, 4).await.contains("workers"), "unknown to it");
    }
}
