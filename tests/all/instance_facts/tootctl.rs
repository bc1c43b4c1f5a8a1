//! tootctl, played by a script in its place.

use std::os::unix::fs::PermissionsExt as _;

use transhume::error::{Advice as _, Retry};
use transhume::event::{Event, Recorder, Silent};
use transhume::host::Exit;
use transhume::host::local::Local;
use transhume::instance::tootctl::{Tootctl, TootctlError};

use super::{Tree, me};

/// A Mastodon whose tootctl is `script`.
fn playing(script: &str) -> (Tree, Tootctl) {
    let tree = Tree::new();
    tree.write("bin/tootctl", &format!("#!/bin/sh\n{script}\n"));
    let program = tree.root().join("bin/tootctl");
    std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let tootctl = Tootctl {
        root: tree.root().to_str().unwrap().into(),
        user: me(),
        words: vec!["bin/tootctl".into()],
        env: vec![("DB_PORT".into(), "5432".into())],
    };
    (tree, tootctl)
}

#[tokio::test]
async fn it_runs_in_its_directory_with_rbenv_in_front() {
    let (tree, tootctl) =
        playing(r#"echo "warning: old gem"; echo "$*|$PWD|$RAILS_ENV|$DB_PORT|$PATH""#);
    let line = tootctl.version(&Local::new()).await.unwrap();
    let fields: Vec<&str> = line.split('|').collect();
    assert_eq!(fields[0], "version");
    assert_eq!(std::path::Path::new(fields[1]), tree.root().canonicalize().unwrap());
    assert_eq!((fields[2], fields[3]), ("production", "5432"));
    assert!(fields[4].contains("/.rbenv/shims:") && fields[4].ends_with(":/usr/bin:/sbin:/bin"));
}

#[tokio::test]
async fn accounts_that_failed_are_problems_although_it_ends_well() {
    let (_tree, tootctl) = playing(
        "printf '\\nProgress: |====='\n\
         printf '\\nError processing 42: undefined method\\nProgress: |=========='\n\
         echo; echo \"Regenerated feeds for 3 accounts $3\"",
    );
    let monitor = Recorder::default();
    let outcome = tootctl.feeds_build(&Local::new(), true, &monitor).await.unwrap();
    assert_eq!(outcome.evidence, "Regenerated feeds for 3 accounts --skip-filled-timelines");
    assert_eq!(outcome.problems, ["Error processing 42: undefined method"]);
    assert_eq!(outcome.problem_count, 1);
    let events = monitor.events();
    let Some(Event::Progress(progress)) = events.last() else { panic!("no progress") };
    assert_eq!(progress.activity, "feeds build --skip-filled-timelines");
}

#[tokio::test]
async fn a_search_index_is_deployed() {
    let (_tree, tootctl) = playing(r#"echo "Indexed 12 records, de-indexed 0""#);
    let outcome = tootctl.search_deploy(&Local::new(), &Silent).await.unwrap();
    assert_eq!(outcome.evidence, "Indexed 12 records, de-indexed 0");
    assert_eq!(outcome.problem_count, 0);
}

#[tokio::test]
async fn a_failure_tells_what_was_said() {
    let (_tree, tootctl) = playing("echo 'Could not find nokogiri'; echo trace >&2; exit 7");
    let error = tootctl.feeds_build(&Local::new(), false, &Silent).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "`tootctl feeds build` on this server failed with exit code 7: Could not find \
         nokogiri\ntrace"
    );
    assert!(matches!(&error, TootctlError::Failed { exit: Exit::Code(7), .. }));
    assert_eq!(error.retry(), Retry::Safe);
    assert!(error.hint().unwrap().contains("bin/tootctl feeds build"));
    assert!(tootctl.version(&Local::new()).await.is_err());
}

#[tokio::test]
async fn a_good_exit_without_the_closing_line_is_no_success() {
    let (_tree, tootctl) = playing("echo Unknown option");
    let error = tootctl.feeds_build(&Local::new(), false, &Silent).await.unwrap_err();
    assert!(matches!(&error, TootctlError::NotDone { said, .. } if said == "Unknown option"));
}
