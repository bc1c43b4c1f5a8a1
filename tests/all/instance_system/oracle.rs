//! The stand-in does to unit files what the real systemctl does.

use super::mastodon;
use crate::harness::units::Units;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Link targets without the root, which the real one leaves out.
fn tree(units: &Units) -> Vec<(String, String)> {
    let root = units.text("");
    let entries = units.snapshot().into_iter().filter(|(_, entry)| entry.starts_with("->"));
    entries.map(|(path, entry)| (path.replace(&root, "/"), entry.replace(&root, "/"))).collect()
}

#[test]
fn enabling_and_masking_leave_the_same_files_and_the_same_states() {
    let changes: &[&[&str]] = &[
        &["disable", "mastodon-web"],
        &["mask", "mastodon-spare"],
        &["mask", "mastodon-vendor"],
        &["enable", "mastodon-vendor"],
        &["unmask", "mastodon-vendor"],
        &["enable", "mastodon-streaming"],
        &["disable", "mastodon-sidekiq@"],
        &["mask", "mastodon-sidekiq@push"],
        &["enable", "mastodon-sidekiq@push"],
        &["enable", "mastodon-clean"],
        &["enable", "mastodon-none"],
        &["mask", "mastodon-none"],
        &["unmask", "mastodon-none", "mastodon-old"],
    ];
    let (ours, real) = (mastodon(), mastodon());
    // Its alias leads out of the root as the real one sees it.
    for units in [&ours, &real] {
        units.run_ok(&["disable", "mastodon-streaming"]);
    }
    for words in changes {
        let (our, their) = (ours.run(words), real.real(words));
        assert_eq!(our.status.success(), their.status.success(), "{words:?}: {our:?} {their:?}");
        assert_eq!(tree(&ours), tree(&real), "{words:?}");
        let list = ["list-unit-files", "mastodon*"];
        assert_eq!(text(&ours.run(&list).stdout), text(&real.real(&list).stdout), "{words:?}");
        for name in [
            "mastodon-web",
            "mastodon-vendor",
            "mastodon-stream",
            "mastodon-sidekiq@",
            "mastodon-sidekiq@push",
            "mastodon-clean.timer",
            "mastodon-clean",
            "mastodon-none",
        ] {
            let question = ["is-enabled", name];
            let (our, their) = (ours.run(&question), real.real(&question));
            assert_eq!(text(&our.stdout), text(&their.stdout), "{name} after {words:?}");
            assert_eq!(our.status.code(), their.status.code(), "{name} after {words:?}");
        }
    }
}
