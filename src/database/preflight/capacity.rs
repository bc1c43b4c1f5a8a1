//! Whether there is room: connections, locks that may be waited for, disk.

use super::super::compare::JOBS_MAX;
use super::super::target::Existing;
use super::Facts;
use crate::event::Finding;
use crate::units::Bytes;

/// Connections of a copy and its comparison on each side, apart from one for each job.
const CONNECTIONS_BESIDE: i64 = 2;

pub(super) fn connections(facts: &Facts, found: &mut Vec<Finding>) {
    let jobs = if facts.jobs == 0 { JOBS_MAX } else { facts.jobs };
    let wanted = i64::try_from(jobs).unwrap_or(i64::MAX).saturating_add(CONNECTIONS_BESIDE);
    for (side, server) in [("source", &facts.source), ("target", &facts.target)] {
        if server.free_connections < wanted {
            found.push(Finding::warning(
                "connections",
                format!(
                    "the {side} has {} free, the copy takes up to {wanted}",
                    server.free_connections.max(0)
                ),
                Some(
                    "stop what is not needed (SELECT usename, state, count(*) FROM \
                     pg_stat_activity GROUP BY 1, 2), or raise max_connections, or the limit of \
                     the role: ALTER ROLE … CONNECTION LIMIT"
                        .into(),
                ),
            ));
        }
    }
    if let Some(oldest) = facts.source.long_transactions.first() {
        found.push(Finding::warning(
            "long transactions",
            format!("on the source, the oldest: {oldest}"),
            Some(
                "a lock it holds would stop the copy; end it before the move: SELECT \
                 pg_terminate_backend(PROCESS)"
                    .into(),
            ),
        ));
    }
}

pub(super) fn disk(facts: &Facts, found: &mut Vec<Finding>) {
    let need = facts.database.size_bytes;
    let Some(free) = facts.target.disk_free_bytes else { return };
    let tables = &facts.database.tables;
    let indexes: u64 = tables.iter().map(|table| table.index_bytes).sum();
    let wal = facts.target.wal_bytes_max;
    let text = format!(
        "the target has {} free, the database takes {} on the source ({} of it indexes); up to {} \
         of write-ahead log come on top",
        Bytes(free),
        Bytes(need),
        Bytes(indexes),
        Bytes(wal)
    );
    // The sorting for the largest table's indexes takes about as much as they.
    let sorting = tables.iter().map(|table| table.index_bytes).max().unwrap_or(0);
    let wanted = need.saturating_add((need / 2).max(wal.saturating_add(sorting)));
    // What is dropped first makes room; of a half-done copy nobody knows how much.
    let dropped = match &facts.existing {
        Existing::Empty(there) | Existing::Complete(_, there) | Existing::Foreign(there)
            if facts.may_replace =>
        {
            there.size_bytes
        }
        Existing::HalfDone(_) => need,
        Existing::Absent | Existing::Empty(_) | Existing::Complete(..) | Existing::Foreign(_) => 0,
    };
    if free.saturating_add(dropped) < need {
        let remedy = Some("make room where PostgreSQL keeps its data".into());
        found.push(Finding::refusal("disk", text, remedy));
    } else if free.saturating_add(dropped) < wanted {
        let remedy = Some(format!(
            "have {} free: write-ahead log and index builds need room of their own; or lower \
             max_wal_size there",
            Bytes(wanted)
        ));
        found.push(Finding::warning("disk", text, remedy));
    } else {
        found.push(Finding::ok("disk", text));
    }
}
