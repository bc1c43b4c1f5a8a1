//! What DNS says of the instance's names: A, AAAA and TTL at the authoritative servers, which
//! know, and at resolvers, which remember what they were told before.
//!
//! In flow names and whom to ask ([`Servers`]), out flow [`Answer`]s, and from those, with the
//! addresses of the old and the new server, [`Finding`](crate::event::Finding)s: which record
//! names which server, which TTL to lower, and when the proxy on the old server may go.

pub mod ask;
pub mod judge;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use futures_util::StreamExt;

use crate::error::{Advice, Retry};
pub use judge::{Addresses, Phase, findings, wait_before_proxy_ends};

/// Resolvers that anybody may ask, of three operators.
const PUBLIC: [&str; 3] = ["1.1.1.1:53", "8.8.8.8:53", "9.9.9.9:53"];
/// Authoritative servers asked for each name.
const AUTHORITATIVE_MAX: usize = 8;
/// Questions under way at the same time.
const QUESTIONS_MAX: usize = 16;

/// Whom to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Servers {
    /// Resolvers, each asked and told apart in the findings. The first that answers also finds
    /// the authoritative servers.
    pub resolvers: Vec<(Role, SocketAddr)>,
    /// 53, but for tests.
    pub authoritative_port: u16,
}

impl Servers {
    /// The system's resolvers and public ones.
    pub fn usual() -> Servers {
        let system = ask::system_resolvers().into_iter().map(|server| (Role::System, server));
        let public = PUBLIC.iter().filter_map(|text| text.parse().ok());
        let public = public.map(|server| (Role::Public, server));
        Servers { resolvers: system.chain(public).collect(), authoritative_port: 53 }
    }

    /// These resolvers alone.
    pub fn named(resolvers: &[SocketAddr]) -> Servers {
        let resolvers = resolvers.iter().map(|server| (Role::Named, *server)).collect();
        Servers { resolvers, authoritative_port: 53 }
    }
}

/// What a server is to the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// It holds the zone: what it says is so, and its TTL is the whole one.
    Authoritative,
    /// A resolver of this machine; its TTL is what is left.
    System,
    Public,
    /// A resolver that the operator named.
    Named,
}

impl fmt::Display for Role {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Role::Authoritative => "authoritative",
            Role::System => "system",
            Role::Public => "public",
            Role::Named => "resolver",
        })
    }
}

/// What one server says of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub name: String,
    /// What the name is an alias of, where it is one.
    pub canonical: Option<String>,
    pub role: Role,
    /// `ns1.example.net (192.0.2.53)`, or the address of a resolver.
    pub server: String,
    pub a: Result<Vec<Record>, String>,
    pub aaaa: Result<Vec<Record>, String>,
}

/// An address and how long it may be remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    pub address: IpAddr,
    pub ttl_secs: u32,
}

/// Asks everybody about every name. That a server does not answer is in its answer.
pub async fn survey(names: &[String], servers: &Servers) -> Result<Vec<Answer>, DnsError> {
    let mut answers = Vec::new();
    for name in names {
        answers.extend(survey_one(&valid(name)?, servers).await);
    }
    let heard = |answer: &Answer| answer.a.is_ok() || answer.aaaa.is_ok();
    if answers.iter().any(heard) || names.is_empty() {
        Ok(answers)
    } else {
        Err(DnsError::Silent { servers: servers.resolvers.iter().map(|(_, s)| *s).collect() })
    }
}

async fn survey_one(name: &str, servers: &Servers) -> Vec<Answer> {
    let resolvers: Vec<SocketAddr> = servers.resolvers.iter().map(|(_, server)| *server).collect();
    // Where no resolver answers, each is still asked below, and its silence told.
    let canonical = ask::canonical(&resolvers, name).await;
    let target = canonical.as_ref().ok().and_then(Option::as_deref).unwrap_or(name);
    let holders = match &canonical {
        Ok(_) => ask::authoritative(&resolvers, target, servers.authoritative_port).await,
        Err(ask::Silence) => Ok(Vec::new()),
    };
    let mut asked: Vec<(Role, SocketAddr, String, String)> = holders
        .unwrap_or_default()
        .into_iter()
        .take(AUTHORITATIVE_MAX)
        .map(|(host, server)| {
            let label = format!("{host} ({})", server.ip());
            (Role::Authoritative, server, label, target.to_owned())
        })
        .collect();
    asked.extend(
        servers
            .resolvers
            .iter()
            .map(|(role, server)| (*role, *server, shown(*server), name.to_owned())),
    );
    let canonical = canonical.ok().flatten();
    futures_util::stream::iter(asked)
        .map(|(role, server, label, asked_name)| {
            let canonical = canonical.clone();
            async move {
                let recursive = role != Role::Authoritative;
                let (a, aaaa) = tokio::join!(
                    ask::addresses(server, &asked_name, ask::Family::V4, recursive),
                    ask::addresses(server, &asked_name, ask::Family::V6, recursive)
                );
                Answer { name: name.to_owned(), canonical, role, server: label, a, aaaa }
            }
        })
        .buffered(QUESTIONS_MAX)
        .collect()
        .await
}

fn shown(server: SocketAddr) -> String {
    if server.port() == 53 { server.ip().to_string() } else { server.to_string() }
}

/// The name in lower case and without its last dot, if it is one that DNS can hold.
fn valid(name: &str) -> Result<String, DnsError> {
    let name = name.trim_end_matches('.').to_lowercase();
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if name.len() <= 253 && name.split('.').all(label) {
        Ok(name)
    } else {
        Err(DnsError::Name { name })
    }
}

#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    #[error("{name:?} is not a domain name")]
    Name { name: String },
    #[error("no DNS server answered; asked were {}", list(servers))]
    Silent { servers: Vec<SocketAddr> },
}

fn list(servers: &[SocketAddr]) -> String {
    match servers {
        [] => "none: /etc/resolv.conf names none".to_owned(),
        servers => servers.iter().map(|server| shown(*server)).collect::<Vec<_>>().join(", "),
    }
}

impl Advice for DnsError {
    fn hint(&self) -> Option<String> {
        match self {
            DnsError::Name { name } if !name.is_ascii() => {
                Some("write it as it is in DNS, beginning with xn--".into())
            }
            DnsError::Name { .. } => None,
            DnsError::Silent { .. } => Some(
                "name a resolver that answers from here: `transhume dns NAME --server ADDRESS`"
                    .into(),
            ),
        }
    }

    fn retry(&self) -> Retry {
        match self {
            DnsError::Name { .. } => Retry::Never,
            DnsError::Silent { .. } => Retry::Safe,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_before_anybody_is_asked() {
        assert_eq!(valid("Social.Example.").unwrap(), "social.example");
        for name in ["", "a..b", "ü.example", "a b", &"x".repeat(64), "http://a.example"] {
            assert!(valid(name).is_err(), "{name}");
        }
    }
}
