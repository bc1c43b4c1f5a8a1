//! The verbs that leave the old server alone.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use super::{assert_exit, command, told, transhume};
use crate::harness::process::{signal, wait_until};
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
    assert_exit(&transhume(&sandbox, &["sync", "--class", "local"]), 0);
    let cache = |media: std::path::PathBuf| media.join("cache").exists();
    assert!(cache(sandbox.old.media()) && !cache(sandbox.new.media()));
    assert_exit(&transhume(&sandbox, &["sync"]), 0);
    let (source, target) = sandbox.media();
    assert_eq!(source.files(), target.files());
    // A disk that lies is found by reading, told, and mended when asked.
    let mut spoilt = sandbox.new.media().join("accounts");
    while spoilt.is_dir() {
        spoilt = fs::read_dir(&spoilt).unwrap().next().unwrap().unwrap().path();
    }
    let (content, time) = (fs::read(&spoilt).unwrap(), fs::metadata(&spoilt).unwrap());
    fs::write(&spoilt, vec![b'?'; content.len()]).unwrap();
    let file = fs::File::options().write(true).open(&spoilt).unwrap();
    file.set_modified(time.modified().unwrap()).unwrap();
    assert_exit(&transhume(&sandbox, &["sync", "--dry-run"]), 0);
    let verify = ["sync", "--verify", "--verify-rate", "50M"];
    let reported = transhume(&sandbox, &verify);
    assert_exit(&reported, 3);
    assert!(told(&reported).contains(": other content"), "{}", told(&reported));
    assert_ne!(fs::read(&spoilt).unwrap(), content);
    assert_exit(&transhume(&sandbox, &["sync", "--verify=repair"]), 0);
    assert_eq!(fs::read(&spoilt).unwrap(), content);
    assert_exit(&transhume(&sandbox, &verify), 0);
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

/// Asked while a move is under way, and before there ever was one.
#[test]
fn a_plan_needs_no_journal_and_takes_none() {
    let sandbox = Sandbox::start(&Options::small());
    let fresh = sandbox.dir().join("fresh");
    let mut config = sandbox.config();
    config.insert("state_dir".into(), fresh.display().to_string().into());
    sandbox.write_config(&config);
    for verb in ["check", "plan", "status"] {
        assert_exit(&transhume(&sandbox, &[verb]), 0);
        assert!(!fresh.exists(), "{verb} made {fresh:?}");
    }
    sandbox.write_config(&sandbox.config());
    assert_exit(&transhume(&sandbox, &["migrate", "--yes", "--until", "media"]), 0);
    // Another process has it, and is in the middle of a record.
    let path = sandbox.state_dir().join("journal.jsonl");
    let mut journal = fs::File::options().append(true).open(&path).unwrap();
    journal.lock().unwrap();
    journal.write_all(b"{\"at\":\"2026-11-2").unwrap();
    let before = fs::read(&path).unwrap();
    let plan = transhume(&sandbox, &["plan"]);
    assert_exit(&plan, 0);
    assert!(told(&plan).contains("\n✓  3  media        Copy the media"), "{}", told(&plan));
    assert!(told(&plan).contains("\n   4  maintenance  Answer 503"), "{}", told(&plan));
    assert_exit(&transhume(&sandbox, &["status"]), 0);
    assert_exit(&transhume(&sandbox, &["migrate", "--yes"]), 1);
    assert_eq!(fs::read(&path).unwrap(), before);
}

/// Media can be copied before there is a PostgreSQL or a Redis over there.
#[test]
fn a_pass_needs_no_databases() {
    let sandbox = Sandbox::start(&Options::small());
    let mut config = sandbox.config();
    let env = config["target"]["env"].as_table_mut().unwrap();
    env.insert("DB_PORT".into(), "1".into());
    env.insert("REDIS_PORT".into(), "1".into());
    sandbox.write_config(&config);
    let checked = transhume(&sandbox, &["check"]);
    assert_exit(&checked, 4);
    for subject in ["Redis on the target", "database"] {
        assert!(told(&checked).contains(&format!("✗ {subject}")), "{}", told(&checked));
    }
    assert_exit(&transhume(&sandbox, &["sync"]), 0);
    let (source, target) = sandbox.media();
    assert_eq!(source.differences(&target), [""; 0]);
}

/// Days before the move, from then on.
#[test]
fn a_watch_keeps_the_copy_close_until_it_is_interrupted() {
    let sandbox = Sandbox::start(&Options::small());
    let mut watch = command(&sandbox, &["sync", "--watch", "--class", "local"]);
    let watch = watch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (old, new) = (sandbox.old.media(), sandbox.new.media());
    assert!(wait_until(|| new.join("accounts").exists()));
    let upload = "media_attachments/files/113/982/original/upload.png";
    fs::create_dir_all(old.join(upload).parent().unwrap()).unwrap();
    fs::write(old.join(upload), "just posted").unwrap();
    fs::write(old.join("cache/fetched"), "of another server").unwrap();
    let there = || fs::read(new.join(upload)).is_ok_and(|text| text == b"just posted");
    assert!(wait_until(there));
    fs::remove_file(old.join(upload)).unwrap();
    assert!(wait_until(|| !new.join(upload).exists()));
    assert!(!new.join("cache").exists());
    signal(watch.id(), rustix::process::Signal::INT);
    let output = watch.wait_with_output().unwrap();
    assert_exit(&output, 130);
    assert!(told(&output).contains("1 file copied"), "{}", told(&output));
}

/// It would delete what the new server is given from then on.
#[test]
fn a_watch_ends_when_a_move_begins_and_nothing_is_copied_after_one() {
    let sandbox = Sandbox::start(&Options::small());
    let mut watch = command(&sandbox, &["sync", "--watch"]);
    let watch = watch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    assert!(wait_until(|| sandbox.new.media().join("accounts").exists()));
    assert_exit(&transhume(&sandbox, &["migrate", "--yes"]), 0);
    let output = watch.wait_with_output().unwrap();
    assert_exit(&output, 0);
    assert!(told(&output).contains("the watch ends"), "{}", told(&output));
    let upload = sandbox.new.media().join("accounts/new.png");
    fs::write(&upload, "on the new server").unwrap();
    for words in [&["sync", "--watch"][..], &["sync"], &["sync", "--verify=repair"]] {
        let output = transhume(&sandbox, words);
        assert_exit(&output, 4);
        assert!(told(&output).contains("a move has stopped the old server"), "{}", told(&output));
        assert!(upload.exists());
    }
    assert_exit(&transhume(&sandbox, &["sync", "--dry-run"]), 0);
    // Nor where it can no longer be read whether there was one.
    let journal = sandbox.state_dir().join("journal.jsonl");
    fs::write(&journal, [&b"torn\n"[..], &fs::read(&journal).unwrap()].concat()).unwrap();
    let output = transhume(&sandbox, &["sync"]);
    assert_exit(&output, 4);
    assert!(told(&output).contains("line 1 of the journal"), "{}", told(&output));
    assert!(upload.exists());
}
