//! Fills a server with a Mastodon-shaped instance: rows by SQL inside the database, media files as
//! the rows tell, Redis as Sidekiq and the feeds leave it, a crontab.

#[path = "seed/redis_keys.rs"]
mod redis_keys;

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use super::media_tree::{self, NewFile};
use super::postgres::Postgres;
use super::random;
use super::sandbox::{DATABASE, DOMAIN, Options, ROLE, Side};
use super::stand_in::cipher::Cipher;

const YEAR_SECS: u64 = 365 * 24 * 3600;

/// Makes the instance on `side`, sealed with `cipher`; gives the ids of the jobs in its queues.
pub fn fill(side: &Side, cipher: &Cipher, options: &Options) -> Vec<String> {
    database(&side.postgres, options.statuses, options.files);
    seal_secrets(side, cipher);
    let mut files = media_files(side);
    files.extend(media_tree::oddities());
    media_tree::write(&side.media(), &files, side.owner);
    if let Some((uid, gid)) = side.owner {
        std::os::unix::fs::lchown(side.media(), Some(uid), Some(gid)).expect("chown");
    }
    crontab(side);
    redis_keys::fill(side, options)
}

/// The instance's database, owned by a role that is there.
pub fn database(postgres: &Postgres, statuses: u32, files: u32) {
    postgres.create_database(DATABASE, ROLE, "TEMPLATE template0");
    let accounts = (statuses / 20).max(25);
    let local = (statuses / 1000).clamp(10, 1000);
    let base_ms = (SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
        - YEAR_SECS
        - 3600)
        * 1000;
    let settings = format!(
        "SET ROLE {ROLE}; SET client_min_messages = warning; SET seed.statuses = {statuses}; \
         SET seed.files = {files}; SET seed.accounts = {accounts}; SET seed.local = {local}; \
         SET seed.domain = '{DOMAIN}'; SET seed.canary = '{}';\n",
        random::CANARY,
    );
    let tables = include_str!("seed/tables.sql").replace("@SALT@", &random::hex(16));
    let rows = include_str!("seed/rows.sql").replace("@BASE_MS@", &base_ms.to_string());
    let indexes = include_str!("seed/indexes.sql");
    postgres.sql(DATABASE, &format!("{settings}{tables}\n{rows}\n{indexes}\nRESET ROLE; ANALYZE;"));
}

/// Gives every user with a second factor a secret that only this instance can read.
fn seal_secrets(side: &Side, cipher: &Cipher) {
    let users = "SELECT id FROM users WHERE otp_required_for_login ORDER BY id";
    let updates: String = side
        .postgres
        .sql(DATABASE, users)
        .lines()
        .map(|id| {
            let sealed = cipher.seal(&random::secret(), &random::hex(12));
            format!("UPDATE users SET otp_secret = '{sealed}' WHERE id = {id};\n")
        })
        .collect();
    side.postgres.sql(DATABASE, &updates);
}

fn media_files(side: &Side) -> Vec<NewFile> {
    let list = side.postgres.sql(DATABASE, include_str!("seed/files.sql"));
    let file = |line: &str| {
        let mut fields = line.split('|');
        let mut next = || fields.next().expect("four fields");
        NewFile {
            path: next().into(),
            bytes: next().parse().expect("a size"),
            mode: u32::from_str_radix(next(), 8).expect("a mode"),
            mtime_secs: next().parse().expect("seconds"),
        }
    };
    list.lines().map(file).collect()
}

/// What older install guides told admins to put there.
fn crontab(side: &Side) {
    let live = side.live();
    let text = format!(
        "# m h dom mon dow command\nRAILS_ENV=production\n\
         @daily cd {live} && bin/tootctl media remove\n",
        live = live.display()
    );
    let path = side.dir.join("var/spool/cron").join(&side.user);
    fs::write(&path, text).expect("write the crontab");
    if let Some((uid, gid)) = side.owner {
        media_tree::give(&path, uid, gid);
    }
}
