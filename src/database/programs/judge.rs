//! What the ends of `pg_dump` and `pg_restore` mean, and which of two failures is the cause of the
//! other. Pure.

use crate::host::pipe::EXIT_TRUNCATED;
use crate::host::{Ended, Exit, HostError};

use super::super::tools::Tool;
use super::super::{DatabaseError, Server};

/// The two programs of a pipe, and how each ended.
pub(super) struct Ends<'a> {
    pub source: &'a Server,
    pub target: &'a Server,
    pub dump: Result<Ended, HostError>,
    pub restore: Result<Ended, HostError>,
}

/// Both must have succeeded; gives what they warned about, or the first cause of a failure.
pub(super) fn both(ends: Ends<'_>) -> Result<Vec<String>, DatabaseError> {
    let restore = ends.restore?;
    let dump = ends.dump?;
    let dump_is_victim = broke_pipe(&dump);
    let restore_is_victim = ran_dry(&restore);
    if failed(&dump) && !dump_is_victim {
        return Err(error(ends.source, Tool::Dump, &dump));
    }
    if failed(&restore) && !(restore_is_victim && failed(&dump)) {
        return Err(error(ends.target, Tool::Restore, &restore));
    }
    if failed(&dump) {
        return Err(error(ends.source, Tool::Dump, &dump));
    }
    let mut warnings = warnings(&dump);
    warnings.extend(self::warnings(&restore));
    Ok(warnings)
}

/// One program by itself.
pub(super) fn alone(
    server: &Server,
    tool: Tool,
    ended: Ended,
) -> Result<Vec<String>, DatabaseError> {
    if failed(&ended) { Err(error(server, tool, &ended)) } else { Ok(warnings(&ended)) }
}

/// "errors ignored" is a failure, whatever the exit says: something is not there.
fn failed(ended: &Ended) -> bool {
    ended.exit != Exit::Code(0) || ended.stderr_tail.contains("errors ignored on restore")
}

/// pg_dump whose reader went away.
fn broke_pipe(dump: &Ended) -> bool {
    const SIGPIPE: i32 = 13;
    const SIGTERM: i32 = 15;
    match &dump.exit {
        Exit::Signal(name) if name == "PIPE" || name == "TERM" => true,
        // A shell tells a signal so. TERM is our own watch.
        Exit::Code(code) if [128 + SIGPIPE, 128 + SIGTERM].contains(code) => true,
        Exit::Signal(_) | Exit::Code(_) => dump.stderr_tail.contains("Broken pipe"),
    }
}

/// pg_restore that got too little.
fn ran_dry(restore: &Ended) -> bool {
    let complaints = [
        "end of file",
        "input file is too short",
        "did not find magic string",
        "could not find block ID",
        "unexpected end",
    ];
    // The helper on the way: the stream broke off.
    restore.exit == Exit::Code(i32::from(EXIT_TRUNCATED))
        || complaints.iter().any(|complaint| restore.stderr_tail.contains(complaint))
}

fn error(server: &Server, tool: Tool, ended: &Ended) -> DatabaseError {
    let cause = cause(&ended.stderr_tail);
    if cause.contains("No space left on device") {
        return DatabaseError::DiskFull { server: server.label(), cause };
    }
    if let Some(index) = between(&cause, "could not create unique index \"") {
        return DatabaseError::Duplicate { index, cause };
    }
    if let Some(constraint) = between(&cause, "violates foreign key constraint \"") {
        return DatabaseError::Orphans { constraint, cause };
    }
    let cause = if cause.is_empty() { "it said nothing".to_owned() } else { cause };
    DatabaseError::Tool {
        tool: tool.name(),
        host: server.host.name().to_owned(),
        exit: exit(&ended.exit),
        cause,
    }
}

fn exit(exit: &Exit) -> String {
    match exit {
        Exit::Code(code @ 129..=192) => format!("signal {}", code - 128),
        Exit::Code(_) | Exit::Signal(_) => exit.to_string(),
    }
}

/// The name that follows `words` and ends with a quotation mark.
fn between(cause: &str, words: &str) -> Option<String> {
    let (_, rest) = cause.split_once(words)?;
    Some(rest.split_once('"')?.0.to_owned())
}

/// The first error that the program told, with its detail; else the last line it wrote.
fn cause(stderr: &str) -> String {
    let lines: Vec<&str> = stderr.lines().map(str::trim_end).collect();
    let told = |line: &&str| line.contains("error:") || line.contains("FATAL:");
    let Some(first) = lines.iter().position(&told) else {
        return lines.iter().rev().find(|line| !line.is_empty()).unwrap_or(&"").trim().to_owned();
    };
    let mut text = lines[first].to_owned();
    // "pg_restore: error: could not execute query: ERROR:  could not …"
    for prefix in ["error: ", "could not execute query: ", "ERROR:  "] {
        if let Some((_, rest)) = text.split_once(prefix) {
            text = rest.to_owned();
        }
    }
    let below = lines[first + 1..].iter().take_while(|line| !told(line));
    let detail = below.into_iter().find_map(|line| {
        line.strip_prefix("DETAIL:").or_else(|| Some(line.split_once("detail: ")?.1))
    });
    if let Some(detail) = detail {
        text.push_str(&format!(" ({})", detail.trim()));
    }
    text
}

fn warnings(ended: &Ended) -> Vec<String> {
    let lines = ended.stderr_tail.lines();
    lines.filter(|line| line.contains("warning:")).map(|line| line.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::local::Local;
    use crate::host::{Address, RunAs};
    use std::sync::Arc;

    fn server() -> Server {
        Server {
            host: Arc::new(Local::new()),
            address: Address::Tcp { host: "127.0.0.1".into(), port: 5432 },
            database: "db".into(),
            user: "user".into(),
            password: None,
            os_user: RunAs::Login,
            bin_dir: None,
            helper: None,
        }
    }

    fn verdict(dump: (i32, &str), restore: (i32, &str)) -> Result<Vec<String>, String> {
        let ended = |(code, stderr): (i32, &str)| {
            Ok(Ended { exit: Exit::Code(code), stderr_tail: stderr.to_owned() })
        };
        let server = server();
        let ends =
            Ends { source: &server, target: &server, dump: ended(dump), restore: ended(restore) };
        both(ends).map_err(|error| crate::error::one_line(&error))
    }

    #[test]
    fn the_cause_is_told_and_not_what_followed_from_it() {
        let broken = (1, "pg_dump: error: could not write to output file: Broken pipe\n");
        let full = (1, "pg_restore: error: COPY failed for table \"a\": ERROR:  boom\n");
        let dry = (1, "pg_restore: error: could not read from input file: end of file\n");
        assert!(verdict(broken, full).unwrap_err().contains("pg_restore on this server"));
        let gone = verdict((137, ""), dry).unwrap_err();
        assert_eq!(gone, "pg_dump on this server failed with signal 9: it said nothing");
        let dump = (
            1,
            "pg_dump: error: query failed: ERROR:  canceling statement due to statement timeout\n\
             pg_dump: detail: Query was: LOCK TABLE public.tags IN ACCESS SHARE MODE\n",
        );
        let locked = verdict(dump, dry).unwrap_err();
        assert!(locked.ends_with(
            "statement timeout (Query was: LOCK TABLE public.tags IN ACCESS SHARE MODE)"
        ));
        assert!(verdict((0, ""), dry).unwrap_err().contains("end of file"));
    }

    #[test]
    fn ignored_errors_are_errors() {
        let ignored = (0, "pg_restore: warning: errors ignored on restore: 1\n");
        assert!(verdict((0, ""), ignored).is_err());
        assert_eq!(
            verdict((0, "pg_dump: warning: odd\n"), (0, "")).unwrap(),
            ["pg_dump: warning: odd"]
        );
    }

    #[test]
    fn a_duplicate_names_its_index() {
        let stderr = "pg_restore: while PROCESSING TOC:\n\
            pg_restore: from TOC entry 3189; 1259 16403 INDEX index_tags_on_name m\n\
            pg_restore: error: could not execute query: ERROR:  could not create unique index \"index_tags_on_name\"\n\
            DETAIL:  Key (lower(name))=(cat) is duplicated.\n\
            Command was: CREATE UNIQUE INDEX index_tags_on_name …\n";
        let said = verdict((0, ""), (1, stderr)).unwrap_err();
        assert_eq!(
            said,
            "a value occurs twice under the unique index index_tags_on_name of the source"
        );
    }

    #[test]
    fn rows_that_point_to_nothing_name_their_foreign_key() {
        let stderr = "pg_restore: error: could not execute query: ERROR:  insert or update on \
            table \"mentions\" violates foreign key constraint \"fk_rails_59edbe2887\"\n\
            DETAIL:  Key (status_id)=(7) is not present in table \"statuses\".\n";
        let said = verdict((0, ""), (1, stderr)).unwrap_err();
        assert!(said.contains("point to nothing, although its foreign key fk_rails_59e"), "{said}");
    }
}
