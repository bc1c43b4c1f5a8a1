//! Rows as the JSON of Mastodon's API and of ActivityPub.

use serde_json::{Value, json};
use tokio_postgres::Row;

/// Columns that [`status`] needs, for a query over `statuses s JOIN accounts a`.
pub const STATUS_COLUMNS: &str = "s.id, s.text, s.uri, s.url, s.visibility, s.spoiler_text, \
    s.language, s.sensitive, to_char(s.created_at, 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') AS created_at, \
    a.id AS account_id, a.username, a.domain, a.display_name";

pub fn status(row: &Row) -> Value {
    const VISIBILITIES: [&str; 4] = ["public", "unlisted", "private", "direct"];
    let visibility: i32 = row.get("visibility");
    let username: String = row.get("username");
    let acct = match row.get::<_, Option<String>>("domain") {
        Some(domain) => format!("{username}@{domain}"),
        None => username.clone(),
    };
    json!({
        "id": row.get::<_, i64>("id").to_string(),
        "created_at": row.get::<_, String>("created_at"),
        "content": row.get::<_, String>("text"),
        "uri": row.get::<_, Option<String>>("uri"),
        "url": row.get::<_, Option<String>>("url"),
        "visibility": VISIBILITIES.get(visibility as usize),
        "spoiler_text": row.get::<_, String>("spoiler_text"),
        "language": row.get::<_, Option<String>>("language"),
        "sensitive": row.get::<_, bool>("sensitive"),
        "account": {
            "id": row.get::<_, i64>("account_id").to_string(),
            "username": username,
            "acct": acct,
            "display_name": row.get::<_, String>("display_name"),
        },
    })
}

/// An actor: a row of `username`, `display_name`, `note`, `public_key`.
pub fn actor(domain: &str, row: &Row) -> Value {
    let username: String = row.get("username");
    let id = format!("https://{domain}/users/{username}");
    json!({
        "@context": ["https://www.w3.org/ns/activitystreams", "https://w3id.org/security/v1"],
        "id": id,
        "type": "Person",
        "preferredUsername": username,
        "name": row.get::<_, String>("display_name"),
        "summary": row.get::<_, String>("note"),
        "inbox": format!("{id}/inbox"),
        "outbox": format!("{id}/outbox"),
        "url": format!("https://{domain}/@{username}"),
        "publicKey": {
            "id": format!("{id}#main-key"),
            "owner": id,
            "publicKeyPem": row.get::<_, String>("public_key"),
        },
    })
}

pub fn webfinger(domain: &str, username: &str) -> Value {
    let id = format!("https://{domain}/users/{username}");
    json!({
        "subject": format!("acct:{username}@{domain}"),
        "aliases": [format!("https://{domain}/@{username}"), id],
        "links": [{"rel": "self", "type": "application/activity+json", "href": id}],
    })
}
