//! Does it answer, and as it should? HTTP requests through [`Host::connect`], so also to a server
//! whose DNS does not name it yet, over plain HTTP or TLS with the name given.
//!
//! In flow a [`Front`] and a path, out flow a [`Response`], or for the checks one line of
//! evidence. A check that fails tells what was wanted and what came.

pub mod checks;
pub mod tls;

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use crate::error::{Advice, Retry};
use crate::host::{Address, Host, HostError};
pub use tls::{Tls, TlsError};

/// How long one request may take.
pub const DEADLINE: Duration = Duration::from_secs(15);
/// How much of an answer is read.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// A web server to ask: where it listens as seen from `host`, and the name it is asked by.
#[derive(Clone, Debug)]
pub struct Front<'a> {
    pub host: &'a dyn Host,
    pub address: Address,
    /// Absent for plain HTTP.
    pub tls: Option<Tls>,
    /// For the `Host` header and the certificate.
    pub name: String,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

impl Response {
    /// The first header of that name, given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Front<'_> {
    pub async fn get(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        limit: Duration,
    ) -> Result<Response, ProbeError> {
        self.request("GET", path, headers, Bytes::new(), limit).await
    }

    /// One request on a connection of its own; redirects are not followed.
    pub async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
        limit: Duration,
    ) -> Result<Response, ProbeError> {
        let asking = self.exchange(method, path, headers, body);
        match tokio::time::timeout(limit, asking).await {
            Ok(result) => result,
            Err(_) => Err(ProbeError::TimedOut { what: self.url(path), secs: limit.as_secs() }),
        }
    }

    async fn exchange(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Response, ProbeError> {
        let http = |source: hyper::Error| ProbeError::Http { what: self.url(path), source };
        let mut stream = self.host.connect(&self.address).await.map_err(ProbeError::Host)?;
        if let Some(tls) = &self.tls {
            let wrapped = tls.wrap(stream, &self.name).await;
            stream = wrapped.map_err(|source| ProbeError::Tls { what: self.url(path), source })?;
        }
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.name)
            .header("connection", "close")
            .header("user-agent", concat!("transhume/", env!("CARGO_PKG_VERSION")));
        if self.tls.is_none() {
            // Rails would redirect a plain request; it is asked as nginx asks it.
            request = request.header("x-forwarded-proto", "https");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(body))
            .map_err(|source| ProbeError::Request { what: self.url(path), source })?;
        // The connection has to be driven beside the request; it ends with this future.
        let mut connection = std::pin::pin!(connection);
        let answering = async {
            let (head, body) = sender.send_request(request).await.map_err(http)?.into_parts();
            let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
            let body = body.map_err(|source| ProbeError::Body { what: self.url(path), source })?;
            let text = |value: &hyper::header::HeaderValue| {
                String::from_utf8_lossy(value.as_bytes()).into_owned()
            };
            Ok(Response {
                status: head.status.as_u16(),
                headers: head.headers.iter().map(|(k, v)| (k.to_string(), text(v))).collect(),
                body: body.to_bytes(),
            })
        };
        let mut answering = std::pin::pin!(answering);
        tokio::select! {
            result = &mut answering => return result,
            // The server may close first; what it sent is still to be read.
            _ = &mut connection => {}
        }
        answering.await
    }

    fn url(&self, path: &str) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{path} at {}", self.name, self.address)
    }
}

/// What a request showed of a change to nginx: whether it is in force, and the evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    pub on: bool,
    pub evidence: String,
}

/// Looks again and again until what is seen is as `wanted` for a while: after a reload the old
/// workers go on taking connections until nginx tells them to stop, 100 ms after the new ones
/// began, so that a single answer proves nothing. Gives the last sight when `limit` is over.
pub async fn wait_steady<F>(
    wanted: bool,
    limit: Duration,
    look: impl Fn() -> F,
) -> Result<Sight, ProbeError>
where
    F: Future<Output = Result<Sight, ProbeError>>,
{
    const STEADY: Duration = Duration::from_millis(250);
    let deadline = Instant::now() + limit;
    let mut since = None;
    loop {
        let sight = look().await;
        let now = Instant::now();
        since = sight.as_ref().is_ok_and(|sight| sight.on == wanted).then(|| since.unwrap_or(now));
        if since.is_some_and(|since| now - since >= STEADY) || now >= deadline {
            return sight;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Why there is no answer, or not the wanted one.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error(transparent)]
    Host(HostError),
    #[error("no TLS with {what}")]
    Tls { what: String, source: std::io::Error },
    #[error("no answer from {what}")]
    Http { what: String, source: hyper::Error },
    #[error("cannot ask {what}")]
    Request { what: String, source: hyper::http::Error },
    #[error("cannot read the answer of {what}")]
    Body { what: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{what} did not answer within {secs} s")]
    TimedOut { what: String, secs: u64 },
    #[error("{what} should answer {wanted}, but answered {got}")]
    Unexpected { what: String, wanted: String, got: String },
}

impl Advice for ProbeError {
    fn hint(&self) -> Option<String> {
        match self {
            ProbeError::Host(source) => source.hint(),
            ProbeError::Tls { .. } => Some(
                "check the certificate and its name with `openssl s_client -connect HOST:443 \
                 -servername NAME`; a private authority is named as `nginx.ca_file`"
                    .into(),
            ),
            ProbeError::Unexpected { .. } => {
                Some("look at `journalctl -u 'mastodon-*'` and nginx's error log there".into())
            }
            ProbeError::Http { .. }
            | ProbeError::Request { .. }
            | ProbeError::Body { .. }
            | ProbeError::TimedOut { .. } => None,
        }
    }

    /// Asking changes nothing: what failed on the way may be asked again.
    fn retry(&self) -> Retry {
        match self {
            ProbeError::Request { .. } => Retry::Never,
            ProbeError::Host(source) if source.retry() == Retry::Never => Retry::Never,
            ProbeError::Host(_)
            | ProbeError::Tls { .. }
            | ProbeError::Http { .. }
            | ProbeError::Body { .. }
            | ProbeError::TimedOut { .. }
            | ProbeError::Unexpected { .. } => Retry::Safe,
        }
    }
}
