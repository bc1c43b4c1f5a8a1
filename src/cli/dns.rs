//! `transhume dns`: where the instance's names lead, and what to do about it.

use std::io::IsTerminal;
use std::net::{IpAddr, SocketAddr};

use super::{Color, Common, Exit, Failure};
use crate::event::{Event, Finding, Level, Monitor};
use crate::instance::dns::{self, Addresses, Answer, Phase, Record, Servers};
use crate::render::{self, Kind, Look, text, view};
use crate::units::duration;

/// Ask DNS where names lead, and for how long that is remembered.
///
/// Shown are addresses and TTLs at the servers that hold the zone, and what resolvers still
/// remember.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  transhume dns social.example                          before the move: are the TTLs low?
  transhume dns social.example --target 203.0.113.7 2001:db8::7
                                                        after it: who still names the old server?
  transhume dns social.example --server 192.0.2.53      ask this resolver only")]
pub(super) struct Arguments {
    /// LOCAL_DOMAIN, WEB_DOMAIN and other names of the instance
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Addresses of the new server: records should name it by now
    #[arg(long, value_name = "ADDRESS", num_args = 1..)]
    target: Vec<IpAddr>,
    /// Addresses of the old server, to tell it from others
    #[arg(long, value_name = "ADDRESS", num_args = 1..)]
    source: Vec<IpAddr>,
    /// Ask these resolvers instead of the system's and public ones
    #[arg(long, value_name = "ADDRESS[:PORT]", num_args = 1.., value_parser = resolver)]
    server: Vec<SocketAddr>,
}

pub(super) async fn run(arguments: Arguments, common: &Common) -> Result<Exit, Failure> {
    let Arguments { names, target, source, server } = arguments;
    let servers = if server.is_empty() { Servers::usual() } else { Servers::named(&server) };
    let answers = dns::survey(&names, &servers).await.map_err(|error| {
        let exit = match error {
            dns::DnsError::Name { .. } => Exit::Usage,
            dns::DnsError::Silent { .. } => Exit::Failed,
        };
        Failure::new(exit, error)
    })?;
    let addresses = Addresses { source: &source, target: &target };
    let phase = if target.is_empty() { Phase::BeforeTheMove } else { Phase::AfterTheMove };
    let mut findings = dns::findings(&answers, addresses, phase);
    if phase == Phase::AfterTheMove {
        findings.extend(proxy(&answers, addresses));
    }
    show(&answers, &findings, common)?;
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
    Ok(match worst {
        Level::Ok => Exit::Done,
        Level::Warning | Level::Refusal => Exit::Problems,
    })
}

fn resolver(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53));
    address.or_else(|_| text.parse()).map_err(|_| {
        "an address, with a port if it is not 53: 192.0.2.53, [2001:db8::53]:5353".into()
    })
}

/// When the old server need no longer pass requests on.
fn proxy(answers: &[Answer], addresses: Addresses<'_>) -> Option<Finding> {
    let wait = dns::wait_before_proxy_ends(answers, addresses, None)?;
    let text = if wait.is_zero() {
        "nobody asked remembers the old server: the proxy there may be removed when the former \
         TTL has passed since the change"
            .to_owned()
    } else {
        format!("the proxy on the old server is needed for {} more", duration(wait))
    };
    Some(Finding::ok("proxy", text))
}

fn show(answers: &[Answer], findings: &[Finding], common: &Common) -> Result<(), Failure> {
    if common.json {
        let look = Look { color: false, zone: jiff::tz::TimeZone::UTC };
        let outlet = render::monitor(Kind::Json, &look)
            .map_err(|error| Failure::from_io("start the display", error))?;
        for answer in answers {
            outlet.emit(Event::Note { text: format!("{}: {}", answer.name, line(answer)) });
        }
        findings.iter().for_each(|finding| outlet.emit(finding.clone().into()));
        outlet.finish();
        return Ok(());
    }
    if !common.quiet {
        print!("{}", table(answers));
    }
    let shown: Vec<view::Finding> = findings
        .iter()
        .filter(|finding| !common.quiet || finding.level > Level::Ok)
        .map(|finding| view::Finding {
            level: finding.level,
            subject: finding.subject.clone(),
            text: finding.text.clone(),
            remedy: finding.remedy.clone(),
        })
        .collect();
    print!("{}", render::findings(&shown, color(common)));
    Ok(())
}

fn color(common: &Common) -> bool {
    let chosen = match common.color {
        Color::Auto => None,
        Color::Always => Some(true),
        Color::Never => Some(false),
    };
    let no_color = std::env::var("NO_COLOR").ok();
    render::wants_color(chosen, no_color.as_deref(), std::io::stdout().is_terminal())
}

/// What was answered, name by name.
fn table(answers: &[Answer]) -> String {
    let mut names: Vec<&str> = answers.iter().map(|answer| answer.name.as_str()).collect();
    names.dedup();
    let mut shown = String::new();
    for name in names {
        let of_name: Vec<&Answer> = answers.iter().filter(|answer| answer.name == name).collect();
        let rows: Vec<(String, String)> = of_name
            .iter()
            .map(|answer| (format!("  {} {}", answer.role, answer.server), records(answer)))
            .collect();
        shown.push_str(&format!("{}\n{}\n", text::escape(name), text::table(&rows)));
    }
    shown
}

fn line(answer: &Answer) -> String {
    format!("{} {}: {}", answer.role, answer.server, records(answer))
}

fn records(answer: &Answer) -> String {
    format!("A {}   AAAA {}", one(&answer.a), one(&answer.aaaa))
}

fn one(answer: &Result<Vec<Record>, String>) -> String {
    match answer {
        Err(reason) => format!("? ({reason})"),
        Ok(records) if records.is_empty() => "none".to_owned(),
        Ok(records) => {
            let addresses: Vec<String> =
                records.iter().map(|record| record.address.to_string()).collect();
            let ttl = records.iter().map(|record| record.ttl_secs).max().unwrap_or_default();
            format!("{} (TTL {ttl})", addresses.join(", "))
        }
    }
}
