//! What the answers mean for the move. Pure.

use std::net::IpAddr;
use std::time::Duration;

use super::{Answer, Record, Role};
use crate::event::Finding;
use crate::units::duration;

/// A TTL up to this keeps nobody waiting.
pub const TTL_SECS_FINE: u32 = 3600;
/// What to lower it to before the move.
const TTL_SECS_ADVISED: u32 = 300;

/// The public addresses of the two servers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Addresses<'a> {
    /// May be empty: then every address that is not the target's is an old one.
    pub source: &'a [IpAddr],
    /// May be empty: then nothing is said about where a name should lead.
    pub target: &'a [IpAddr],
}

/// Whether DNS should name the old server or the new one by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    BeforeTheMove,
    AfterTheMove,
}

/// Where a record leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leads {
    Old,
    New,
    Elsewhere,
}

impl Addresses<'_> {
    fn leads(&self, address: IpAddr) -> Leads {
        if self.target.contains(&address) {
            Leads::New
        } else if self.source.contains(&address) || self.source.is_empty() {
            Leads::Old
        } else {
            Leads::Elsewhere
        }
    }
}

/// What to tell the operator, name by name. What the authoritative servers say counts; without
/// any, what the resolvers say.
pub fn findings(answers: &[Answer], addresses: Addresses<'_>, phase: Phase) -> Vec<Finding> {
    let mut names: Vec<&str> = answers.iter().map(|answer| answer.name.as_str()).collect();
    names.dedup();
    let mut found = Vec::new();
    for name in names {
        let of_name: Vec<&Answer> = answers.iter().filter(|answer| answer.name == name).collect();
        judge_name(name, &of_name, addresses, phase, &mut found);
    }
    found
}

/// How long the proxy on the old server is still needed, as far as the answers tell: `None` while
/// a record at an authoritative server (or, without any, at a resolver) does not name the new
/// server. Then the longest that a resolver asked still remembers the old one, or `former_ttl`,
/// whichever is longer: resolvers that were not asked may have looked just before the change.
pub fn wait_before_proxy_ends(
    answers: &[Answer],
    addresses: Addresses<'_>,
    former_ttl: Option<Duration>,
) -> Option<Duration> {
    let is_old = |record: &&Record| addresses.leads(record.address) != Leads::New;
    let deciding = deciding(answers);
    let mut current = deciding.iter().flat_map(|answer| records(answer)).peekable();
    current.peek()?;
    if current.any(|record| is_old(&record)) || deciding.iter().any(|answer| failed(answer)) {
        return None;
    }
    let remembered = answers.iter().flat_map(records).filter(is_old).map(|record| record.ttl_secs);
    let remembered = Duration::from_secs(u64::from(remembered.max().unwrap_or(0)));
    Some(remembered.max(former_ttl.unwrap_or_default()))
}

fn records(answer: &Answer) -> impl Iterator<Item = &Record> {
    answer.a.iter().chain(&answer.aaaa).flatten()
}

fn failed(answer: &Answer) -> bool {
    answer.a.is_err() || answer.aaaa.is_err()
}

/// The answers that count.
fn deciding<'a>(answers: &'a [Answer]) -> Vec<&'a Answer> {
    let heard = |answer: &&Answer| answer.a.is_ok() || answer.aaaa.is_ok();
    let authoritative: Vec<&'a Answer> =
        answers.iter().filter(|answer| answer.role == Role::Authoritative).filter(heard).collect();
    if authoritative.is_empty() { answers.iter().filter(heard).collect() } else { authoritative }
}

fn judge_name(
    name: &str,
    answers: &[&Answer],
    addresses: Addresses<'_>,
    phase: Phase,
    found: &mut Vec<Finding>,
) {
    let owned: Vec<Answer> = answers.iter().map(|answer| (*answer).clone()).collect();
    let deciding = deciding(&owned);
    if let Some(canonical) = answers.iter().find_map(|answer| answer.canonical.as_ref()) {
        found.push(Finding::ok(name, format!("it is an alias of {canonical}: change that name")));
    }
    if !deciding.iter().any(|answer| answer.role == Role::Authoritative) {
        let text = "no authoritative server answered: what follows is what resolvers remember";
        found.push(Finding::warning(name, text, None));
    }
    for (kind, of) in [("A", Answer::a as Pick), ("AAAA", Answer::aaaa as Pick)] {
        judge_kind(name, kind, &deciding, of, addresses, phase, found);
    }
    tell_who_remembers(name, &owned, &deciding, addresses, phase, found);
    for answer in answers.iter().filter(|answer| failed(answer)) {
        let reason = answer.a.as_ref().err().or(answer.aaaa.as_ref().err());
        let reason = reason.map_or("", String::as_str);
        let text = format!("{} {} gave no answer: {reason}", answer.role, answer.server);
        found.push(Finding::warning(name, text, None));
    }
}

type Pick = fn(&Answer) -> &Result<Vec<Record>, String>;

impl Answer {
    fn a(&self) -> &Result<Vec<Record>, String> {
        &self.a
    }

    fn aaaa(&self) -> &Result<Vec<Record>, String> {
        &self.aaaa
    }
}

fn judge_kind(
    name: &str,
    kind: &str,
    deciding: &[&Answer],
    of: Pick,
    addresses: Addresses<'_>,
    phase: Phase,
    found: &mut Vec<Finding>,
) {
    let told: Vec<(&Answer, &Vec<Record>)> =
        deciding.iter().filter_map(|answer| Some((*answer, of(answer).as_ref().ok()?))).collect();
    let Some((first, records)) = told.first() else { return };
    let addresses_of =
        |records: &[Record]| records.iter().map(|record| record.address).collect::<Vec<_>>();
    if let Some((other, theirs)) = told.iter().find(|(answer, theirs)| {
        answer.role == Role::Authoritative && addresses_of(theirs) != addresses_of(records)
    }) {
        let text = format!(
            "the authoritative servers disagree on {kind}: {} says {}, {} says {}",
            first.server,
            list(records),
            other.server,
            list(theirs)
        );
        let remedy = "wait until the zone has reached all its servers, or ask their operator";
        found.push(Finding::warning(name, text, Some(remedy.into())));
    }
    let all: Vec<Record> = told.iter().flat_map(|(_, records)| records.iter().copied()).collect();
    judge_records(name, kind, &all, addresses, phase, found);
}

fn judge_records(
    name: &str,
    kind: &str,
    records: &[Record],
    addresses: Addresses<'_>,
    phase: Phase,
    found: &mut Vec<Finding>,
) {
    let wanted: Vec<String> = addresses
        .target
        .iter()
        .filter(|address| address.is_ipv4() == (kind == "A"))
        .map(ToString::to_string)
        .collect();
    let Some(ttl) = records.iter().map(|record| record.ttl_secs).max() else {
        found.push(missing(name, kind, &wanted, phase));
        return;
    };
    let leads = |wanted| {
        let mut these: Vec<Record> = records
            .iter()
            .filter(|record| addresses.leads(record.address) == wanted)
            .copied()
            .collect();
        these.sort();
        these.dedup_by_key(|record| record.address);
        these
    };
    let (old, new, elsewhere) = (leads(Leads::Old), leads(Leads::New), leads(Leads::Elsewhere));
    let change = match wanted.as_slice() {
        [] => format!("remove the {kind} record, or give the new server such an address"),
        wanted => format!("set {kind} of {name} to {}", wanted.join(", ")),
    };
    if !old.is_empty() {
        let what = if addresses.target.is_empty() { "is" } else { "names the old server" };
        match phase {
            Phase::BeforeTheMove => {
                found.push(Finding::ok(name, format!("{kind} {what} {}", list(&old))));
            }
            Phase::AfterTheMove => {
                let text = format!("{kind} still {what} {}", list(&old));
                found.push(Finding::warning(name, text, Some(change.clone())));
            }
        }
    }
    if !elsewhere.is_empty() {
        let text = format!("{kind} names neither server: {}", list(&elsewhere));
        let remedy = "if that is a CDN or a load balancer, change the address there";
        found.push(Finding::warning(name, text, Some(remedy.into())));
    }
    if !new.is_empty() {
        let text = format!("{kind} names the new server {}", list(&new));
        found.push(match phase {
            Phase::AfterTheMove => Finding::ok(name, text),
            Phase::BeforeTheMove => {
                let text = format!("{text}, which does not serve yet");
                let remedy = "let it name the old server until the move is done";
                Finding::warning(name, text, Some(remedy.into()))
            }
        });
    }
    if ttl > TTL_SECS_FINE && !(old.is_empty() && elsewhere.is_empty()) {
        let span = duration(Duration::from_secs(u64::from(ttl)));
        let text = format!("the TTL of {kind} is {ttl}: resolvers remember it for {span}");
        let remedy = match phase {
            Phase::BeforeTheMove => {
                format!("lower it to {TTL_SECS_ADVISED}, and wait {span} before the move")
            }
            Phase::AfterTheMove => format!("leave the proxy in place for {span} after the change"),
        };
        found.push(Finding::warning(name, text, Some(remedy)));
    }
}

fn missing(name: &str, kind: &str, wanted: &[String], phase: Phase) -> Finding {
    let text = format!("there is no {kind} record");
    match (phase, wanted) {
        (Phase::BeforeTheMove, _) | (Phase::AfterTheMove, []) => Finding::ok(name, text),
        (Phase::AfterTheMove, wanted) => {
            let remedy = format!("set {kind} of {name} to {}", wanted.join(", "));
            Finding::warning(name, text, Some(remedy))
        }
    }
}

/// After the change: which resolvers still remember the old server, and for how long.
fn tell_who_remembers(
    name: &str,
    answers: &[Answer],
    deciding: &[&Answer],
    addresses: Addresses<'_>,
    phase: Phase,
    found: &mut Vec<Finding>,
) {
    let changed = deciding.iter().any(|answer| answer.role == Role::Authoritative)
        && deciding
            .iter()
            .flat_map(|answer| records(answer))
            .all(|record| addresses.leads(record.address) == Leads::New);
    if phase == Phase::BeforeTheMove || !changed {
        return;
    }
    for answer in answers.iter().filter(|answer| answer.role != Role::Authoritative) {
        let mut old: Vec<Record> = records(answer).copied().collect();
        old.retain(|record| addresses.leads(record.address) != Leads::New);
        if let Some(left) = old.iter().map(|record| record.ttl_secs).max() {
            let span = duration(Duration::from_secs(u64::from(left)));
            let text = format!(
                "{} {} still remembers {} for {span}",
                answer.role,
                answer.server,
                list(&old)
            );
            let remedy = "leave the proxy on the old server in place until then";
            found.push(Finding::warning(name, text, Some(remedy.into())));
        }
    }
}

/// `203.0.113.1, 203.0.113.2 (TTL 300)`
fn list(records: &[Record]) -> String {
    let addresses: Vec<String> = records.iter().map(|record| record.address.to_string()).collect();
    match records.iter().map(|record| record.ttl_secs).max() {
        Some(ttl) => format!("{} (TTL {ttl})", addresses.join(", ")),
        None => "nothing".to_owned(),
    }
}
