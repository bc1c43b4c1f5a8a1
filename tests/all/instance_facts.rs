//! What is found out about an instance, on a real tree, real tools and a real PgBouncer.

mod layout;
mod pgbouncer;
mod tootctl;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use transhume::config::Side;

/// A directory that looks like Mastodon's, readable by everyone.
struct Tree {
    dir: tempfile::TempDir,
}

impl Tree {
    fn new() -> Self {
        let tree = Tree { dir: tempfile::tempdir().unwrap() };
        set_mode(tree.dir.path(), 0o755);
        std::fs::create_dir(tree.root()).unwrap();
        tree
    }

    fn mastodon() -> Self {
        let tree = Tree::new();
        let version = "module Mastodon\n  module Version\n    def major\n      4\n    end\n\n    \
                       def minor\n      6\n    end\n\n    def patch\n      5\n    end\n\n    \
                       def default_prerelease\n      ''\n    end\n  end\nend\n";
        tree.write("lib/mastodon/version.rb", version);
        tree.write(".ruby-version", "4.0.5\n");
        tree.write(".nvmrc", "24\n");
        tree.write("public/index.html", "");
        tree
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("live")
    }

    fn path(&self, path: &str) -> String {
        self.root().join(path).to_str().unwrap().to_owned()
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn side(&self) -> Side {
        Side { root: self.root().to_str().unwrap().into(), user: me(), ..Side::default() }
    }
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// The user that runs the tests.
fn me() -> String {
    let output = std::process::Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
