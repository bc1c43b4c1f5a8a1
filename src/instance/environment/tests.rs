use super::*;
use crate::host::fake::{Reply, Scripted};
use crate::instance::services::{ActiveState, EnvironmentFile, LoadState};

fn unit(name: &str, environment: &[(&str, &str)], files: &[(&str, bool)]) -> Unit {
    let file = |(path, optional): &(&str, bool)| EnvironmentFile {
        path: (*path).into(),
        optional: *optional,
    };
    Unit {
        name: name.into(),
        kind: UnitKind::of(name, ""),
        load: LoadState::Loaded,
        active: ActiveState::Active,
        file_state: "enabled".into(),
        fragment: None,
        drop_ins: Vec::new(),
        main_pid: None,
        user: None,
        command: String::new(),
        environment: environment
            .iter()
            .map(|(key, value)| ((*key).into(), Secret::new(*value)))
            .collect(),
        environment_files: files.iter().map(file).collect(),
        stop_timeout: None,
    }
}

const PATH: &str = "/home/mastodon/live/.env.production";

const SECRETS: &str = "SECRET_KEY_BASE=a\nVAPID_PRIVATE_KEY=b\nVAPID_PUBLIC_KEY=c\n\
    ACTIVE_RECORD_ENCRYPTION_PRIMARY_KEY=d\nACTIVE_RECORD_ENCRYPTION_DETERMINISTIC_KEY=e\n\
    ACTIVE_RECORD_ENCRYPTION_KEY_DERIVATION_SALT=f\n";

fn server(env_file: &str, mode: &str) -> Scripted {
    Scripted::new("old")
        .on("stat", [Reply::ok(format!("81{mode} mastodon mastodon 9"))])
        .on("/etc/default/mastodon", [Reply::ok("DB_HOST=from-file\nSMTP_PASSWORD='s p'\n")])
        .on("/etc/none", [Reply::fail(44, "")])
        .on(PATH, [Reply::ok(env_file)])
}

async fn environment(env_file: &str, mode: &str, units: &[Unit]) -> Environment {
    read(&server(env_file, mode), PATH, units).await.unwrap()
}

fn texts(environment: &Environment, version: (u32, u32)) -> Vec<String> {
    let ruby = format!(
        "def major\n{}\nend\ndef minor\n{}\nend\ndef patch\n0\nend\n",
        version.0, version.1
    );
    let findings = environment.findings(Version::parse(&ruby).as_ref());
    findings.into_iter().map(|finding| format!("{:?}: {}", finding.level, finding.text)).collect()
}

#[tokio::test]
async fn a_unit_beats_the_env_file_and_its_files_beat_its_lines() {
    let web = unit(
        "mastodon-web.service",
        &[("DB_HOST", "from-unit"), ("DB_NAME", "from-unit"), ("PORT", "3000")],
        &[("/etc/none", true), ("/etc/default/mastodon", false)],
    );
    let env_file = format!("{SECRETS}DB_HOST=from-env\nDB_NAME=from-env\nDB_USER=from-env\n");
    let environment = environment(&env_file, "80", &[web]).await;
    let seen = ["DB_HOST", "DB_NAME", "DB_USER", "SMTP_PASSWORD"].map(|key| {
        let value = Variables::get(&environment, key).unwrap();
        format!("{} from {}", value.expose(), environment.origin(key).unwrap())
    });
    assert_eq!(
        seen,
        [
            "from-file from /etc/default/mastodon, which mastodon-web.service reads",
            "from-unit from Environment= of mastodon-web.service",
            "from-env from .env.production",
            "s p from /etc/default/mastodon, which mastodon-web.service reads",
        ]
    );
}

#[tokio::test]
async fn units_that_disagree_are_told_by_key_and_never_by_value() {
    let units = [
        unit("mastodon-sidekiq.service", &[("DB_PASS", "hunter2"), ("DB_POOL", "25")], &[]),
        unit("mastodon-web.service", &[("PORT", "3000")], &[("/etc/none", false)]),
        unit("mastodon-spare.service", &[("DB_PASS", "other")], &[]),
    ];
    let environment = environment(&format!("{SECRETS}DB_PASS=hunter3\n"), "80", &units).await;
    assert_eq!(Variables::get(&environment, "DB_PASS").unwrap().expose(), "hunter2");
    let texts = texts(&environment, (4, 6));
    assert_eq!(
        texts,
        [
            "Ok: all secrets are there",
            "Warning: mastodon-web.service and mastodon-sidekiq.service run with different values of DB_PASS",
            "Warning: mastodon-web.service wants /etc/none, which cannot be read",
        ]
    );
    assert!(!format!("{environment:?} {texts:?}").contains("hunter"));
}

#[tokio::test]
async fn missing_secrets_a_namespace_and_an_open_file_are_found() {
    let env_file = "SECRET_KEY_BASE=a\nVAPID_PRIVATE_KEY=\nVAPID_PUBLIC_KEY=$(cat key)\nREDIS_NAMESPACE=m\nOTP_SECRET=x\n";
    let environment = environment(env_file, "a4", &[]).await;
    let old = texts(&environment, (4, 2));
    assert_eq!(
        old,
        [
            format!("Refusal: {PATH} has no VAPID_PRIVATE_KEY"),
            "Warning: REDIS_NAMESPACE is set: Mastodon 4.4 and later will not start with it".into(),
            format!("Warning: {PATH} can be read by others (mode 644)"),
            "Warning: VAPID_PUBLIC_KEY is what a shell command prints, which is not run here"
                .into(),
        ]
    );
    let new = texts(&environment, (4, 5));
    assert!(new[0].contains("ACTIVE_RECORD_ENCRYPTION_KEY_DERIVATION_SALT"), "{new:?}");
    assert!(new[1].starts_with("Refusal: REDIS_NAMESPACE"), "{new:?}");
}

#[tokio::test]
async fn a_missing_env_file_is_an_error_with_its_remedy() {
    let host = Scripted::new("old").on(PATH, [Reply::fail(44, "")]);
    let error = read(&host, PATH, &[]).await.unwrap_err();
    assert_eq!(error.to_string(), format!("there is no {PATH} on old"));
    assert!(error.hint().unwrap().contains("env_file"));
}
