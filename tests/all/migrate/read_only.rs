//! The verbs that leave the old server alone.

use std::fs;

use super::{assert_exit, told, transhume};
use crate::harness::sandbox::{Options, Sandbox, Snapshot};

/// Read-only verbs and a pass, on a live server.
#[test]
fn check_plan_sync_and_status_leave_the_old_server_alone() {
    let sandbox = Sandbox::start(&Options::small());
    let old = Snapshot::take(&sandbox.old);
    assert_exit(&transhume(&sandbox, &["check"]), 0);
    let plan = transhume(&sandbox, &["plan"]);
    assert_exit(&plan, 0);
    assert!(told(&plan).contains("point of no return"), "{}", told(&plan));
    assert_exit(&transhume(&sandbox, &["sync"]), 0);
    let (source, target) = sandbox.media();
    assert_eq!(source.files(), target.files());
    // What we did not put there goes only if the operator said so.
    let mut cautious = sandbox.config();
    cautious.remove("media");
    sandbox.write_config(&cautious);
    let stray = sandbox.new.media().join("stray");
    fs::write(&stray, "precious").unwrap();
    assert_exit(&transhume(&sandbox, &["sync"]), 0);
    assert!(stray.exists());
    let warned = transhume(&sandbox, &["check"]);
    assert_exit(&warned, 3);
    assert!(told(&warned).contains("media.delete = true"), "{}", told(&warned));
    sandbox.write_config(&sandbox.config());
    assert_exit(&transhume(&sandbox, &["sync"]), 0);
    assert!(!stray.exists());
    assert_exit(&transhume(&sandbox, &["status"]), 0);
    assert_exit(&transhume(&sandbox, &["rollback", "--yes"]), 2);
    assert_eq!(sandbox.source_changes(&old), [""; 0]);
}
