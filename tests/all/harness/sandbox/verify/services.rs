//! Units on both sides, and what the new server answers, over HTTPS through both nginx.

use std::fs;
use std::time::Duration;

use super::super::super::wait_for;
use super::super::web::{Answer, https};
use super::super::{DATABASE, DOMAIN, Sandbox, Side, program};
use super::Verdict;

/// Nothing of Mastodon runs on the old server, and nothing would after a reboot.
pub fn old_is_fenced(sandbox: &Sandbox, verdict: &mut Verdict) {
    let old = &sandbox.old;
    let mut problems = Vec::new();
    for unit in old.unit_names() {
        let (active, enabled) = old.unit_state(&unit);
        if active == "active" || !enabled.starts_with("masked") {
            problems.push(format!("old server: {unit} is {active} and {enabled}"));
        }
    }
    for pid in program::running(sandbox.dir()) {
        let dir = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
        if dir.starts_with(&old.dir) {
            problems.push(format!("old server: process {pid} still runs"));
        }
    }
    let crontab = old.crontab();
    if crontab.lines().any(|line| !line.starts_with('#') && line.contains("tootctl")) {
        problems.push("old server: cron would still run tootctl".into());
    }
    verdict.judge("old server: every unit stopped and masked, no process, no cron line", problems);
}

/// The same units run on the new server, and would after a reboot.
pub fn new_is_up(sandbox: &Sandbox, verdict: &mut Verdict) {
    let new = &sandbox.new;
    let mut problems = Vec::new();
    for unit in new.unit_names() {
        let (active, enabled) = new.unit_state(&unit);
        // The instance is wanted by mastodon-streaming.service, not enabled itself.
        if active != "active" || (enabled != "enabled" && !unit.contains('@')) {
            problems.push(format!("new server: {unit} is {active} and {enabled}"));
        }
    }
    if new.redis.cli(&["SCARD", "processes"]) != "2" {
        problems.push("new server: not both Sidekiqs are registered".into());
    }
    verdict.judge("new server: every unit active and enabled", problems);
}

/// Pages from the new database, files from the new disk, and secrets that can be read.
pub fn new_answers(sandbox: &Sandbox, verdict: &mut Verdict) {
    let status = "SELECT max(id) FROM statuses WHERE visibility = 0 AND deleted_at IS NULL";
    let status = sandbox.new.postgres.sql(DATABASE, status);
    let status = format!("/api/v1/statuses/{}", status.trim());
    let media = a_public_file(sandbox);
    let expected: [(&str, u16, &str); 8] = [
        ("/health", 200, "OK"),
        ("/users/admin", 200, "publicKeyPem"),
        ("/.well-known/webfinger?resource=acct:admin@sandbox.example", 200, "subject"),
        ("/api/v2/instance", 200, DOMAIN),
        ("/api/v1/timelines/public", 200, "content"),
        ("/api/v1/streaming/health", 200, "OK"),
        ("/sandbox/secrets", 200, "decrypted"),
        (&status, 200, "created_at"),
    ];
    let mut problems = Vec::new();
    for (path, code, text) in expected {
        match get(sandbox, &sandbox.new, path) {
            Ok(found)
                if found.status == code && String::from_utf8_lossy(&found.body).contains(text) => {}
            Ok(found) => problems.push(format!("new server: {path} answers {}", found.status)),
            Err(error) => problems.push(format!("new server: {path}: {error}")),
        }
    }
    match get(sandbox, &sandbox.new, &format!("/{media}")) {
        Ok(found)
            if fs::read(sandbox.old.live().join("public").join(&media))
                .is_ok_and(|bytes| bytes == found.body) => {}
        Ok(found) => problems.push(format!("new server: a media file answers {}", found.status)),
        Err(error) => problems.push(format!("new server: a media file: {error}")),
    }
    verdict.judge(
        "new server: health, actor, webfinger, timeline, streaming, media, secrets",
        problems,
    );
}

/// A post and an upload through the new nginx are there afterwards, and Sidekiq distributes.
pub fn new_takes_posts(sandbox: &Sandbox, verdict: &mut Verdict) {
    match post(sandbox, &sandbox.new, "Hello from the new server") {
        Ok(id) => {
            verdict.saw(format!("new server: takes posts (status {id}) and distributes them"))
        }
        Err(problem) => verdict.wrong(format!("new server: {problem}")),
    }
    let bytes = b"not really a picture, but bytes are bytes";
    let uploaded = request(sandbox, &sandbox.new, "POST", "/api/v2/media", bytes);
    let url = uploaded.map(|found| found.json()["url"].as_str().unwrap_or_default().to_owned());
    let path = url.unwrap_or_default().replace(&format!("https://{DOMAIN}"), "");
    match get(sandbox, &sandbox.new, &path) {
        Ok(found) if found.body == bytes => {
            verdict.saw("new server: takes uploads and serves them")
        }
        Ok(_) | Err(_) => verdict.wrong("new server: an upload did not come back"),
    }
}

/// Whoever still comes to the old server is served by the new one.
pub fn old_proxies(sandbox: &Sandbox, verdict: &mut Verdict) {
    match post(sandbox, &sandbox.old, "Hello through the old server") {
        Ok(id) => verdict.saw(format!("old server: its nginx passes everything on (status {id})")),
        Err(problem) => verdict.wrong(format!("old server as a proxy: {problem}")),
    }
}

/// Posts `text` through the nginx of `side`, and finds it in the new database and ledger.
fn post(sandbox: &Sandbox, side: &Side, text: &str) -> Result<String, String> {
    let body = serde_json::json!({"status": text}).to_string();
    let answer = request(sandbox, side, "POST", "/api/v1/statuses", body.as_bytes());
    let answer = answer.map_err(|error| error.to_string())?;
    let id = answer.json()["id"].as_str().unwrap_or_default().to_owned();
    if answer.status != 200 || id.is_empty() {
        return Err(format!("a post is answered with {}", answer.status));
    }
    let sql = format!("SELECT text FROM statuses WHERE id = {id}");
    if sandbox.new.postgres.sql(DATABASE, &sql).trim() != text {
        return Err("a post that was acknowledged is not in the database".into());
    }
    wait_for("the post in its author's feed", Duration::from_secs(30), || {
        let author = sandbox
            .new
            .postgres
            .sql(DATABASE, &format!("SELECT account_id FROM statuses WHERE id = {id}"));
        !sandbox.new.redis.cli(&["ZSCORE", &format!("feed:home:{}", author.trim()), &id]).is_empty()
    });
    Ok(id)
}

fn get(sandbox: &Sandbox, side: &Side, path: &str) -> std::io::Result<Answer> {
    request(sandbox, side, "GET", path, b"")
}

fn request(
    sandbox: &Sandbox,
    side: &Side,
    method: &str,
    path: &str,
    body: &[u8],
) -> std::io::Result<Answer> {
    let address = format!("{}:{}", side.address, side.https_port);
    let login = format!("Authorization: Bearer {}", sandbox.token);
    https(&sandbox.certificate.authority, &address, method, path, &[&login], body)
}

/// The path of a media file that anyone may fetch, relative to `public`.
fn a_public_file(sandbox: &Sandbox) -> String {
    let sql = "SELECT 'system/custom_emojis/images/000/000/001/original/' || image_file_name FROM custom_emojis WHERE id = 1";
    sandbox.old.postgres.sql(DATABASE, sql).trim().to_owned()
}
