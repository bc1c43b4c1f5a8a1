//! The machine itself.

use std::time::Duration;

use tokio::time::Instant;

use crate::event;
use crate::host::{Command, Host, HostError, run_ok};

use super::super::facts::{Facts, SAY};

#[derive(Clone, Debug, PartialEq)]
pub struct MachineFacts {
    pub hostname: String,
    /// `Debian GNU/Linux 13 (trixie)`; absent without /etc/os-release.
    pub os: Option<String>,
    /// As `uname -m` says: `x86_64`.
    pub arch: String,
    pub kernel: String,
    pub cores: u32,
    pub memory_bytes: u64,
    pub login: String,
    /// Whether the login is root, or `sudo -n` makes it root.
    pub can_be_root: bool,
    pub clock: Clock,
}

/// A machine's clock beside the one of the machine that runs transhume.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clock {
    /// When it was asked, seconds since 1970 by its own clock.
    pub unix_secs: f64,
    /// How far it is ahead of ours, in seconds; two machines are compared by the difference.
    pub ahead_secs: f64,
    /// How long the question took: `ahead_secs` is known to half of it.
    pub round_trip: Duration,
}

impl Clock {
    /// How far this clock is ahead of `other` at least, in seconds; 0 where the round trips leave
    /// room for no difference.
    pub fn surely_off_secs(&self, other: &Clock) -> f64 {
        let doubt = (self.round_trip + other.round_trip).as_secs_f64() / 2.0;
        ((self.ahead_secs - other.ahead_secs).abs() - doubt).max(0.0)
    }
}

/// Looks at the machine as the login user.
pub async fn machine(host: &dyn Host) -> Result<MachineFacts, HostError> {
    let facts = Facts::ask(host, &Command::script(&format!("{SAY}{MACHINE}"), &[])).await?;
    let text = |key: &str| facts.get(key).map(str::to_owned).ok_or_else(|| facts.odd(key));
    Ok(MachineFacts {
        hostname: text("hostname")?,
        os: facts.get("os").map(|name| name.trim_matches(['"', '\'']).to_owned()),
        arch: text("arch")?,
        kernel: text("kernel")?,
        cores: facts.need("cores")?,
        memory_bytes: facts.need::<u64>("memory_kib")? * 1024,
        login: text("login")?,
        can_be_root: facts.get("root") == Some("yes"),
        clock: clock(host).await?,
    })
}

const MACHINE: &str = r#"
say hostname "$(uname -n)"; say arch "$(uname -m)"; say kernel "$(uname -r)"
say os "$(sed -n 's/^PRETTY_NAME=//p' /etc/os-release 2>/dev/null)"
say cores "$(nproc)"
say memory_kib "$(sed -n 's/^MemTotal: *\([0-9]*\) kB$/\1/p' /proc/meminfo)"
say login "$(id -un)"
if [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null </dev/null; then say root yes; fi
exit 0
"#;

/// Asks for the time in a command of its own, so that the round trip is short.
async fn clock(host: &dyn Host) -> Result<Clock, HostError> {
    let command = Command::new(["date", "+%s.%N"]);
    let (ours, asked) = (event::now(), Instant::now());
    let text = run_ok(host, &command).await?;
    let round_trip = asked.elapsed();
    let unix_secs: f64 = text.trim().parse().map_err(|_| HostError::Output {
        host: host.name().to_owned(),
        command: command.to_string(),
        problem: format!("something that is not a time: {text:?}"),
    })?;
    let halfway = ours.as_millisecond() as f64 / 1000.0 + round_trip.as_secs_f64() / 2.0;
    Ok(Clock { unix_secs, ahead_secs: unix_secs - halfway, round_trip })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_within_the_round_trips_is_none() {
        let clock = |ahead_secs, millis| Clock {
            unix_secs: 1.8e9,
            ahead_secs,
            round_trip: Duration::from_millis(millis),
        };
        assert_eq!(clock(0.1, 200).surely_off_secs(&clock(0.0, 100)), 0.0);
        assert_eq!(clock(-3.0, 1000).surely_off_secs(&clock(2.0, 1000)), 4.0);
    }
}
