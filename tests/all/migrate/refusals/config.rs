//! What stands in `transhume.toml`, or on the command line.

use super::{chmod, configure, refused, refused_by, small};
use crate::migrate::command;

#[test]
fn a_configuration_with_a_mistake_in_it() {
    let sandbox = small();
    configure(&sandbox, &["medai"], toml::Table::new());
    refused(&sandbox, "a key that is none", 2, &["unknown field `medai`", "docs/config.md"]);

    configure(&sandbox, &["target", "host"], "root@new.example:ssh");
    let words = ["the port is not a number", "correct `host` in transhume.toml"];
    refused(&sandbox, "a host that is none", 2, &words);

    sandbox.write_config(&sandbox.config());
    let words = ["there is no terminal to ask on", "--yes"];
    refused_by(command(&sandbox, &["migrate"]), &sandbox, "nobody to ask", 2, &words);
}

#[test]
fn secrets_where_others_can_read_them() {
    let sandbox = small();
    let path = sandbox.config_path();
    let fix = format!("chmod 600 {}", path.display());
    for (mode, told) in [(0o644, "(mode 644)"), (0o640, "(mode 640)")] {
        chmod(&path, mode);
        let words = ["holds secrets (target.env.DB_PASS", "REDIS_PASSWORD", told, &fix];
        refused(&sandbox, "a configuration for all to read", 2, &words);
    }
    chmod(&path, 0o602);
    let words = ["can be written by others (mode 602)", &fix];
    refused(&sandbox, "a configuration for all to write", 2, &words);
    chmod(&path, 0o600);

    let host = sandbox.config()["target"]["host"].as_str().unwrap().replace('@', ":hunter2@");
    configure(&sandbox, &["target", "host"], host);
    let words = ["a password has no place here", "ssh-copy-id", "`host` in transhume.toml"];
    let text = refused(&sandbox, "a password in the host", 2, &words);
    assert!(!text.contains("hunter2"), "{text}");
}
