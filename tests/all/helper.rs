//! The helper: installed on real servers, and at work.

use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command as Program, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use transhume::error::{Advice, one_line};
use transhume::host::helper::{
    Helper, HelperError, Reach, connect_as, connect_packed, install_binary,
};
use transhume::host::local::Local;
use transhume::host::pipe::{PackOptions, pack};
use transhume::host::{Address, Command, Exit, Host, HostError, RunAs, run, run_ok};

use crate::harness::sshd::Sshd;
use crate::ssh::{logged_in_to, logged_in_with};

fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_transhume"))
}

/// A server whose logins have a cache directory of their own.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        Place { dir }
    }

    fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    /// sshd takes the variables of one line only.
    fn sshd(&self) -> Sshd {
        Sshd::builder().env("XDG_CACHE_HOME", &self.cache().to_string_lossy()).start()
    }

    fn everyone(&self) -> Reach {
        Reach::Everyone { base: self.dir.path().join("lib").to_string_lossy().into_owned() }
    }
}

async fn installed(host: &dyn Host, reach: Reach) -> Helper {
    install_binary(host, reach, &binary()).await.unwrap()
}

fn mode(path: impl AsRef<Path>) -> u32 {
    std::fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[tokio::test]
async fn is_installed_privately_once_and_reused_and_removed() {
    let place = Place::new();
    let (_sshd, host) = logged_in_to(place.sshd()).await;
    let helper = installed(host.as_ref(), Reach::Login).await;
    let path = Path::new(helper.path());
    assert!(path.starts_with(place.cache().join("transhume")));
    assert_eq!((mode(path), mode(path.parent().unwrap())), (0o700, 0o700));
    let hello = run_ok(host.as_ref(), &helper.command(["hello"])).await.unwrap();
    let digest = blake3::hash(&std::fs::read(binary()).unwrap());
    assert_eq!(hello, format!("transhume-helper 3 {} {digest}", env!("CARGO_PKG_VERSION")));

    let inode = std::fs::metadata(path).unwrap().ino();
    assert_eq!(installed(host.as_ref(), Reach::Login).await, helper);
    assert_eq!(std::fs::metadata(path).unwrap().ino(), inode, "nothing was copied again");

    // What its scans left for the next ones goes with it.
    let manifests = place.cache().join("transhume/manifests");
    let (mut private, remembered) = (std::fs::DirBuilder::new(), manifests.join("0.manifest"));
    private.mode(0o700).create(&manifests).unwrap();
    std::fs::write(remembered, "").unwrap();

    helper.remove(host.as_ref()).await.unwrap();
    assert!(!place.cache().join("transhume").exists());
    helper.remove(host.as_ref()).await.unwrap();
}

#[tokio::test]
async fn a_binary_that_is_not_ours_any_more_is_replaced() {
    let place = Place::new();
    let (_sshd, host) = logged_in_to(place.sshd()).await;
    let helper = installed(host.as_ref(), Reach::Login).await;
    let path = Path::new(helper.path());
    for broken in ["", "#!/bin/sh\necho transhume-helper 2 0.0.0 0000\n", "\x7fELF"] {
        std::fs::write(path, broken).unwrap();
        assert_eq!(installed(host.as_ref(), Reach::Login).await, helper);
        assert_eq!(std::fs::read(path).unwrap(), std::fs::read(binary()).unwrap());
    }
    let names: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().flatten().collect();
    assert_eq!(names.len(), 1, "no part is left: {names:?}");
}

#[tokio::test]
async fn a_directory_that_others_could_change_is_refused() {
    let place = Place::new();
    let (_sshd, host) = logged_in_to(place.sshd()).await;
    let base = place.cache().join("transhume");
    let elsewhere = place.dir.path().join("elsewhere");
    std::fs::create_dir_all(&elsewhere).unwrap();
    std::fs::create_dir_all(place.cache()).unwrap();
    let problem = async || match install_binary(host.as_ref(), Reach::Login, &binary()).await {
        Err(HelperError::Unsafe { problem, .. }) => problem,
        other => panic!("{other:?}"),
    };
    symlink(&elsewhere, &base).unwrap();
    assert_eq!(problem().await, format!("{} is a symlink", base.display()));
    std::fs::remove_file(&base).unwrap();
    std::fs::create_dir(&base).unwrap();
    std::fs::set_permissions(&base, std::fs::Permissions::from_mode(0o775)).unwrap();
    assert_eq!(problem().await, format!("others may write to {}", base.display()));
    std::fs::set_permissions(&base, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(&base, Some(65534), None).unwrap();
    assert_eq!(problem().await, format!("{} belongs to somebody else", base.display()));
}

#[tokio::test]
async fn where_programs_cannot_run_another_place_is_taken() {
    let place = Place::new();
    let cache = place.cache();
    std::fs::create_dir(&cache).unwrap();
    let mounted = Program::new("mount")
        .args(["-t", "tmpfs", "-o", "noexec", "tmpfs"])
        .arg(&cache)
        .output()
        .unwrap();
    if !mounted.status.success() {
        // Not allowed to mount here: a file where the directory should be does nearly the same.
        std::fs::remove_dir(&cache).unwrap();
        std::fs::write(&cache, "").unwrap();
    }
    let _unmount = Unmount(cache.clone());
    let (_sshd, host) = logged_in_to(place.sshd()).await;
    let helper = installed(host.as_ref(), Reach::Login).await;
    assert!(helper.path().starts_with("/var/tmp/transhume-"), "{}", helper.path());
    run_ok(host.as_ref(), &helper.command(["hello"])).await.unwrap();
    helper.remove(host.as_ref()).await.unwrap();
}

struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Program::new("umount").arg(&self.0).stderr(Stdio::null()).status();
    }
}

#[tokio::test]
async fn a_login_without_rights_cannot_install_for_everyone_and_is_told_why() {
    let place = Place::new();
    let sshd = Sshd::builder().config("UsePAM yes").start();
    let (_sshd, host) = logged_in_with(sshd, &[("User", "postgres")]).await;
    let error = install_binary(host.as_ref(), place.everyone(), &binary()).await.unwrap_err();
    let cause = one_line(&error);
    assert!(
        matches!(&error, HelperError::Host { source: HostError::Privilege { .. }, .. }),
        "{cause}"
    );
    assert!(error.hint().unwrap().contains("sudo -n"));
}

#[tokio::test]
async fn on_this_machine_nothing_is_copied_where_everybody_can_run_what_runs() {
    let place = Place::new();
    let host = Local::new();
    let mine = installed(&host, Reach::Login).await;
    assert_eq!(mine.path(), std::fs::canonicalize(binary()).unwrap().to_str().unwrap());
    mine.remove(&host).await.unwrap();
    assert!(binary().exists(), "the program that runs stays");

    // Out of everybody's reach: it is copied to where they can.
    let closed = place.dir.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::copy(binary(), closed.join("transhume")).unwrap();
    let reach = place.everyone();
    let helper = install_binary(&host, reach, &closed.join("transhume")).await.unwrap();
    assert!(Path::new(helper.path()).starts_with(place.dir.path().join("lib")));
    let hello = helper.command(["hello"]).run_as(RunAs::User("nobody".into()));
    run_ok(&host, &hello).await.unwrap();
    helper.remove(&host).await.unwrap();
}

/// A unix socket that says who connected, then repeats what it hears in capitals.
fn who_am_i(path: &Path) {
    let listener = tokio::net::UnixListener::bind(path).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let uid = stream.peer_cred().unwrap().uid();
            stream.write_all(format!("uid {uid}\n").as_bytes()).await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            stream.write_all(text.to_uppercase().as_bytes()).await.unwrap();
        }
    });
}

#[tokio::test]
async fn a_unix_socket_sees_the_user_that_connects() {
    let place = Place::new();
    let (sshd, host) = logged_in_to(place.sshd()).await;
    let path = sshd.dir().join("socket");
    who_am_i(&path);
    let address = Address::Unix { path: path.to_string_lossy().into_owned() };
    for host in [host.as_ref() as &dyn Host, &Local::new()] {
        let helper = installed(host, place.everyone()).await;
        for (user, uid) in [(RunAs::User("nobody".into()), 65534), (RunAs::Root, 0)] {
            let mut stream = connect_as(host, &helper, &user, &address).await.unwrap();
            stream.write_all(b"half-closed").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut heard = String::new();
            stream.read_to_string(&mut heard).await.unwrap();
            assert_eq!(heard, format!("uid {uid}\nHALF-CLOSED"), "{host:?}");

            let packed = connect_packed(host, &helper, &user, &address, 3).await;
            let mut stream = packed.unwrap();
            stream.write_all(b"half-closed").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut heard = String::new();
            stream.read_to_string(&mut heard).await.unwrap();
            assert_eq!(heard, format!("uid {uid}\nHALF-CLOSED"), "{host:?}");
        }
        let nowhere = Address::Unix { path: "/nonexistent/socket".into() };
        let error = connect_as(host, &helper, &RunAs::Root, &nowhere).await.err().unwrap();
        assert!(matches!(&error, HostError::Connect { .. }), "{error}");
        assert!(one_line(&error).contains("No such file or directory"), "{}", one_line(&error));
    }
}

/// Runs `helper unpack` on a stream; its exit code, the program's output, the complaints.
async fn unpack(stream: &[u8], script: &str, output: &Path) -> (Exit, String, String) {
    let words = ["helper", "unpack", "--", "sh", "-c", script, "sh"];
    let command = Command::new([binary().to_string_lossy().into_owned()])
        .args(words)
        .arg(output.to_string_lossy())
        .stdin(stream)
        .deadline(Duration::from_secs(60));
    let ended = run(&Local::new(), &command).await.unwrap();
    (ended.exit.clone(), ended.text(), ended.stderr_tail)
}

async fn packed(plain: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    pack(plain, &mut bytes, PackOptions { level: 1, workers: 2 }).await.unwrap();
    bytes
}

#[tokio::test]
async fn a_program_is_fed_the_unpacked_stream_and_its_exit_is_passed_on() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let plain: Vec<u8> = (0..3_000_000u32).map(|number| (number / 1000) as u8).collect();
    let script = r#"cat > "$1"; echo stored; echo complaint >&2; exit 7"#;
    let (exit, stdout, stderr) = unpack(&packed(&plain).await, script, &out).await;
    assert_eq!((exit, stdout.as_str(), stderr.as_str()), (Exit::Code(7), "stored", "complaint\n"));
    assert!(std::fs::read(&out).unwrap() == plain);
    let (exit, ..) = unpack(&packed(b"").await, "kill -9 $$", &out).await;
    assert_eq!(exit, Exit::Code(128 + 9));
    let (exit, _, stderr) = unpack(&packed(&plain).await, "exec no-such-program", &out).await;
    assert_eq!(exit, Exit::Code(127), "{stderr}");
}

#[tokio::test]
async fn a_broken_stream_kills_the_program_before_it_sees_an_end() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let plain: Vec<u8> = (0..3_000_000u32).map(|number| (number / 1000) as u8).collect();
    let whole = packed(&plain).await;
    // It would commit what it got as soon as its input ends.
    let script = r#"cat > /dev/null; : > "$1""#;
    let mut damaged = whole.clone();
    let place = whole.len() - 10;
    damaged[place] ^= 1;
    let cases = [
        (&whole[..whole.len() - 1], 121, "broke off"),
        (&whole[..whole.len() / 2], 121, "broke off"),
        (&b""[..], 121, "broke off"),
        (&damaged[..], 122, "is not what was sent"),
        (&b"PGDMP, say"[..], 122, "is not what was sent"),
    ];
    for (stream, code, said) in cases {
        let (exit, _, stderr) = unpack(stream, script, &out).await;
        assert_eq!(exit, Exit::Code(code), "{stderr}");
        assert!(stderr.contains(said), "{stderr}");
        assert!(!out.exists(), "the program took a cut for the end");
    }
    let (exit, ..) = unpack(&whole, script, &out).await;
    assert_eq!((exit, out.exists()), (Exit::Code(0), true));
}

#[tokio::test]
async fn a_program_that_stops_reading_does_not_hide_a_cut() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let mut plain = vec![0; 8 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut plain);
    let whole = packed(&plain).await;
    let script = "head -c 5; exit 0";
    assert_eq!(unpack(&whole, script, &out).await.0, Exit::Code(0));
    assert_eq!(unpack(&whole[..whole.len() - 1], script, &out).await.0, Exit::Code(121));
    assert_eq!(unpack(&whole, "exit 3", &out).await.0, Exit::Code(3));
}
