//! The old server during the window: nginx answers 503 with Retry-After, so that other servers
//! keep what they have for us and try again. An answer of 4xx would make them drop it for ever.
//!
//! Put into each server block of the site as a marked passage that acts in the rewrite phase of
//! the server, before nginx looks at a location: so limits on body size, methods, logins and
//! rates (all 4xx) do not apply, and `/health` is 503 too. Two things stay as they are: ACME
//! challenges, because a certificate may be due, and media files that exist, because reading them
//! does no harm. The page is part of the passage and not a file: nothing has to be readable for
//! nginx's workers, nothing is left behind, and a POST does not end in a 405 from the static
//! module.

use std::time::Duration;

use super::nginx::{self, Kind, NginxError, Passage, Place, Record, Site, syntax};
use super::probe::{self, Front, ProbeError, Sight};

/// What people see; nginx reads it as one word, whose length it limits to 4,096 bytes.
const PAGE: &str = include_str!("maintenance/page.html");
const TEXT: &str = "This server is moving to a new machine and will be back soon.\n";

/// Turns maintenance on for all server blocks of `domains` (all of the file without domains).
/// May be run again.
pub async fn on(
    place: &Place<'_>,
    domains: &[String],
    retry_after_secs: u64,
) -> Result<Record, NginxError> {
    nginx::apply(place, Kind::Maintenance, &[], |site, path| {
        passages(site, path, domains, retry_after_secs)
    })
    .await
}

/// Puts the site back as it was. May be run again.
pub async fn off(place: &Place<'_>, record: &Record) -> Result<(), NginxError> {
    nginx::revert(place, record).await
}

/// Whether a request through nginx is answered as it is during maintenance, and what was seen.
pub async fn is_on(front: &Front<'_>) -> Result<Sight, ProbeError> {
    let response = front.get("/health", &[("Accept", "text/html")], probe::DEADLINE).await?;
    let retry_after = response.header("retry-after").map(str::to_owned);
    let evidence = match &retry_after {
        Some(secs) => format!("{} with Retry-After: {secs}", response.status),
        None => format!("{} without Retry-After", response.status),
    };
    Ok(Sight { on: response.status == 503 && retry_after.is_some(), evidence })
}

/// Waits until requests through nginx are steadily answered as wanted; gives the last sight.
pub async fn wait_until(front: &Front<'_>, on: bool, limit: Duration) -> Result<Sight, ProbeError> {
    probe::wait_steady(on, limit, || is_on(front)).await
}

fn passages(
    site: &Site,
    path: &str,
    domains: &[String],
    retry_after_secs: u64,
) -> Result<Vec<Passage>, NginxError> {
    let text = passage(retry_after_secs);
    let serving = site.serving(domains);
    if serving.is_empty() {
        return Err(NginxError::NoServer { path: path.into(), domains: domains.to_vec() });
    }
    Ok(serving
        .iter()
        .map(|server| Passage { at: server.inside.start, text: text.clone() })
        .collect())
}

/// `return` in a server block is obeyed before locations are looked at; the answer itself comes
/// from a named location, which `error_page` reaches without a second pass through these lines.
fn passage(retry_after_secs: u64) -> String {
    let location = |name: &str, mime: &str, body: &str| {
        format!(
            "    location {name} {{\n        types {{ }}\n        default_type {mime};\n        \
             add_header Retry-After {retry_after_secs} always;\n        \
             add_header Cache-Control no-store always;\n        return 503 {};\n    }}\n",
            syntax::quote(body)
        )
    };
    let rules = r#"    set $transhume_answer @transhume_text;
    if ($http_accept ~* "text/html") { set $transhume_answer @transhume_page; }
    if ($http_accept ~* "(activity|ld)\+json") { set $transhume_answer @transhume_text; }
    error_page 503 $transhume_answer;
    set $transhume_request "$request_method $uri";
    set $transhume_open "";
    if ($transhume_request ~ "^(GET|HEAD) /system/") { set $transhume_open "media"; }
    if (-f $document_root$uri) { set $transhume_open "${transhume_open} file"; }
    if ($uri ~ "^/\.well-known/acme-challenge/") { set $transhume_open "challenge"; }
    if ($transhume_open !~ "^(media file|challenge)$") { return 503; }
"#;
    let page = location("@transhume_page", "\"text/html; charset=utf-8\"", PAGE);
    let text = location("@transhume_text", "\"text/plain; charset=utf-8\"", TEXT);
    format!("{rules}{page}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_fits_into_one_word_of_nginx() {
        assert!(!PAGE.contains('$'), "nginx would take it for a variable");
        assert!(syntax::quote(PAGE).len() < 4000, "nginx limits a word to 4,096 bytes");
        assert!(!PAGE.contains("://"), "nothing is fetched from elsewhere");
    }

    #[test]
    fn a_site_of_others_is_refused_by_name() {
        let site = Site::parse(b"server { server_name other.example; }").unwrap();
        let error = passages(&site, "/etc/nginx/x", &["a.example".into()], 300).unwrap_err();
        assert_eq!(error.to_string(), "no server block in /etc/nginx/x serves a.example");
    }
}
