//! The old server after the move: its nginx passes everything on to the new one, so that nobody
//! waits for DNS; and the new server's nginx believes it about the addresses of its clients, or
//! else all of them would share one rate limit.
//!
//! Put into the site as a marked passage that acts in the rewrite phase of the server, so that no
//! location has to be understood. Left as they are: ACME challenges, and server blocks that only
//! redirect. A maintenance passage is replaced in the same edit, so there is no gap between.

use std::net::IpAddr;
use std::time::Duration;

use super::nginx::{self, Kind, NginxError, Passage, Place, Record, Server, Site, plain};
use super::probe::{self, Front, ProbeError, Sight};
use crate::host::{Command, RunAs, run};

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Onward {
    /// Host and port of the new server. An address, or a name that will not move with the site.
    pub address: String,
    /// `None` for plain HTTP.
    pub tls: Option<OnwardTls>,
}

/// How the new server proves itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnwardTls {
    /// The name in its certificate.
    pub name: String,
    /// A file of trusted authorities on the old server; by default the system's.
    pub ca_file: Option<String>,
}

/// Passes everything of `domains` on. May be run again.
pub async fn on(
    place: &Place<'_>,
    domains: &[String],
    onward: &Onward,
) -> Result<Record, NginxError> {
    let tls = match &onward.tls {
        Some(tls) => tls_lines(tls, &authorities(place, tls).await?)?,
        None => String::new(),
    };
    nginx::apply(place, Kind::Proxy, &[Kind::Maintenance], |site, path| {
        passages(site, path, domains, onward, &tls)
    })
    .await
}

/// Takes the proxy away again. May be run again.
pub async fn off(place: &Place<'_>, record: &Record) -> Result<(), NginxError> {
    nginx::revert(place, record).await
}

/// Whether a request to the old nginx is answered by the new server, and what was seen.
pub async fn is_on(front: &Front<'_>) -> Result<Sight, ProbeError> {
    let response = front.get("/health", &[], probe::DEADLINE).await?;
    let passed_on = response.header("x-transhume") == Some("passed-on");
    let by = if passed_on { "passed on to the new server" } else { "answered by itself" };
    Ok(Sight {
        on: passed_on && response.status < 500,
        evidence: format!("{}, {by}", response.status),
    })
}

/// Waits until requests to the old nginx are steadily answered by the new server (or no longer).
pub async fn wait_until(front: &Front<'_>, on: bool, limit: Duration) -> Result<Sight, ProbeError> {
    probe::wait_steady(on, limit, || is_on(front)).await
}

/// On the new server: takes the client's address from what the old server, which connects from
/// one of `addresses`, says in X-Forwarded-For. May be run again.
pub async fn trust(
    place: &Place<'_>,
    domains: &[String],
    addresses: &[IpAddr],
) -> Result<Record, NginxError> {
    nginx::apply(place, Kind::ClientAddress, &[], |site, path| {
        let serving = serving(site, path, domains)?;
        serving
            .iter()
            .map(|server| {
                let text = trust_lines(server, path, addresses)?;
                Ok(Passage { at: server.inside.start, text })
            })
            .collect()
    })
    .await
}

/// Takes [`trust`] back. May be run again.
pub async fn distrust(place: &Place<'_>, record: &Record) -> Result<(), NginxError> {
    nginx::revert(place, record).await
}

fn serving<'s>(
    site: &'s Site,
    path: &str,
    domains: &[String],
) -> Result<Vec<&'s Server>, NginxError> {
    let serving = site.serving(domains);
    if serving.is_empty() {
        return Err(NginxError::NoServer { path: path.into(), domains: domains.to_vec() });
    }
    Ok(serving)
}

fn trust_lines(server: &Server, path: &str, addresses: &[IpAddr]) -> Result<String, NginxError> {
    let mut lines: String =
        addresses.iter().map(|address| format!("    set_real_ip_from {address};\n")).collect();
    match &server.real_ip_header {
        None => lines.push_str("    real_ip_header X-Forwarded-For;\n"),
        Some(header) if header.eq_ignore_ascii_case("X-Forwarded-For") => {}
        Some(header) => {
            let (path, header) = (path.to_owned(), header.clone());
            return Err(NginxError::OtherAddressHeader { path, header });
        }
    }
    Ok(lines)
}

fn passages(
    site: &Site,
    path: &str,
    domains: &[String],
    onward: &Onward,
    tls: &str,
) -> Result<Vec<Passage>, NginxError> {
    let address = plain("the address of the new server", &onward.address)?;
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let mut serving = serving(site, path, domains)?;
    let own = |name: &String| name.eq_ignore_ascii_case(host);
    if domains.iter().any(own) || serving.iter().any(|server| server.names.iter().any(own)) {
        return Err(NginxError::Loop { address: address.to_owned() });
    }
    if serving.iter().any(|server| !server.redirects_only) {
        serving.retain(|server| !server.redirects_only);
    }
    let upstream =
        format!("upstream transhume_target {{\n    server {address};\n    keepalive 16;\n}}\n");
    let first = site.servers.iter().map(|server| server.span.start).min().unwrap_or_default();
    let scheme = if onward.tls.is_some() { "https" } else { "http" };
    let text = pass_lines(scheme, tls);
    let mut passages = vec![Passage { at: first, text: upstream }];
    passages.extend(
        serving.iter().map(|server| Passage { at: server.inside.start, text: text.clone() }),
    );
    Ok(passages)
}

/// 418 is a signal to `error_page` alone; with `=` the status is that of the new server.
fn pass_lines(scheme: &str, tls: &str) -> String {
    format!(
        r#"    set $transhume_connection "";
    if ($http_upgrade) {{ set $transhume_connection "upgrade"; }}
    set $transhume_pass "1";
    if ($uri ~ "^/\.well-known/acme-challenge/") {{ set $transhume_pass ""; }}
    error_page 418 = @transhume_target;
    if ($transhume_pass) {{ return 418; }}
    location @transhume_target {{
        proxy_pass {scheme}://transhume_target;
{tls}        proxy_http_version 1.1;
        proxy_set_header Host $host;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $transhume_connection;
        proxy_set_header X-Real-IP $remote_addr;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_redirect off;
        proxy_intercept_errors off;
        proxy_cache off;
        proxy_buffering off;
        proxy_request_buffering off;
        proxy_max_temp_file_size 0;
        client_max_body_size 0;
        proxy_connect_timeout 15s;
        proxy_read_timeout 1h;
        proxy_send_timeout 5m;
        add_header X-Transhume passed-on always;
    }}
"#
    )
}

fn tls_lines(tls: &OnwardTls, ca_file: &str) -> Result<String, NginxError> {
    let name = plain("the name of the new server", &tls.name)?;
    let ca_file = plain("the file of authorities", ca_file)?;
    Ok(format!(
        "        proxy_ssl_server_name on;\n        proxy_ssl_name {name};\n        \
         proxy_ssl_verify on;\n        proxy_ssl_verify_depth 5;\n        \
         proxy_ssl_trusted_certificate {ca_file};\n        \
         proxy_ssl_protocols TLSv1.2 TLSv1.3;\n"
    ))
}

/// The named file of authorities, or the system's.
async fn authorities(place: &Place<'_>, tls: &OnwardTls) -> Result<String, NginxError> {
    if let Some(path) = &tls.ca_file {
        return Ok(path.clone());
    }
    let usual = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/cert.pem",
    ];
    let script = r#"for path; do if [ -s "$path" ]; then printf %s "$path"; exit; fi; done"#;
    let command = Command::script(script, &usual).run_as(RunAs::Root);
    let action = "look for the system's certificate authorities";
    let output =
        run(place.host, &command).await.map_err(|source| NginxError::Host { action, source })?;
    match output.text() {
        text if text.is_empty() => {
            Err(NginxError::NoAuthorities { host: place.host.name().to_owned() })
        }
        path => Ok(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn onward(address: &str) -> Onward {
        Onward { address: address.into(), tls: None }
    }

    #[test]
    fn a_name_that_moves_with_the_site_would_be_a_loop() {
        let site = Site::parse(b"server { server_name a.example www.a.example; }").unwrap();
        for name in ["a.example:443", "WWW.a.example:443"] {
            let error =
                passages(&site, "/x", &["a.example".into()], &onward(name), "").unwrap_err();
            assert!(matches!(error, NginxError::Loop { .. }), "{error}");
        }
    }

    #[test]
    fn values_cannot_break_out_of_their_place() {
        let site = Site::parse(b"server { }").unwrap();
        for address in ["", "a;b", "a b", "a}", "$host", "a\nb", "'a"] {
            let error = passages(&site, "/x", &[], &onward(address), "").unwrap_err();
            assert!(matches!(error, NginxError::Unwritable { .. }), "{error}");
        }
    }

    #[test]
    fn a_site_behind_a_cdn_is_refused_not_broken() {
        let site = Site::parse(b"server { real_ip_header CF-Connecting-IP; }").unwrap();
        let error = trust_lines(&site.servers[0], "/x", &[]).unwrap_err();
        assert!(error.to_string().contains("CF-Connecting-IP"), "{error}");
    }
}
