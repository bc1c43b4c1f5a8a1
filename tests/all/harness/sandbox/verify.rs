//! Whether a move did what it says, seen by other means than those that did it: psql and pg_dump,
//! redis-cli, walking both trees, asking over HTTPS.

#[path = "verify/database.rs"]
mod database;
#[path = "verify/redis.rs"]
mod redis;
#[path = "verify/services.rs"]
mod services;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

use super::{DATABASE, Sandbox, Side};
pub(super) use redis::is_volatile;

/// How many problems of one kind are told.
const SHOWN_MAX: usize = 10;

/// What was seen, and what was found wrong.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    pub seen: Vec<String>,
    pub problems: Vec<String>,
}

impl Verdict {
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }

    fn saw(&mut self, text: impl Into<String>) {
        self.seen.push(text.into());
    }

    fn wrong(&mut self, text: impl Into<String>) {
        self.problems.push(text.into());
    }

    /// Notes `problems`, or if there are none what was `seen`.
    fn judge(&mut self, seen: impl Into<String>, problems: Vec<String>) {
        if problems.is_empty() {
            self.saw(seen);
        }
        let more = problems.len().saturating_sub(SHOWN_MAX);
        self.problems.extend(problems.into_iter().take(SHOWN_MAX));
        if more > 0 {
            self.wrong(format!("and {more} more of the same kind"));
        }
    }
}

impl Sandbox {
    /// Judges the state after a whole move. Order matters: what is compared with the old server
    /// comes before the posts that change the new one.
    pub fn verify_moved(&self) -> Verdict {
        let mut verdict = Verdict::default();
        services::old_is_fenced(self, &mut verdict);
        services::new_is_up(self, &mut verdict);
        self.compare_media(&mut verdict);
        self.compare_env(&mut verdict);
        redis::compare(self, &mut verdict);
        if let Err(problem) = self.new.postgres.try_sql(DATABASE, "SELECT 1 FROM job_ledger") {
            // Nothing of what follows can be asked.
            verdict.wrong(format!("the new database cannot be read: {problem}"));
            return verdict;
        }
        database::compare(self, &mut verdict);
        services::new_answers(self, &mut verdict);
        services::new_takes_posts(self, &mut verdict);
        services::old_proxies(self, &mut verdict);
        redis::jobs_ran_once(self, &mut verdict);
        verdict
    }

    fn compare_media(&self, verdict: &mut Verdict) {
        let (old, new) = self.media();
        let seen = format!(
            "media: {} files, {:.1} MB, {} of them private: bytes, modes, owners and times equal",
            old.files(),
            old.bytes() as f64 / 1e6,
            old.hidden()
        );
        verdict.judge(seen, old.differences(&new));
    }

    /// Every line of `.env.production` is as it was, but for the new machine's own values.
    fn compare_env(&self, verdict: &mut Verdict) {
        let mut problems = Vec::new();
        let overrides = self.new.overrides();
        let (old, new) = (assignments(&self.old), assignments(&self.new));
        for name in old.keys().chain(new.keys()) {
            // The values themselves are not shown.
            let expected = overrides.get(name).and_then(|value| value.as_str()).map(str::to_owned);
            let bare = |value: &String| value.trim_matches(['"', '\'']).to_owned();
            let right = match expected {
                Some(expected) => new.get(name).map(bare) == Some(expected),
                None => new.get(name) == old.get(name),
            };
            if !right {
                problems.push(format!(".env.production: {name} is not as it should be"));
            }
        }
        match fs::metadata(self.new.env_path()) {
            Ok(found) => {
                let owner = self.new.owner.is_none_or(|owner| owner == (found.uid(), found.gid()));
                if found.mode() & 0o7777 != 0o600 || !owner {
                    problems.push(".env.production: its mode or owner is wrong".into());
                }
            }
            Err(error) => problems.push(format!(".env.production: {error}")),
        }
        problems.dedup();
        verdict
            .judge(".env.production: equal but for the new machine's own values, 0600", problems);
    }
}

fn assignments(side: &Side) -> BTreeMap<String, String> {
    let text = fs::read_to_string(side.env_path()).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pair = |line: &str| {
        let (name, value) = line.split_once('=')?;
        Some((name.trim_start_matches("export ").to_owned(), value.to_owned()))
    };
    lines.filter_map(pair).collect()
}
