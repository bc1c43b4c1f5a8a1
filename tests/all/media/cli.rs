//! `transhume files` as an operator runs it: its output, its exit codes.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::harness::process::{signal, wait_until};
use crate::harness::sshd::Sshd;

use super::tree::{Exact, Tree, assert_same, fill, noise};

/// Two directories and a server that leads to the same machine.
pub struct Desk {
    dir: tempfile::TempDir,
    pub sshd: Sshd,
}

impl Desk {
    fn new() -> Self {
        Desk::at(tempfile::tempdir().unwrap())
    }

    pub fn at(dir: tempfile::TempDir) -> Self {
        let cache = dir.path().join("cache").to_string_lossy().into_owned();
        Desk { sshd: Sshd::builder().env("XDG_CACHE_HOME", &cache).start(), dir }
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    pub fn there(&self, name: &str) -> String {
        format!(
            "ssh://{}@127.0.0.1:{}{}",
            self.sshd.user(),
            self.sshd.port(),
            self.path(name).display()
        )
    }

    fn files(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = transhume();
        command.arg("files").args(arguments);
        command.arg("--identity").arg(self.sshd.client_key());
        let known_hosts = format!("UserKnownHostsFile={}", self.sshd.known_hosts().display());
        command.args(["-e", &known_hosts, "-e", "GlobalKnownHostsFile=none"]);
        command
    }
}

pub fn transhume() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_transhume"));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("TZ", "UTC").stdin(Stdio::null());
    command
}

fn here(arguments: &[&str], dir: &Path) -> Output {
    transhume().arg("files").args(arguments).current_dir(dir).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn expect(output: &Output, code: i32) {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "stdout: {out}\nstderr: {err}");
}

#[test]
fn pushes_and_pulls_through_an_installed_helper_and_through_sftp() {
    let desk = Desk::new();
    fill(&desk.path("source"));
    let source = desk.path("source").display().to_string();
    for (transport, exact) in
        [("auto", Exact::Nanos), ("helper", Exact::Nanos), ("sftp", Exact::Secs)]
    {
        let (target, back) = (format!("target-{transport}"), format!("back-{transport}"));
        let way = ["--transport", transport, "--connections", "2", "--quiet"];
        let output = desk.files(&[&way[..], &[&source, &desk.there(&target)]].concat());
        expect(&output, 0);
        assert_eq!(text(&output.stderr), "", "{transport}");
        assert_same(&desk.path("source"), &desk.path(&target), exact);
        let back_path = desk.path(&back).display().to_string();
        expect(&desk.files(&[&way[..], &[&desk.there(&target), &back_path]].concat()), 0);
        assert_same(&desk.path("source"), &desk.path(&back), exact);
    }
    assert!(desk.path("cache/transhume").is_dir(), "the helper is kept for the next time");
}

#[test]
fn itemized_changes_come_on_standard_output_in_rsyncs_form() {
    let dir = tempfile::tempdir().unwrap();
    let source = Tree::at(&dir.path().join("source"));
    source
        .file("a/new\nline", "x", 0o644)
        .link("link", "a")
        .file("same", "x", 0o644)
        .dir("mode", 0o755);
    source.time("same", 1_600_000_000, 7).time("mode", 1_600_000_000, 7);
    let target = Tree::at(&dir.path().join("target"));
    target.file("same", "x", 0o600).file("old", "x", 0o644).dir("mode", 0o700);
    target.time("same", 1_600_000_000, 7).time("mode", 1_600_000_000, 7);
    target.time("", 1_500_000_000, 0);
    source.time("", 1_400_000_000, 0);
    let expected = "\
cd+++++++++ a/
cL+++++++++ link -> a
.f...p..... same
.d..t...... ./
.d...p..... mode/
>f+++++++++ a/new\\nline
*deleting   old
";
    let dry = here(&["-n", "--delete", "-q", "source", "target"], dir.path());
    expect(&dry, 0);
    assert_eq!(text(&dry.stdout), expected);
    let real = here(&["-i", "--delete", "-q", "source", "target"], dir.path());
    expect(&real, 0);
    assert_eq!(text(&real.stdout), expected);
    assert_same(&source.0, &target.0, Exact::Nanos);
}

#[test]
fn figures_are_printed_when_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    Tree::at(&dir.path().join("source")).file("a", "four", 0o644).file("d/b", "four", 0o644);
    let output = here(&["--stats", "-q", "source", "target"], dir.path());
    expect(&output, 0);
    let figures = text(&output.stdout);
    for line in [
        "Source files        2",
        "Source directories  2",
        "Files transferred   2",
        "Size of these       8 B",
        "Deleted             0",
    ] {
        assert!(figures.lines().any(|found| found == line), "{line} in\n{figures}");
    }
}

#[test]
fn patterns_come_from_files_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let source = Tree::at(&dir.path().join("source"));
    source.file("cache/kept/a", "x", 0o644).file("cache/other/b", "x", 0o644);
    source.file("c.tmp", "x", 0o644).file("kept.tmp", "x", 0o644).file("#d", "x", 0o644);
    std::fs::write(
        dir.path().join("patterns"),
        "# what may stay\r\n\n; and what not\n+ /cache/kept/\n/cache/*\n- *.tmp\n",
    )
    .unwrap();
    let options = ["--exclude", "+ kept.tmp", "--exclude-from", "patterns", "source", "target"];
    expect(&here(&options, dir.path()), 0);
    let target = dir.path().join("target");
    for (path, there) in [
        ("cache/kept/a", true),
        ("cache/other", false),
        ("c.tmp", false),
        ("kept.tmp", true),
        ("#d", true),
    ] {
        assert_eq!(target.join(path).exists(), there, "{path}");
    }
    let output = here(&["--exclude-from", "missing", "source", "target"], dir.path());
    expect(&output, 2);
    assert!(text(&output.stderr).contains("cannot read the patterns in missing"));
}

#[test]
fn a_list_of_files_comes_from_a_file_or_from_standard_input_and_crosses_the_wire() {
    let desk = Desk::new();
    Tree::at(&desk.path("source")).file("d/a", "x", 0o644).file("d/b", "x", 0o644);
    std::fs::write(desk.path("list"), "d/a\n# d/b\n").unwrap();
    let (list, source) = (desk.path("list"), desk.path("source"));
    let (list, source) = (list.to_str().unwrap(), source.to_str().unwrap());
    for transport in ["helper", "sftp"] {
        let way = ["--transport", transport, "-q", "--files-from", list];
        let (there, back) = (format!("there-{transport}"), format!("back-{transport}"));
        expect(&desk.files(&[&way[..], &[source, &desk.there(&there)]].concat()), 0);
        let back = desk.path(&back);
        let far = desk.there("source");
        let from = [&way[..], &[&far, back.to_str().unwrap()]].concat();
        expect(&desk.files(&from), 0);
        for target in [desk.path(&there), back] {
            assert!(target.join("d/a").exists() && !target.join("d/b").exists());
        }
    }
    let mut piped = transhume();
    piped.args(["files", "-q", "--from0", "--files-from=-", source, "piped"]);
    piped.current_dir(desk.dir.path()).stdin(Stdio::piped());
    let mut piped = piped.spawn().unwrap();
    std::io::Write::write_all(&mut piped.stdin.take().unwrap(), b"d/b\0nope\0").unwrap();
    assert_eq!(piped.wait().unwrap().code(), Some(3), "one of them is not there");
    assert!(desk.path("piped/d/b").exists());
    let output = here(&["--files-from", "missing", source, "target"], desk.dir.path());
    expect(&output, 2);
    assert!(text(&output.stderr).contains("cannot use the list in missing"));
}

#[test]
fn a_slash_at_the_end_of_a_path_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let source = Tree::at(&dir.path().join("source"));
    source.file("d/a", "x", 0o644);
    for (number, from) in ["source", "source/", "source//", "./source/."].iter().enumerate() {
        for to in ["target", "target/"] {
            let to = to.replace("target", &format!("target-{number}"));
            expect(&here(&["-q", "-a", "--partial", "--numeric-ids", from, &to], dir.path()), 0);
        }
        let target = dir.path().join(format!("target-{number}"));
        assert_same(&source.0, &target, Exact::Nanos);
    }
}

#[test]
fn exit_codes_tell_how_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    Tree::at(&dir.path().join("source")).file("a", "x", 0o644);
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("source/socket")).unwrap();
    let cases: [(&[&str], i32, &str); 9] = [
        (&["--exclude", "socket", "source", "target"], 0, ""),
        (&["source", "target"], 3, "problem: socket: neither file nor symlink: skipped"),
        (&["missing", "target"], 1, "there is no directory missing on this server"),
        (
            &["source", "no/parent/target"],
            1,
            "cannot use no/parent/target on this server as the target",
        ),
        (&["source", "source/inner"], 2, "lie in each other"),
        (&["old:/srv", "new:/srv"], 2, "SRC and DEST are both on other machines"),
        (&["source", "new:"], 2, "the path is missing"),
        (&["--exclude", "", "source", "target"], 2, "excludes nothing"),
        (&["--max-delete", "3", "source", "target"], 2, "--delete"),
    ];
    for (arguments, code, told) in cases {
        let output = here(arguments, dir.path());
        expect(&output, code);
        assert!(text(&output.stderr).contains(told), "{told} in\n{}", text(&output.stderr));
    }
    std::fs::remove_file(dir.path().join("source/a")).unwrap();
    let output = here(&["--delete", "--exclude", "socket", "source", "target"], dir.path());
    expect(&output, 1);
    assert!(text(&output.stderr).contains("deleting everything is refused"));
    assert!(text(&output.stderr).contains("hint: is the file system mounted?"));
}

#[test]
fn json_is_one_event_a_line_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    Tree::at(&dir.path().join("source")).file("a", "x", 0o644);
    let output = here(&["--json", "-i", "--stats", "source", "target"], dir.path());
    expect(&output, 0);
    let events: Vec<serde_json::Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!((kinds[0], kinds[kinds.len() - 1]), ("run_started", "run_finished"));
    assert!(events.iter().any(|event| event["text"] == ">f+++++++++ a"));
    let progress = events.iter().rfind(|event| event["event"] == "progress").unwrap();
    assert_eq!((&progress["items_done"], &progress["items_total"]), (&1.into(), &1.into()));
}

#[test]
fn interrupted_it_says_so_and_the_same_command_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let source = Tree::at(&dir.path().join("source"));
    for number in 0..200 {
        source.file(format!("{number:03}"), noise(100_000, number as u8), 0o644);
    }
    let mut running = transhume()
        .args(["files", "-q", "--bwlimit", "2M", "source", "target"])
        .current_dir(dir.path())
        .spawn()
        .unwrap();
    // Half of it takes five seconds: time enough to be caught.
    let begun = || dir.path().join("target").read_dir().is_ok_and(|list| list.count() > 5);
    assert!(wait_until(begun));
    signal(running.id(), rustix::process::Signal::TERM);
    assert_eq!(running.wait().unwrap().code(), Some(130));
    expect(&here(&["-q", "source", "target"], dir.path()), 0);
    assert_same(&source.0, &dir.path().join("target"), Exact::Nanos);
}

#[test]
fn a_wrong_host_key_touches_nothing() {
    let desk = Desk::new();
    Tree::at(&desk.path("source")).file("a", "x", 0o644);
    let other = Desk::new();
    std::fs::copy(other.sshd.known_hosts(), desk.sshd.known_hosts()).unwrap();
    let known = std::fs::read_to_string(desk.sshd.known_hosts()).unwrap();
    let wrong = known.replace(&other.sshd.port().to_string(), &desk.sshd.port().to_string());
    std::fs::write(desk.sshd.known_hosts(), wrong).unwrap();
    let source = desk.path("source").display().to_string();
    let output = desk.files(&[&source, &desk.there("target")]);
    expect(&output, 1);
    assert!(text(&output.stderr).contains("is not proved to be the machine you mean"));
    assert!(!desk.path("target").exists());
}
