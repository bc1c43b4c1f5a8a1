//! SSH against a real server.

mod shells;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use transhume::error::{Advice, Retry, one_line};
use transhume::host::ssh::prompt::OfferedKey;
use transhume::host::ssh::surroundings::Surroundings;
use transhume::host::ssh::{self, NoPrompt, Options, Prompt, Ssh};
use transhume::host::{Address, Command, Exit, Host, HostError, RunAs, run, run_ok};
use transhume::secret::Secret;

use crate::harness::process::{PATIENCE, tool, wait_until};
use crate::harness::proxy::Proxy;
use crate::harness::sshd::{Sshd, generate_key};

/// How the tests log in: nothing of the real user's home is used.
fn options(sshd: &Sshd, key: &Path, known_hosts: &Path) -> Options {
    let config = sshd.dir().join("no_config");
    std::fs::write(&config, "").unwrap();
    let known_hosts = known_hosts.display().to_string();
    Options {
        identity: Some(key.to_owned()),
        options: BTreeMap::from([
            ("UserKnownHostsFile".to_owned(), known_hosts),
            ("GlobalKnownHostsFile".to_owned(), "none".to_owned()),
        ]),
        config_file: Some(config),
        surroundings: Surroundings { user: sshd.user(), home: sshd.dir().to_owned(), agent: None },
    }
}

async fn try_connect(port: u16, options: &Options) -> Result<Arc<Ssh>, HostError> {
    prompted(port, options, Arc::new(NoPrompt)).await
}

async fn prompted(
    port: u16,
    options: &Options,
    prompt: Arc<dyn Prompt>,
) -> Result<Arc<Ssh>, HostError> {
    let destination = format!("ssh://127.0.0.1:{port}").parse().unwrap();
    ssh::connect(&destination, options, prompt).await
}

/// A server and a login that works.
pub async fn logged_in() -> (Sshd, Arc<Ssh>) {
    logged_in_to(Sshd::start()).await
}

pub async fn logged_in_to(sshd: Sshd) -> (Sshd, Arc<Ssh>) {
    logged_in_with(sshd, &[]).await
}

pub async fn logged_in_with(sshd: Sshd, more: &[(&str, &str)]) -> (Sshd, Arc<Ssh>) {
    let mut options = options(&sshd, &sshd.client_key(), &sshd.known_hosts());
    let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    options.options.extend(more);
    let host = try_connect(sshd.port(), &options).await.unwrap();
    (sshd, host)
}

/// Answers from a list, and counts the questions.
#[derive(Default)]
struct Scripted {
    confirms: bool,
    secret: Option<&'static str>,
    asked: std::sync::Mutex<Vec<String>>,
}

impl Scripted {
    fn note(&self, text: String) {
        self.asked.lock().unwrap().push(text);
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Prompt for Scripted {
    fn confirm_host_key(&self, key: &OfferedKey) -> bool {
        self.note(format!("{} {} {}", key.record_name, key.algorithm, key.fingerprint));
        self.confirms
    }

    fn passphrase(&self, key_file: &Path) -> Option<Secret> {
        self.note(format!("passphrase of {}", key_file.file_name().unwrap().display()));
        self.secret.map(Secret::new)
    }

    fn password(&self, account: &str) -> Option<Secret> {
        self.note(format!("password of {account}"));
        self.secret.map(Secret::new)
    }

    fn answer(&self, _: &str, question: &str, _: bool) -> Option<Secret> {
        self.note(question.to_owned());
        self.secret.map(Secret::new)
    }

    fn is_present(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn a_command_gives_its_output_its_exit_and_the_tail_of_its_complaints() {
    let (_sshd, host) = logged_in().await;
    let script =
        r#"cat; printf '%s|' "$@"; yes complaint | head -n 100000 >&2; echo last >&2; exit 7"#;
    let command = Command::script(script, &["it's", "a \"b\" $c\n", ""]).stdin("hello ");
    let output = run(host.as_ref(), &command).await.unwrap();
    assert_eq!(output.exit, Exit::Code(7));
    assert_eq!(output.text(), "hello it's|a \"b\" $c\n||");
    assert!(output.stderr_tail.ends_with("complaint\nlast\n"));

    let killed = host.spawn(&Command::script("kill -TERM $$", &[])).await.unwrap();
    let (_stdin, _stdout, ending) = killed.split();
    assert_eq!(ending.await.unwrap().exit, Exit::Signal("TERM".into()));
    let killed = run(host.as_ref(), &Command::script("kill -TERM $$", &[])).await.unwrap();
    assert_eq!(killed.exit, Exit::Code(143), "as shells have it");
    let error = run_ok(host.as_ref(), &Command::new(["no-such-program"])).await.unwrap_err();
    assert!(matches!(&error, HostError::Failed { exit: Exit::Code(127), .. }), "{error}");
}

#[tokio::test]
async fn twenty_megabytes_go_there_and_back_unharmed() {
    let (_sshd, host) = logged_in().await;
    let mut bytes = vec![0; 20 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    let command = Command::new(["cat"]).stdin(bytes.clone()).deadline(Duration::from_secs(300));
    let output = run(host.as_ref(), &command).await.unwrap();
    assert!(output.success());
    assert_eq!(blake3::hash(&output.stdout), blake3::hash(&bytes));
}

#[tokio::test]
async fn more_commands_than_a_connection_has_sessions_run_at_once() {
    let (sshd, host) = logged_in().await;
    // Each waits until all fifteen have begun.
    let dir = sshd.dir().join("begun");
    std::fs::create_dir(&dir).unwrap();
    let script =
        r#": > "$1/$2"; until [ "$(ls "$1" | wc -l)" = 15 ]; do sleep 0.05; done; echo "$2""#;
    let commands = (0..15).map(|number: u32| {
        let command = Command::script(script, &[&dir.to_string_lossy(), &number.to_string()]);
        let host = host.clone();
        tokio::spawn(async move { run_ok(host.as_ref(), &command).await.unwrap() })
    });
    let tasks: Vec<_> = commands.collect();
    for (number, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.await.unwrap(), number.to_string());
    }
    assert_eq!(sshd.log().matches("Accepted publickey").count(), 2, "one connection more");
}

#[tokio::test]
async fn a_dropped_command_frees_its_session() {
    let (_sshd, host) = logged_in_to(Sshd::builder().config("MaxSessions 1").start()).await;
    for _ in 0..6 {
        drop(host.spawn(&Command::new(["cat"])).await.unwrap());
    }
    assert_eq!(run_ok(host.as_ref(), &Command::new(["echo", "ok"])).await.unwrap(), "ok");
}

#[tokio::test]
async fn a_wrong_host_key_is_refused_with_the_remedy() {
    let (sshd, other) = (Sshd::start(), Sshd::start());
    let path = sshd.dir().join("kh");
    std::fs::write(&path, format!("[127.0.0.1]:{} {}\n", sshd.port(), other.host_key())).unwrap();
    let options = options(&sshd, &sshd.client_key(), &path);
    let prompt = Arc::new(Scripted { confirms: true, ..Scripted::default() });
    let error = prompted(sshd.port(), &options, prompt.clone()).await.unwrap_err();
    assert!(
        matches!(&error, HostError::HostKey { reason, .. } if reason.contains("is not the ssh-ed25519 key of")),
        "{error}"
    );
    let remedy = format!("`ssh-keygen -R '[127.0.0.1]:{}'`", sshd.port());
    assert!(error.hint().unwrap().contains(&remedy));
    assert_eq!(error.retry(), Retry::Never);
    assert_eq!(prompt.asked(), Vec::<String>::new(), "a changed key cannot be waved through");
}

#[tokio::test]
async fn a_key_of_another_algorithm_than_the_recorded_one_is_refused_not_asked_about() {
    let sshd = Sshd::start();
    let path = sshd.dir().join("kh");
    generate_key(&sshd.dir().join("ecdsa"), "ecdsa", "");
    let recorded = std::fs::read_to_string(sshd.dir().join("ecdsa.pub")).unwrap();
    std::fs::write(&path, format!("[127.0.0.1]:{} {recorded}", sshd.port())).unwrap();
    let options = options(&sshd, &sshd.client_key(), &path);
    let prompt = Arc::new(Scripted { confirms: true, ..Scripted::default() });
    let error = prompted(sshd.port(), &options, prompt).await.unwrap_err();
    assert!(
        matches!(&error, HostError::HostKey { reason, .. } if reason.contains("ecdsa-sha2-nistp256")),
        "{error}"
    );
}

#[tokio::test]
async fn of_several_host_keys_the_recorded_one_is_asked_for() {
    let key = tempfile::tempdir().unwrap();
    generate_key(&key.path().join("rsa"), "rsa", "");
    let sshd = Sshd::builder().config(&format!("HostKey {}/rsa", key.path().display())).start();
    let recorded = std::fs::read_to_string(key.path().join("rsa.pub")).unwrap();
    let path = sshd.dir().join("kh");
    std::fs::write(&path, format!("[127.0.0.1]:{} {recorded}", sshd.port())).unwrap();
    let options = options(&sshd, &sshd.client_key(), &path);
    try_connect(sshd.port(), &options).await.unwrap();
}

#[tokio::test]
async fn an_unknown_host_key_is_refused_unless_a_person_confirms_it_and_then_recorded() {
    let sshd = Sshd::start();
    let path = sshd.dir().join("new/known_hosts");
    let mut options = options(&sshd, &sshd.client_key(), &path);
    options.options.insert("HashKnownHosts".into(), "yes".into());
    let error = try_connect(sshd.port(), &options).await.unwrap_err();
    assert!(
        matches!(&error, HostError::HostKey { reason, .. } if reason.contains("SHA256:")),
        "{error}"
    );
    let prompt = Arc::new(Scripted::default());
    prompted(sshd.port(), &options, prompt).await.unwrap_err();
    assert!(!path.exists(), "nothing is recorded unless confirmed");

    let prompt = Arc::new(Scripted { confirms: true, ..Scripted::default() });
    let host = prompted(sshd.port(), &options, prompt.clone()).await.unwrap();
    let shown = tool(
        std::process::Command::new("ssh-keygen").arg("-lf").arg(sshd.dir().join("host_key.pub")),
    );
    let fingerprint = shown.split(' ').nth(1).unwrap();
    let name = format!("[127.0.0.1]:{}", sshd.port());
    assert_eq!(prompt.asked(), [format!("{name} ssh-ed25519 {fingerprint}")]);
    assert_eq!(host.notes(), Vec::<String>::new());
    assert!(!std::fs::read_to_string(&path).unwrap().contains("127.0.0.1"), "the name is hashed");
    let found = tool(std::process::Command::new("ssh-keygen").args(["-F", &name, "-f"]).arg(&path));
    assert!(found.contains(&sshd.host_key()));
    // From now on nobody is asked.
    try_connect(sshd.port(), &options).await.unwrap();
}

#[tokio::test]
async fn a_key_the_server_does_not_take_is_named_with_the_remedy() {
    let sshd = Sshd::start();
    let key = sshd.dir().join("other");
    generate_key(&key, "ed25519", "");
    let error =
        try_connect(sshd.port(), &options(&sshd, &key, &sshd.known_hosts())).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "127.0.0.1 did not accept the login as {}: {}: not accepted (it takes publickey)",
            sshd.user(),
            key.display()
        )
    );
    assert!(error.hint().unwrap().contains(&format!("ssh-copy-id -p {}", sshd.port())));
    let absent = sshd.dir().join("absent");
    let error =
        try_connect(sshd.port(), &options(&sshd, &absent, &sshd.known_hosts())).await.unwrap_err();
    assert!(error.to_string().contains("absent: No such file"), "{error}");
}

#[tokio::test]
async fn a_locked_key_asks_for_its_passphrase_once_and_only_if_the_server_takes_it() {
    let sshd = Sshd::start();
    let (known, stranger) = (sshd.dir().join("known"), sshd.dir().join("stranger"));
    generate_key(&known, "rsa", "open sesame");
    generate_key(&stranger, "ed25519", "whatever");
    sshd.authorize(&std::fs::read_to_string(sshd.dir().join("known.pub")).unwrap());
    let mut options = options(&sshd, &stranger, &sshd.known_hosts());
    options.options.insert("IdentityFile".into(), known.display().to_string());

    let error = try_connect(sshd.port(), &options).await.unwrap_err();
    assert!(error.to_string().contains("known: it needs a passphrase"), "{error}");
    let prompt = Arc::new(Scripted { secret: Some("open sesame"), ..Scripted::default() });
    let host = prompted(sshd.port(), &options, prompt.clone()).await.unwrap();
    let second = host.dedicated().await.unwrap();
    assert_eq!(run_ok(second.as_ref(), &Command::new(["echo", "ok"])).await.unwrap(), "ok");
    assert_eq!(prompt.asked(), ["passphrase of known"]);
    let wrong = Arc::new(Scripted { secret: Some("wrong"), ..Scripted::default() });
    let error = prompted(sshd.port(), &options, wrong).await.unwrap_err();
    assert!(error.to_string().contains("the passphrase was wrong"), "{error}");
}

#[tokio::test]
async fn an_agent_logs_in_without_the_key_file() {
    let sshd = Sshd::start();
    let agent = Agent::start(sshd.dir());
    let mut ssh_add = std::process::Command::new("ssh-add");
    tool(ssh_add.arg("-q").arg(sshd.client_key()).env("SSH_AUTH_SOCK", &agent.socket));
    let mut options = options(&sshd, &sshd.client_key(), &sshd.known_hosts());
    options.identity = None;
    let error = try_connect(sshd.port(), &options).await.unwrap_err();
    assert!(error.to_string().contains("there was no key or password to try"), "{error}");
    options.surroundings.agent = Some(agent.socket.clone());
    let host = try_connect(sshd.port(), &options).await.unwrap();
    host.dedicated().await.unwrap();
}

#[tokio::test]
async fn a_password_is_asked_for_once_and_only_where_somebody_answers() {
    for (config, asked) in [
        ("PasswordAuthentication yes", format!("password of {}@127.0.0.1", user())),
        ("UsePAM yes\nKbdInteractiveAuthentication yes", "Password: ".to_owned()),
    ] {
        let sshd = Sshd::builder().config(config).password("open sesame").start();
        let mut options = options(&sshd, &sshd.client_key(), &sshd.known_hosts());
        options.identity = None;
        let error = try_connect(sshd.port(), &options).await.unwrap_err();
        assert!(matches!(error, HostError::Login { .. }), "{error}");
        let prompt = Arc::new(Scripted { secret: Some("open sesame"), ..Scripted::default() });
        let host = prompted(sshd.port(), &options, prompt.clone()).await.unwrap();
        let second = host.dedicated().await.unwrap();
        assert_eq!(run_ok(second.as_ref(), &Command::new(["echo", "ok"])).await.unwrap(), "ok");
        assert_eq!(prompt.asked(), [asked]);

        let wrong = Arc::new(Scripted { secret: Some("wrong"), ..Scripted::default() });
        let error = prompted(sshd.port(), &options, wrong.clone()).await.unwrap_err();
        assert!(error.to_string().contains("not accepted"), "{error}");
        assert!(!error.to_string().contains("wrong"), "an answer is a secret: {error}");
        assert_eq!(wrong.asked().len(), 2, "the server counts attempts");
    }
}

fn user() -> String {
    tool(std::process::Command::new("id").arg("-un")).trim().to_owned()
}

#[tokio::test]
async fn a_server_that_wants_two_keys_gets_two() {
    let config = "AuthenticationMethods publickey,publickey";
    let sshd = Sshd::builder().config(config).start();
    let second = sshd.dir().join("second");
    generate_key(&second, "ecdsa", "");
    let mut options = options(&sshd, &sshd.client_key(), &sshd.known_hosts());
    let error = try_connect(sshd.port(), &options).await.unwrap_err();
    assert!(error.to_string().contains("accepted, but more is asked for"), "{error}");
    sshd.authorize(&std::fs::read_to_string(sshd.dir().join("second.pub")).unwrap());
    options.options.insert("IdentityFile".into(), second.display().to_string());
    let host = try_connect(sshd.port(), &options).await.unwrap();
    host.dedicated().await.unwrap();
}

#[tokio::test]
async fn a_stalled_link_does_not_hang_the_login() {
    let sshd = Sshd::start();
    let proxy = Proxy::to(sshd.port());
    let mut options = options(&sshd, &sshd.client_key(), &sshd.known_hosts());
    options.options.insert("HostKeyAlias".into(), format!("[127.0.0.1]:{}", sshd.port()));
    proxy.stall(true);
    tokio::time::pause();
    let error = try_connect(proxy.port(), &options).await.unwrap_err();
    assert_eq!(one_line(&error), "cannot reach 127.0.0.1: no answer to the SSH handshake");
}

struct Agent {
    socket: std::path::PathBuf,
    child: std::process::Child,
}

impl Agent {
    fn start(dir: &Path) -> Self {
        let socket = dir.join("agent");
        let mut command = std::process::Command::new("ssh-agent");
        let child = command.args(["-D", "-a"]).arg(&socket).stdout(std::process::Stdio::null());
        let child = child.spawn().unwrap();
        assert!(wait_until(|| socket.exists()));
        Agent { socket, child }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_configuration_leads_through_a_second_server() {
    let (edge, inner) = (Sshd::start(), Sshd::start());
    inner.authorize(&std::fs::read_to_string(edge.dir().join("client_key.pub")).unwrap());
    let known = edge.dir().join("kh");
    let texts = [&edge, &inner].map(|sshd| std::fs::read_to_string(sshd.known_hosts()).unwrap());
    std::fs::write(&known, texts.concat()).unwrap();
    let config = edge.dir().join("config");
    std::fs::write(
        &config,
        format!(
            "Host new\n  HostName 127.0.0.1\n  Port {}\n  ProxyJump edge\n\
             Host edge\n  HostName=127.0.0.1\n  Port={}\n\
             Host *\n  User {}\n  IdentityFile \"{}\"\n  UserKnownHostsFile {}\n",
            inner.port(),
            edge.port(),
            edge.user(),
            edge.client_key().display(),
            known.display()
        ),
    )
    .unwrap();
    let options = Options {
        config_file: Some(config),
        surroundings: Surroundings { agent: None, ..Surroundings::default() },
        ..Options::default()
    };
    let host = ssh::connect(&"new".parse().unwrap(), &options, Arc::new(NoPrompt)).await.unwrap();
    let marker = run_ok(host.as_ref(), &Command::script("echo $TRANSHUME_TEST_SSHD", &[])).await;
    assert_eq!(marker.unwrap(), inner.dir().display().to_string());
    assert_eq!(host.name(), "new");
    // The log says who connected: the other server, not us.
    assert!(edge.log().contains("Accepted publickey"));
}

#[tokio::test]
async fn a_cut_link_loses_what_was_in_flight_and_the_next_command_reconnects() {
    let sshd = Sshd::start();
    let proxy = Proxy::to(sshd.port());
    let mut options = options(&sshd, &sshd.client_key(), &sshd.known_hosts());
    options.options.insert("HostKeyAlias".into(), format!("[127.0.0.1]:{}", sshd.port()));
    let host = try_connect(proxy.port(), &options).await.unwrap();
    let begun = sshd.dir().join("begun");
    let command = Command::script(": > \"$1\"; echo half; sleep 600", &[&begun.to_string_lossy()]);
    let (stdin, mut stdout, ending) = host.spawn(&command).await.unwrap().split();
    assert!(wait_until(|| begun.exists()));
    let mut half = [0; 5];
    stdout.read_exact(&mut half).await.unwrap();

    proxy.cut();
    let mut rest = Vec::new();
    let broken = stdout.read_to_end(&mut rest).await.unwrap_err();
    assert_eq!(broken.kind(), std::io::ErrorKind::ConnectionReset, "a cut is not the end of data");
    let error = ending.await.unwrap_err();
    assert!(matches!(error, HostError::Lost { .. }), "{error}");
    assert_eq!(error.retry(), Retry::Unknown);
    drop(stdin);
    assert_eq!(run_ok(host.as_ref(), &Command::new(["echo", "back"])).await.unwrap(), "back");

    proxy.refuse(true);
    proxy.cut();
    // What was given to the connection before it was seen to be gone may have begun.
    let error = run_ok(host.as_ref(), &Command::new(["true"])).await.unwrap_err();
    assert!(matches!(error, HostError::Lost { .. } | HostError::Unreachable { .. }), "{error}");
    let error = run_ok(host.as_ref(), &Command::new(["true"])).await.unwrap_err();
    assert!(matches!(error, HostError::Unreachable { .. }), "{error}");
    assert_eq!(error.retry(), Retry::Safe);
    proxy.refuse(false);
    assert_eq!(run_ok(host.as_ref(), &Command::new(["echo", "again"])).await.unwrap(), "again");
}

#[tokio::test]
async fn a_silent_link_is_given_up_by_the_keepalive() {
    let sshd = Sshd::start();
    let proxy = Proxy::to(sshd.port());
    let mut options = options(&sshd, &sshd.client_key(), &sshd.known_hosts());
    options.options.insert("HostKeyAlias".into(), format!("[127.0.0.1]:{}", sshd.port()));
    let host = try_connect(proxy.port(), &options).await.unwrap();
    let process = host.spawn(&Command::new(["sleep", "600"])).await.unwrap();
    let (_stdin, _stdout, ending) = process.split();
    proxy.stall(true);
    // Minutes pass at once.
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    assert!(matches!(ending.await, Err(HostError::Lost { .. })));
    assert!(began.elapsed() < Duration::from_secs(120));
}

#[tokio::test]
async fn killed_sessions_are_lost_too_and_a_blocked_writer_is_told() {
    let (sshd, host) = logged_in().await;
    let (mut stdin, _stdout, ending) =
        host.spawn(&Command::new(["sleep", "600"])).await.unwrap().split();
    // It never reads, so the window fills and the writer waits for it.
    let writer = tokio::spawn(async move {
        let block = vec![7; 1 << 20];
        loop {
            if let Err(error) = stdin.write_all(&block).await {
                return error.kind();
            }
        }
    });
    sshd.kill_sessions();
    assert!(matches!(ending.await, Err(HostError::Lost { .. })));
    let told = tokio::time::timeout(PATIENCE, writer).await.expect("the writer is told");
    assert_eq!(told.unwrap(), std::io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn sockets_of_the_other_side_are_reached_tcp_and_unix() {
    let (sshd, host) = logged_in().await;
    let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = tcp.local_addr().unwrap().port();
    let path = sshd.dir().join("socket");
    let unix = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = tcp.accept().await.unwrap();
        echo_in_capitals(&mut stream).await;
    });
    tokio::spawn(async move {
        let (mut stream, _) = unix.accept().await.unwrap();
        echo_in_capitals(&mut stream).await;
    });
    let unix = Address::Unix { path: path.display().to_string() };
    for address in [Address::Tcp { host: "127.0.0.1".into(), port }, unix] {
        let mut stream = host.connect(&address).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "HELLO", "{address}");
    }
    let nobody = Address::Unix { path: sshd.dir().join("nobody").display().to_string() };
    let error = host.connect(&nobody).await.err().unwrap();
    assert!(
        one_line(&error).ends_with("from 127.0.0.1: nothing answers there"),
        "{}",
        one_line(&error)
    );
}

/// Reads to the end, then answers: works only if half-closing does.
async fn echo_in_capitals(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    stream.write_all(text.to_uppercase().as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
}

#[tokio::test]
async fn forbidden_forwarding_and_missing_subsystems_say_so() {
    let (_sshd, host) = logged_in_to(Sshd::builder().config("AllowTcpForwarding no").start()).await;
    let address = Address::Tcp { host: "127.0.0.1".into(), port: 1 };
    let error = host.connect(&address).await.err().unwrap();
    assert!(one_line(&error).contains("AllowTcpForwarding"), "{}", one_line(&error));
    let error = host.subsystem("no-such").await.err().unwrap();
    assert_eq!(error.to_string(), "127.0.0.1 does not offer the no-such subsystem");
    assert!(host.subsystem("sftp").await.is_ok());
}

#[tokio::test]
async fn a_login_without_sudo_is_told_apart_from_a_failed_command() {
    // Without PAM sshd takes an account without a password for a locked one.
    let sshd = Sshd::builder().config("UsePAM yes").start();
    let mut options = options(&sshd, &sshd.client_key(), &sshd.known_hosts());
    options.options.insert("User".into(), "postgres".into());
    let host = try_connect(sshd.port(), &options).await.unwrap();
    assert_eq!(host.login(), "postgres");
    let command = Command::new(["id", "-u"]).run_as(RunAs::Root);
    let error = run_ok(host.as_ref(), &command).await.unwrap_err();
    assert!(matches!(error, HostError::Privilege { .. }), "{error}");
    assert!(error.hint().unwrap().contains("sudo -n"));
    assert_eq!(run_ok(host.as_ref(), &Command::new(["id", "-un"])).await.unwrap(), "postgres");
}

#[tokio::test]
async fn connections_dropped_by_a_busy_server_are_tried_again() {
    // Every unauthenticated connection beyond the first is dropped.
    let (sshd, host) = logged_in_to(Sshd::builder().config("MaxStartups 1:100:1").start()).await;
    let held = std::net::TcpStream::connect(("127.0.0.1", sshd.port())).unwrap();
    assert!(wait_until(|| std::net::TcpStream::connect(("127.0.0.1", sshd.port())).is_ok()));
    let dropping = host.clone();
    let opening = tokio::spawn(async move { dropping.dedicated().await });
    assert!(wait_until(
        || sshd.log().contains("past MaxStartups") || sshd.log().contains("drop connection")
    ));
    drop(held);
    let second = opening.await.unwrap().unwrap();
    assert_eq!(run_ok(second.as_ref(), &Command::new(["echo", "ok"])).await.unwrap(), "ok");
}

#[tokio::test]
async fn a_closed_port_is_unreachable_with_the_cause() {
    let sshd = Sshd::start();
    let port = crate::harness::process::free_port();
    let options = options(&sshd, &sshd.client_key(), &sshd.known_hosts());
    let error = try_connect(port, &options).await.unwrap_err();
    assert_eq!(one_line(&error), "cannot reach 127.0.0.1: Connection refused (os error 111)");
    assert_eq!(error.hint().unwrap(), format!("is sshd running on port {port}?"));
}
