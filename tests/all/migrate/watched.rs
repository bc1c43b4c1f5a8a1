//! A watch where the kernel does not tell: the new server drives it, and the old one's database tells of
//! new files.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use super::{command, driven_by_the_new_server};
use crate::harness::process::{signal, wait_until};
use crate::harness::sandbox::{DATABASE, Options, Sandbox, Side};

/// A watch, and what it has told.
struct Watch {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Watch {
    fn start(sandbox: &Sandbox) -> Watch {
        let mut watch = command(sandbox, &["sync", "--watch"]);
        let mut child = watch.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stderr.take().unwrap());
        let lines = Arc::new(Mutex::new(Vec::new()));
        let to = lines.clone();
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).for_each(|line| to.lock().unwrap().push(line));
        });
        Watch { child, lines }
    }

    fn has_told(&self, text: &str) -> bool {
        self.lines.lock().unwrap().iter().any(|line| line.contains(text))
    }

    #[track_caller]
    fn tells(&self, text: &str) {
        assert!(wait_until(|| self.has_told(text)), "not {text:?} but {:#?}", self.lines);
    }

    fn end(mut self) {
        signal(self.child.id(), rustix::process::Signal::INT);
        assert_eq!(self.child.wait().unwrap().code(), Some(130));
    }
}

impl Drop for Watch {
    /// It would go on for ever where a test failed.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// As Mastodon does it: the file, and then the row that names it. Gives the path.
fn upload(old: &Side) -> String {
    let sql = |sql: &str| old.postgres.sql(DATABASE, sql).trim().to_owned();
    let id = sql("SELECT timestamp_id('media_attachments')");
    let path = format!("media_attachments/files{}/original/cat.png", partition(&id));
    write(old, &path, "just posted");
    sql(&format!(
        "INSERT INTO media_attachments (id, file_file_name, file_updated_at, created_at, updated_at)
         SELECT {id}, 'cat.png', now, now, now FROM (SELECT now() AT TIME ZONE 'UTC' AS now) AS each"
    ));
    path
}

fn partition(id: &str) -> String {
    assert_eq!(id.len(), 18, "a snowflake of these years");
    (0..6).map(|at| format!("/{}", &id[3 * at..][..3])).collect()
}

fn write(old: &Side, path: &str, text: &str) {
    let path = old.media().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn a_watch_is_told_of_new_files_by_the_database_and_looks_where_it_is_not() {
    let sandbox = Sandbox::start(&Options::small());
    let mut config = driven_by_the_new_server(&sandbox);
    sandbox.write_config(&config);
    let (old, new) = (&sandbox.old, sandbox.new.media());
    let watch = Watch::start(&sandbox);
    watch.tells("watching: the database tells of new files");
    watch.tells("files copied, ");
    // What is found by looking is told without the time since it changed: that is not known.
    let seen = || {
        let path = upload(old);
        wait_until(|| new.join(&path).exists()) && watch.has_told("after the first change")
    };
    assert!(wait_until(seen), "{:#?}", watch.lines);
    // Somebody puts on another hat; the account is not new.
    let sql = |sql: &str| old.postgres.sql(DATABASE, sql).trim().to_owned();
    let admin = "username = 'admin' AND domain IS NULL";
    let id = sql(&format!("SELECT id FROM accounts WHERE {admin}"));
    let path = format!("accounts/avatars{}/original/hat.png", partition(&id));
    write(old, &path, "a new hat");
    sql(&format!(
        "UPDATE accounts SET avatar_file_name = 'hat.png',
           avatar_updated_at = now() AT TIME ZONE 'UTC' WHERE {admin}"
    ));
    assert!(wait_until(|| new.join(&path).exists()), "{:#?}", watch.lines);
    // A database that goes away is told of, and asked again when it is back.
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE application_name = 'transhume' AND pid <> pg_backend_pid()";
    sql(cut);
    watch.tells("until it answers, new files are found by looking");
    watch.tells("the database tells of new files again");
    let path = upload(old);
    assert!(wait_until(|| new.join(&path).exists()), "{:#?}", watch.lines);
    watch.end();

    // Nobody answers there.
    let url = "postgres://mastodon@127.0.0.1:1/mastodon_production";
    let database = toml::Table::from_iter([("url".to_owned(), url.into())]);
    config["source"].as_table_mut().unwrap().insert("database".into(), database.into());
    sandbox.write_config(&config);
    let watch = Watch::start(&sandbox);
    watch.tells(
        "watching: it is looked again and again (the source is on another server; the database",
    );
    let path = upload(old);
    assert!(wait_until(|| new.join(&path).exists()), "{:#?}", watch.lines);
    watch.end();
}
