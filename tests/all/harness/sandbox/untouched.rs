//! What must be as before when a move was undone, or never began.

use std::path::Path;

use super::super::media_tree::Tree;
use super::{DATABASE, Sandbox, Side, verify};

/// A server at one moment, apart from what changes by itself: logs, run-time state, job counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    files: Tree,
    units: Vec<(String, String, String)>,
    crontab: String,
    nginx_site: Vec<u8>,
    databases: String,
    redis_keys: String,
}

impl Snapshot {
    pub fn take(side: &Side) -> Snapshot {
        // What systemctl remembers of running units; runtime masks lie elsewhere in `run`. The
        // crontab is compared by its text: crontab(1) writes a new file each time.
        let runtime =
            |path: &Path| path.starts_with("run/systemctl") || path.starts_with("var/spool/cron");
        let units = side.unit_names().into_iter().map(|name| {
            let (active, enabled) = side.unit_state(&name);
            (name, active, enabled)
        });
        Snapshot {
            files: Tree::read_except(&side.dir, runtime),
            units: units.collect(),
            crontab: side.crontab(),
            nginx_site: side.nginx.site(),
            databases: databases(side),
            redis_keys: redis_keys(side),
        }
    }

    /// What is otherwise in `later`, in words.
    pub fn differences(&self, later: &Snapshot) -> Vec<String> {
        let mut found = self.files.differences(&later.files);
        for (was, is) in self.units.iter().zip(&later.units) {
            if was != is {
                found.push(format!(
                    "{}: {} and {} became {} and {}",
                    was.0, was.1, was.2, is.1, is.2
                ));
            }
        }
        let texts = [
            ("the crontab", &self.crontab, &later.crontab),
            ("the databases", &self.databases, &later.databases),
            ("the Redis keys", &self.redis_keys, &later.redis_keys),
        ];
        for (what, was, is) in texts {
            if was != is {
                found.push(format!("{what}: {was:?} became {is:?}"));
            }
        }
        if self.nginx_site != later.nginx_site {
            found.push("the nginx site file differs".into());
        }
        found
    }
}

impl Sandbox {
    /// Compares the old server with how it was: files, units, crontab, nginx, databases. Rows and
    /// jobs may have moved on, because it has been serving.
    pub fn source_changes(&self, before: &Snapshot) -> Vec<String> {
        let mut found = before.differences(&Snapshot::take(&self.old));
        if !self.old.web_is_healthy() {
            found.push("the web process does not answer".into());
        }
        if !self.old.streaming_is_healthy() {
            found.push("the streaming process does not answer".into());
        }
        if self.old.redis.cli(&["SCARD", "processes"]) != "2" {
            found.push("there are not two Sidekiqs".into());
        }
        found
    }

    /// Compares the new server with how it was.
    pub fn target_changes(&self, before: &Snapshot) -> Vec<String> {
        before.differences(&Snapshot::take(&self.new))
    }
}

fn databases(side: &Side) -> String {
    let names = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database";
    let tables = "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'm', 'v', 'i', 'S')";
    let mut text = side.postgres.sql("postgres", names);
    if text.contains(DATABASE) {
        text.push_str(&side.postgres.sql(DATABASE, tables));
    }
    text
}

/// The keys that do not come and go with every job.
fn redis_keys(side: &Side) -> String {
    let keys = side.redis.cli(&["KEYS", "*"]);
    let mut keys: Vec<&str> = keys.lines().filter(|key| !verify::is_volatile(key)).collect();
    keys.sort_unstable();
    keys.join(" ")
}
