//! The old server put back on request.

use super::{assert_exit, told, transhume};
use crate::harness::sandbox::{Login, Options, Sandbox, Snapshot};

#[test]
fn rollback_from_each_step_puts_the_old_server_back() {
    let sandbox = Sandbox::start(&Options { login: Login::Password, ..Options::small() });
    let (old, new) = (Snapshot::take(&sandbox.old), databases_and_keys(&sandbox));
    for step in ["lock", "media", "maintenance", "quiet", "fence", "database", "dark-probe"] {
        assert_exit(&transhume(&sandbox, &["migrate", "--yes", "--until", step]), 0);
        let output = transhume(&sandbox, &["rollback", "--yes"]);
        assert_exit(&output, 0);
        sandbox.wait_for_services(&sandbox.old);
        assert_eq!(sandbox.source_changes(&old), [""; 0], "after {step}: {}", told(&output));
        assert_eq!(databases_and_keys(&sandbox), new, "after {step}");
        assert!(!sandbox.new.env_path().exists(), "after {step}");
        assert!(!helper_is_left(&sandbox), "after {step}");
    }
}

/// The new server dies in the window: the old one is put back without it.
#[test]
fn a_dead_target_does_not_keep_the_old_server_down() {
    let sandbox = Sandbox::start(&Options::small());
    let old = Snapshot::take(&sandbox.old);
    assert_exit(&transhume(&sandbox, &["migrate", "--yes", "--until", "database"]), 0);
    let mut config = sandbox.config();
    let nowhere = format!("ssh://{}@127.0.0.1:1", sandbox.new.ssh.user());
    config["target"].as_table_mut().unwrap().insert("host".into(), nowhere.into());
    sandbox.write_config(&config);
    let resumed = transhume(&sandbox, &["migrate", "--yes"]);
    // Not 1: the old server does not serve.
    assert_exit(&resumed, 130);
    for word in ["nobody can post", "transhume rollback"] {
        assert!(told(&resumed).contains(word), "{}", told(&resumed));
    }
    let output = transhume(&sandbox, &["rollback", "--yes"]);
    assert_exit(&output, 6);
    sandbox.wait_for_services(&sandbox.old);
    let changes = sandbox.source_changes(&old);
    let lock = |change: &&String| !change.contains("var/lib/transhume");
    assert_eq!(changes.iter().filter(lock).collect::<Vec<_>>(), [""; 0], "{}", told(&output));
    // It is back: the same command clears it.
    sandbox.write_config(&sandbox.config());
    assert_exit(&transhume(&sandbox, &["rollback", "--yes"]), 0);
    assert_eq!(sandbox.source_changes(&old), [""; 0]);
    assert!(!sandbox.new.env_path().exists());
}

/// What a rollback must take from the target again. Media may stay.
fn databases_and_keys(sandbox: &Sandbox) -> (String, String) {
    let names = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database";
    (sandbox.new.postgres.sql("postgres", names), sandbox.new.redis.cli(&["DBSIZE"]))
}

fn helper_is_left(sandbox: &Sandbox) -> bool {
    [&sandbox.old, &sandbox.new].iter().any(|side| side.dir.join("var/lib/transhume").exists())
}
