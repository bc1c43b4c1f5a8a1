//! What a healthy instance answers. Each check gives one line of evidence.

use std::time::Duration;

use serde_json::Value;

use super::{DEADLINE, Front, ProbeError, Response};
use crate::error::{Advice, Retry};

const ACTIVITY: &str = "application/activity+json";

/// Mastodon's web process: `/health` says `OK`.
pub async fn web_health(front: &Front<'_>) -> Result<String, ProbeError> {
    says_ok(front, "/health").await
}

/// Mastodon's streaming process.
pub async fn streaming_health(front: &Front<'_>) -> Result<String, ProbeError> {
    says_ok(front, "/api/v1/streaming/health").await
}

/// The site's front page through nginx: a page, or a redirect to one within the site.
pub async fn front_page(front: &Front<'_>) -> Result<String, ProbeError> {
    let response = front.get("/", &[("Accept", "text/html")], DEADLINE).await?;
    match response.status {
        200 | 302 => Ok(format!("/ answered {}", response.status)),
        _ => Err(unexpected(front, "/", "200 or 302", &response)),
    }
}

/// The actor of a local account, as other servers fetch it: JSON whose `id` is under `domain`.
pub async fn actor(front: &Front<'_>, account: &str, domain: &str) -> Result<String, ProbeError> {
    activity(front, &format!("/users/{}", path_segment(account)), domain).await
}

/// The instance's own actor.
pub async fn instance_actor(front: &Front<'_>, domain: &str) -> Result<String, ProbeError> {
    activity(front, "/actor", domain).await
}

/// WebFinger for a local account: the subject is the account, and there is a link to its actor.
pub async fn webfinger(
    front: &Front<'_>,
    account: &str,
    domain: &str,
) -> Result<String, ProbeError> {
    let wanted = format!("acct:{account}@{domain}");
    let path = format!("/.well-known/webfinger?resource={}", path_segment(&wanted));
    let response = front.get(&path, &[], DEADLINE).await?;
    let value = json(front, &path, &response)?;
    let subject = value["subject"].as_str().unwrap_or_default();
    let linked = value["links"].as_array().is_some_and(|links| {
        links.iter().any(|link| link["rel"] == "self" && link["href"].is_string())
    });
    if subject.eq_ignore_ascii_case(&wanted) && linked {
        Ok(format!("webfinger knows {subject}"))
    } else {
        Err(unexpected(front, &path, &format!("for {wanted} with a link to the actor"), &response))
    }
}

/// A static file: 200, and `size` bytes if that is known.
pub async fn file(front: &Front<'_>, path: &str, size: Option<u64>) -> Result<String, ProbeError> {
    let response = front.request("HEAD", path, &[], bytes::Bytes::new(), DEADLINE).await?;
    let length = response.header("content-length").and_then(|text| text.parse::<u64>().ok());
    let fits = size.is_none() || size == length;
    if response.status == 200 && fits {
        Ok(format!("{path} answered 200, {} bytes", length.unwrap_or_default()))
    } else {
        let wanted = size.map_or("200".to_owned(), |size| format!("200 with {size} bytes"));
        Err(unexpected(front, path, &wanted, &response))
    }
}

/// Repeats `check` until it succeeds: a process that was just started refuses connections, and
/// then answers 502 or 503 for a while. Gives the last failure after `limit`.
pub async fn wait_healthy<T, F>(limit: Duration, check: impl Fn() -> F) -> Result<T, ProbeError>
where
    F: Future<Output = Result<T, ProbeError>>,
{
    let deadline = tokio::time::Instant::now() + limit;
    let mut pause = Duration::from_millis(25);
    loop {
        // The check has a deadline of its own; this one keeps the sum within `limit`.
        match tokio::time::timeout_at(deadline, check()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => {
                let next = tokio::time::Instant::now() + pause;
                if error.retry() == Retry::Never || next >= deadline {
                    return Err(error);
                }
            }
            Err(_) => {
                let what = "the service".to_owned();
                return Err(ProbeError::TimedOut { what, secs: limit.as_secs() });
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(500));
    }
}

async fn says_ok(front: &Front<'_>, path: &str) -> Result<String, ProbeError> {
    let response = front.get(path, &[], DEADLINE).await?;
    if response.status == 200 && response.text().trim() == "OK" {
        Ok(format!("{path} answered 200 OK"))
    } else {
        Err(unexpected(front, path, "200 OK", &response))
    }
}

async fn activity(front: &Front<'_>, path: &str, domain: &str) -> Result<String, ProbeError> {
    let response = front.get(path, &[("Accept", ACTIVITY)], DEADLINE).await?;
    let value = json(front, path, &response)?;
    let id = value["id"].as_str().unwrap_or_default();
    let host = id.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or_default());
    if host.is_some_and(|host| host.eq_ignore_ascii_case(domain)) {
        Ok(format!("{path} is {id}"))
    } else {
        Err(unexpected(front, path, &format!("an actor whose id is under {domain}"), &response))
    }
}

fn json(front: &Front<'_>, path: &str, response: &Response) -> Result<Value, ProbeError> {
    let parsed = serde_json::from_slice(&response.body).ok();
    match parsed {
        Some(value) if response.status == 200 => Ok(value),
        Some(_) | None => Err(unexpected(front, path, "200 with JSON", response)),
    }
}

fn unexpected(front: &Front<'_>, path: &str, wanted: &str, response: &Response) -> ProbeError {
    const SHOWN_CHARS_MAX: usize = 120;
    let text = response.text();
    let first = text.trim().lines().next().unwrap_or_default();
    let excerpt: String = first.chars().take(SHOWN_CHARS_MAX).collect();
    let got = match excerpt.as_str() {
        "" => response.status.to_string(),
        excerpt => format!("{}: {excerpt}", response.status),
    };
    ProbeError::Unexpected { what: front.url(path), wanted: wanted.into(), got }
}

/// `text` with everything but unreserved characters percent-encoded.
fn path_segment(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
