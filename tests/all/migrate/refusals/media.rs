//! The media directories.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::{chmod, configure, refused, small};
use crate::harness::sandbox::{Sandbox, Snapshot};
use crate::harness::sshd::{Sshd, may_mount};
use crate::migrate::{assert_exit, told, transhume};

/// Puts the old server's media aside until this is dropped; something else may take their place.
struct Aside<'a> {
    sandbox: &'a Sandbox,
}

impl<'a> Aside<'a> {
    fn new(sandbox: &'a Sandbox) -> Self {
        fs::rename(sandbox.old.media(), aside(sandbox)).unwrap();
        Aside { sandbox }
    }
}

impl Drop for Aside<'_> {
    fn drop(&mut self) {
        let place = self.sandbox.old.media();
        let _ = fs::remove_file(&place).or_else(|_| fs::remove_dir(&place));
        fs::rename(aside(self.sandbox), place).unwrap();
    }
}

fn aside(sandbox: &Sandbox) -> PathBuf {
    sandbox.old.media().with_extension("aside")
}

#[test]
fn that_are_not_where_they_should_be_on_the_old_server() {
    let sandbox = small();
    let media = sandbox.old.media();
    let place = media.display();
    const REMEDY: &str = "mount it, or set PAPERCLIP_ROOT_PATH to where the media are";
    {
        let _aside = Aside::new(&sandbox);
        let words = [&format!("media: there is no {place}"), REMEDY];
        refused(&sandbox, "no directory", 4, &words);
    }
    {
        let _aside = Aside::new(&sandbox);
        fs::create_dir(&media).unwrap();
        refused(&sandbox, "an empty directory", 4, &[&format!("{place} is empty"), REMEDY]);
    }
    {
        let _aside = Aside::new(&sandbox);
        symlink("/nonexistent/disk", &media).unwrap();
        let words = [&format!("{place} is a symlink to /nonexistent/disk, where"), REMEDY];
        refused(&sandbox, "a disk that is not mounted", 4, &words);
    }
    {
        let _aside = Aside::new(&sandbox);
        fs::write(&media, "").unwrap();
        let words = [&format!("{place} is not a directory"), "set PAPERCLIP_ROOT_PATH to the"];
        refused(&sandbox, "a file", 4, &words);
    }
    // Whoever runs transhume, the media are looked at as Mastodon's user: root could read all.
    let (user, media) = (&sandbox.old.user, media.as_path());
    let cases: [(&Path, String, String); 2] = [
        (media, format!("{user} cannot list {place}"), format!("`ls -ld {place}`")),
        (media.parent().unwrap(), format!("{user} cannot enter"), format!("`namei -l {place}`")),
    ];
    for (path, words, remedy) in cases {
        let mode = fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let (old, new) = (Snapshot::take(&sandbox.old), Snapshot::take(&sandbox.new));
        chmod(path, 0);
        let output = transhume(&sandbox, &["migrate", "--yes"]);
        chmod(path, mode);
        assert_exit(&output, 4);
        let text = told(&output);
        println!("--- {words}\n{text}");
        assert!(text.contains(&words) && text.contains(&remedy), "{words}, {remedy}: {text}");
        assert_eq!(sandbox.source_changes(&old), [""; 0]);
        assert_eq!(sandbox.target_changes(&new), [""; 0]);
    }
}

#[test]
fn that_cannot_be_put_where_they_should_be_on_the_new_server() {
    let sandbox = small();
    let media = sandbox.new.media();
    fs::create_dir_all(media.parent().unwrap()).unwrap();
    symlink("/nonexistent/disk", &media).unwrap();
    let words = ["media on the target", "is a symlink to /nonexistent/disk", "PAPERCLIP_ROOT_PATH"];
    refused(&sandbox, "a disk that is not mounted", 4, &words);
    fs::remove_file(&media).unwrap();
}

/// The new server's sessions see a small file system where its media go.
#[test]
fn for_which_there_is_no_room_on_the_new_server() {
    if !may_mount() {
        eprintln!(
            "skipped: no file system can be mounted here (it takes root, and may be forbidden)"
        );
        return;
    }
    let mut sandbox = small();
    let media = sandbox.new.media();
    fs::create_dir_all(&media).unwrap();
    for (options, words) in [
        ("mode=777,size=64k", ["disk on the target: 64 KiB free on", "needed"]),
        ("mode=777,nr_inodes=20", ["inodes on the target: 19 inodes free on", "needed"]),
    ] {
        sandbox.new.ssh = Sshd::builder().tmpfs(&media, options).start();
        sandbox.write_config(&sandbox.config());
        let text = refused(&sandbox, options, 4, &words);
        assert!(text.contains("give the target a larger disk"), "{text}");
        // The operator may know better than the count, which knows nothing of what is left out.
        configure(&sandbox, &["media", "exclude"], vec!["cache/"]);
        assert_exit(&transhume(&sandbox, &["check"]), 3);
    }
}
