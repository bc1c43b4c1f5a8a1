//! `bin/tootctl` and `bin/rails runner`.

use super::application::{Application, Problem};
use super::jobs::FEED_STATUSES_MAX;

/// The statuses that a feed is rebuilt from: those of followed accounts and one's own.
const TIMELINE: &str = "
    SELECT s.id FROM statuses s
    WHERE (s.account_id = $1 OR s.account_id IN (SELECT target_account_id FROM follows WHERE account_id = $1))
      AND s.visibility < 3 AND s.deleted_at IS NULL
    ORDER BY s.id DESC LIMIT $2";

pub async fn run(args: &[String]) -> Result<i32, Problem> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["version" | "--version"] => {
            println!("{}", version()?);
            Ok(0)
        }
        ["feeds", "build", options @ ..] => {
            let skip = options.contains(&"--skip-filled-timelines");
            feeds_build(skip).await
        }
        ["search", "deploy", ..] => search_deploy().await,
        ["media", "remove", ..] => {
            Application::boot().await?;
            println!("Removed 0 media attachments (approx. 0 Bytes)");
            Ok(0)
        }
        ["media", "usage"] => media_usage().await,
        _ => Err(format!("tootctl: could not find command {words:?}").into()),
    }
}

/// `rails runner CODE`: whatever the code, the application boots; code that speaks of
/// `otp_secret` decrypts every one of them.
pub async fn rails(args: &[String]) -> Result<i32, Problem> {
    match args {
        [runner, code] if runner == "runner" => {
            let application = Application::boot().await?;
            if code.contains("otp_secret") {
                println!("{}", application.decrypt_all().await?);
            }
            Ok(0)
        }
        _ => Err(format!("rails: cannot {args:?}").into()),
    }
}

fn version() -> Result<String, Problem> {
    let text = std::fs::read_to_string("lib/mastodon/version.rb")?;
    let number = |name: &str| {
        let (_, after) = text.split_once(&format!("def {name}\n"))?;
        after.lines().next().map(|line| line.trim().to_owned())
    };
    let numbers: Option<Vec<String>> =
        ["major", "minor", "patch"].into_iter().map(number).collect();
    Ok(numbers.ok_or("lib/mastodon/version.rb is not what it was")?.join("."))
}

async fn feeds_build(skip_filled: bool) -> Result<i32, Problem> {
    let application = Application::boot().await?;
    let database = application.database().await?;
    let mut redis = application.redis().await?;
    let active = "SELECT account_id FROM users WHERE confirmed_at IS NOT NULL \
                  AND current_sign_in_at > now() AT TIME ZONE 'UTC' - interval '7 days'";
    let mut built = 0;
    for row in database.query(active, &[]).await? {
        let account: i64 = row.get(0);
        let key = format!("feed:home:{account}");
        let filled: i64 = redis::cmd("ZCARD").arg(&key).query_async(&mut redis).await?;
        if skip_filled && filled > 0 {
            continue;
        }
        let rows = database.query(TIMELINE, &[&account, &FEED_STATUSES_MAX]).await?;
        let mut pipe = redis::pipe();
        pipe.atomic().cmd("UNLINK").arg(&key).ignore();
        for row in rows {
            let status: i64 = row.get(0);
            pipe.cmd("ZADD").arg(&key).arg(status).arg(status).ignore();
        }
        pipe.query_async::<()>(&mut redis).await?;
        built += 1;
    }
    println!("Regenerated feeds for {built} accounts");
    Ok(0)
}

async fn search_deploy() -> Result<i32, Problem> {
    let application = Application::boot().await?;
    if application.settings.get("ES_ENABLED").as_deref() != Some("true") {
        return Err("Elasticsearch is not enabled (ES_ENABLED)".into());
    }
    let count = "SELECT (SELECT count(*) FROM statuses WHERE deleted_at IS NULL) \
                 + (SELECT count(*) FROM accounts) + (SELECT count(*) FROM tags)";
    let row = application.database().await?.query_one(count, &[]).await?;
    println!("Indexed {} records, de-indexed 0", row.get::<_, i64>(0));
    Ok(0)
}

async fn media_usage() -> Result<i32, Problem> {
    let application = Application::boot().await?;
    let sum = "SELECT COALESCE(sum(file_file_size), 0)::bigint, \
               COALESCE(sum(file_file_size) FILTER (WHERE remote_url = ''), 0)::bigint FROM media_attachments";
    let row = application.database().await?.query_one(sum, &[]).await?;
    println!("Attachments:\t{} Bytes ({} Bytes local)", row.get::<_, i64>(0), row.get::<_, i64>(1));
    Ok(0)
}
