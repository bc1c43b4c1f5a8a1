//! How much room the write-ahead log has.

use super::super::session::is_on_host;
use super::super::{DatabaseError, Server, Session};
use crate::host::{Command, RunAs, run};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// The log is on the disk that the tables are on.
    Shared { free_bytes: u64 },
    /// It has a disk of its own.
    Apart { wal_bytes: u64 },
}

/// Looks into the data directory: the log may be behind a symlink, on a disk that is smaller than
/// the one with the tables. That the directory is this server's is told by the port in it. `None`
/// where we may not look: then nobody should promise the log more than it has.
pub async fn measure(server: &Server, session: &Session) -> Result<Option<Room>, DatabaseError> {
    if !is_on_host(&server.address) {
        return Ok(None);
    }
    let action = "find the data directory";
    let sql = "SELECT pg_catalog.pg_backend_pid(), current_setting('port'),
                   CASE WHEN pg_has_role('pg_read_all_settings', 'USAGE')
                        THEN current_setting('data_directory') END";
    let row = session.row(action, sql, &[]).await?;
    let pid: i32 = session.get(action, &row, 0)?;
    let port: String = session.get(action, &row, 1)?;
    let dir: Option<String> = session.get(action, &row, 2)?;
    // Where programs run as other users than the login, that is allowed to change to them.
    let user = match server.os_user {
        RunAs::Login => RunAs::Login,
        RunAs::Root | RunAs::User(_) => RunAs::Root,
    };
    let arguments = [dir.as_deref().unwrap_or_default(), &pid.to_string(), &port];
    let command = Command::script(LOOK, &arguments).run_as(user);
    let told = run(&*server.host, &command).await;
    Ok(told.ok().and_then(|output| parse(&output.text())))
}

/// A process of the server stands in its data directory.
const LOOK: &str = r#"d=$1
[ -n "$d" ] || d=$(readlink -e -- "/proc/$2/cwd") || exit 1
[ "$(sed -n 4p -- "$d/postmaster.pid")" = "$3" ] && [ -d "$d/pg_wal/" ] || exit 1
[ "$(stat -L -c %d -- "$d/pg_wal/")" = "$(stat -L -c %d -- "$d")" ] && echo shared || echo apart
df -B1 --output=avail -- "$d/pg_wal/""#;

fn parse(text: &str) -> Option<Room> {
    let bytes = text.lines().last()?.trim().parse().ok()?;
    match text.lines().next()? {
        "shared" => Some(Room::Shared { free_bytes: bytes }),
        "apart" => Some(Room::Apart { wal_bytes: bytes }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_may_see_is_not_known() {
        assert_eq!(parse("shared\nAvail\n 42\n"), Some(Room::Shared { free_bytes: 42 }));
        assert_eq!(parse("apart\nAvail\n 42\n"), Some(Room::Apart { wal_bytes: 42 }));
        assert_eq!(parse(""), None);
        assert_eq!(parse("apart\n"), None);
    }
}
