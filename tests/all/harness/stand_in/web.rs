//! The web process: answers from the real database and Redis, takes posts and uploads.

use std::path::PathBuf;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, UnixListener};

use super::application::{Application, Problem};
use super::{jobs, json as render};
use crate::harness::random;

const UPLOAD_BYTES_MAX: usize = 99 << 20;

type Answer = Response<Full<Bytes>>;

pub async fn serve() -> Result<(), Problem> {
    let application = Application::boot().await?;
    let port = std::env::var("PORT").unwrap_or_else(|_| "3000".into());
    let shared = application.clone();
    listen(&application, &port, move |request| {
        let application = shared.clone();
        async move {
            route(&application, request).await.unwrap_or_else(|problem| {
                eprintln!("{problem}");
                answer(StatusCode::INTERNAL_SERVER_ERROR, "text/html", "<h1>500</h1>")
            })
        }
    })
    .await
}

/// Serves HTTP on `SOCKET`, or on `port` of `BIND`, as Puma does.
pub async fn listen<F, W>(application: &Application, port: &str, handle: F) -> Result<(), Problem>
where
    F: Fn(Request<Incoming>) -> W + Clone + Send + 'static,
    W: Future<Output = Answer> + Send + 'static,
{
    if let Some(socket) = application.settings.get("SOCKET") {
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket)?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(converse(stream, handle.clone()));
        }
    }
    let address = application.settings.get("BIND").unwrap_or_else(|| "127.0.0.1".into());
    let listener = TcpListener::bind(format!("{address}:{port}")).await?;
    eprintln!("Listening on http://{address}:{port}");
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(converse(stream, handle.clone()));
    }
}

async fn converse<S, F, W>(stream: S, handle: F)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> W + Send + 'static,
    W: Future<Output = Answer> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = handle(request);
        async move { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    let connection = hyper::server::conn::http1::Builder::new();
    // A client that goes away in the middle is its own business.
    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
}

async fn route(application: &Application, request: Request<Incoming>) -> Result<Answer, Problem> {
    let path = request.uri().path().to_owned();
    if path == "/health" {
        return health(application).await;
    }
    // `force_ssl`: whoever does not come through a proxy that says https is sent there.
    let proto = request.headers().get("x-forwarded-proto").and_then(|value| value.to_str().ok());
    if proto != Some("https") {
        let location = format!("https://{}{path}", application.domain);
        let response = Response::builder().status(StatusCode::MOVED_PERMANENTLY);
        let response = response.header("location", location).body(Full::default());
        return response.map_err(|error| error.to_string().into());
    }
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match (request.method().clone(), segments.as_slice()) {
        (Method::GET, [""]) => front_page(application).await,
        (Method::GET, ["actor"]) => instance_actor(application).await,
        (Method::GET, ["api", "v1" | "v2", "instance"]) => instance(application).await,
        (Method::GET, ["api", "v1", "statuses", id]) => show_status(application, id).await,
        (Method::GET, ["api", "v1", "timelines", "public"]) => public_timeline(application).await,
        (Method::GET, ["api", "v1", "timelines", "home"]) => {
            home_timeline(application, &request).await
        }
        (Method::GET, ["users", name]) => actor(application, name).await,
        (Method::GET, [".well-known", "webfinger"]) => {
            webfinger(application, request.uri().query()).await
        }
        (Method::GET, ["sandbox", "secrets"]) => secrets(application).await,
        (Method::POST, ["api", "v1", "statuses"]) => post_status(application, request).await,
        (Method::POST, ["api", "v2", "media"]) => upload(application, request).await,
        (_, _) => Ok(not_found()),
    }
}

async fn health(application: &Application) -> Result<Answer, Problem> {
    application.database().await?.simple_query("SELECT 1").await?;
    redis::cmd("PING").query_async::<String>(&mut application.redis().await?).await?;
    Ok(answer(StatusCode::OK, "text/plain", "OK"))
}

async fn front_page(application: &Application) -> Result<Answer, Problem> {
    let count = "SELECT count(*) FROM statuses WHERE deleted_at IS NULL";
    let statuses: i64 = application.database().await?.query_one(count, &[]).await?.get(0);
    let page = format!("<!doctype html><title>{}</title>{statuses} posts", application.domain);
    Ok(answer(StatusCode::OK, "text/html; charset=utf-8", &page))
}

/// The actor that signs what the instance itself fetches; its key is that of the first account.
async fn instance_actor(application: &Application) -> Result<Answer, Problem> {
    let query = "SELECT public_key FROM accounts WHERE domain IS NULL ORDER BY id LIMIT 1";
    let key: String = application.database().await?.query_one(query, &[]).await?.get(0);
    let id = format!("https://{}/actor", application.domain);
    let owner = json!({ "id": format!("{id}#main-key"), "owner": id, "publicKeyPem": key });
    let actor = json!({ "id": id, "type": "Application", "publicKey": owner });
    Ok(answer(StatusCode::OK, "application/activity+json; charset=utf-8", &actor.to_string()))
}

async fn instance(application: &Application) -> Result<Answer, Problem> {
    let database = application.database().await?;
    let title = "SELECT value FROM settings WHERE var = 'site_title'";
    let title =
        database.query_opt(title, &[]).await?.and_then(|row| row.get::<_, Option<String>>(0));
    let title = title.unwrap_or_default();
    let count = "SELECT count(*) FROM users WHERE confirmed_at IS NOT NULL";
    let users: i64 = database.query_one(count, &[]).await?.get(0);
    Ok(json_answer(&json!({
        "domain": application.domain,
        "title": title.trim_start_matches("---").trim(),
        "version": "4.6.0",
        "usage": {"users": {"active_month": users}},
    })))
}

async fn show_status(application: &Application, id: &str) -> Result<Answer, Problem> {
    let Ok(id) = id.parse::<i64>() else { return Ok(not_found()) };
    let query = format!(
        "SELECT {} FROM statuses s JOIN accounts a ON a.id = s.account_id \
         WHERE s.id = $1 AND s.deleted_at IS NULL AND s.visibility < 2",
        render::STATUS_COLUMNS
    );
    let row = application.database().await?.query_opt(&query, &[&id]).await?;
    Ok(row.map_or_else(not_found, |row| json_answer(&render::status(&row))))
}

async fn public_timeline(application: &Application) -> Result<Answer, Problem> {
    let query = format!(
        "SELECT {} FROM statuses s JOIN accounts a ON a.id = s.account_id \
         WHERE s.deleted_at IS NULL AND s.visibility = 0 AND s.reblog_of_id IS NULL \
         AND (NOT s.reply OR s.in_reply_to_account_id = s.account_id) ORDER BY s.id DESC LIMIT 20",
        render::STATUS_COLUMNS
    );
    let rows = application.database().await?.query(&query, &[]).await?;
    Ok(json_answer(&rows.iter().map(render::status).collect::<Vec<Value>>().into()))
}

async fn home_timeline(
    application: &Application,
    request: &Request<Incoming>,
) -> Result<Answer, Problem> {
    let Some(account) = bearer(application, request).await? else { return Ok(unauthorized()) };
    let mut redis = application.redis().await?;
    let mut command = redis::cmd("ZREVRANGE");
    command.arg(format!("feed:home:{account}")).arg(0).arg(19);
    let ids: Vec<i64> = command.query_async(&mut redis).await?;
    let query = format!(
        "SELECT {} FROM statuses s JOIN accounts a ON a.id = s.account_id \
         WHERE s.id = ANY($1) AND s.deleted_at IS NULL ORDER BY s.id DESC",
        render::STATUS_COLUMNS
    );
    let rows = application.database().await?.query(&query, &[&ids]).await?;
    Ok(json_answer(&rows.iter().map(render::status).collect::<Vec<Value>>().into()))
}

async fn actor(application: &Application, name: &str) -> Result<Answer, Problem> {
    let query = "SELECT username, display_name, note, public_key, suspended_at IS NOT NULL AS gone \
                 FROM accounts WHERE lower(username) = lower($1) AND domain IS NULL";
    let row = application.database().await?.query_opt(query, &[&name]).await?;
    Ok(match row {
        None => not_found(),
        Some(row) if row.get("gone") => answer(StatusCode::GONE, "text/html", ""),
        Some(row) => {
            let body = render::actor(&application.domain, &row).to_string();
            answer(StatusCode::OK, "application/activity+json; charset=utf-8", &body)
        }
    })
}

async fn webfinger(application: &Application, query: Option<&str>) -> Result<Answer, Problem> {
    let resource = query.and_then(|query| query.strip_prefix("resource=")).unwrap_or_default();
    let resource = resource.replace("%3A", ":").replace("%40", "@");
    let Some((user, domain)) = resource.trim_start_matches("acct:").split_once('@') else {
        return Ok(answer(StatusCode::BAD_REQUEST, "text/plain", ""));
    };
    let known =
        "SELECT username FROM accounts WHERE lower(username) = lower($1) AND domain IS NULL";
    let row = application.database().await?.query_opt(known, &[&user]).await?;
    Ok(match row.filter(|_| domain == application.domain) {
        None => not_found(),
        Some(row) => json_answer(&render::webfinger(domain, row.get(0))),
    })
}

async fn secrets(application: &Application) -> Result<Answer, Problem> {
    let count = application.decrypt_all().await?;
    Ok(json_answer(&json!({ "decrypted": count })))
}

/// Writes a status with the id that the database gives it, and has it distributed.
async fn post_status(
    application: &Application,
    request: Request<Incoming>,
) -> Result<Answer, Problem> {
    let Some(account) = bearer(application, &request).await? else { return Ok(unauthorized()) };
    let body = read(request).await?;
    let text = match serde_json::from_slice::<Value>(&body) {
        Ok(value) => value["status"].as_str().unwrap_or_default().to_owned(),
        Err(_) => String::from_utf8_lossy(&body).trim_start_matches("status=").replace('+', " "),
    };
    let database = application.database().await?;
    let insert = "INSERT INTO statuses (text, created_at, updated_at, account_id, local, language) \
                  VALUES ($1, now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC', $2, true, 'en') RETURNING id";
    let id: i64 = database.query_one(insert, &[&text, &account]).await?.get(0);
    let uri = format!("https://{}/statuses/{id}", application.domain);
    database.execute("UPDATE statuses SET uri = $2, url = $2 WHERE id = $1", &[&id, &uri]).await?;
    jobs::push(&mut application.redis().await?, "default", "DistributionWorker", json!([id]))
        .await?;
    show_status(application, &id.to_string()).await
}

/// Stores an upload as Mastodon lays it out, original and preview, and its row.
async fn upload(application: &Application, request: Request<Incoming>) -> Result<Answer, Problem> {
    let Some(account) = bearer(application, &request).await? else { return Ok(unauthorized()) };
    let body = read(request).await?;
    let name = format!("{}.jpg", random::hex(8));
    let insert = "INSERT INTO media_attachments (file_file_name, file_content_type, file_file_size, \
                  file_updated_at, created_at, updated_at, account_id, file_storage_schema_version) \
                  VALUES ($1, 'image/jpeg', $2, now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC', \
                  now() AT TIME ZONE 'UTC', $3, 1) RETURNING id";
    let size = i32::try_from(body.len()).map_err(|_| "the upload is too large")?;
    let database = application.database().await?;
    let id: i64 = database.query_one(insert, &[&name, &size, &account]).await?.get(0);
    let digits = format!("{id:018}");
    let mut dir = PathBuf::from("public/system/media_attachments/files");
    dir.extend((0..6).map(|part| &digits[part * 3..part * 3 + 3]));
    for (style, content) in [("original", &body[..]), ("small", &body[..body.len() / 3])] {
        std::fs::create_dir_all(dir.join(style))?;
        std::fs::write(dir.join(style).join(&name), content)?;
    }
    let url = dir.join("original").join(&name);
    let url = format!(
        "https://{}/{}",
        application.domain,
        url.display().to_string().replacen("public/", "", 1)
    );
    Ok(json_answer(&json!({"id": id.to_string(), "type": "image", "url": url})))
}

/// The account that the bearer token belongs to.
async fn bearer(
    application: &Application,
    request: &Request<Incoming>,
) -> Result<Option<i64>, Problem> {
    let header = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    let Some(token) = header.and_then(|value| value.strip_prefix("Bearer ")) else {
        return Ok(None);
    };
    let query = "SELECT u.account_id FROM oauth_access_tokens t JOIN users u ON u.id = t.resource_owner_id \
                 WHERE t.token = $1 AND t.revoked_at IS NULL";
    Ok(application.database().await?.query_opt(query, &[&token]).await?.map(|row| row.get(0)))
}

async fn read(request: Request<Incoming>) -> Result<Bytes, Problem> {
    let body = Limited::new(request.into_body(), UPLOAD_BYTES_MAX).collect().await;
    Ok(body.map_err(|error| error.to_string())?.to_bytes())
}

pub fn answer(status: StatusCode, kind: &str, body: &str) -> Answer {
    let mut response = Response::new(Full::from(body.to_owned()));
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_str(kind);
    response.headers_mut().insert("content-type", kind.expect("a plain content type"));
    response
}

fn json_answer(value: &Value) -> Answer {
    answer(StatusCode::OK, "application/json; charset=utf-8", &value.to_string())
}

fn not_found() -> Answer {
    answer(StatusCode::NOT_FOUND, "application/json", "{\"error\":\"Record not found\"}")
}

fn unauthorized() -> Answer {
    answer(
        StatusCode::UNAUTHORIZED,
        "application/json",
        "{\"error\":\"The access token is invalid\"}",
    )
}
