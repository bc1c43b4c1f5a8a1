//! Asks one DNS server one question, with a deadline.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, RecordType};

use super::Record;

/// How long one try may take; a lost packet is asked for once more.
const TRY: Duration = Duration::from_secs(2);
const TRIES: usize = 2;
/// How long a question may take, changing to TCP and following aliases included.
const DEADLINE: Duration = Duration::from_secs(6);
/// Aliases that are followed.
const ALIASES_MAX: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// The resolvers of `/etc/resolv.conf`; none where it cannot be read.
pub fn system_resolvers() -> Vec<SocketAddr> {
    let Ok((config, _)) = hickory_resolver::system_conf::read_system_conf() else {
        return Vec::new();
    };
    let mut servers: Vec<SocketAddr> =
        config.name_servers().iter().map(|server| SocketAddr::new(server.ip, 53)).collect();
    servers.dedup();
    servers
}

/// The addresses of `name` of one family; none if it has none. The error is why there is no
/// answer, in words.
pub async fn addresses(
    server: SocketAddr,
    name: &str,
    family: Family,
    recursive: bool,
) -> Result<Vec<Record>, String> {
    let kind = match family {
        Family::V4 => RecordType::A,
        Family::V6 => RecordType::AAAA,
    };
    let lookup = match ask(server, name, kind, recursive).await? {
        Said::Records(lookup) => lookup,
        Said::NoRecords => return Ok(Vec::new()),
        Said::NoName => return Err("there is no such name".to_owned()),
    };
    // An alias on the way has a TTL of its own, but it is the address that changes.
    let record = |record: &hickory_resolver::proto::rr::Record| {
        Some(Record { address: address_in(&record.data)?, ttl_secs: record.ttl })
    };
    let mut records: Vec<Record> = lookup.answers().iter().filter_map(record).collect();
    records.sort();
    Ok(records)
}

/// The name that `name` is an alias of, at the end of the chain, or `None` if it is none. An
/// error if no resolver answers.
pub async fn canonical(resolvers: &[SocketAddr], name: &str) -> Result<Option<String>, Silence> {
    let mut found: Option<String> = None;
    for _ in 0..ALIASES_MAX {
        let asked = found.as_deref().unwrap_or(name);
        let said = ask_any(resolvers, asked, RecordType::CNAME).await?;
        let alias = said.records().find_map(|data| match data {
            RData::CNAME(target) => Some(text(&target.0)),
            _ => None,
        });
        match alias {
            Some(alias) => found = Some(alias),
            None => break,
        }
    }
    Ok(found)
}

/// The servers that hold the zone of `name`: host names and addresses, IPv4 where there is one.
pub async fn authoritative(
    resolvers: &[SocketAddr],
    name: &str,
    port: u16,
) -> Result<Vec<(String, SocketAddr)>, Silence> {
    let mut zone = name;
    let mut hosts: Vec<String> = loop {
        let hosts = servers_in(&ask_any(resolvers, zone, RecordType::NS).await?, zone);
        if !hosts.is_empty() {
            break hosts;
        }
        match zone.split_once('.') {
            // The servers of a top-level domain only know who knows.
            Some((_, parent)) if parent.contains('.') => zone = parent,
            Some(_) | None => return Ok(Vec::new()),
        }
    };
    hosts.sort();
    hosts.dedup();
    let mut servers = Vec::with_capacity(hosts.len());
    for host in hosts {
        for kind in [RecordType::A, RecordType::AAAA] {
            let said = ask_any(resolvers, &host, kind).await?;
            let address = said.records().find_map(address_in);
            if let Some(address) = address {
                servers.push((host, SocketAddr::new(address, port)));
                break;
            }
        }
    }
    Ok(servers)
}

fn address_in(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    }
}

fn servers_in(said: &Said, zone: &str) -> Vec<String> {
    let Said::Records(lookup) = said else { return Vec::new() };
    let of_the_zone = lookup.answers().iter().filter(|record| text(&record.name) == zone);
    of_the_zone
        .filter_map(|record| match &record.data {
            RData::NS(host) => Some(text(&host.0)),
            _ => None,
        })
        .collect()
}

fn text(name: &Name) -> String {
    name.to_lowercase().to_ascii().trim_end_matches('.').to_owned()
}

/// No resolver answers.
#[derive(Debug)]
pub struct Silence;

/// What a server says.
enum Said {
    Records(Lookup),
    /// The name has none of that kind.
    NoRecords,
    NoName,
}

impl Said {
    fn records(&self) -> impl Iterator<Item = &RData> {
        let records = match self {
            Said::Records(lookup) => lookup.answers(),
            Said::NoRecords | Said::NoName => &[],
        };
        records.iter().map(|record| &record.data)
    }
}

/// The first answer that any of the resolvers gives; all are asked at once.
async fn ask_any(resolvers: &[SocketAddr], name: &str, kind: RecordType) -> Result<Said, Silence> {
    let mut asked: FuturesUnordered<_> =
        resolvers.iter().map(|server| ask(*server, name, kind, true)).collect();
    while let Some(answer) = asked.next().await {
        if let Ok(said) = answer {
            return Ok(said);
        }
    }
    Err(Silence)
}

async fn ask(
    server: SocketAddr,
    name: &str,
    kind: RecordType,
    recursive: bool,
) -> Result<Said, String> {
    let resolver = resolver(server, recursive).map_err(|error| error.to_string())?;
    // With its last dot: no search domain is tried.
    let asked = resolver.lookup(format!("{name}."), kind);
    match tokio::time::timeout(DEADLINE, asked).await {
        Ok(Ok(lookup)) => Ok(Said::Records(lookup)),
        Ok(Err(error)) if error.is_nx_domain() => Ok(Said::NoName),
        Ok(Err(error)) if error.is_no_records_found() => Ok(Said::NoRecords),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", DEADLINE.as_secs())),
    }
}

/// A resolver that asks this one server, remembers nothing and knows no hosts file.
fn resolver(server: SocketAddr, recursive: bool) -> Result<TokioResolver, NetError> {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()]
        .into_iter()
        .map(|mut connection| {
            connection.port = server.port();
            connection
        })
        .collect();
    let server = NameServerConfig::new(server.ip(), true, connections);
    let config = ResolverConfig::from_name_servers(vec![server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    options.timeout = TRY;
    options.attempts = TRIES - 1;
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options.preserve_intermediates = true;
    options.recursion_desired = recursive;
    builder.build()
}
