//! Settings of the target's whole cluster, raised for the time of one copy where the operator asked
//! for it: fewer checkpoints, which cost a copy most. What stood there before is noted down first,
//! where the settings themselves are, so that whoever comes next can put them back: the end of the
//! copy, a run after one that was killed, a rollback. Nothing here needs a restart, and nothing
//! risks data: not `fsync`, not `wal_level` (ARCHITECTURE.md says why).
//!
//! The order is what makes it safe: the record is in force before the first setting is changed, and
//! goes only when all of them are back.

mod conf;
mod record;
mod rights;
mod room;
mod wanted;

use std::time::Duration;

use super::inspect::DatabaseFacts;
use super::session::Access;
use super::target::Destination;
use super::{DatabaseError, Server, Session};
use crate::event::{Event, Finding, Monitor};

use conf::{Entry, Setting};
use record::{Change, Record};
use rights::privileged;
pub(super) use rights::remedy;
use room::Room;

/// The subject of findings and problems about these settings.
pub const SUBJECT: &str = "cluster settings";

/// How long another transhume that is at work with the settings, or the session of one that was
/// killed, is waited for.
const OTHERS_WAIT_MAX: Duration = Duration::from_secs(10);
const OTHERS_POLL: Duration = Duration::from_millis(100);
/// How long putting back may take at the end of a copy.
const RESTORE_WAIT_MAX: Duration = Duration::from_secs(60);

/// Somebody who may change the settings, and whom no other transhume gets in the way of for as
/// long as this lives.
pub struct Hands(Session);

/// Puts back what a run left that was cut off, and, if it is `asked` for, gets hold of the settings.
/// Who may not change them is told so here, before anything is copied. `None` where it is not asked
/// for, or another transhume has hold of them. What could not be put back is added to `problems`.
pub async fn ready(
    destination: &Destination,
    asked: bool,
    monitor: &dyn Monitor,
    problems: &mut Vec<String>,
) -> Result<Option<Hands>, DatabaseError> {
    if !asked {
        problems.extend(restore_if_raised(destination, monitor).await?);
        return Ok(None);
    }
    let session = privileged(destination).await?;
    if !take_hold(&session).await? {
        let text = format!(
            "another transhume is at work with the settings of {}: they are left to it",
            session.server()
        );
        monitor.emit(Event::Note { text });
        return Ok(None);
    }
    if let Some(record) = conf::record(&session).await? {
        problems.extend(put_back(&session, &record, monitor).await?);
    }
    Ok(Some(Hands(session)))
}

/// Raises what helps a copy of `source` and is lower, for `run`; says what it did. What did not
/// take effect is added to `problems`.
pub async fn raise(
    hands: &Hands,
    destination: &Destination,
    source: &DatabaseFacts,
    run: &str,
    monitor: &dyn Monitor,
    problems: &mut Vec<String>,
) -> Result<(), DatabaseError> {
    let session = &hands.0;
    let outlook = outlook(session, destination, source).await?;
    if outlook.changes.is_empty() {
        monitor.emit(Event::Note { text: outlook.to_string() });
        return Ok(());
    }
    let record = Record { run: run.to_owned(), changes: outlook.changes.clone() };
    conf::note_down(session, &record).await?;
    for change in &record.changes {
        conf::set(session, change.setting, Some(&change.ours)).await?;
    }
    conf::reload(session).await?;
    monitor.emit(Event::Note { text: outlook.to_string() });
    for change in &record.changes {
        if !conf::takes_effect(session, change).await? {
            problems.push(format!(
                "{} = {} did not take effect on {}: `SELECT * FROM pg_file_settings` there tells \
                 why",
                change.setting.name(),
                change.ours,
                session.server()
            ));
        }
    }
    Ok(())
}

/// Puts back what any run raised that was cut off, if one did. Gives what is not as it was.
pub async fn restore_if_raised(
    destination: &Destination,
    monitor: &dyn Monitor,
) -> Result<Vec<String>, DatabaseError> {
    match is_raised(destination).await? {
        true => Ok(restore(destination, None, monitor).await),
        false => Ok(Vec::new()),
    }
}

/// As [`restore_if_raised`], with the error, for those who try again.
pub async fn try_restore(
    destination: &Destination,
    monitor: &dyn Monitor,
) -> Result<Vec<String>, DatabaseError> {
    match is_raised(destination).await? {
        true => restore_from_record(destination, None, monitor).await,
        false => Ok(Vec::new()),
    }
}

/// Tells what is not as it was, where nobody else does.
pub fn tell(problems: Vec<String>, monitor: &dyn Monitor) {
    for text in problems {
        monitor.emit(Event::Problem { subject: SUBJECT.into(), text, remedy: None });
    }
}

/// Puts back what `run` (or, without one, any run that was cut off) raised. Gives what is not as it
/// was, for the operator to see to; an error is one of those.
pub async fn restore(
    destination: &Destination,
    run: Option<&str>,
    monitor: &dyn Monitor,
) -> Vec<String> {
    let server = destination.server.label();
    let restoring = restore_from_record(destination, run, monitor);
    let cause = match tokio::time::timeout(RESTORE_WAIT_MAX, restoring).await {
        Ok(Ok(problems)) => return problems,
        Ok(Err(error)) => crate::error::one_line(&error),
        Err(_) => format!("no end after {} s", RESTORE_WAIT_MAX.as_secs()),
    };
    vec![format!(
        "the settings of {server} that were raised for a copy could not be put back: {cause}. The \
         next run that comes there tries again; by hand: `SHOW {}` tells what stood there before, \
         ALTER SYSTEM sets it",
        conf::RECORD
    )]
}

async fn restore_from_record(
    destination: &Destination,
    run: Option<&str>,
    monitor: &dyn Monitor,
) -> Result<Vec<String>, DatabaseError> {
    let session = privileged(destination).await?;
    if !take_hold(&session).await? {
        // Another run, which is alive, puts back its own.
        return Ok(Vec::new());
    }
    match conf::record(&session).await? {
        Some(record) if run.is_none_or(|run| run == record.run) => {
            put_back(&session, &record, monitor).await
        }
        Some(_) => Ok(Vec::new()),
        // It was cut off after the record had gone from the file.
        None => conf::reload(&session).await.map(|()| Vec::new()),
    }
}

/// What there is to say before a copy: what would be raised, who may not, what a run left.
pub async fn findings(
    destination: &Destination,
    source: &DatabaseFacts,
    asked: bool,
) -> Result<Vec<Finding>, DatabaseError> {
    let mut found = Vec::new();
    if is_raised(destination).await? {
        let text = "they are as a copy raised them; if that was cut off, the next one, or a \
                    rollback, puts them back";
        found.push(Finding::ok(SUBJECT, text));
    }
    if !asked {
        return Ok(found);
    }
    match privileged(destination).await {
        Ok(session) => {
            let outlook = outlook(&session, destination, source).await?;
            found.push(Finding::ok(SUBJECT, outlook.to_string()));
        }
        Err(error @ DatabaseError::NoTuneRight { .. }) => {
            let text = crate::error::one_line(&error);
            found.push(Finding::refusal(SUBJECT, text, Some(remedy(&error))));
        }
        Err(error) => return Err(error),
    }
    Ok(found)
}

/// What is to be changed, and what is not.
struct Outlook {
    server: String,
    changes: Vec<Change>,
    /// Why a setting is left as it is.
    left: Vec<String>,
}

impl std::fmt::Display for Outlook {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let raised: Vec<String> = self
            .changes
            .iter()
            .map(|change| {
                format!("{} {} instead of {}", change.setting.name(), change.ours, change.from)
            })
            .collect();
        let parts: Vec<&str> = raised.iter().chain(&self.left).map(String::as_str).collect();
        write!(out, "on {}, for the time of the copy: {}", self.server, parts.join("; "))
    }
}

async fn outlook(
    session: &Session,
    destination: &Destination,
    source: &DatabaseFacts,
) -> Result<Outlook, DatabaseError> {
    let room = room::measure(login(destination), session).await?;
    let mut outlook =
        Outlook { server: session.server().to_owned(), changes: Vec::new(), left: Vec::new() };
    for setting in Setting::ALL {
        let now = conf::in_force(session, setting).await?;
        match wanted::wanted(setting, &now, room, source) {
            Ok(ours) => {
                let former = conf::entry(session, setting).await?;
                outlook.changes.push(Change { setting, ours, former, from: now.text });
            }
            Err(reason) => outlook.left.push(reason),
        }
    }
    Ok(outlook)
}

/// Who sees the machine of the server.
fn login(destination: &Destination) -> &Server {
    destination.admin.as_ref().or(destination.tuner.as_ref()).unwrap_or(&destination.server)
}

/// Whether a record of ours is in force. Anybody may ask this.
async fn is_raised(destination: &Destination) -> Result<bool, DatabaseError> {
    let session = destination.admin_session(Access::Read).await?;
    conf::is_noted_down(&session).await
}

/// Keeps other runs away from the settings for as long as the session lives; whether it could. The
/// session of a run that was killed may take a moment to go.
async fn take_hold(session: &Session) -> Result<bool, DatabaseError> {
    // The letters of `trans`, and of `conf`.
    let sql = "SELECT pg_try_advisory_lock(x'7472616e636f6e66'::bigint)";
    let deadline = tokio::time::Instant::now() + OTHERS_WAIT_MAX;
    loop {
        if session.value::<bool>("lock the settings", sql, &[]).await? {
            return Ok(true);
        }
        if tokio::time::Instant::now() > deadline {
            return Ok(false);
        }
        tokio::time::sleep(OTHERS_POLL).await;
    }
}

/// Puts back what `record` tells of, and then takes the record away. What somebody else changed
/// meanwhile is left, and told.
async fn put_back(
    session: &Session,
    record: &Record,
    monitor: &dyn Monitor,
) -> Result<Vec<String>, DatabaseError> {
    let (mut back, mut foreign) = (Vec::new(), Vec::new());
    for change in &record.changes {
        let name = change.setting.name();
        match change.compare(conf::entry(session, change.setting).await?) {
            Entry::Ours => {
                conf::set(session, change.setting, change.former.as_deref()).await?;
                back.push(name);
            }
            Entry::Former => {}
            Entry::Foreign(now) => foreign.push(format!(
                "{name} of {} was changed to {now} by somebody else while a copy had raised it, and \
                 is left so; before the copy it was {}",
                session.server(),
                change.from
            )),
        }
    }
    conf::reload(session).await?;
    conf::forget(session).await?;
    if !back.is_empty() {
        let text = format!("put back on {}: {}", session.server(), back.join(", "));
        monitor.emit(Event::Note { text });
    }
    Ok(foreign)
}
