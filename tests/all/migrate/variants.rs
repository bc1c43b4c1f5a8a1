//! Moves of other instances: uploads in object storage, a search index, configuration that comes
//! along, a move that the new server drives.

use std::fs;
use std::process::Command;

use super::{assert_exit, driven_by_the_new_server, told, transhume};
use crate::harness::sandbox::{Options, Sandbox, Side, Snapshot};

/// Adds lines to the old server's `.env.production`; of two equal names the last one counts.
fn set(sandbox: &Sandbox, lines: &str) {
    let text = fs::read_to_string(sandbox.old.env_path()).unwrap();
    // Its mode and owner stay.
    fs::write(sandbox.old.env_path(), format!("{text}{lines}")).unwrap();
}

fn events(sandbox: &Sandbox) -> String {
    fs::read_to_string(sandbox.state_dir().join("events.jsonl")).unwrap()
}

#[test]
fn uploads_in_object_storage_stay_and_everything_else_moves() {
    let sandbox = Sandbox::start(&Options::small());
    set(&sandbox, "S3_ENABLED=true\nS3_BUCKET=herd\nS3_HOSTNAME=bucket.example\n");
    assert!(told(&transhume(&sandbox, &["check"])).contains("herd"));
    // What lies on the disk is from before the bucket.
    let before = fs::read_dir(sandbox.new.media()).map_or(0, Iterator::count);
    let output = transhume(&sandbox, &["migrate", "--yes"]);
    assert_exit(&output, 0);
    let word = "the media are in object storage and stay there";
    assert!(told(&output).contains(word), "{}", told(&output));
    assert_eq!(fs::read_dir(sandbox.new.media()).map_or(0, Iterator::count), before);
    // The bucket of both servers, for the judge that looks at files.
    copy_tree(&sandbox.old, &sandbox.new);
    assert_eq!(sandbox.verify_moved().problems, [""; 0]);
}

fn copy_tree(from: &Side, to: &Side) {
    let _ = fs::remove_dir_all(to.media());
    let copied = Command::new("cp").arg("-a").args([from.media(), to.media()]).status();
    assert!(copied.unwrap().success());
}

#[test]
fn a_search_index_is_filled_anew() {
    let sandbox = Sandbox::start(&Options::small());
    set(&sandbox, "ES_ENABLED=true\nES_HOST=localhost\n");
    let output = transhume(&sandbox, &["migrate", "--yes"]);
    assert_exit(&output, 0);
    assert!(events(&sandbox).contains("records, de-indexed 0"), "{}", told(&output));
    assert_eq!(sandbox.verify_moved().problems, [""; 0]);
}

/// The command runs on the new server and reaches the old one.
#[test]
fn the_new_server_can_drive_the_move() {
    let sandbox = Sandbox::start(&Options::small());
    sandbox.write_config(&driven_by_the_new_server(&sandbox));
    goes_back_and_then_moves(&sandbox, "dark-probe");
}

/// The database goes by several workers and with raised settings, and goes back when asked.
#[test]
fn the_database_is_moved_by_several_workers() {
    let sandbox = Sandbox::start(&Options::small());
    let mut config = sandbox.config();
    let database = config.entry("database").or_insert_with(|| toml::Table::new().into());
    let database = database.as_table_mut().unwrap();
    database.insert("mode".into(), "parallel".into());
    database.insert("jobs".into(), 2.into());
    database.insert("tune_cluster".into(), true.into());
    sandbox.write_config(&config);
    let cluster = &sandbox.new.postgres;
    let refused = transhume(&sandbox, &["migrate", "--yes"]);
    assert_exit(&refused, 4);
    let text = told(&refused);
    let (_, grants) = text.split_once("in the database postgres: ").unwrap();
    cluster.sql("postgres", grants.lines().next().unwrap());
    let file = cluster.data_dir().join("postgresql.auto.conf");
    let before = fs::read_to_string(&file).unwrap();
    let old = Snapshot::take(&sandbox.old);
    assert_exit(&transhume(&sandbox, &["migrate", "--yes", "--until", "database"]), 0);
    assert!(events(&sandbox).contains("checkpoint_timeout 30min instead of 5min"));
    assert_eq!(fs::read_to_string(&file).unwrap(), before);

    // As if it had been killed before it put anything back.
    let record = r#"{"run":"x","changes":[{"setting":"checkpoint_timeout","ours":"30min","former":null,"from":"5min"}]}"#;
    let killed = format!("{before}transhume.raised = '{record}'\ncheckpoint_timeout = '30min'\n");
    fs::write(&file, killed).unwrap();
    cluster.sql("postgres", "SELECT pg_reload_conf()");
    let output = transhume(&sandbox, &["rollback", "--yes"]);
    assert_exit(&output, 0);
    assert_eq!(fs::read_to_string(&file).unwrap(), before, "{}", told(&output));
    sandbox.wait_for_services(&sandbox.old);
    assert_eq!(sandbox.source_changes(&old), [""; 0]);

    let output = transhume(&sandbox, &["migrate", "--yes"]);
    assert_exit(&output, 0);
    assert_eq!(fs::read_to_string(&file).unwrap(), before, "{}", told(&output));
    assert_eq!(sandbox.verify_moved().problems, [""; 0], "{}", told(&output));
}

/// The new server's nginx shows its welcome page until the old one's site comes along, with a
/// certificate that the new one has not got.
#[test]
fn nginx_and_certificates_come_along_when_asked() {
    let sandbox = Sandbox::start(&Options::small());
    // What differs between the machines is included, as on servers that are managed together.
    let site = part(&sandbox.old);
    assert_eq!(part(&sandbox.new), site);
    let front = format!("{}:{}", sandbox.new.address, sandbox.new.https_port);
    let welcome = format!("server {{\n  listen {front};\n}}\n");
    fs::write(sandbox.new.nginx.site_path(), &welcome).unwrap();
    reload(&sandbox.new);
    let old = Snapshot::take(&sandbox.old);

    let output = transhume(&sandbox, &["migrate", "--yes"]);
    assert_exit(&output, 1);
    for word in ["step `dark-probe` failed; the old server serves as before", "`copy`"] {
        assert!(told(&output).contains(word), "{}", told(&output));
    }
    sandbox.wait_for_services(&sandbox.old);
    assert_eq!(sandbox.source_changes(&old), [""; 0]);

    let mut config = sandbox.config();
    let certificate = sandbox.certificate.certificate.display().to_string();
    let copy = toml::Table::from_iter([
        ("nginx".to_owned(), true.into()),
        ("certificates".to_owned(), vec![certificate].into()),
    ]);
    config.insert("copy".into(), copy.into());
    sandbox.write_config(&config);
    let old = Snapshot::take(&sandbox.old);
    assert_exit(&transhume(&sandbox, &["migrate", "--yes", "--until", "files"]), 0);
    assert_eq!(sandbox.new.nginx.site(), site.as_bytes());
    assert_exit(&transhume(&sandbox, &["rollback", "--yes"]), 0);
    assert_eq!(sandbox.new.nginx.site(), welcome.as_bytes());
    assert_eq!(sandbox.source_changes(&old), [""; 0]);

    let output = transhume(&sandbox, &["migrate", "--yes"]);
    assert_exit(&output, 0);
    assert_eq!(sandbox.verify_moved().problems, [""; 0], "{}", told(&output));
}

/// Moves what is this machine's own in the site file to files that it includes; gives the rest.
fn part(side: &Side) -> String {
    let mut site = String::from_utf8(side.nginx.site()).unwrap();
    let mut include = |name: &str, line: String| {
        assert!(site.contains(&line), "no {line} in {site}");
        site = site.replace(&line, &format!("include {name}.conf;"));
        fs::write(side.nginx.path(&format!("conf/{name}.conf")), line).unwrap();
    };
    include("listen", format!("listen {}:{} ssl;", side.address, side.https_port));
    include("root", format!("root {};", side.live().join("public").display()));
    include("web", format!("server {}:{} fail_timeout=0;", side.address, side.web_port));
    include(
        "streaming",
        format!("server {}:{} fail_timeout=0;", side.address, side.streaming_port),
    );
    fs::write(side.nginx.site_path(), &site).unwrap();
    reload(side);
    site
}

fn reload(side: &Side) {
    let words = side.nginx.reload_words();
    let reloaded = Command::new(&words[0]).args(&words[1..]).status().unwrap();
    assert!(reloaded.success());
}

/// Moved up to a step and undone, the old server is as it was; moved again, all is there.
fn goes_back_and_then_moves(sandbox: &Sandbox, until: &str) {
    let old = Snapshot::take(&sandbox.old);
    assert_exit(&transhume(sandbox, &["migrate", "--yes", "--until", until]), 0);
    assert_exit(&transhume(sandbox, &["rollback", "--yes"]), 0);
    sandbox.wait_for_services(&sandbox.old);
    assert_eq!(sandbox.source_changes(&old), [""; 0]);
    let output = transhume(sandbox, &["migrate", "--yes"]);
    assert_exit(&output, 0);
    assert_eq!(sandbox.verify_moved().problems, [""; 0], "{}", told(&output));
}
