//! The old server's `.env.production`.

use std::fs;

use super::{EnvFile, refused, small};

#[test]
fn missing_damaged_or_without_what_mastodon_needs() {
    let sandbox = small();
    let path = sandbox.old.env_path();
    let aside = path.with_extension("aside");
    fs::rename(&path, &aside).unwrap();
    let there_is_none = format!("there is no {} on this server", path.display());
    let words = [there_is_none.as_str(), "set `root` or `env_file` of that side"];
    refused(&sandbox, "no .env.production", 4, &words);
    fs::rename(&aside, &path).unwrap();

    let env = EnvFile::of(&sandbox.old);
    let line = fs::read_to_string(&path).unwrap().lines().count() + 1;
    env.append(b"MOTTO=caf\xe9\n");
    let at = format!("line {line} is not valid UTF-8");
    let words = ["cannot understand", at.as_str(), "Mastodon cannot read the file either"];
    refused(&sandbox, "not text", 4, &words);

    env.append(b"export NOWHERE\n");
    let at = format!("line {line} exports NOWHERE, which is not set before");
    refused(&sandbox, "an export of nothing", 4, &[at.as_str(), "correct that line"]);

    env.set("LOCAL_DOMAIN", None);
    let words = ["LOCAL_DOMAIN is not set", "it must never change afterwards"];
    refused(&sandbox, "no domain", 4, &words);

    env.set("SECRET_KEY_BASE", None);
    let words = ["has no SECRET_KEY_BASE", "put them back from a backup"];
    refused(&sandbox, "no secret", 4, &words);

    env.set("DB_PORT", Some("postgres"));
    let words = ["DB_PORT cannot be understood: it is no port", "correct DB_PORT"];
    refused(&sandbox, "a port that is none", 4, &words);

    env.set("REDIS_PORT", Some("65536"));
    let words = ["REDIS_PORT cannot be understood: it is no port", "correct REDIS_PORT"];
    refused(&sandbox, "another port that is none", 4, &words);
}
